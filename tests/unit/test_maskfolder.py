"""Folders of masks: which frame a file is of, what its pixels may be, and what becomes of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from open3dsg.datasets.maskfolder import content_hash, mask_files, match_masks, read_mask
from open3dsg.datasets.scan import Frame, Problem
from open3dsg.errors import BadFileError
from open3dsg.geometry.grids import resampled
from open3dsg.geometry.pixels import PixelGrid
from tests.masks import write_mask

PHOTO = PixelGrid(8, 4, 8.0, 8.0, 3.5, 1.5)
DEPTH = PixelGrid(4, 2, 4.0, 4.0, 1.5, 0.5)


def frame(number: int, uri: str, depth: PixelGrid | None = DEPTH) -> Frame:
    return Frame(number, uri, PHOTO, np.eye(4), "depth.png", depth)


SEQUENCE = [frame(n, f"scan/sequence.zip!frame-{n:06d}.color.jpg") for n in (0, 7, 42)]
PICTURES = [frame(n, f"scannet_2d/scene/color/{n}.jpg") for n in (0, 20, 40)]
STREAM = [frame(n, f"scans/scene/scene.sens!{n}.color@{100 * n}+50") for n in (0, 1, 2)]
STAMPS = [frame(n, f"rgb/1305031102.{175304 + n}.png") for n in range(3)]


@pytest.mark.parametrize(
    ("frames", "name", "number"),
    [
        (SEQUENCE, "frame-000042.color", 42),
        (SEQUENCE, "frame-000042", 42),
        (SEQUENCE, "frame-000042.mask.png", 42),
        (SEQUENCE, "42", 42),
        (SEQUENCE, "masks_0007_sam", 7),
        (SEQUENCE, "0", 0),
        (SEQUENCE, "8", None),
        (SEQUENCE, "overview", None),
        (PICTURES, "20", 20),
        (PICTURES, "1", None),
        (STREAM, "2", 2),
        (STREAM, "2.color", 2),
        (STAMPS, "1305031102.175305", 1),
        (STAMPS, "1305031102.175309", None),
        (STAMPS, "2", 2),
        # A name that a photograph has is not taken for a number.
        ([frame(1, "rgb/2.jpg"), frame(2, "rgb/1.jpg")], "2", 1),
    ],
)
def test_a_file_is_of_the_frame_that_its_name_says(
    frames: list[Frame], name: str, number: int | None
) -> None:
    path = Path(f"masks/{name}.png")
    matched = match_masks([path], frames)
    assert matched.of_frame == ({} if number is None else {number: path})
    assert [problem.kind for problem in matched.problems] == ["mask_without_frame"] * (number is None)


def test_two_masks_of_a_frame_are_refused() -> None:
    with pytest.raises(
        BadFileError, match=r"^m/frame-000042.png: frame 42 has a mask already, 42.png: leave one"
    ):
        match_masks([Path("m/42.png"), Path("m/frame-000042.png")], SEQUENCE)


def test_the_files_are_the_png_files(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="no folder of masks"):
        mask_files(tmp_path / "none")
    with pytest.raises(BadFileError, match=r"no masks here.*\(it is empty\)"):
        mask_files(tmp_path)
    for name in ("a.tif", "b", "c.npy", "d.txt"):
        (tmp_path / name).touch()
    with pytest.raises(BadFileError, match=r"\(it holds a.tif, b, c.npy, ...\)"):
        mask_files(tmp_path)
    for name in ("2.png", "1.PNG"):
        (tmp_path / name).touch()
    assert [path.name for path in mask_files(tmp_path)] == ["1.PNG", "2.png"]


def test_the_hash_tells_content_and_names(tmp_path: Path) -> None:
    first, second = tmp_path / "1.png", tmp_path / "2.png"
    first.write_bytes(b"a")
    second.write_bytes(b"b")
    before = content_hash([first, second])
    assert content_hash([first, second]) == before
    assert len({before, content_hash([first]), content_hash([second, first])}) == 3
    second.write_bytes(b"c")
    assert content_hash([first, second]) != before


IDS = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])


@pytest.mark.parametrize("pixel", [np.uint8, np.uint16])
def test_ids_are_read_as_they_stand(tmp_path: Path, pixel: Any) -> None:
    ids = (IDS * (9000 if pixel is np.uint16 else 30)).astype(pixel)
    found = read_mask(write_mask(tmp_path / "1.png", ids), frame(1, "1.jpg"))
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.uint16
    assert found.tolist() == ids.tolist()


def test_of_a_palette_the_places_are_ids(tmp_path: Path) -> None:
    picture = Image.fromarray(IDS.astype(np.uint8)).convert("P")
    picture.putpalette([200, 0, 0] * 256)
    picture.save(tmp_path / "1.png")
    found = read_mask(tmp_path / "1.png", frame(1, "1.jpg"))
    assert isinstance(found, np.ndarray)
    assert found.tolist() == IDS.tolist()


def test_a_mask_of_the_photo_is_scaled_to_the_depth_picture(tmp_path: Path) -> None:
    large = np.arange(32, dtype=np.uint8).reshape(4, 8)
    found = read_mask(write_mask(tmp_path / "1.png", large), frame(1, "1.jpg"))
    # Centres of depth pixels lie at 0.5, 2.5, ... of the photo; rounding is to even.
    assert isinstance(found, np.ndarray)
    assert found.tolist() == large[np.ix_([0, 2], [0, 2, 4, 6])].tolist()


def test_cameras_that_differ_are_minded() -> None:
    picture = np.arange(1, 33, dtype=np.uint16).reshape(4, 8)
    shifted = PixelGrid(8, 4, 8.0, 8.0, 5.5, 1.5)  # its middle is two pixels further right
    assert resampled(picture, PHOTO, shifted)[:, 2:].tolist() == picture[:, :6].tolist()
    assert not resampled(picture, PHOTO, shifted)[:, :2].any()
    with pytest.raises(ValueError, match="must lie on"):
        resampled(picture.T, PHOTO, DEPTH)


@pytest.mark.parametrize(("size", "told"), [((8, 4), "is 4x8"), ((4, 9), "is 9x4"), ((1, 1), "is 1x1")])
def test_another_size_is_a_problem_a_turned_one_too(tmp_path: Path, size: tuple[int, int], told: str) -> None:
    found = read_mask(write_mask(tmp_path / "1.png", np.ones(size, np.uint8)), frame(1, "1.jpg"))
    assert isinstance(found, Problem)
    assert found.kind == "mask_of_another_size"
    assert f"{told}, neither 8x4 nor 4x2 of photo and depth picture" in found.detail


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\nhalf"])
def test_a_damaged_file_is_a_problem(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "1.png").write_bytes(data)
    found = read_mask(tmp_path / "1.png", frame(1, "1.jpg"))
    assert isinstance(found, Problem)
    assert found.kind == "mask_unreadable"
    whole = write_mask(tmp_path / "2.png", np.arange(32, dtype=np.uint8).reshape(4, 8)).read_bytes()
    (tmp_path / "2.png").write_bytes(whole[:-30])
    assert isinstance(read_mask(tmp_path / "2.png", frame(2, "2.jpg")), Problem)


@pytest.mark.parametrize(
    ("mask", "kind", "mode"),
    [
        (np.zeros((2, 4, 3), np.uint8), "PNG", "PNG of mode RGB"),
        (np.zeros((2, 4, 4), np.uint8), "PNG", "PNG of mode RGBA"),
        (np.full((2, 4), 70_000, np.int32), "TIFF", "TIFF of mode I"),
        (np.zeros((2, 4), np.uint8), "JPEG", "JPEG of mode L"),
    ],
)
def test_pixels_that_are_no_ids_of_16_bits_are_refused(
    tmp_path: Path, mask: NDArray[Any], kind: str, mode: str
) -> None:
    path = write_mask(tmp_path / "1.png", mask, kind=kind)
    with pytest.raises(BadFileError) as refused:
        read_mask(path, frame(1, "1.jpg"))
    line = str(refused.value)
    assert line.startswith(f"{path}: a mask is a grey PNG of 8 or 16 bits")
    assert mode in line
    assert "\n" not in line
