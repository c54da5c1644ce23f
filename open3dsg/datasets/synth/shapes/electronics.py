"""Screens and machines of living rooms and offices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import (
    Material,
    Paint,
    box,
    join,
    slanted,
)
from open3dsg.datasets.synth.shapes.base import (
    DARKS,
    STEEL,
    WHITES,
    Shape,
    darker,
    pick,
)

if TYPE_CHECKING:
    from numpy.random import Generator


def monitor(rng: Generator) -> Shape:
    """A computer screen on a foot."""
    width = rng.uniform(0.48, 0.66)
    height, foot = width * 0.58, rng.uniform(0.09, 0.14)
    case = Paint(pick(rng, DARKS)) if rng.random() < 0.75 else STEEL
    parts = [
        box((0, 0, 0.008), (0.24, 0.18, 0.016), case),
        box((0, -0.03, (foot + 0.08) / 2 + 0.016), (0.05, 0.02, foot + 0.08), case),
        box((0, 0, foot + height / 2), (width, 0.035, height), case),
        box(
            (0, 0.019, foot + height / 2),
            (width - 0.025, 0.004, height - 0.025),
            Paint((16, 18, 24), Material.SCREEN),
        ),
    ]
    return Shape("monitor", join(parts))


def tv(rng: Generator) -> Shape:
    """A large flat screen on two feet."""
    width = rng.uniform(0.85, 1.25)
    height, foot = width * 0.57, 0.06
    case = Paint(pick(rng, DARKS))
    parts = [
        box((0, 0, foot + height / 2), (width, 0.05, height), case),
        box(
            (0, 0.027, foot + height / 2),
            (width - 0.03, 0.005, height - 0.03),
            Paint((10, 11, 14), Material.SCREEN),
        ),
    ]
    for side in (-1, 1):
        parts.append(box((side * width * 0.32, 0, 0.01), (0.04, 0.2, 0.02), case))
        parts.append(box((side * width * 0.32, 0, 0.04), (0.03, 0.03, 0.04), case))
    return Shape("tv", join(parts))


def laptop(rng: Generator) -> Shape:
    """An open laptop: keyboard half and a tilted screen."""
    width, depth = rng.uniform(0.32, 0.38), rng.uniform(0.22, 0.26)
    case = STEEL if rng.random() < 0.6 else Paint(pick(rng, DARKS))
    keys = Paint((28, 28, 30), Material.PLAIN)
    parts = [
        box((0, 0, 0.009), (width, depth, 0.018), case),
        box((0, -0.02, 0.019), (width - 0.04, depth * 0.5, 0.003), keys),
        box((0, depth * 0.33, 0.0188), (width * 0.3, depth * 0.24, 0.002), darker(case, 0.8)),
        slanted((0, -depth / 2 - 0.035, depth / 2 + 0.015), (width, 0.012, depth), 0.28, case),
        slanted(
            (0, -depth / 2 - 0.028, depth / 2 + 0.017),
            (width - 0.02, 0.004, depth - 0.02),
            0.28,
            Paint((90, 130, 190), Material.PICTURE),
        ),
    ]
    return Shape("laptop", join(parts))


def printer(rng: Generator) -> Shape:
    """A desktop printer: body, paper tray, output slot."""
    body = Paint(pick(rng, [*WHITES, *DARKS]))
    parts = [
        box((0, 0, 0.1), (0.44, 0.36, 0.2), body),
        box((0, 0.19, 0.06), (0.3, 0.1, 0.02), darker(body, 0.7)),
        box((0, 0.205, 0.074), (0.22, 0.12, 0.006), Paint((248, 248, 246))),
        box((0, 0.181, 0.11), (0.36, 0.004, 0.05), Paint(DARKS[0])),
        slanted((0, -0.15, 0.27), (0.3, 0.012, 0.18), 0.4, Paint((246, 246, 244))),
        box((0.14, 0.1, 0.204), (0.1, 0.08, 0.008), Paint((40, 60, 90), Material.SCREEN)),
    ]
    return Shape("printer", join(parts))


def pc(rng: Generator) -> Shape:
    """A computer tower with a ventilated front."""
    height = rng.uniform(0.38, 0.46)
    case = Paint(pick(rng, DARKS), Material.PLAIN)
    slots = [box((0, 0.212, z), (0.13, 0.006, 0.008), STEEL) for z in np.linspace(0.08, height * 0.6, 7)]
    parts = [
        box((0, 0, height / 2), (0.19, 0.42, height), case),
        box((0, 0.212, height - 0.07), (0.15, 0.006, 0.03), STEEL),
        *slots,
    ]
    return Shape("pc", join(parts))
