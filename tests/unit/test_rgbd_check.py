"""Depth, poses and axes that do not fit together are told, with the option that makes them fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.rgbd_check import Reading, check_depth_scale, check_upright, check_views
from open3dsg.datasets.scan import Frame, Problem
from open3dsg.errors import UserError
from open3dsg.geometry.pixels import PixelGrid
from tests import rgbd_miniature as rgbd

GRID = PixelGrid(96, 72, 80, 80, 47.5, 35.5)
RIGHT = {place: rgbd.pose(place) for place in range(4)}
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])

Poses = Mapping[int, NDArray[np.float64]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    rgbd.write_recording(folder)
    rgbd.write_recording(folder, "tum", units=5000)
    rgbd.write_recording(folder, "metres", units=1)
    rgbd.write_recording(folder, "empty", units=0)
    return folder


def frames(name: str = rgbd.NAME) -> list[Frame]:
    stems = [f"{rgbd.numbered(place)}.png" for place in range(4)]
    return [
        Frame(place, f"{name}/rgb/{stem}", GRID, RIGHT[place], f"{name}/depth/{stem}", GRID)
        for place, stem in enumerate(stems)
    ]


def check(root: Path, name: str, given: Reading, *others: Reading) -> Problem | None:
    with ImageReader(root) as images:
        return check_views(images, frames(name), given, lambda: others)


def test_depth_of_a_room_is_taken(root: Path) -> None:
    with ImageReader(root) as images:
        check_depth_scale(images, frames(), 1000)
        check_depth_scale(images, frames("tum"), 5000)
        check_depth_scale(images, frames("metres"), 1)
        check_depth_scale(images, frames("empty"), 1000)


@pytest.mark.parametrize(
    ("name", "units", "told"),
    [
        ("metres", 1000, "m in the middle, taken as 1000 units a metre (the picture holds "),
        ("metres", 1000, "give --depth-scale UNITS, such as --depth-scale 1"),
        ("kitchen", 10, "in the middle, taken as 10 units a metre"),
        ("kitchen", 10, "such as --depth-scale 1000 or "),
        ("kitchen", 1e6, "metres/depth"),
    ],
)
def test_depth_of_no_room_is_refused(root: Path, name: str, units: float, told: str) -> None:
    told = told.replace("metres/depth", "kitchen/depth/frame-000003.png: depth is")
    with ImageReader(root) as images, pytest.raises(UserError, match=re.escape(told)):
        check_depth_scale(images, frames(name), units)


def test_views_that_agree_are_taken(root: Path) -> None:
    wrong = Reading("--depth-scale 1", RIGHT, 1)
    assert check(root, "kitchen", Reading("", RIGHT, 1000), wrong) is None


def turned(poses: Poses) -> Poses:
    return {number: pose @ FLIP for number, pose in poses.items()}


def inverted(poses: Poses) -> Poses:
    return {number: np.asarray(np.linalg.inv(pose)) for number, pose in poses.items()}


def shuffled(poses: Poses) -> Poses:
    return {number: poses[3 - number] for number in poses}


@pytest.mark.parametrize("wrong", [turned, inverted, shuffled])
def test_poses_that_do_not_fit_are_told_with_what_does(root: Path, wrong: Callable[[Poses], Poses]) -> None:
    given = Reading("", wrong(RIGHT), 1000)
    right = Reading("--that-option yes", RIGHT, 1000)
    other = Reading("--depth-scale 4000", wrong(RIGHT), 4000)
    with pytest.raises(UserError, match=r"and in 99% with --that-option yes: give that, or the usual"):
        check(root, "kitchen", given, other, right)
    problem = check(root, "kitchen", given, other)
    assert problem is not None, "nothing is known to be better"
    assert problem.kind == "views_disagree"


def test_poses_of_another_room_are_told(root: Path) -> None:
    rng = np.random.default_rng(4)
    tilt = np.linalg.qr(rng.normal(size=(4, 3, 3)))[0]
    other = {number: pose.copy() for number, pose in RIGHT.items()}
    for number, pose in other.items():
        pose[:3, :3] = tilt[number] * np.linalg.det(tilt[number])
    problem = check(root, "kitchen", Reading("", other, 1000), Reading("--depth-scale 4000", RIGHT, 1))
    assert problem is not None
    assert problem.kind == "views_disagree"


def test_another_unit_of_depth_is_told(root: Path) -> None:
    readings = [Reading(f"--depth-scale {units}", RIGHT, units) for units in (1, 100, 5000, 10_000)]
    with pytest.raises(UserError, match="with --depth-scale 5000: give that, or"):
        check(root, "tum", Reading("", RIGHT, 1000), *readings)


def test_views_that_share_nothing_say_nothing(root: Path) -> None:
    away = {number: pose.copy() for number, pose in RIGHT.items()}
    for number, pose in away.items():
        pose[0, 3] += 100 * number
    assert check(root, "kitchen", Reading("", away, 1000)) is None
    still = dict.fromkeys(RIGHT, RIGHT[0])
    assert check(root, "kitchen", Reading("", still, 1000)) is None
    assert check(root, "empty", Reading("", RIGHT, 1000)) is None


def test_poses_that_share_nothing_are_told_with_what_does(root: Path) -> None:
    """Each camera looks aside of the one before it by more than the width of the view."""
    cosine, sine = np.cos(1.2), np.sin(1.2)
    aside = np.array([[cosine, 0, sine, 0], [0, 1, 0, 0], [-sine, 0, cosine, 0], [0, 0, 0, 1]])
    away = {number: pose @ np.linalg.matrix_power(aside, number) for number, pose in RIGHT.items()}
    given = Reading("", away, 1000)
    rescaled = Reading("--depth-scale 999", RIGHT, 999)
    assert check(root, "kitchen", given, rescaled) is None, "another scale proves nothing"
    with pytest.raises(UserError, match="agree on depth in 0% of their pixels, and in 99% with --that"):
        check(root, "kitchen", given, Reading("--that", RIGHT, 1000))


def test_a_world_that_is_not_z_up_is_told() -> None:
    assert check_upright("kitchen", frames()) is None
    T_y_up = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    lying = [replace(frame, T_world_camera=T_y_up @ frame.T_world_camera) for frame in frames()]
    problem = check_upright("kitchen", lying)
    assert problem is not None
    assert problem.kind == "world_up_unlikely"
    assert problem.detail.endswith("stand upright along y and not z: give --world-up y if that is up")
