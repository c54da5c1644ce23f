"""What kitchens are fitted with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import (
    Material,
    Mesh,
    Paint,
    box,
    cushion,
    cylinder,
    join,
    turned,
    upright,
)
from open3dsg.datasets.synth.shapes.base import (
    BRIGHT,
    CHROME,
    DARKS,
    STEEL,
    WHITES,
    Shape,
    Surface,
    darker,
    pick,
    wood,
)
from open3dsg.datasets.synth.shapes.basin import BLACK_GLASS, basin, door_front, slab, span

if TYPE_CHECKING:
    from numpy.random import Generator


_COUNTER_TOP = 0.9
_RUN_DEPTH = 0.6


def kitchen_run(rng: Generator) -> dict[str, Shape]:
    """A fitted kitchen in one frame, by label: cabinet, counter, sink, stove and oven at their places."""
    front = wood(rng) if rng.random() < 0.6 else Paint(pick(rng, [*WHITES, *BRIGHT]))
    stone = Paint(pick(rng, [(70, 68, 66), (196, 190, 182), (150, 120, 90), (40, 40, 42)]), Material.GLOSSY)
    widths = [float(rng.uniform(0.4, 0.6)), 0.7, float(rng.uniform(0.4, 0.6)), 0.62]
    edges = np.cumsum([-sum(widths) / 2, *widths])
    back, face = -_RUN_DEPTH / 2, _RUN_DEPTH / 2 - 0.04
    carcass = darker(front, 0.9)
    sink_x, oven_x = (float(edges[1]), float(edges[2])), (float(edges[3]), float(edges[4]))
    cabinet: list[Mesh] = []
    for index in range(3):
        x = float(edges[index]), float(edges[index + 1])
        top = 0.68 if index == 1 else 0.86
        cabinet += [
            span(x, (back, face), (0.09, top), carcass),
            span(x, (back, face - 0.05), (0.0, 0.09), Paint(DARKS[0])),
        ]
        split = 0.66 if index != 1 else 0.852
        cabinet += door_front(x, (0.1, split), face, front)
        if index != 1:
            cabinet += door_front(x, (split + 0.008, 0.852), face, front)
    cabinet.append(span((oven_x[1], oven_x[1] + 0.02), (back, face + 0.018), (0.0, 0.86), carcass))
    sink_hole = (sink_x[0] + 0.1, sink_x[1] - 0.1, -0.16, 0.2)
    stove_hole = (oven_x[0] + 0.03, oven_x[1] - 0.03, -0.24, 0.24)
    ends = float(edges[0]), oven_x[1] + 0.02
    counter = slab(ends, (back, _RUN_DEPTH / 2), (0.86, _COUNTER_TOP), [sink_hole, stove_hole], stone)
    y = (back + 0.02, _RUN_DEPTH / 2 - 0.03)
    tops = (
        Surface((ends[0], sink_hole[0] - 0.03), y, _COUNTER_TOP, 0.5),
        Surface((sink_hole[1] + 0.03, stove_hole[0] - 0.02), y, _COUNTER_TOP, 0.5),
    )
    return {
        "kitchen cabinet": Shape("kitchen cabinet", join(cabinet), (Surface(ends, (back, face), 0.86, 0.0),)),
        "kitchen counter": Shape("kitchen counter", join(counter), tops),
        "sink": Shape("sink", join(basin(sink_hole, _COUNTER_TOP, 0.19, STEEL))),
        "stove": Shape(
            "stove", join(_hob(stove_hole)), (Surface(stove_hole[:2], stove_hole[2:], 0.912, 0.5),)
        ),
        "oven": Shape("oven", join(_oven(oven_x, back, face))),
    }


def _hob(hole: tuple[float, float, float, float]) -> list[Mesh]:
    x0, x1, y0, y1 = hole
    parts = [span((x0 + 0.006, x1 - 0.006), (y0 + 0.006, y1 - 0.006), (0.868, 0.908), BLACK_GLASS)]
    for x, radius in ((x0 + 0.15, 0.09), (x1 - 0.15, 0.07)):
        for y in (y0 + 0.13, y1 - 0.14):
            ring = [
                (0, 0),
                (radius, 0),
                (radius, 0.004),
                (radius * 0.8, 0.004),
                (radius * 0.8, 0.002),
                (0, 0.002),
            ]
            parts.append(turned((x, y, 0.908), ring, Paint((120, 116, 112)), sides=22))
    return parts


def _oven(x: tuple[float, float], back: float, face: float) -> list[Mesh]:
    middle, x = (x[0] + x[1]) / 2, (x[0] + 0.008, x[1] - 0.008)
    knobs = [cylinder((0, 0, 0), 0.02, 0.025, DARK_KNOB, sides=12) for _ in range(4)]
    spots = np.linspace(x[0] + 0.1, x[1] - 0.1, 4)
    return [
        span(x, (back + 0.02, face), (0.09, 0.85), STEEL),
        span((x[0] + 0.05, x[1] - 0.05), (face, face + 0.012), (0.22, 0.62), BLACK_GLASS),
        span((middle - 0.22, middle + 0.22), (face + 0.02, face + 0.038), (0.66, 0.68), CHROME),
        *(upright(knob).moved(0.0, (spot, face, 0.77)) for knob, spot in zip(knobs, spots, strict=True)),
    ]


DARK_KNOB = Paint((30, 30, 32), Material.GLOSSY)


def wall_cabinet(rng: Generator, width: float = 0.8) -> Shape:
    """An upper kitchen cabinet with two doors; its back is the plane y = 0."""
    front = wood(rng)
    parts = [span((-width / 2, width / 2), (0, 0.32), (0, 0.65), darker(front, 0.9))]
    for x in ((-width / 2, 0.0), (0.0, width / 2)):
        parts += [span((x[0] + 0.004, x[1] - 0.004), (0.32, 0.338), (0.004, 0.646), front)]
        parts += [span((sum(x) / 2 - 0.06, sum(x) / 2 + 0.06), (0.338, 0.352), (0.03, 0.045), STEEL)]
    return Shape("kitchen cabinet", join(parts), (Surface((-width / 2, width / 2), (0.02, 0.3), 0.65),))


def kitchen_hood(rng: Generator) -> Shape:
    """An extractor: a flat canopy under a chimney; its back is the plane y = 0."""
    metal = STEEL if rng.random() < 0.8 else Paint(pick(rng, DARKS), Material.GLOSSY)
    parts = [
        span((-0.3, 0.3), (0, 0.46), (0, 0.06), metal),
        span((-0.22, 0.22), (0, 0.34), (0.06, 0.14), metal),
        span((-0.12, 0.12), (0, 0.24), (0.14, 0.75), metal),
    ]
    return Shape("kitchen hood", join(parts))


def refrigerator(rng: Generator) -> Shape:
    """A tall fridge with a freezer door and upright handles."""
    height, width = rng.uniform(1.6, 1.9), rng.uniform(0.56, 0.66)
    skin = (
        STEEL if rng.random() < 0.4 else Paint(pick(rng, [*WHITES, *WHITES, (190, 60, 50)]), Material.GLOSSY)
    )
    split = height * float(rng.choice([0.36, 0.68]))
    parts = [
        span((-width / 2, width / 2), (-0.31, 0.26), (0.03, height), darker(skin, 0.92)),
        span((-width / 2 + 0.03, width / 2 - 0.03), (-0.28, 0.22), (0.0, 0.03), Paint(DARKS[0])),
    ]
    for low, high in ((0.05, split - 0.006), (split + 0.006, height)):
        parts.append(span((-width / 2, width / 2), (0.265, 0.31), (low, high), skin))
        handle = (low + 0.06, min(low + 0.5, high - 0.06)) if low > 0.1 else (high - 0.5, high - 0.06)
        parts.append(span((width / 2 - 0.07, width / 2 - 0.045), (0.31, 0.345), handle, CHROME))
    return Shape("refrigerator", join(parts), (Surface((-0.25, 0.25), (-0.28, 0.24), height, 0.5),))


def microwave(rng: Generator) -> Shape:
    """A microwave oven: dark window, handle, key panel."""
    width, height = rng.uniform(0.45, 0.52), rng.uniform(0.26, 0.3)
    case = STEEL if rng.random() < 0.5 else Paint(pick(rng, [*WHITES, *DARKS]))
    parts = [
        box((0, 0, height / 2), (width, 0.34, height), case),
        box((-0.06, 0.172, height / 2), (width - 0.17, 0.006, height - 0.06), BLACK_GLASS),
        box((width / 2 - 0.115, 0.185, height / 2), (0.018, 0.03, height - 0.08), CHROME),
        box((width / 2 - 0.05, 0.172, height * 0.74), (0.07, 0.006, 0.04), Paint((60, 160, 130))),
    ]
    parts += [
        box((width / 2 - 0.05 + dx, 0.173, height * 0.2 + dz), (0.018, 0.008, 0.016), Paint((120, 120, 122)))
        for dx in (-0.022, 0.0, 0.022)
        for dz in (0.0, 0.035, 0.07)
    ]
    return Shape("microwave", join(parts))


def toaster(rng: Generator) -> Shape:
    """A two-slot toaster with a lever."""
    skin = STEEL if rng.random() < 0.5 else Paint(pick(rng, [*BRIGHT, *DARKS]), Material.GLOSSY)
    parts = [
        cushion((0, 0, 0.1), (0.3, 0.18, 0.19), skin, squareness=0.2),
        box((0.155, 0, 0.11), (0.02, 0.04, 0.02), Paint(DARKS[0])),
    ]
    parts += [box((0, y, 0.195), (0.2, 0.026, 0.006), Paint((20, 18, 18))) for y in (-0.035, 0.035)]
    parts += [box((0, 0, 0.004), (0.24, 0.14, 0.008), Paint(DARKS[0]))]
    return Shape("toaster", join(parts))


def kettle(rng: Generator) -> Shape:
    """An electric kettle: tapered can, spout, handle, lid."""
    skin = STEEL if rng.random() < 0.6 else Paint(pick(rng, [*BRIGHT, *WHITES]), Material.GLOSSY)
    dark = Paint(DARKS[0])
    parts = [
        cylinder((0, 0, 0), 0.085, 0.02, dark),
        cylinder((0, 0, 0.02), 0.08, 0.18, skin, top=0.06),
        cylinder((0, 0, 0.2), 0.055, 0.015, dark),
        cylinder((0, 0, 0.215), 0.012, 0.015, dark, sides=8),
        box((0, 0.075, 0.17), (0.03, 0.05, 0.03), skin),
        box((0, -0.12, 0.12), (0.025, 0.02, 0.15), dark),
    ]
    parts += [box((0, -0.09, z), (0.025, 0.06, 0.02), dark) for z in (0.055, 0.19)]
    return Shape("kettle", join(parts))


def coffee_machine(rng: Generator) -> Shape:
    """A filter machine: tower, overhanging head, glass jug on a plate."""
    skin = Paint(pick(rng, [*DARKS, *DARKS, (150, 40, 36)]), Material.GLOSSY)
    parts = [
        box((0, 0, 0.02), (0.2, 0.26, 0.04), skin),
        box((0, -0.09, 0.17), (0.2, 0.08, 0.26), skin),
        box((0, 0, 0.32), (0.2, 0.26, 0.05), skin),
        cylinder((0, 0.04, 0.04), 0.06, 0.14, Paint((46, 28, 20), Material.GLOSSY), top=0.05),
        box((0.085, 0.06, 0.11), (0.05, 0.018, 0.09), Paint(DARKS[0])),
    ]
    return Shape("coffee machine", join(parts))


def pot(rng: Generator) -> Shape:
    """A cooking pot with a lid and two handles."""
    radius, height = rng.uniform(0.1, 0.13), rng.uniform(0.11, 0.15)
    skin = STEEL if rng.random() < 0.6 else Paint(pick(rng, BRIGHT), Material.GLOSSY)
    parts = [
        cylinder((0, 0, 0), radius, height, skin, sides=22),
        turned((0, 0, height), [(radius * 1.03, 0), (radius * 0.7, 0.02), (0, 0.03)], skin, sides=22),
        cylinder((0, 0, height + 0.025), 0.018, 0.025, Paint(DARKS[0]), sides=10),
    ]
    parts += [
        box((s * (radius + 0.02), 0, height * 0.8), (0.05, 0.07, 0.015), Paint(DARKS[0])) for s in (-1, 1)
    ]
    return Shape("pot", join(parts))
