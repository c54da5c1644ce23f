"""Pinhole cameras out of the matrices of files, and the pictures they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.files import read_bytes
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.pixels import PixelGrid

_LARGEST = 1e6  # of the numbers of a camera in pixels
_SIZE_TOLERANCE = 0.2  # the optical axis is in the middle of a picture that may differ in size by this share


def read_intrinsics(path: Path) -> NDArray[np.float64]:
    """Return the matrix of a text file, (3, 3) or (4, 4), row by row; BadFileError for anything else."""
    words = read_bytes(path).split()
    try:
        numbers = np.array([float(word) for word in words[:17]])
    except ValueError:
        numbers = np.empty(0)
    if len(numbers) not in (9, 16) or not (np.abs(numbers) < _LARGEST).all():
        raise BadFileError(f"{path}: the matrix of a camera is 3x3 or 4x4 numbers, this is none")
    side = 3 if len(numbers) == 9 else 4
    return numbers.reshape(side, side)


def camera(matrix: NDArray[np.float64], width: int, height: int, where: str) -> PixelGrid:
    """Return the camera of a matrix for pictures of a size. Raises BadFileError where it can be none."""
    fx, fy, cx, cy = (float(matrix[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
    if not (np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0 and width > 0 and height > 0):
        raise BadFileError(f"{where}: focal lengths must be above 0 and all numbers finite")
    try:
        return PixelGrid(width, height, fx, fy, cx, cy)
    except UserError as error:
        raise BadFileError(f"{where}: {error}") from error


def fits(matrix: NDArray[np.float64], width: int, height: int) -> bool:
    """Tell whether the optical axis is near the middle; else the matrix is of pictures of another size."""
    away = np.abs(2 * matrix[:2, 2] + 1 - (width, height))
    return bool((away <= _SIZE_TOLERANCE * np.array([width, height])).all())


def unlikely(matrix: NDArray[np.float64], width: int, height: int, what: str) -> str:
    """Say of a picture that `fits` refuses what is wrong."""
    about = "x".join(f"{2 * centre + 1:.0f}" for centre in matrix[:2, 2])
    return f"{what} is {width}x{height} pixels, and the intrinsics are of pictures of about {about}"
