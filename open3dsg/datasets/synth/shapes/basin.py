"""Worktops with holes and the basins let into them, for kitchens and bathrooms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import (
    Material,
    Mesh,
    Paint,
    box,
    cylinder,
)
from open3dsg.datasets.synth.shapes.base import (
    CHROME,
    STEEL,
    darker,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


BLACK_GLASS = Paint((14, 14, 16), Material.SCREEN)


def span(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], paint: Paint) -> Mesh:
    """Cuboid between limits."""
    limits = np.array([x, y, z])
    return box(limits.mean(axis=1), limits[:, 1] - limits[:, 0], paint)


def slab(
    x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
    holes: Sequence[tuple[float, float, float, float]],
    paint: Paint,
) -> list[Mesh]:
    """Slab with rectangular holes (x0, x1, y0, y1) given from left to right."""
    parts, start = [], x[0]
    for x0, x1, y0, y1 in holes:
        parts += [
            span((start, x0), y, z, paint),
            span((x0, x1), (y[0], y0), z, paint),
            span((x0, x1), (y1, y[1]), z, paint),
        ]
        start = x1
    return [*parts, span((start, x[1]), y, z, paint)]


def basin(hole: tuple[float, float, float, float], top: float, deep: float, paint: Paint) -> list[Mesh]:
    """Open vessel let into `hole`, its rim on the slab at height `top`, with a tap behind it."""
    x0, x1, y0, y1 = hole
    low, wall = top - deep, 0.015
    x, y = (x0 + 0.006, x1 - 0.006), (y0 + 0.006, y1 - 0.006)
    inner = (x[0] + wall, x[1] - wall, y[0] + wall, y[1] - wall)
    parts = slab(x, y, (low, top), [inner], paint)
    parts += slab((x0 - 0.02, x1 + 0.02), (y0 - 0.02, y1 + 0.02), (top, top + 0.01), [inner], paint)
    parts.append(span(inner[:2], inner[2:], (low, low + 0.01), darker(paint, 0.9)))
    middle, back = (x0 + x1) / 2, y0 - 0.01
    parts += [
        cylinder((middle, back, top + 0.01), 0.016, 0.2, CHROME, sides=10),
        span((middle - 0.013, middle + 0.013), (back, back + 0.17), (top + 0.2, top + 0.224), CHROME),
        cylinder((middle, (y0 + y1) / 2, low + 0.01), 0.025, 0.004, CHROME, sides=12),
    ]
    return parts


def door_front(x: tuple[float, float], z: tuple[float, float], y: float, paint: Paint) -> list[Mesh]:
    """Door or drawer front on the plane `y`, with a handle near its upper edge."""
    handle = ((x[0] + x[1]) / 2 - 0.07, (x[0] + x[1]) / 2 + 0.07)
    return [
        span((x[0] + 0.004, x[1] - 0.004), (y, y + 0.018), z, paint),
        span(handle, (y + 0.018, y + 0.036), (z[1] - 0.06, z[1] - 0.045), STEEL),
    ]
