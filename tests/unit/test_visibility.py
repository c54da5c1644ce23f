"""Observer against a plain loop over instances in numpy float64, and the rule's borders one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.pixels import PixelGrid
from open3dsg.geometry.thresholds import VisibilityThresholds
from open3dsg.geometry.visibility import FrameObservations, Observer

GRID = PixelGrid(width=20, height=12, fx=8.0, fy=8.0, cx=10.0, cy=6.0)
ALL = VisibilityThresholds(min_points=0, min_ratio=0.0, enough_points=0)


@dataclass(frozen=True)
class Seen:
    """What one instance shows in one frame."""

    points: int
    ratio: np.float32
    box: tuple[int, int, int, int]
    pixels: list[int]


def plain_observe(
    points: NDArray[np.float32],
    instance: NDArray[np.int32],
    depth_m: NDArray[np.float32],
    grid: PixelGrid,
    T_world_camera: NDArray[np.float64],
    thresholds: VisibilityThresholds,
    surfaces: set[int],
) -> dict[int, Seen]:
    """The rule said plainly: one instance at a time, float64 throughout."""
    T = np.linalg.inv(T_world_camera)
    seen = {}
    for number in sorted(set(instance[instance >= 0].tolist())):
        x, y, z = points[instance == number].astype(np.float64).T
        camera_x, camera_y, camera_z = (T[i, 0] * x + T[i, 1] * y + T[i, 2] * z + T[i, 3] for i in range(3))
        with np.errstate(divide="ignore", invalid="ignore"):
            column = np.round(camera_x * grid.fx / camera_z + grid.cx)
            row = np.round(camera_y * grid.fy / camera_z + grid.cy)
        border = thresholds.border
        keep = (camera_z > 0) & (column >= border) & (column < grid.width - border)
        keep &= (row >= border) & (row < grid.height - border)
        pixels = row[keep].astype(int) * grid.width + column[keep].astype(int)
        depth = depth_m.reshape(-1)[pixels].astype(np.float64)
        measured = np.isfinite(depth) & (depth > 0)
        with np.errstate(invalid="ignore"):
            agrees = np.abs(depth - camera_z[keep]) <= thresholds.depth_tolerance * depth
        pixels = pixels[measured & agrees]
        count, ratio = len(pixels), len(pixels) / len(x)
        by_ratio = ratio > thresholds.min_ratio and number not in surfaces
        if count > thresholds.min_points and (count > thresholds.enough_points or by_ratio):
            rows, columns = np.divmod(pixels, grid.width)
            box = (columns.min(), rows.min(), columns.max(), rows.max())
            seen[number] = Seen(count, np.float32(ratio), box, sorted(set(pixels.tolist())))
    return seen


def as_dict(found: FrameObservations) -> dict[int, Seen]:
    assert found.pixel_offsets.tolist() == [0, *np.cumsum(found.unique_pixels).tolist()]
    return {
        int(number): Seen(
            int(found.visible_points[i]),
            found.visibility_ratio[i],
            tuple(found.box[i].tolist()),
            found.pixel_ids[found.pixel_offsets[i] : found.pixel_offsets[i + 1]].tolist(),
        )
        for i, number in enumerate(found.numbers)
    }


def random_pose(rng: np.random.Generator) -> NDArray[np.float64]:
    pose = np.eye(4)
    pose[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    pose[:3, 3] = rng.normal(scale=0.5, size=3)
    return pose


def random_scene(
    rng: np.random.Generator, on_half_pixels: bool
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float64]]:
    """Clusters of points all around a camera, and a depth picture with every kind of hole."""
    count = int(rng.integers(1, 1500))
    numbers = np.array([-1, 0, 1, 7, 8, 40, 41], np.int32)
    cluster = rng.integers(0, len(numbers), count)
    points = (
        rng.normal(scale=1.5, size=(len(numbers), 3))[cluster] + rng.normal(scale=0.4, size=(count, 3))
    ).astype(np.float32)
    pose = random_pose(rng)
    if on_half_pixels:  # powers of two throughout: projections are exact, many exactly between two pixels
        depth_of_point = 2.0 ** rng.integers(-1, 3, count)
        pixel = rng.integers(-4, [44, 28], (count, 2)) / 2 - np.array([GRID.cx, GRID.cy])
        points = np.column_stack([pixel / 8.0 * depth_of_point[:, None], depth_of_point]).astype(np.float32)
        points[rng.random(count) < 0.2] *= -1
        pose = np.eye(4)
    instance = numbers[cluster]
    instance[rng.integers(count)] = 1000
    depth = rng.choice([0.5, 1.0, 1.5, 2.0, 3.0, 4.0], (GRID.height, GRID.width)).astype(np.float32)
    holes = rng.random(depth.shape) < 0.2
    depth[holes] = rng.choice(np.array([np.nan, 0.0, -1.0, np.inf], np.float32), int(holes.sum()))
    return points, instance, depth, pose


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    on_half_pixels=st.booleans(),
    border=st.integers(0, 3),
    tolerance=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    min_points=st.integers(0, 4),
    enough_points=st.integers(0, 12),
)
def test_equals_a_plain_loop_over_instances(
    seed: int, on_half_pixels: bool, border: int, tolerance: float, min_points: int, enough_points: int
) -> None:
    rng = np.random.default_rng(seed)
    points, instance, depth, pose = random_scene(rng, on_half_pixels)
    thresholds = VisibilityThresholds(min_points, 0.1, enough_points, tolerance, border)
    observer = Observer(points, instance)
    surfaces = np.isin(observer.numbers, [1, 40])
    found = observer.observe(depth, GRID, pose, thresholds, surfaces)
    assert as_dict(found) == plain_observe(points, instance, depth, GRID, pose, thresholds, {1, 40})


def test_random_scenes_show_and_hide_instances() -> None:
    """The scenes above would prove nothing if nothing were seen in them, or everything."""
    rng = np.random.default_rng(5)
    for on_half_pixels in (False, True):
        seen = total = 0
        for _ in range(20):
            points, instance, depth, pose = random_scene(rng, on_half_pixels)
            observer = Observer(points, instance)
            seen += len(observer.observe(depth, GRID, pose, VisibilityThresholds(2, 0.1, 8)).numbers)
            total += len(observer.numbers)
        assert 0.1 < seen / total < 0.9


def at_pixels(pixels: list[tuple[float, float]], depth_m: float = 1.0) -> NDArray[np.float32]:
    """Points in front of the identity camera that project to these (column, row)."""
    columns, rows = np.array(pixels, np.float64).T
    x, y = (columns - GRID.cx) / GRID.fx, (rows - GRID.cy) / GRID.fy
    return (np.column_stack([x, y, np.ones_like(x)]) * depth_m).astype(np.float32)


def look(
    points: NDArray[np.float32],
    depth_m: float = 1.0,
    thresholds: VisibilityThresholds = ALL,
    by_points_alone: NDArray[np.bool_] | None = None,
) -> dict[int, Seen]:
    depth = np.full((GRID.height, GRID.width), depth_m, np.float32)
    observer = Observer(points, np.zeros(len(points), np.int32))
    return as_dict(observer.observe(depth, GRID, np.eye(4), thresholds, by_points_alone))


@pytest.mark.parametrize(
    ("column", "pixel"),
    [
        (-0.5, 0),
        (0.5, 0),
        (1.5, 2),
        (2.5, 2),
        (2.75, 3),
        (18.5, 18),
        (-0.75, None),
        (19.5, None),
        (-1.5, None),
    ],
)
def test_halves_round_to_even(column: float, pixel: int | None) -> None:
    seen = look(at_pixels([(column, 0.0)]))
    assert seen == {} if pixel is None else seen[0].pixels == [pixel]


def test_ids_and_box_are_of_the_depth_grid() -> None:
    seen = look(at_pixels([(3, 2), (7, 5), (7, 5), (4, 9)]))
    assert seen[0] == Seen(4, np.float32(1.0), (3, 2, 7, 9), [43, 107, 184])


@pytest.mark.parametrize(
    ("depth_m", "is_seen"), [(1.0, True), (1.25, True), (1.26, False), (0.8, False), (0.84, True)]
)
def test_depth_tolerance_is_of_the_measured_depth(depth_m: float, is_seen: bool) -> None:
    assert (look(at_pixels([(5, 5)]), depth_m) != {}) == is_seen


@pytest.mark.parametrize("depth_m", [0.0, -1.0, np.nan, np.inf])
def test_a_pixel_without_measurement_shows_nothing(depth_m: float) -> None:
    assert look(at_pixels([(5, 5)]), depth_m, VisibilityThresholds(0, 0, 0, depth_tolerance=1.0)) == {}


def test_points_behind_the_camera_are_not_seen() -> None:
    assert look(-at_pixels([(5, 5)]), 1.0, VisibilityThresholds(0, 0, 0, depth_tolerance=1.0)) == {}


@pytest.mark.parametrize(
    ("visible", "hidden", "surface", "kept"),
    [
        (12, 0, False, False),  # more than 12 points
        (13, 0, False, True),
        (30, 70, False, False),  # more than 0.3 of the points
        (31, 69, False, True),
        (80, 920, False, False),  # or more than 80 points
        (81, 919, False, True),
        (80, 0, True, False),  # a surface by the 80 alone
        (81, 0, True, True),
    ],
)
def test_published_thresholds_are_strict(visible: int, hidden: int, surface: bool, kept: bool) -> None:
    points = np.vstack([at_pixels([(5, 5)] * visible), -np.ones((hidden, 3), np.float32)])
    seen = look(points, 1.0, VisibilityThresholds(), np.array([surface]))
    assert (0 in seen) == kept


def test_one_frame_leaves_nothing_behind_for_the_next() -> None:
    rng = np.random.default_rng(3)
    points, instance, depth, pose = random_scene(rng, on_half_pixels=False)
    observer = Observer(points, instance)
    first = as_dict(observer.observe(depth, GRID, pose, ALL))
    wide = PixelGrid(40, 24, 16.0, 16.0, 20.0, 12.0)
    observer.observe(np.full((24, 40), 1.5, np.float32), wide, random_pose(rng), ALL)
    assert as_dict(observer.observe(depth, GRID, pose, ALL)) == first
    assert first


def test_read_only_arrays_are_taken_and_left_alone() -> None:
    points, instance, depth, pose = random_scene(np.random.default_rng(3), on_half_pixels=False)
    for array in (points, instance, depth, pose):
        array.flags.writeable = False
    assert len(Observer(points, instance).observe(depth, GRID, pose, ALL).numbers)


@pytest.mark.parametrize("count", [0, 4])
def test_a_cloud_without_instances_shows_none(count: int) -> None:
    observer = Observer(np.zeros((count, 3), np.float32), np.full(count, -1, np.int32))
    found = observer.observe(np.ones((GRID.height, GRID.width), np.float32), GRID, np.eye(4), ALL)
    assert (len(found.numbers), found.box.shape, found.pixel_offsets.tolist()) == (0, (0, 4), [0])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("min_points", -1),
        ("enough_points", -1),
        ("border", -1),
        ("min_ratio", 1.5),
        ("min_ratio", float("nan")),
        ("depth_tolerance", -0.1),
    ],
)
def test_a_senseless_threshold_is_refused_by_its_option(option: str, value: float) -> None:
    values: Mapping[str, Any] = {option: value}
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} is"):
        VisibilityThresholds(**values)


def test_bad_arrays_are_named() -> None:
    points, instance = np.zeros((3, 3), np.float32), np.zeros(3, np.int32)
    depth = np.ones((GRID.height, GRID.width), np.float32)
    with pytest.raises(ValueError, match="points_world: expected"):
        Observer(points.astype(np.float64), instance)
    with pytest.raises(ValueError, match="points_world has 3 rows, instance has 2"):
        Observer(points, instance[:2])
    with pytest.raises(ValueError, match="depth_m: expected"):
        Observer(points, instance).observe(depth.T, GRID, np.eye(4), ALL)
    with pytest.raises(UserError, match="has no inverse"):
        Observer(points, instance).observe(depth, GRID, np.zeros((4, 4)), ALL)
    with pytest.raises(UserError, match="has no inverse"):
        Observer(points, instance).observe(depth, GRID, np.full((4, 4), -np.inf), ALL)
    points[1, 2] = np.nan
    with pytest.raises(UserError, match="point 1 of the cloud is not finite"):
        Observer(points, instance)
