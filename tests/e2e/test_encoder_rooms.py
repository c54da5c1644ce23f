"""The rooms encoder on its real weights, on pictures of a room it was never trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

from open3dsg.encoders import rooms as module
from open3dsg.encoders.contract import Choices, Precision
from open3dsg.encoders.rooms import CODE, Rooms, to_input
from open3dsg.encoders.rooms_words import USES
from open3dsg.errors import BadFileError

SEED = 7  # weights are trained on seeds from 10^12 on


@pytest.fixture(scope="module")
def encoder() -> Rooms:
    return Rooms()


def picture(height: int = 90, width: int = 50) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_pixel_sets_equal_the_mean_of_their_pixels_by_hand(encoder: Rooms) -> None:
    import torch

    image = picture()
    sets = [np.array([[0, 0], [89, 49], [40, 20], [40, 20]]), np.argwhere(image[:, :, 0] > 128)]
    found = encoder.encode_pixels(image, sets)
    with torch.no_grad():
        codes = encoder._net(to_input(image)[None])[0]
        vectors = encoder._net.lift(codes.permute(1, 2, 0)).double().numpy()
    assert codes.shape == (CODE, 288 // 4, 160 // 4)  # a short side of 160 px, a long side of 32 a
    with safe_open(encoder.weights, "np") as file:
        categories = file.metadata()["categories"].split(", ")
    assert set(categories) <= set(USES)
    for pixels, row in zip(sets, found, strict=True):
        total = np.zeros(384)
        for r, c in pixels:
            total += vectors[int(r / 90 * 72), int(c / 50 * 40)]
        seen = total / np.linalg.norm(total)
        placed, mass = np.zeros(384), 0.0
        for category in categories:
            name, use = encoder.encode_text([category, USES[category]]).astype(float)
            probability = np.exp(name @ seen / 0.04)
            placed += probability * (name + use) / np.linalg.norm(name + use)
            mass += probability
        np.testing.assert_allclose(row, placed / np.linalg.norm(placed), atol=1e-3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_a_cell_of_the_whole_picture_is_what_its_pixels_are(encoder: Rooms) -> None:
    image = picture()
    grid = encoder.encode_image(image)
    assert grid.shape == (288 // 4, 160 // 4, 384)
    assert grid.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(grid, axis=2), 1, atol=1e-5)
    row_cells, column_cells = encoder.cells_of(90, grid.shape[0]), encoder.cells_of(50, grid.shape[1])
    cells = [(0, 0), (71, 39), (30, 11)]
    sets = [np.argwhere((row_cells == row)[:, None] & (column_cells == column)) for row, column in cells]
    found = encoder.encode_pixels(image, sets)
    np.testing.assert_allclose(found, [grid[cell] for cell in cells], atol=1e-4)
    with pytest.raises(ValueError, match="image is"):
        encoder.encode_image(image[:, :, 0])


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.999), ("bf16", 0.98)])
def test_precision_is_that_of_the_network(encoder: Rooms, precision: Precision, least: float) -> None:
    sets = [np.argwhere(picture()[:, :, channel] > 128) for channel in range(3)]
    half = Rooms.from_choices(Choices("rooms", Path(), device="cpu", precision=precision))
    expected, found = encoder.encode_pixels(picture(), sets), half.encode_pixels(picture(), sets)
    assert (half.device, half.revision, found.dtype.name) == ("cpu", encoder.revision, "float32")
    assert not np.array_equal(found, expected)
    assert (found * expected).sum(axis=1).min() > least


def test_no_sets_no_rows_and_bad_ones_are_named(encoder: Rooms) -> None:
    assert encoder.encode_pixels(picture(), []).shape == (0, 384)
    with pytest.raises(ValueError, match="pixel set 1 leaves the picture of 90 x 50"):
        encoder.encode_pixels(picture(), [np.array([[0, 0]]), np.array([[0, 50]])])
    with pytest.raises(ValueError, match="image is"):
        encoder.encode_pixels(picture()[:, :, 0], [np.array([[0, 0]])])
    for height, width in ((2, 41), (41, 2)):  # a network's input of 160 x 3,296 pixels, and so on
        with pytest.raises(ValueError, match=f"a picture of {height} x {width} pixels is too long for rooms"):
            encoder.encode_image(picture(height, width))
    assert encoder.encode_image(picture(1, 20)).shape == (40, 800, 384)


def test_a_broken_weights_file_is_told_in_one_line(tmp_path: Path, encoder: Rooms) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(encoder.weights.read_bytes()[:1000])
    with pytest.raises(
        BadFileError, match=r"cut\.safetensors: not the weights of the rooms encoder, or damaged"
    ) as error:
        Rooms(cut).encode_pixels(picture(), [np.array([[0, 0]])])
    assert "\n" not in str(error.value)


def test_weights_are_small_and_say_what_they_were_trained_on(encoder: Rooms) -> None:
    assert encoder.weights.stat().st_size <= 5_000_000
    with safe_open(encoder.weights, "np") as file:
        metadata = file.metadata()
    first, last, _ = (int(word) for word in metadata["trained_on"].replace(",", "").split() if word.isdigit())
    assert min(first, last) >= 10**12
    assert "held_out" in metadata


def test_revision_follows_weights_and_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoder: Rooms
) -> None:
    first = Rooms().revision
    assert first == encoder.revision
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(encoder.weights.read_bytes())
    assert Rooms(copy).revision == first
    other = tmp_path / "other.safetensors"
    other.write_bytes(encoder.weights.read_bytes()[:-1] + b"\x01")
    assert Rooms(other).revision != first
    monkeypatch.setattr(module, "SIDE_PX", 128)
    assert Rooms().revision != first


def test_names_find_their_things_in_a_room_never_seen(encoder: Rooms) -> None:
    from open3dsg.datasets.synth.path import KEY_EVERY, camera_path
    from open3dsg.datasets.synth.render import Renderer
    from open3dsg.datasets.synth.room import build_room
    from open3dsg.datasets.synth.write_3rscan import COLOUR

    room = build_room(SEED)
    renderer = Renderer(room)
    sums = {number: np.zeros(384) for number in room.labels}
    for pose in camera_path(room, 100, SEED)[::KEY_EVERY]:
        rendering = renderer.frame(pose, COLOUR)
        upright, instance = np.rot90(rendering.rgb, -1), np.rot90(rendering.instance, -1)
        shown = [number for number in sums if np.count_nonzero(instance == number) > 80]
        rows = encoder.encode_pixels(upright, [np.argwhere(instance == number) for number in shown])
        for number, row in zip(shown, rows, strict=True):
            sums[number] += row
    seen = {number: total / np.linalg.norm(total) for number, total in sums.items() if total.any()}
    categories = sorted({room.labels[number] for number in seen})
    assert len(categories) >= 20
    scores = encoder.encode_text(categories) @ np.stack(list(seen.values())).T
    hits = [room.labels[list(seen)[int(best)]] for best in scores.argmax(axis=1)]
    # One room of ten; the figure over all of them is in the weights' metadata.
    right = sum(hit == category for hit, category in zip(hits, categories, strict=True))
    assert right / len(categories) >= 0.8, list(zip(categories, hits, strict=True))
