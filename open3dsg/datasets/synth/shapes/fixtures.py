"""What belongs to the building or hangs on it; the back of each is the plane y = 0 (top z = 0 for lights)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import (
    Material,
    Mesh,
    Paint,
    box,
    cylinder,
    folded_cloth,
    join,
    turned,
    upright,
)
from open3dsg.datasets.synth.shapes.base import (
    BRIGHT,
    CHROME,
    DARKS,
    FABRICS,
    STEEL,
    WHITES,
    Shape,
    darker,
    pick,
    wood,
)

if TYPE_CHECKING:
    from numpy.random import Generator


def _frame(width: float, height: float, bar: float, depth: float, paint: Paint) -> list[Mesh]:
    """Four bars around a `width` x `height` opening, its lower edge at z = 0 outside the bars."""
    across = [box((0, depth / 2, z), (width, depth, bar), paint) for z in (bar / 2, height - bar / 2)]
    upright = [
        box((side * (width - bar) / 2, depth / 2, height / 2), (bar, depth, height - 2 * bar), paint)
        for side in (-1, 1)
    ]
    return across + upright


def door(rng: Generator) -> Shape:
    """A panelled door leaf in its frame, with a handle."""
    width, height = rng.uniform(0.85, 0.98), rng.uniform(2.0, 2.1)
    leaf = wood(rng) if rng.random() < 0.6 else Paint(pick(rng, WHITES))
    trim, side = darker(leaf, 0.85), 1 if rng.random() < 0.5 else -1
    bar = 0.07
    parts = [
        box((0, 0.025, (height - bar) / 2), (width - 2 * bar, 0.05, height - bar), leaf),
        box((0, 0.035, height - bar / 2), (width, 0.07, bar), trim),
    ]
    parts += [
        box((edge * (width - bar) / 2, 0.035, (height - bar) / 2), (bar, 0.07, height - bar), trim)
        for edge in (-1, 1)
    ]
    parts += [
        box((0, 0.054, z), (width - 0.4, 0.008, tall), darker(leaf, 0.9))
        for z, tall in ((height * 0.26, height * 0.32), (height * 0.7, height * 0.34))
    ]
    x = side * (width / 2 - bar - 0.07)
    parts += [
        box((x, 0.055, 1.02), (0.035, 0.01, 0.18), STEEL),
        box((x - side * 0.045, 0.09, 1.04), (0.12, 0.02, 0.022), STEEL),
        box((x, 0.072, 1.04), (0.02, 0.025, 0.02), STEEL),
    ]
    return Shape("door", join(parts))


def window(rng: Generator) -> Shape:
    """Panes with a view of sky and trees in a frame with bars."""
    width, height = rng.uniform(0.9, 1.5), rng.uniform(1.0, 1.35)
    paint = Paint(pick(rng, WHITES)) if rng.random() < 0.7 else wood(rng)
    parts = _frame(width, height, 0.06, 0.06, paint)
    parts.append(
        box((0, 0.01, height / 2), (width - 0.12, 0.02, height - 0.12), Paint((200, 220, 240), Material.VIEW))
    )
    parts.append(box((0, 0.035, height / 2), (0.05, 0.03, height - 0.12), paint))
    if rng.random() < 0.4:
        for side in (-1, 1):
            parts.append(box((side * width / 4, 0.03, height * 0.68), (width / 2 - 0.13, 0.02, 0.03), paint))
    return Shape("window", join(parts))


def curtain(rng: Generator, height: float = 2.1) -> Shape:
    """A folded drape under a rod."""
    width, folds = rng.uniform(0.4, 0.6), int(rng.integers(4, 7))
    colour = pick(rng, [*FABRICS, *BRIGHT, *WHITES])
    cloth = folded_cloth(width, height - 0.06, 0.1, folds, Paint(colour, Material.FABRIC))
    rod = box((0, 0.05, height - 0.03), (width + 0.08, 0.03, 0.03), STEEL)
    bracket = box((0, 0.02, height - 0.03), (0.03, 0.04, 0.05), STEEL)
    return Shape("curtain", join([cloth, rod, bracket]))


def radiator(rng: Generator) -> Shape:
    """A ribbed panel heater with a valve and pipes to the floor, on brackets before the wall."""
    width, height = rng.uniform(0.7, 1.1), rng.uniform(0.45, 0.6)
    paint = Paint(pick(rng, WHITES), Material.PLAIN)
    ribs = max(int(width / 0.06), 8)
    parts = [box((0, 0.055, z), (width, 0.06, 0.035), paint) for z in (0.0175, height - 0.0175)]
    parts += [
        box((x, 0.06, height / 2), (0.034, 0.05, height - 0.07), paint)
        for x in np.linspace(-width / 2 + 0.02, width / 2 - 0.02, ribs)
    ]
    parts.append(box((0, 0.0125, height / 2), (width * 0.6, 0.025, 0.05), STEEL))
    parts.append(cylinder((width / 2 + 0.03, 0.06, height - 0.07), 0.022, 0.07, paint, sides=10))
    return Shape("radiator", join(parts))


def picture(rng: Generator) -> Shape:
    """A framed painting or print."""
    width, height = rng.uniform(0.35, 0.8), rng.uniform(0.35, 0.7)
    frame = wood(rng)
    parts = _frame(width, height, 0.035, 0.025, frame)
    passepartout = Paint(pick(rng, WHITES))
    margin = rng.choice([0.0, 0.05])
    parts.append(box((0, 0.006, height / 2), (width - 0.07, 0.012, height - 0.07), passepartout))
    parts.append(
        box(
            (0, 0.014, height / 2),
            (width - 0.07 - 2 * margin, 0.004, height - 0.07 - 2 * margin),
            Paint(pick(rng, BRIGHT), Material.PICTURE),
        )
    )
    return Shape("picture", join(parts))


def mirror(rng: Generator) -> Shape:
    """A framed looking glass."""
    width, height = rng.uniform(0.45, 0.75), rng.uniform(0.6, 1.0)
    frame = wood(rng) if rng.random() < 0.6 else CHROME
    glass = box(
        (0, 0.008, height / 2), (width - 0.05, 0.016, height - 0.05), Paint((200, 210, 214), Material.MIRROR)
    )
    return Shape("mirror", join([*_frame(width, height, 0.025, 0.03, frame), glass]))


def board(rng: Generator) -> Shape:
    """A whiteboard with writing on it, an aluminium edge and a pen tray."""
    width, height = rng.uniform(1.1, 1.7), rng.uniform(0.8, 1.0)
    parts = _frame(width, height, 0.025, 0.025, STEEL)
    parts.append(
        box(
            (0, 0.008, height / 2),
            (width - 0.05, 0.016, height - 0.05),
            Paint((242, 243, 244), Material.TEXT),
        )
    )
    parts.append(box((0, 0.055, 0.012), (width * 0.5, 0.06, 0.012), STEEL))
    for x in (-0.08, 0.05):
        parts.append(box((x, 0.06, 0.026), (0.12, 0.018, 0.016), Paint(pick(rng, BRIGHT[:4]))))
    return Shape("board", join(parts))


def clock(rng: Generator) -> Shape:
    """A round wall clock with hour marks and hands."""
    radius = rng.uniform(0.13, 0.17)
    rim = Paint(pick(rng, [*DARKS, *BRIGHT]))
    disc = cylinder((0, 0, 0), radius, 0.03, rim, sides=28)
    face = cylinder((0, 0, 0.03), radius * 0.88, 0.004, Paint((244, 244, 240), Material.DIAL), sides=28)
    return Shape("clock", upright(join([disc, face])).moved(0.0, (0.0, 0.0, radius)))


def light(rng: Generator) -> Shape:
    """A ceiling light: a flat bowl, or a shade on a cord; its top is the plane z = 0."""
    glow = Paint((255, 248, 228), Material.GLOWING)
    if rng.random() < 0.5:
        radius = rng.uniform(0.16, 0.24)
        bowl = turned(
            (0, 0, 0),
            [(0, -0.09), (radius * 0.7, -0.075), (radius, -0.03), (radius, -0.005), (0, -0.005)],
            glow,
            sides=24,
        )
        return Shape("light", join([bowl, cylinder((0, 0, -0.005), radius * 0.5, 0.005, STEEL)]))
    drop = rng.uniform(0.3, 0.5)
    shade = Paint(pick(rng, [*DARKS, *BRIGHT]))
    outer = turned((0, 0, -drop), [(0.17, 0), (0.06, 0.16), (0, 0.17)], shade, sides=20)
    bulb = turned((0, 0, -drop + 0.01), [(0, 0), (0.15, 0.01), (0.05, 0.1), (0, 0.1)], glow, sides=16)
    return Shape(
        "light",
        join([outer, bulb, cylinder((0, 0, 0.165 - drop), 0.006, drop - 0.165, Paint(DARKS[0]), sides=6)]),
    )
