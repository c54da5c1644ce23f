"""Pictures below a folder: which are found, how they are decoded, what becomes of unusable ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from open3dsg.errors import UserError
from open3dsg.export import images as module
from open3dsg.export.dense import pixel_features
from open3dsg.export.images import ImagesReport, find_pictures, write_images
from tests.pictures import read
from tests.toy_encoder import ToyPixels, embed_colours


def names(folder: Path, out: Path) -> list[str]:
    return [path.as_posix() for path in find_pictures(folder, out).pictures]


def make(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(folder / file)


def run(folder: Path, out: Path, encoder: ToyPixels, clusters: int = 4) -> ImagesReport:
    tree = find_pictures(folder, out)
    return write_images(tree, out, encoder, clusters=clusters, force=False, advance=lambda _: None)


def test_pictures_are_found_by_suffix_in_any_case_and_below_links(tmp_path: Path) -> None:
    folder, other = tmp_path / "in", tmp_path / "other"
    make(folder, "b.JPG", "a.jpeg", "deep/down/c.Png", "d.bmp", "e.gif")
    make(other, "f.jpg")
    (folder / "link").symlink_to(other)
    (folder / "deep" / "loop").symlink_to(folder)
    assert names(folder, tmp_path / "out") == ["a.jpeg", "b.JPG", "d.bmp", "deep/down/c.Png", "link/f.jpg"]


def test_what_is_written_is_never_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    make(folder, "a.jpg", "out/old.png", "out/deep/old.png")
    assert names(folder, folder / "out") == ["a.jpg"]
    (tmp_path / "elsewhere").symlink_to(folder / "out")
    assert names(folder, tmp_path / "elsewhere") == ["a.jpg"]
    for out in (folder, folder / "out" / "..", tmp_path):
        with pytest.raises(UserError, match="holds the pictures themselves"):
            find_pictures(folder, out)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=r"in: holds no picture \(\.bmp, \.jpeg, \.jpg, \.png\)"):
        find_pictures(tmp_path / "in", tmp_path / "out")


@pytest.fixture
def without_rights(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Give a function after which the test goes on as a user who is not root."""
    user = os.geteuid()

    def give_up() -> None:
        if user == 0:
            for parent in (tmp_path, *tmp_path.parents[:-2]):
                parent.chmod(parent.stat().st_mode | 0o55)
            os.seteuid(65534)

    yield give_up
    os.seteuid(user)


def test_a_folder_that_may_not_be_read_is_a_failure(
    tmp_path: Path, without_rights: Callable[[], None]
) -> None:
    make(tmp_path, "a.jpg", "shut/b.jpg")
    (tmp_path / "shut").chmod(0)
    without_rights()
    tree = find_pictures(tmp_path, tmp_path / "out")
    assert [path.name for path in tree.pictures] == ["a.jpg"]
    assert [(name, problem.kind) for name, problem in tree.problems.items()] == [
        ("shut", "folder_unreadable")
    ]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_says(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    make(tmp_path / "in", "a.png")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "in" / "a.png", exif=exif)
    run(tmp_path / "in", tmp_path / "out", ToyPixels())
    turned = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "in" / "a.png")))
    assert turned.shape[:2] == ((4, 6) if orientation < 5 else (6, 4))
    found = pixel_features(tmp_path / "out" / "a.png.npz", np.array([[0, 0], [3, 3]]))
    expected = embed_colours(turned[[0, 2], [0, 2]] / 255)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert read(tmp_path / "out" / "a.png.png").shape == turned.shape


class Stubborn(ToyPixels):
    """Makes numbers of black pictures that cannot be kept, and takes none that is three pixels high."""

    def __init__(self, number: float) -> None:
        self.number = number

    def encode_image(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        if image.shape[0] == 3:
            raise ValueError("image is three pixels high")
        grid = super().encode_image(image)
        if not image.any():
            grid[-1, -1, 0] = self.number
        return grid


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e6])
def test_numbers_that_cannot_be_kept_are_failures_and_the_rest_goes_on(tmp_path: Path, number: float) -> None:
    make(tmp_path / "in", "black.png")
    for name, height in (("thin.png", 3), ("white.png", 4)):
        Image.fromarray(np.full((height, 5, 3), 255, np.uint8)).save(tmp_path / "in" / name)
    report = run(tmp_path / "in", tmp_path / "out", Stubborn(number))
    assert {name: problem.kind for name, problem in report.failures.items()} == {
        "black.png": "features_unusable",
        "thin.png": "image_unusable",
    }
    assert report.failures["thin.png"].detail == "image is three pixels high"
    assert report.done == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"white.png.npz", "white.png.png"}


def test_groups_of_a_stopped_run_are_not_taken_for_those_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.bmp")
    run(folder, out, ToyPixels(), clusters=9)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_dense", stop)
        with pytest.raises(KeyboardInterrupt):
            run(folder, out, ToyPixels(), clusters=2)
    assert run(folder, out, ToyPixels(), clusters=9).done == 1
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_groups_are_colours_by_size_and_no_more_than_asked_for(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[:, :6], pixels[:, 6:10], pixels[:, 10:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "in" / "a.bmp")
    for clusters, groups in ((9, 3), (2, 2)):
        out = tmp_path / str(clusters)
        run(tmp_path / "in", out, ToyPixels(), clusters)
        with Image.open(out / "a.bmp.png") as picture:
            index = np.asarray(picture)
        assert index.shape == (20, 20)
        assert np.unique(index).tolist() == list(range(groups))
        assert len(np.unique(read(out / "a.bmp.png").reshape(-1, 3), axis=0)) == groups
        assert (np.diff(np.bincount(index.ravel())) <= 0).all()
        assert (index[:, 10:] == 0).all()  # the largest
