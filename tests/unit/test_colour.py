from __future__ import annotations

import numpy as np
import pytest

from open3dsg.geometry.colour import GREY, ColourAverage
from open3dsg.geometry.pixels import PixelGrid
from open3dsg.geometry.rigid import is_rigid

IMAGE, DEPTH = PixelGrid(6, 4, 5.0, 5.0, 2.5, 1.5), PixelGrid(3, 2, 2.5, 2.5, 1.0, 0.5)


def plain_average(
    points: list[list[float]], images: list[np.ndarray], depths: list[np.ndarray], poses: list[np.ndarray]
) -> list[list[int] | None]:
    """Follow one point after the other through all photographs."""
    results: list[list[int] | None] = []
    for point in points:
        total, weights = np.zeros(3), 0.0
        for image, depth, pose in zip(images, depths, poses, strict=True):
            x, y, z, _ = np.linalg.inv(pose) @ [*point, 1.0]
            if z <= 0:
                continue
            pixels = []
            for grid in (IMAGE, DEPTH):
                column, row = round(grid.fx * x / z + grid.cx), round(grid.fy * y / z + grid.cy)
                if 0 <= column < grid.width and 0 <= row < grid.height:
                    pixels.append((row, column))
            if len(pixels) < 2 or depth[pixels[1]] <= 0:
                continue
            weight = max(0.0, 1 - abs(float(depth[pixels[1]]) - z) / (0.2 * z)) ** 2
            total, weights = total + weight * image[pixels[0]], weights + weight
        results.append(np.rint(total / weights).astype(int).tolist() if weights > 0 else None)
    return results


def test_agrees_with_a_plain_loop() -> None:
    random = np.random.default_rng(3)
    points = random.uniform([-1.5, -1, -1], [1.5, 1, 3], (200, 3)).astype(np.float32)
    images = [random.integers(0, 256, (4, 6, 3), np.uint8) for _ in range(3)]
    depths = [random.uniform(0.5, 3, (2, 3)).astype(np.float32) for _ in range(3)]
    depths[0][0, 1] = 0
    poses = []
    for angle in (0.0, 0.2, -0.3):
        pose = np.eye(4)
        pose[:3, 0], pose[:3, 2] = [np.cos(angle), 0, np.sin(angle)], [-np.sin(angle), 0, np.cos(angle)]
        pose[:3, 3] = random.uniform(-0.2, 0.2, 3)
        poses.append(pose)
    average = ColourAverage(points)
    for image, depth, pose in zip(images, depths, poses, strict=True):
        average.add(image, IMAGE, depth, DEPTH, pose)
    colours, seen = average.mean()
    expected = plain_average(points.tolist(), images, depths, poses)
    assert 20 < np.count_nonzero(seen) < 180
    assert seen.tolist() == [colour is not None for colour in expected]
    wanted = np.array([colour or [GREY] * 3 for colour in expected])
    assert np.abs(colours - wanted).max() <= 1  # a sum that ends on a half may round either way


def test_a_picture_of_another_size_is_refused() -> None:
    average = ColourAverage(np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="image"):
        average.add(np.zeros((6, 4, 3), np.uint8), IMAGE, np.zeros((2, 3), np.float32), DEPTH, np.eye(4))


def test_is_rigid() -> None:
    turned = np.array([[0, -1, 0, 5], [1, 0, 0, -3], [0, 0, 1, 0.5], [0, 0, 0, 1]], np.float64)
    assert is_rigid(turned)
    assert not is_rigid(turned.T)  # the translation lies in the last row
    assert not is_rigid(turned * 1.01)
    assert not is_rigid(turned @ np.diag([1.0, 1, -1, 1]))  # a mirror
    for bad in (np.nan, -np.inf):
        broken = turned.copy()
        broken[0, 3] = bad
        assert not is_rigid(broken)
