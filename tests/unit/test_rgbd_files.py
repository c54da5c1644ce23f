"""The parts of a recording: which pictures, poses and cameras belong together, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.datasets.rgbd_cameras import Cameras, find_cameras
from open3dsg.datasets.rgbd_files import (
    POSE_PLACES,
    Listing,
    Places,
    find_part,
    find_recordings,
    list_pictures,
    nearest,
    recording_names,
)
from open3dsg.datasets.rgbd_options import RgbdOptions
from open3dsg.datasets.rgbd_poses import Poses, other_rows, read_poses
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.pixels import PixelGrid
from open3dsg.geometry.rigid import is_rigid
from tests import rgbd_miniature as rgbd
from tests.rgbd_miniature import NUMBERS

ANY = Places()


def read(folder: Path, rows: str | None = None, places: Places = ANY) -> tuple[Listing, Poses]:
    listing = list_pictures(folder, places)
    place = find_part(folder, places.poses, POSE_PLACES, "poses", "--poses")
    return listing, read_poses(place, listing, rows)


def check_poses(listing: Listing, poses: Poses) -> None:
    assert poses.keys() == {picture.number for picture in listing.pictures}
    for place, picture in enumerate(listing.pictures):
        np.testing.assert_allclose(np.asarray(poses[picture.number]), rgbd.pose(place), atol=1e-6)


@pytest.mark.parametrize("kind", ["matrices", "kitti", "folder"])
def test_numbered_pictures_have_the_numbers_of_their_names(tmp_path: Path, kind: rgbd.Poses) -> None:
    folder = rgbd.write_recording(tmp_path, colour="images/{}.color.jpg", depth="depth/{}.pgm", poses=kind)
    listing, poses = read(folder)
    assert [picture.number for picture in listing.pictures] == list(NUMBERS)
    assert listing.problems == ()
    for picture in listing.pictures:
        assert picture.depth is not None
        assert picture.colour.name == f"frame-{picture.number:06d}.color.jpg"
        assert picture.depth.name == f"frame-{picture.number:06d}.pgm"
    check_poses(listing, poses)


def test_a_trajectory_is_matched_by_time(tmp_path: Path) -> None:
    """Depth 15 ms after the photographs is theirs, a pose 30 ms away is none."""
    folder = rgbd.write_recording(tmp_path, stem=rgbd.timestamp, poses="trajectory")
    for place, path in enumerate(sorted((folder / "depth").iterdir())):
        path.rename(path.with_name(f"{rgbd.START_S + rgbd.STEP_S * place + 0.015:.6f}.png"))
    listing, poses = read(folder)
    assert [picture.number for picture in listing.pictures] == [0, 1, 2, 3]
    assert all(picture.depth is not None for picture in listing.pictures)
    check_poses(listing, poses)
    trajectory = folder / "groundtruth.txt"
    late = trajectory.read_text().replace(rgbd.timestamp(2), f"{rgbd.START_S + 2 * rgbd.STEP_S + 0.03:.6f}")
    trajectory.write_text(late)
    assert read(folder)[1].keys() == {0, 1, 3}


_TIMES = st.lists(st.integers(0, 300).map(lambda hundredths: hundredths / 100 + 1e9), max_size=12)


@given(_TIMES, _TIMES.filter(len))
def test_the_nearest_time_is_found(times_s: list[float], among_s: list[float]) -> None:
    """Against a plain search; of two that are equally near either is right."""
    for time_s, place in zip(times_s, nearest(times_s, among_s), strict=True):
        away = [abs(other - time_s) for other in among_s]
        assert (place is None) == (min(away) > 0.02)
        assert place is None or away[place] == min(away)


def test_lists_of_times_stand_for_names(tmp_path: Path) -> None:
    folder = rgbd.write_recording(tmp_path, stem=lambda place: f"view{'abcd'[place]}", poses="trajectory")
    for part in ("rgb", "depth"):
        lines = [f"{rgbd.timestamp(place)} {part}/view{'abcd'[place]}.png" for place in range(4)]
        (folder / f"{part}.txt").write_text("# a comment\n" + "\n".join(reversed(lines)))
    check_poses(*read(folder))
    (folder / "rgb.txt").write_text("soon rgb/viewa.png\n")
    with pytest.raises(BadFileError, match=r"rgb.txt: line 1 is not a time in seconds and a file"):
        read(folder)


@pytest.mark.parametrize("form", ["{photo} {depth}", "{depth} {photo}"])
def test_associations_go_before_names_and_times(tmp_path: Path, form: str) -> None:
    """As TUM's tool writes them, and ICL-NUIM; the depth pictures are called as other photographs are."""
    folder = rgbd.write_recording(tmp_path, stem=str, poses="trajectory")
    order = [2, 0, 3, 1]
    for place, other in enumerate(order):
        (folder / "depth" / f"{place}.png").rename(folder / "depth" / f"_{other}.png")
    for path in list((folder / "depth").iterdir()):
        path.rename(path.with_name(path.name[1:]))
    lines = [
        form.format(
            photo=f"{rgbd.timestamp(place)} ./rgb/{place}.png", depth=f"{place + 0.25} ./depth/{other}.png"
        )
        for place, other in enumerate(order)
    ]
    (folder / "associations.txt").write_text("# rgb and depth\n" + "\n".join(lines) + "\n")
    listing, poses = read(folder)
    check_poses(listing, poses)
    assert [picture.depth and picture.depth.stem for picture in listing.pictures] == list(map(str, order))
    (folder / "associations.txt").write_text("\n".join(lines[:3]) + "\n9 rgb/9.png 9 depth/9.png")
    listing = list_pictures(folder, ANY)
    assert listing.pictures[3].depth is None
    assert [problem.kind for problem in listing.problems] == ["frame_without_image"]
    (folder / "associations.txt").write_text("1 rgb/1.png depth/1.png\n")
    with pytest.raises(BadFileError, match=r"associations.txt: line 1 is not TIME FILE TIME FILE"):
        list_pictures(folder, ANY)
    (folder / "associations.txt").write_text("9 rgb/9.png 9 depth/9.png")
    with pytest.raises(BadFileError, match=r"names no photograph and depth picture that are here"):
        list_pictures(folder, ANY)


def test_all_in_one_folder(tmp_path: Path) -> None:
    folder = rgbd.write_recording(tmp_path, poses="folder")
    rgbd.flatten(folder)
    (folder / "frame-000003.txt").write_text("of somebody's own")
    assert find_recordings(folder, ANY) == (tmp_path, rgbd.NAME)
    assert recording_names(tmp_path, ANY) == [rgbd.NAME]
    listing, poses = read(folder)
    check_poses(listing, poses)
    assert listing.problems == ()
    for picture in listing.pictures:
        assert picture.colour == folder / f"frame-{picture.number:06d}.color.png"
        assert picture.depth == folder / f"frame-{picture.number:06d}.depth.png"


def test_hidden_files_are_no_pictures(tmp_path: Path) -> None:
    folder = rgbd.write_recording(tmp_path, poses="folder")
    for path in [*(folder / "rgb").iterdir(), *(folder / "depth").iterdir(), *(folder / "pose").iterdir()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\26\7")
    listing, poses = read(folder)
    check_poses(listing, poses)
    assert listing.problems == ()


def test_rows_are_of_the_number_where_there_are_more(tmp_path: Path) -> None:
    folder = rgbd.write_recording(tmp_path)
    rows = (folder / "poses.txt").read_text().splitlines()
    spread = ["nan " * 16] * 13
    for number, row in zip(NUMBERS, rows, strict=True):
        spread[number] = row
    (folder / "poses.txt").write_text("# camera to world\n" + "\n".join(spread))
    check_poses(*read(folder))
    (folder / "poses.txt").write_text("\n".join(spread[3:]))
    with pytest.raises(UserError, match=r"has 10 rows for 4 pictures, and .*12.png would have row 12"):
        read(folder)
    check_poses(*read(folder, "3"))
    listing = list_pictures(folder, ANY)
    assert other_rows(folder / "poses.txt", listing) == ["order", "3"]


def test_pictures_without_a_partner_are_told_or_kept(tmp_path: Path) -> None:
    folder = rgbd.write_recording(tmp_path)
    (folder / "rgb" / "frame-000006.png").unlink()
    (folder / "depth" / "frame-000009.png").unlink()
    shutil.copy(folder / "rgb" / "frame-000003.png", folder / "rgb" / "frame-000003.jpg")
    listing = list_pictures(folder, ANY)
    told = [(problem.kind, problem.detail) for problem in listing.problems]
    assert told == [
        ("frame_twice", "kitchen, rgb/frame-000003.png: frame-000003.jpg counts"),
        ("frame_without_image", "kitchen, depth/frame-000006.png: no photograph belongs to it"),
    ]
    assert [(picture.number, picture.depth is None) for picture in listing.pictures] == [
        (3, False), (9, True), (12, False),
    ]  # fmt: skip


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: shutil.rmtree(folder / name)


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def by_time(folder: Path) -> None:
    """Poses by the time of day, pictures by their number."""
    (folder / "poses.txt").unlink()
    for part in ("rgb", "depth"):
        for place, path in enumerate(sorted((folder / part).iterdir())):
            path.rename(path.with_name(f"{place}.png"))
    rgbd.write_poses(folder, [rgbd.pose(place) for place in range(4)], "trajectory")


def two_poses_of_one(folder: Path) -> None:
    (folder / "poses.txt").unlink()
    rgbd.write_poses(folder, [rgbd.pose(place) for place in range(4)], "folder")
    shutil.copy(folder / "pose" / "frame-000006.txt", folder / "pose" / "6.txt")


def raw_depth(folder: Path) -> None:
    for path in list((folder / "depth").iterdir()):
        path.rename(path.with_suffix(".exr"))


REFUSED: list[tuple[Callable[[Path], object], str]] = [
    (remove("depth"), r"no depth pictures: there is no depth; name theirs with --depth"),
    (remove("rgb"), r"no photographs: there is no color, .*; name theirs with --colour"),
    (lambda folder: (folder / "images").mkdir(), r"are in rgb and images: say which with --colour"),
    (lambda folder: (folder / "pose").mkdir(), r"poses are in pose and poses.txt: say which with --poses"),
    (lambda folder: (folder / "poses.txt").unlink(), r"no poses: there is no pose, .*with --poses"),
    (by_time, r"poses from 1305031102.1753 to .* from 0 to 3 s: no two within 20 ms; list the pictures"),
    (two_poses_of_one, r"frame-000006.txt: is of picture 6, and so is 6.txt: keep one"),
    (raw_depth, r"depth: holds no picture in PNG or PGM, only .* frame-000003.exr: convert them first"),
    (write("poses.txt", "1 2 3\n"), r"poses.txt: line 1 has 3 numbers; a pose is a line of 16 or 12"),
    (write("poses.txt", "# none\n\n1 0 0 x\n"), r"poses.txt: line 3 is not numbers: '1 0 0 x'"),
    (write("poses.txt", "#\n"), r"poses.txt: holds no pose"),
    (write("poses.txt", "0 1 2 3 0 0 0 1\n"), r"has poses by time, and the pictures have none"),
    (write("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n"), r"has 1 rows for 4 pictures, and .* row 12"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "told"), REFUSED)
def test_what_is_not_clear_is_one_line(tmp_path: Path, spoil: Callable[[Path], object], told: str) -> None:
    folder = rgbd.write_recording(tmp_path)
    spoil(folder)
    with pytest.raises(UserError, match=told) as raised:
        read(folder)
    assert "\n" not in str(raised.value)


def test_poses_that_cannot_be_are_flaws(tmp_path: Path) -> None:
    folder = rgbd.write_recording(tmp_path, stem=rgbd.timestamp, poses="trajectory")
    lines = (folder / "groundtruth.txt").read_text().splitlines()
    lines[1] = lines[1].rpartition(" ")[0] + " 5"
    lines[2] = " ".join([*lines[2].split()[:4], "nan nan nan nan"])
    lines[3] = " ".join([*lines[3].split()[:4], "0 0 0 0"])
    (folder / "groundtruth.txt").write_text("\n".join(lines))
    _, poses = read(folder)
    assert [getattr(poses[number], "kind", None) for number in range(4)] == [
        "pose_not_rigid", "pose_not_finite", "pose_not_rigid", None,
    ]  # fmt: skip


def test_a_recording_or_a_folder_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = rgbd.write_recording(tmp_path)
    rgbd.write_recording(tmp_path, "attic", colour="cam0/rgb/{}.png", depth="cam0/d/{}.png")
    (tmp_path / "notes").mkdir()
    assert find_recordings(folder, ANY) == (tmp_path, "kitchen")
    assert find_recordings(tmp_path, ANY) == (tmp_path, None)
    monkeypatch.chdir(folder)
    assert find_recordings(Path(), ANY) == (tmp_path, "kitchen")
    assert recording_names(tmp_path, ANY) == ["kitchen"]
    assert recording_names(tmp_path, Places(colour="cam0/rgb")) == ["attic", "kitchen"]
    with pytest.raises(UserError, match="notes: no recording, nor a folder of recordings"):
        find_recordings(tmp_path / "notes", ANY)


GRID = PixelGrid(96, 72, 80, 80, 47.5, 35.5)
FOUR = {"fx": 80, "fy": 80.0, "cx": 47.5, "cy": 35.5}


def cameras(folder: Path, given: str | None = None, depth: tuple[int, int] = (96, 72)) -> Cameras:
    return find_cameras((folder, folder.parent), given, (96, 72), depth)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("K.txt", "80 0 47.5\n0 80 35.5\n0 0 1\n"),
        ("intrinsics.txt", "80 0 47.5 0 0 80 35.5 0 0 0 1 0 0 0 0 1"),
        ("intrinsic.txt", "80, 80, 47.5, 35.5"),
        ("camera-intrinsics.txt", "8e1 0 4.75e1\n0 8e1 3.55e1\n0 0 1"),
        ("camera.json", json.dumps(FOUR)),
        ("intrinsics.json", json.dumps(FOUR | {"width": 96, "height": 72})),
        ("camera.json", json.dumps({"intrinsic_matrix": [80, 0, 0, 0, 80, 0, 47.5, 35.5, 1]})),
        ("../K.txt", "80 0 47.5\n0 80 35.5\n0 0 1\n"),
    ],
)
def test_a_camera_in_any_file(tmp_path: Path, name: str, text: str) -> None:
    folder = tmp_path / "kitchen"
    folder.mkdir()
    (folder / name).write_text(text)
    assert cameras(folder) == Cameras(GRID, GRID)


def test_a_camera_from_the_command_line_goes_first(tmp_path: Path) -> None:
    (tmp_path / "K.txt").write_text("90 0 47.5 0 90 35.5 0 0 1")
    assert cameras(tmp_path, "80,80,47.5,35.5") == Cameras(GRID, GRID)
    assert cameras(tmp_path, "80,80,10,20").image == PixelGrid(96, 72, 80, 80, 10, 20), "cut pictures"
    for text in ("80,80,47.5", "80,80,47.5,x", "0,80,47.5,35.5", "nan,80,47.5,35.5"):
        with pytest.raises(UserError, match="give fx,fy,cx,cy in pixels"):
            cameras(tmp_path, text)


def test_one_camera_for_pictures_of_two_sizes_is_scaled(tmp_path: Path) -> None:
    (tmp_path / "K.txt").write_text("80 0 47.5 0 80 35.5 0 0 1")
    found = cameras(tmp_path, depth=(48, 36))
    # Half the size: the middle of the first pixel is a quarter pixel inside that of two by two.
    assert found.depth == PixelGrid(48, 36, 40, 40, 23.5, 17.5)
    assert found.image == GRID
    assert found.note is not None
    assert "scaled for the depth pictures of 48x36" in found.note
    (tmp_path / "K.txt").write_text("40 0 23.5 0 40 17.5 0 0 1")
    found = cameras(tmp_path, depth=(48, 36))
    assert (found.image, found.depth) == (GRID, PixelGrid(48, 36, 40, 40, 23.5, 17.5))
    (tmp_path / "K.txt").write_text("80 0 47.5 0 80 35.5 0 0 1")
    with pytest.raises(UserError, match="is of pictures of 96x72, and others are 48x48: another view"):
        cameras(tmp_path, depth=(48, 48))


def test_two_cameras_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "intrinsic").mkdir()
    (tmp_path / "intrinsic/intrinsic_color.txt").write_text("80 0 47.5 0 80 35.5 0 0 1")
    (tmp_path / "intrinsic/intrinsic_depth.txt").write_text("50 0 24 0 50 18 0 0 1")
    assert cameras(tmp_path, depth=(48, 36)) == Cameras(GRID, PixelGrid(48, 36, 50, 50, 24, 18))
    with pytest.raises(UserError, match=r"intrinsic_depth.txt: depth is 640x480 pixels, and the intrinsics"):
        cameras(tmp_path, depth=(640, 480))


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, r"no intrinsics: there is no K.txt, .*or give --intrinsics"),
        ({"K.txt": "80 0 47.5"}, r"K.txt: the matrix of a camera is 3x3 or 4x4"),
        ({"K.txt": "80 80 a b"}, r"K.txt: its four numbers are no fx fy cx cy"),
        ({"K.txt": "80 0 319.5 0 80 239.5 0 0 1"}, r"K.txt: the photograph is 96x72 pixels, and"),
        ({"K.txt": "80 80 47.5 35.5", "camera.json": json.dumps(FOUR | {"fx": 81})}, r"of different cameras"),
        ({"camera.json": json.dumps(FOUR | {"fx": 10**400})}, r"'fx': a number was expected that a camera"),
        ({"camera.json": "{}"}, r"camera.json: 'fx': a number was expected"),
        ({"camera.json": json.dumps({"intrinsic_matrix": [1]})}, r"'intrinsic_matrix' has 1 numbers, not 9"),
        ({"camera.json": json.dumps(FOUR | {"width": 640, "height": 480})}, r"said to be of 640x480"),
    ],
)  # fmt: skip
def test_a_camera_that_cannot_be_is_one_line(tmp_path: Path, files: dict[str, str], told: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=told):
        cameras(tmp_path)


UP = {"x": [1, 0, 0], "y": [0, 1, 0], "z": [0, 0, 1], "-x": [-1, 0, 0], "-y": [0, -1, 0], "-z": [0, 0, -1]}


@pytest.mark.parametrize(("name", "axis"), UP.items())
def test_up_becomes_z(name: str, axis: list[int]) -> None:
    T: NDArray[np.float64] = RgbdOptions(world_up=name).pose(np.eye(4))  # type: ignore[arg-type]
    assert is_rigid(T)
    np.testing.assert_allclose(T[:3, :3] @ axis, [0, 0, 1], atol=1e-12)


def test_axes_and_direction_of_poses() -> None:
    pose = rgbd.pose(1)
    T_y_up = RgbdOptions(camera_axes="y-up").pose(pose)
    np.testing.assert_allclose(T_y_up[:3, :3], pose[:3, :3] * [1, -1, -1])
    np.testing.assert_allclose(T_y_up[:3, 3], pose[:3, 3])
    inverse: NDArray[np.float64] = np.asarray(np.linalg.inv(pose))
    there = RgbdOptions(poses_map="world-to-camera").pose(inverse)
    np.testing.assert_allclose(there, pose, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"every": 0}, "--every is 0: give 1 or more"),
        ({"voxel_m": 0.0}, "--voxel is 0: give a number from 0.001 to 1"),
        ({"voxel_m": 2e-4}, "--voxel is 0.0002: give"),
        ({"voxel_m": float("nan")}, "--voxel is nan"),
        ({"depth_scale": 0.0}, "--depth-scale is 0"),
        ({"depth_scale": -1.0}, "--depth-scale is -1"),
        ({"max_depth_m": -1.0}, "--max-depth is -1"),
        ({"pose_rows": "0"}, "--pose-rows is '0': give order, number, or N"),
        ({"pose_rows": "first"}, "--pose-rows is 'first'"),
        ({"poses_map": "forth"}, "--poses-map is 'forth': give camera-to-world, world-to-camera"),
        ({"colour": "../other/rgb"}, "--colour is '../other/rgb': give its path within the recording"),
        ({"poses": "/tmp/poses.txt"}, "--poses is '/tmp/poses.txt'"),
        ({"intrinsics": "1,2,3"}, "--intrinsics is '1,2,3'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told.replace("--", "-{2}", 1)):
        RgbdOptions(**options)  # type: ignore[arg-type]
