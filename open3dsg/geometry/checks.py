"""Shapes and dtypes checked at the border of a module, with a message that names the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from open3dsg.errors import UserError

# What lies further from the origin is damage or not in metres: float32 holds no centimetre there.
FURTHEST_M = 100_000.0


def check_array(
    name: str, array: NDArray[Any], shape: tuple[int | None, ...], dtype: type[np.generic]
) -> None:
    """Raise ValueError unless `array` has this `shape` (None: any length) and exactly this `dtype`."""
    shape_fits = array.ndim == len(shape) and all(
        wanted is None or length == wanted for length, wanted in zip(array.shape, shape, strict=True)
    )
    if not shape_fits or array.dtype != dtype:
        wanted_shape = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(
            f"{name}: expected ({wanted_shape}) {np.dtype(dtype).name}, got {array.shape} {array.dtype.name}"
        )


def check_same_length(first_name: str, first: NDArray[Any], second_name: str, second: NDArray[Any]) -> None:
    """Raise ValueError unless both arrays have the same number of rows."""
    if len(first) != len(second):
        raise ValueError(f"{first_name} has {len(first)} rows, {second_name} has {len(second)}")


def check_finite(of_what: str, points: NDArray[Any]) -> None:
    """Raise UserError naming the first row of `points` (N, D) that holds NaN or an infinite number."""
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise UserError(
            f"point {row} of {of_what} is not finite ({points[row].tolist()}): repair or remove it"
        )
