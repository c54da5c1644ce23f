"""Recordings through the installed command: fused into rows, and one line for what is wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import rgbd_miniature as rgbd
from tests.command import Done
from tests.rgbd_miniature import NAME

Run = Callable[..., Done]
Refused = Callable[..., str]

READ = ("--voxel", 0.05)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of two recordings, the second as TUM's."""
    folder = tmp_path / "a räum 雪"
    rgbd.write_recording(folder)
    rgbd.write_recording(folder, "lab", stem=rgbd.timestamp, poses="trajectory")
    return folder


def test_one_recording_and_then_the_folder_of_them(run: Run, root: Path) -> None:
    one = run("ingest", "rgbd", root / NAME, *READ, "--json").json
    assert one["scans"] == {"done": 1, "skipped": 0, "failed": 0}
    assert one["problems"] == {}
    assert one["counts"]["frames"] == 4
    assert one["counts"]["points"] > 1000
    both = run("ingest", "rgbd", root, *READ, "--jobs", 2, "--json").json
    assert both["scans"] == {"done": 1, "skipped": 1, "failed": 0}
    listed = {scan["scan"]: scan for scan in run("scans", "list", "--json").json}
    assert listed.keys() == {NAME, "lab"}
    assert {scan["dataset"] for scan in listed.values()} == {"rgbd"}
    assert {scan["frames"] for scan in listed.values()} == {4}


def test_a_folder_that_moved(run: Run, root: Path) -> None:
    assert run("ingest", "rgbd", root, *READ, "--dataset", "mine").code == 0
    moved = root.rename(root.with_name("elsewhere"))
    ingest = ("ingest", "rgbd", moved / NAME, *READ, "--dataset", "mine")
    assert "`open3dsg scans relocate mine " in run(*ingest).errors[0]
    found = run("scans", "relocate", "mine", moved, "--check", "all", "--json").json
    assert (found["scans"], found["missing"], found["pictures"]) == (2, [], 16)
    assert found["pictures_missing"] == []
    assert run(*ingest, "--json").json["scans"]["skipped"] == 1
    again = run(*ingest, "--force", "--json").json
    assert again["scans"]["done"] == 1


def test_what_is_left_out_is_counted(run: Run, root: Path) -> None:
    (root / NAME / "depth" / "frame-000006.png").unlink()
    rows = (root / NAME / "poses.txt").read_text().splitlines()
    (root / NAME / "poses.txt").write_text("\n".join([*rows[:2], " ".join(["nan"] * 16), rows[3]]))
    done = run("ingest", "rgbd", root / NAME, *READ)
    assert done.code == 0
    assert "frame_without_depth: 1, such as: kitchen/rgb/frame-000006.png has no depth picture" in done.out
    assert "pose_not_finite: 1, such as: kitchen/rgb/frame-000009.png: the pose holds NaN" in done.out


def test_observe_says_what_is_lacking(run: Run, root: Path) -> None:
    assert run("ingest", "rgbd", root / NAME, *READ).code == 0
    done = run("observe")
    assert done.code == 0
    assert f"`open3dsg masks merge --scan rgbd/{NAME}` makes instances" in done.out


def test_a_bad_recording_is_a_line_and_the_good_one_goes_on(run: Run, root: Path) -> None:
    shutil.rmtree(root / NAME / "depth")
    done = run("ingest", "rgbd", root, *READ, "--json")
    assert done.code == 2
    (line,) = done.errors
    assert "no depth pictures: there is no depth; name theirs with --depth" in line


def spoil_units(folder: Path) -> None:
    for place in range(4):
        rgbd.write_depth(folder / "depth" / f"{rgbd.numbered(place)}.png", place, units=1)


def spoil_axes(folder: Path) -> None:
    rgbd.write_poses(folder, [rgbd.pose(place) @ np.diag([1.0, -1, -1, 1]) for place in range(4)], "matrices")


SPOILT: list[tuple[Callable[[Path], object], str]] = [
    (spoil_units, "m in the middle, taken as 1000 units a metre"),
    (spoil_axes, "with --camera-axes y-up: give that"),
    (lambda folder: (folder / "K.txt").unlink(), "or give --intrinsics fx,fy,cx,cy"),
    (lambda folder: (folder / "images").mkdir(), "say which with --colour rgb"),
]


@pytest.mark.parametrize(("spoil", "told"), SPOILT)
def test_a_recording_that_cannot_be_is_one_line(
    refused: Refused, root: Path, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(root / NAME)
    assert told in refused("ingest", "rgbd", root / NAME, *READ)


def test_options_and_folders_that_cannot_be_are_one_line(refused: Refused, root: Path) -> None:
    ingest = ("ingest", "rgbd")
    empty = root / "empty"
    empty.mkdir()
    assert "no recording, nor a folder of recordings" in refused(*ingest, empty)
    assert "--voxel is 0: give a number from 0.001 to 1" in refused(*ingest, root, "--voxel", 0)
    assert "--world-up" in refused(*ingest, root, "--world-up", "w")
    assert "recordings have none, leave --split out" in refused(*ingest, root, "--split", "train")


def test_without_open3d_one_line_says_what_to_install(
    refused: Refused, root: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    package = tmp_path / "none" / "open3d"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('libusb-1.0.so.0: cannot open')\n")
    path = f"{package.parent}{os.pathsep}{variables['PYTHONPATH']}"
    line = refused("ingest", "rgbd", root / NAME, PYTHONPATH=path)
    assert "pip install 'open3dsg[rgbd]'" in line
    assert "libusb-1.0-0" in line
