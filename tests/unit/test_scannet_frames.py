"""Frames of a ScanNet scan from folders and from `.sens` files, and everything that is wrong with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.scan import Scan
from open3dsg.datasets.scannet import ScanNet
from open3dsg.errors import BadFileError, UserError
from tests import miniature as mini
from tests import scannet_miniature as scannet
from tests.scannet_miniature import NAME, Place

NUMBERS = [0, 20, 40, 60]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scannet")
    scannet.write_scan(root, sens=True)
    return root


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Place:
    """A root with one clean scan that has frames and a `.sens` file, to be spoiled."""
    root = Path(shutil.copytree(template, tmp_path / "räume 1 'a'"))
    return Place(root, root / "scans" / NAME, root / "scannet_2d" / NAME)


@pytest.fixture
def sens(place: Place) -> Place:
    """The same without frames in folders."""
    shutil.rmtree(place.root / "scannet_2d")
    return place


def read(place: Place) -> Scan:
    return ScanNet(place.root).read(NAME)


def kinds(scan: Scan) -> list[str]:
    return [problem.kind for problem in scan.problems]


def numbers(scan: Scan) -> list[int]:
    return [frame.number for frame in scan.frames]


def check_frames(scan: Scan, image_size: tuple[int, int], image_focal: float) -> None:
    assert numbers(scan) == NUMBERS
    with ImageReader(scan.root) as reader:
        for at, frame in enumerate(scan.frames):
            np.testing.assert_allclose(frame.T_world_camera, mini.pose(at), atol=2e-6)
            for grid, size, focal in (
                (frame.image, image_size, image_focal),
                (frame.depth, scannet.DEPTH_SIZE, scannet.DEPTH_FOCAL),
            ):
                assert grid is not None
                assert (grid.width, grid.height, grid.fx, grid.fy) == (*size, focal, focal)
                assert (grid.cx, grid.cy) == ((size[0] - 1) / 2, (size[1] - 1) / 2)
            photo, _ = scannet.pictures(at, image_size, image_focal)
            _, depth = scannet.pictures(at, scannet.DEPTH_SIZE, scannet.DEPTH_FOCAL)
            assert np.abs(reader.read_image(frame.image_uri).astype(int) - photo).mean() < 4
            assert frame.depth_uri is not None
            depth_m = reader.read_depth_m(frame.depth_uri, frame.depth_unit_m)
            np.testing.assert_allclose(depth_m, depth / 1000, rtol=1e-6)


def test_frames_of_folders(place: Place) -> None:
    scan = read(place)
    assert kinds(scan) == []
    check_frames(scan, scannet.DEPTH_SIZE, scannet.DEPTH_FOCAL)
    assert scan.frames[1].image_uri == f"scannet_2d/{NAME}/color/20.jpg"
    assert scan.frames[1].depth_uri == f"scannet_2d/{NAME}/depth/20.png"


def test_frames_of_a_sens_file(sens: Place) -> None:
    scan = read(sens)
    assert kinds(scan) == []
    check_frames(scan, scannet.IMAGE_SIZE, scannet.IMAGE_FOCAL)
    assert scan.frames[0].image_uri.startswith(f"scans/{NAME}/{NAME}.sens!0.color@")


@pytest.mark.parametrize(("compression", "shift"), [(0, 1000.0), (1, 4000.0)])
def test_depth_of_sens_files_by_their_header(sens: Place, compression: int, shift: float) -> None:
    scannet.write_sens(sens.file(".sens"), depth_compression=compression, depth_shift=shift)
    scan = read(sens)
    (frame, *_) = scan.frames
    assert frame.depth_unit_m == pytest.approx(1 / shift)
    assert frame.depth_uri is not None
    with ImageReader(scan.root) as reader:
        depth_m = reader.read_depth_m(frame.depth_uri, frame.depth_unit_m)
    _, depth = scannet.pictures(0, scannet.DEPTH_SIZE, scannet.DEPTH_FOCAL)
    np.testing.assert_allclose(depth_m, depth / shift, rtol=1e-6)


def test_lost_tracking_is_counted(sens: Place) -> None:
    scan = ScanNet(sens.root, sens_every=10).read(NAME)
    assert numbers(scan) == NUMBERS
    assert kinds(scan) == ["pose_not_finite"] * 3
    assert "frame 10: the pose holds NaN or infinity" in scan.problems[0].detail


def test_a_root_that_was_moved_keeps_its_uris(sens: Place) -> None:
    scan = read(sens)
    moved = sens.root.rename(sens.root.parent / "elsewhere")
    with ImageReader(moved) as reader:
        photo = reader.read_image(scan.frames[3].image_uri)
    assert photo.shape == (*scannet.IMAGE_SIZE[::-1], 3)


def test_frames_beside_the_mesh_with_intrinsics_of_their_own(place: Place) -> None:
    """As ScanNet's SensReader writes them."""
    for part in ("color", "depth", "pose"):
        (place.frames / part).rename(place.folder / part)
    (place.folder / "intrinsic").mkdir()
    for part, size, focal in (
        ("color", scannet.IMAGE_SIZE, scannet.IMAGE_FOCAL),
        ("depth", scannet.DEPTH_SIZE, scannet.DEPTH_FOCAL),
    ):
        path = place.folder / "intrinsic" / f"intrinsic_{part}.txt"
        np.savetxt(path, scannet.intrinsics(size, focal)[:3, :3])
    for at, number in enumerate(NUMBERS):
        photo, _ = scannet.pictures(at, scannet.IMAGE_SIZE, scannet.IMAGE_FOCAL)
        Image.fromarray(photo).save(place.folder / "color" / f"{number}.jpg", quality=95)
    scan = read(place)
    assert kinds(scan) == []
    check_frames(scan, scannet.IMAGE_SIZE, scannet.IMAGE_FOCAL)


def test_frames_that_were_given(place: Place, tmp_path: Path) -> None:
    given = place.root / "my frames"
    (place.root / "scannet_2d").rename(given)
    assert read(place).frames[0].image_uri.split("!")[0].endswith(".sens")
    scan = ScanNet(place.root, frames=given).read(NAME)
    assert scan.frames[0].image_uri == f"my frames/{NAME}/color/0.jpg"
    (given / NAME).rename(given / "scene0001_00")
    scan = ScanNet(place.root, frames=given).read(NAME)
    assert (kinds(scan), scan.frames) == (["sequence_missing"], ())
    outside = tmp_path / "outside"
    given.rename(outside)
    with pytest.raises(
        UserError, match=r"--frames .*outside is not under the root .*: give the folder that holds"
    ):
        ScanNet(place.root, frames=outside)
    (outside / "scene0001_00").rename(outside / NAME)
    (place.root / "link").symlink_to(outside)
    scan = ScanNet(place.root, frames=place.root / "link").read(NAME)
    assert (kinds(scan), scan.frames[0].image_uri) == ([], f"link/{NAME}/color/0.jpg")


def test_no_frames_at_all(sens: Place) -> None:
    sens.file(".sens").unlink()
    scan = read(sens)
    assert (kinds(scan), scan.frames) == (["sequence_missing"], ())
    assert "neither a .sens file nor frames under" in scan.problems[0].detail
    (sens.root.parent / "scannet_2d").mkdir()
    assert f"give {sens.root.parent} as the root" in read(sens).problems[0].detail


def remove(part: str, number: int) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        (path,) = (place.frames / part).glob(f"{number}.*")
        path.unlink()

    return change


def write(file: str, data: bytes) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        (place.frames / file).write_bytes(data)

    return change


def resize(file: str) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        with Image.open(place.frames / file) as picture:
            larger = picture.resize((320, 240))
        larger.save(place.frames / file)

    return change


@pytest.mark.parametrize(
    ("change", "expected", "left"),
    [
        (remove("color", 20), ["frame_without_image"], [0, 40, 60]),
        (remove("pose", 20), ["frame_without_pose"], [0, 40, 60]),
        (remove("depth", 20), ["frame_without_depth"], NUMBERS),
        (write("pose/20.txt", b"1 2 3"), ["pose_unreadable"], [0, 40, 60]),
        (write("pose/20.txt", b"-inf " * 16), ["pose_not_finite"], [0, 40, 60]),
        (write("pose/20.txt", b"2 " * 16), ["pose_not_rigid"], [0, 40, 60]),
        (write("pose/80.txt", b"-inf " * 16), ["frame_without_image", "frame_count_differs"], NUMBERS),
        (write("color/20.jpg", b""), ["picture_unreadable"], [0, 40, 60]),
        (write("depth/20.png", b"no"), ["picture_unreadable", "frame_without_depth"], NUMBERS),
        (write("color/0020.jpg", b"no"), ["frame_twice", "picture_unreadable"], [0, 40, 60]),
        (resize("color/20.jpg"), ["intrinsics_unlikely"], [0, 40, 60]),
        (resize("depth/20.png"), ["intrinsics_unlikely", "frame_without_depth"], NUMBERS),
    ],
)
def test_single_files_of_frames(
    place: Place, change: Callable[[Place], None], expected: list[str], left: list[int]
) -> None:
    change(place)
    scan = read(place)
    assert kinds(scan) == expected
    assert numbers(scan) == left
    with_depth = [frame.number for frame in scan.frames if frame.depth is not None]
    assert len(with_depth) == len(left) - ("frame_without_depth" in expected)


def test_a_list_with_holes(place: Place) -> None:
    for part in ("color", "depth", "pose"):
        remove(part, 40)(place)
    scan = read(place)
    assert kinds(scan) == ["frames_with_holes"]
    assert (
        "1 of the frames 0 to 60, each 20 apart, are missing, the first after 20" in scan.problems[0].detail
    )


@pytest.mark.parametrize("declared", [60, 82])
def test_another_number_of_frames_than_the_text_says(place: Place, declared: int) -> None:
    scannet.write_info(place, declared)
    scan = read(place)
    assert kinds(scan) == ["frame_count_differs"]
    assert f"names {declared} in all" in scan.problems[0].detail
    shutil.rmtree(place.root / "scannet_2d")
    assert f".sens has 61 frames, the scan's text names {declared}" in read(place).problems[0].detail


def test_intrinsics_of_another_size_fail_the_scan(place: Place) -> None:
    np.savetxt(place.frames.parent / "intrinsics.txt", scannet.intrinsics((320, 240), 290))
    with pytest.raises(
        BadFileError, match=r"color/0.jpg is 48x36 pixels, and .* of pictures of about 320x240"
    ):
        read(place)


def test_depth_pictures_of_another_size_fail_the_scan(place: Place) -> None:
    for number in NUMBERS:
        resize(f"depth/{number}.png")(place)
    with pytest.raises(BadFileError, match=r"depth/0.png is 320x240 .* 48x36; no depth picture of the scan"):
        read(place)


@pytest.mark.parametrize(("part", "left"), [("color", "frame"), ("depth", "depth picture")])
def test_pictures_that_all_are_damaged_fail_the_scan(place: Place, part: str, left: str) -> None:
    for path in (place.frames / part).iterdir():
        path.write_bytes(b"no")
    with pytest.raises(BadFileError, match=f"is no JPEG or PNG; no {left} of the scan can be used"):
        read(place)


def test_a_picture_that_is_away_is_not_called_damaged(place: Place) -> None:
    path = place.frames / "color" / "20.jpg"
    path.unlink()
    path.symlink_to("nowhere")
    scan = read(place)
    assert kinds(scan) == ["picture_unreadable"]
    assert scan.problems[0].detail.endswith("color/20.jpg cannot be read: No such file or directory")


def test_folders_of_frames_that_hold_none_are_told(place: Place) -> None:
    for path in place.frames.rglob("*.*"):
        path.rename(path.with_name(f"frame-{path.name}"))
    scan = read(place)
    assert (kinds(scan), scan.frames) == (["sequence_missing"], ())
    assert f"{place.frames} holds no files such as color/0.jpg" in scan.problems[0].detail


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "3x3 or 4x4 numbers, this is none"),
        (b"nan " * 16, "3x3 or 4x4 numbers, this is none"),
        (b"1 " * 12, "3x3 or 4x4 numbers, this is none"),
        (b"-1 0 23.5 0 40 17.5 0 0 1", "focal lengths must be above 0"),
    ],
)
def test_intrinsics_that_are_none(place: Place, content: bytes, message: str) -> None:
    (place.frames.parent / "intrinsics.txt").write_bytes(content)
    with pytest.raises(BadFileError, match=message):
        read(place)
    (place.frames.parent / "intrinsics.txt").unlink()
    with pytest.raises(BadFileError, match=r"intrinsics\.txt: missing: the frames of scene0000_00 need"):
        read(place)


@pytest.mark.parametrize("factor", [0.001, 10])
def test_depth_in_another_unit(place: Place, factor: float) -> None:
    for number in NUMBERS:
        path = place.frames / "depth" / f"{number}.png"
        with Image.open(path) as picture:
            depth = (np.asarray(picture) * factor).astype(np.uint16)
        Image.fromarray(depth).save(path)
    scan = read(place)
    assert kinds(scan) == ["depth_unit_unlikely"]
    assert "a pixel of 1 is taken as 0.001 m" in scan.problems[0].detail
    assert numbers(scan) == NUMBERS


def test_extrinsics_and_cameras_of_sens_files(sens: Place) -> None:
    path = sens.file(".sens")
    whole = path.read_bytes()
    start = 4 + 8 + len(b"invented device")
    path.write_bytes(whole[: start + 64] + np.float32(2).tobytes() + whole[start + 68 :])
    assert kinds(read(sens)) == ["extrinsic_not_identity"]
    path.write_bytes(whole[: start + 8] + np.float32(500).tobytes() + whole[start + 12 :])
    with pytest.raises(BadFileError, match=r"\.sens: its photograph is 96x72 pixels, and .* about 1001x72"):
        read(sens)
    path.write_bytes(whole[:start] + np.float32(np.nan).tobytes() + whole[start + 4 :])
    with pytest.raises(BadFileError, match=r"\.sens: its photograph: focal lengths must be above 0"):
        read(sens)


def test_frames_of_a_sens_file_without_pictures(sens: Place) -> None:
    """The sizes of a record are its last 16 bytes: one after the other picture is said to be empty."""
    path = sens.file(".sens")
    whole = path.read_bytes()
    record = 4 + 8 + len(b"invented device") + 64 * 4 + 4 * 2 + 4 * 4 + 4 + 8
    color, depth = np.frombuffer(whole[record + 80 : record + 96], "<u8").tolist()
    bytes_of = {"color": whole[record + 96 :][:color], "depth": whole[record + 96 + color :][:depth]}
    for gone, kind in (("color", "frame_without_image"), ("depth", "frame_without_depth")):
        sizes = np.array([0 if gone == "color" else color, 0 if gone == "depth" else depth], "<u8").tobytes()
        kept = bytes_of["depth" if gone == "color" else "color"]
        rest = whole[record + 96 + color + depth :]
        path.write_bytes(whole[: record + 80] + sizes + kept + rest)
        scan = read(sens)
        assert kinds(scan) == [kind]
        assert numbers(scan) == (NUMBERS[1:] if gone == "color" else NUMBERS)


def test_photographs_of_another_size_than_the_sens_file_says(sens: Place) -> None:
    path = sens.file(".sens")
    whole = path.read_bytes()
    start = 4 + 8 + len(b"invented device") + 64 * 4 + 2 * 4
    path.write_bytes(whole[:start] + np.uint32(scannet.IMAGE_SIZE[0] + 2).tobytes() + whole[start + 4 :])
    with pytest.raises(BadFileError, match="photograph is 96x72 pixels, the header says 98x72; no frame of"):
        read(sens)
    path.write_bytes(whole.replace(b"\xff\xd8\xff", b"\xff\xd9\xff", 1))
    scan = read(sens)
    assert (kinds(scan), numbers(scan)) == (["picture_unreadable"], NUMBERS[1:])
