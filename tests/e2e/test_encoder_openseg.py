"""OpenSeg on a small SavedModel of its signature, against the published way written out in TensorFlow."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from open3dsg.encoders.contract import Choices
from open3dsg.encoders.grids import aligned_cells
from open3dsg.encoders.openseg import Openseg
from open3dsg.encoders.registry import load_encoder, load_text_encoder
from open3dsg.errors import BadFileError, UserError
from open3dsg.export.dense import pixel_features
from open3dsg.export.images import find_pictures, write_images
from tests.clip_miniature import Size, write_hf_clip
from tests.openseg_miniature import SIDE, write_openseg

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 14) and find_spec("tensorflow") is None,
    reason="TensorFlow has no wheels for this Python",
)
PB = "saved_model.pb"
INDEX = "variables/variables.index"
DATA = "variables/variables.data-00000-of-00001"


def encoder_at(folder: Path, **changes: Any) -> Openseg:
    return Openseg.from_choices(Choices("openseg", folder, **changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "openseg"
    write_openseg(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Openseg:
    return encoder_at(folder)


def picture(height: int = 90, width: int = 50) -> NDArray[np.uint8]:
    """Coloured waves, so that a JPEG of it is not mush."""
    row, column = np.mgrid[:height, :width] / 20
    waves = [np.sin(row + 2 * column), np.sin(3 * row), np.cos(row * column)]
    return (np.stack(waves, axis=-1) * 100 + 128).astype(np.uint8)


def published(folder: Path, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The grid as it is cut to the picture, and that resized to its pixels: as TensorFlow does it."""
    import tensorflow as tf

    model = tf.saved_model.load(str(folder))
    told = model.signatures["serving_default"](
        inp_image_bytes=tf.io.encode_jpeg(image), inp_text_emb=tf.zeros([1, 1, 768])
    )
    info = told["image_info"]
    rows, columns = int(info[0, 0] * info[2, 0]), int(info[0, 1] * info[2, 1])
    grid = told["ppixel_ave_feat"][:, :rows, :columns]
    resized = tf.compat.v1.image.resize_nearest_neighbor(grid, image.shape[:2], align_corners=True)
    return grid[0].numpy(), resized[0].numpy()


# Upright and lying photographs, larger and smaller than the grid; in the last a row is lost to float32.
@pytest.mark.parametrize(("height", "width"), [(90, 50), (60, 128), (64, 64), (20, 33), (1, 1), (11, 540)])
def test_equals_the_published_pipeline(encoder: Openseg, folder: Path, height: int, width: int) -> None:
    image = picture(height, width)
    grid, resized = published(folder, image)
    found = encoder.encode_image(image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, grid, atol=1e-5)
    row_cells, column_cells = map(encoder.cells_of, image.shape[:2], found.shape[:2])
    np.testing.assert_array_equal(found[row_cells][:, column_cells], resized)

    random = np.random.default_rng(0)
    sets = [random.integers(0, (height, width), (count, 2)) for count in (1, 40)]
    for pixels, row in zip(sets, encoder.encode_pixels(image, sets), strict=True):
        total = np.zeros(768)
        for r, c in pixels:
            total += resized[r, c]
        np.testing.assert_allclose(row, total / len(pixels), atol=1e-3)


def test_the_longer_side_fills_the_grid_and_what_is_padded_is_cut_off(encoder: Openseg) -> None:
    assert encoder.encode_image(picture(90, 50)).shape == (SIDE, 36, 768)
    assert encoder.encode_image(picture(50, 90)).shape == (36, SIDE, 768)


def test_cells_are_those_of_tensorflows_resize() -> None:
    import tensorflow as tf

    random = np.random.default_rng(0)
    sizes = [(1, 5), (5, 1), (2, 2), (960, 640), (1296, 640), (540, 360), (172, 640)]
    sizes += [tuple(pair) for pair in random.integers(1, 1500, (200, 2))]
    for pixels, cells in sizes:
        line = np.arange(cells, dtype=np.float32).reshape(1, cells, 1, 1)
        resized = tf.compat.v1.image.resize_nearest_neighbor(line, (pixels, 1), align_corners=True)
        np.testing.assert_array_equal(
            aligned_cells(pixels, cells), resized.numpy().ravel(), str((pixels, cells))
        )


def test_no_sets_no_rows_and_bad_ones_are_named(encoder: Openseg) -> None:
    assert encoder.encode_pixels(picture(), []).shape == (0, 768)
    with pytest.raises(ValueError, match="pixel set 1 leaves the picture of 90 x 50"):
        encoder.encode_pixels(picture(), [np.array([[0, 0]]), np.array([[0, 50]])])
    with pytest.raises(ValueError, match="image is"):
        encoder.encode_image(picture()[:, :, 0])
    with pytest.raises(ValueError, match=r"too long for OpenSeg|cannot take a picture of 1 x 2000"):
        encoder.encode_image(picture(1, 2000))


def test_features_images_keep_the_published_map_in_float16(
    encoder: Openseg, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(picture(70, 45)).save(tmp_path / "in" / "a.png")
    tree = find_pictures(tmp_path / "in", tmp_path / "out")
    report = write_images(tree, tmp_path / "out", encoder, clusters=5, force=False, advance=lambda _: None)
    assert report.failures == {}
    _, resized = published(folder, picture(70, 45))
    found = pixel_features(tmp_path / "out" / "a.png.npz", np.argwhere(np.ones((70, 45))))
    np.testing.assert_allclose(found.reshape(70, 45, 768), resized, atol=1e-5, rtol=1e-3)


@pytest.fixture
def checkpoints(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights as users keep them, with a CLIP of 768 numbers and two others beside OpenSeg."""
    (tmp_path / "openseg").symlink_to(folder)
    write_hf_clip(tmp_path / "clip", Size(dimension=768))
    write_hf_clip(tmp_path / "other", Size(dimension=768), seed=1)
    write_hf_clip(tmp_path / "small", Size(dimension=32))
    monkeypatch.setenv("OPEN3DSG_CHECKPOINTS", str(tmp_path))
    monkeypatch.setenv("OPEN3DSG_HOME", str(tmp_path / "home"))
    return tmp_path


def with_text(monkeypatch: pytest.MonkeyPatch, text: str) -> Openseg:
    """OpenSeg as the settings make it, its text side the CLIP called `text`."""
    table = f'openseg.text = "{text}"\n{text}.encoder = "clip"\n'
    monkeypatch.setenv("OPEN3DSG_ENCODERS", table if text != "openseg" else table.splitlines()[0])
    encoder = load_encoder("openseg")
    assert isinstance(encoder, Openseg)
    return encoder


def test_words_are_those_of_the_encoder_clip(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["a chair", "b"]
    encoder = load_text_encoder("openseg")
    np.testing.assert_array_equal(encoder.encode_text(words), load_text_encoder("clip").encode_text(words))
    other = with_text(monkeypatch, "other")
    np.testing.assert_array_equal(other.encode_text(words), load_text_encoder("other").encode_text(words))
    assert other.revision != encoder.revision
    assert other.image_revision == encoder_at(checkpoints / "openseg").image_revision


def test_a_text_side_of_another_space_is_refused(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = r"small has 32 numbers a word, OpenSeg 768 a pixel: `text` in \[encoders.openseg\] must name CLIP"
    with pytest.raises(UserError, match=told):
        _ = with_text(monkeypatch, "small").revision
    with pytest.raises(UserError, match="names the encoder itself"):
        _ = with_text(monkeypatch, "openseg").revision
    shutil.rmtree(checkpoints / "other")
    with pytest.raises(UserError, match="the weights of the encoder other are missing"):
        _ = with_text(monkeypatch, "other").revision


def test_revision_follows_weights_and_nothing_beside_them(checkpoints: Path, tmp_path: Path) -> None:
    first = encoder_at(checkpoints / "openseg")
    copy = Path(shutil.copytree(checkpoints / "openseg", tmp_path / "copy"))
    (copy / "fingerprint.pb").unlink()
    (copy / "notes.txt").touch()
    assert encoder_at(copy).revision == first.revision
    assert first.revision != first.image_revision
    other = Path(shutil.copytree(copy, tmp_path / "another"))
    spoil(other, DATA, -1)
    assert encoder_at(other).image_revision != first.image_revision
    assert encoder_at(other).revision != first.revision


def spoil(folder: Path, name: str, at: int) -> None:
    data = bytearray((folder / name).read_bytes())
    data[at] ^= 255
    (folder / name).write_bytes(data)


def cut(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (shutil.rmtree, r"the weights of the encoder openseg are missing.*exported_model"),
        (lambda at: (at / PB).unlink(), r"saved_model\.pb: missing: openseg wants .*exported_model"),
        (lambda at: (at / INDEX).unlink(), r"variables\.index: missing"),
        (lambda at: (at / DATA).unlink(), "No such file"),
        (lambda at: cut(at, PB), "Cannot parse file"),
        (lambda at: (at / PB).write_bytes(b""), "'serve' could not be found"),
        (lambda at: cut(at, INDEX), "damaged"),
        (lambda at: cut(at, DATA), "damaged"),
        (lambda at: spoil(at, DATA, 50), "Checksum does not match"),
        (lambda at: write_openseg(at, dimension=512), "no OpenSeg: 512 numbers a pixel, expected 768"),
        (
            lambda at: write_openseg(at, output="features"),
            "no OpenSeg: it makes features, image_info, text of",
        ),
    ],
)
def test_what_is_wrong_with_the_weights_is_told_in_one_line(
    folder: Path, tmp_path: Path, change: Callable[[Path], object], told: str
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    change(copy)
    with pytest.raises(BadFileError, match=told) as error:
        encoder_at(copy).encode_image(picture())
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(copy))


def test_numbers_that_are_none_come_through_for_the_step_to_refuse(tmp_path: Path) -> None:
    write_openseg(tmp_path, spread=float("nan"))
    assert np.isnan(encoder_at(tmp_path).encode_pixels(picture(), [np.array([[0, 0]])])).all()


def test_options_and_devices_that_are_none_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="unknown key 'jpeg'"):
        encoder_at(folder, options={"jpeg": 90})
    for device in ("cuda:7", "mps"):
        with pytest.raises(UserError, match=f"--device {device}: tensorflow .* has no such device"):
            encoder_at(folder, device=device).encode_image(picture())


def test_a_missing_package_says_what_to_type(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match=r"needs the package tensorflow: pip install 'open3dsg\[openseg\]'"):
        encoder_at(folder).encode_image(picture())


def test_tensorflow_comes_late_and_says_nothing(folder: Path) -> None:
    program = f"""
import sys
import numpy as np
from pathlib import Path
from open3dsg.encoders.contract import Choices
from open3dsg.encoders.openseg import Openseg
from open3dsg.encoders.registry import load_encoder, load_text_encoder
encoder = Openseg.from_choices(Choices("openseg", Path({str(folder)!r}), device="cpu"))
encoder.image_revision
assert "tensorflow" not in sys.modules
print(encoder.encode_image(np.zeros((8, 8, 3), np.uint8)).shape)
print("still heard", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "(64, 64, 768)\n"
    assert done.stderr == "still heard\n"
