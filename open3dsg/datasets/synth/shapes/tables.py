"""Tables, desks and what stores things."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import Material, Mesh, Paint, box, cylinder, join
from open3dsg.datasets.synth.shapes.base import (
    BRIGHT,
    DARKS,
    STEEL,
    Shape,
    Surface,
    darker,
    legs,
    pick,
    wood,
)

if TYPE_CHECKING:
    from numpy.random import Generator


def _top(width: float, depth: float, height: float, margin: float = 0.02) -> Surface:
    return Surface(
        (-width / 2 + margin, width / 2 - margin), (-depth / 2 + margin, depth / 2 - margin), height
    )


def table(rng: Generator) -> Shape:
    """A dining table: a rectangular or round top on four legs or a column."""
    height, paint = rng.uniform(0.72, 0.77), wood(rng)
    if rng.random() < 0.25:
        radius = rng.uniform(0.45, 0.6)
        parts = [
            cylinder((0, 0, height - 0.035), radius, 0.035, paint, sides=32),
            cylinder((0, 0, 0.03), 0.05, height - 0.065, paint),
            cylinder((0, 0, 0), radius * 0.55, 0.03, paint, sides=24),
        ]
        side = radius * 1.35
        return Shape("table", join(parts), (_top(side, side, height),))
    width, depth = rng.uniform(1.1, 1.6), rng.uniform(0.75, 0.9)
    parts = [
        box((0, 0, height - 0.0175), (width, depth, 0.035), paint),
        legs(width, depth, height - 0.035, paint, thick=rng.uniform(0.05, 0.08)),
        box((0, 0, height - 0.075), (width - 0.2, depth - 0.2, 0.08), darker(paint, 0.9)),
    ]
    return Shape("table", join(parts), (_top(width, depth, height),))


def coffee_table(rng: Generator) -> Shape:
    """A low table, often with a second board below."""
    width, depth, height = rng.uniform(0.8, 1.15), rng.uniform(0.5, 0.65), rng.uniform(0.36, 0.46)
    paint = wood(rng)
    parts = [
        box((0, 0, height - 0.02), (width, depth, 0.04), paint),
        legs(width, depth, height - 0.04, paint, thick=0.05),
    ]
    if rng.random() < 0.5:
        parts.append(box((0, 0, 0.12), (width - 0.12, depth - 0.12, 0.02), paint))
    return Shape("coffee table", join(parts), (_top(width, depth, height),))


def desk(rng: Generator) -> Shape:
    """A writing desk: top, a drawer unit on one side, legs or a panel on the other."""
    width, depth, height = rng.uniform(1.2, 1.6), rng.uniform(0.65, 0.8), rng.uniform(0.71, 0.76)
    paint = wood(rng)
    frame = STEEL if rng.random() < 0.4 else paint
    side = 1 if rng.random() < 0.5 else -1
    unit_x, unit_width, under = side * (width / 2 - 0.24), 0.4, height - 0.03
    parts = [
        box((0, 0, height - 0.015), (width, depth, 0.03), paint),
        box((unit_x, 0, under / 2), (unit_width, depth - 0.1, under), darker(paint, 0.93)),
        box((-side * (width / 2 - 0.04), 0, under / 2), (0.04, depth - 0.06, under), frame),
        box((-side * 0.2, -depth / 2 + 0.05, under - 0.2), (width - 0.56, 0.02, 0.38), darker(paint, 0.85)),
    ]
    parts += _fronts((unit_x, depth / 2 - 0.05), unit_width, (0.05, under), 3, paint)
    return Shape("desk", join(parts), (_top(width, depth, height),))


def _fronts(
    corner: tuple[float, float], width: float, heights: tuple[float, float], count: int, paint: Paint
) -> list[Mesh]:
    """Drawer fronts with handles, one above the other, on the face at y = corner[1]."""
    x, y = corner
    edges = np.linspace(*heights, count + 1)
    parts = []
    for low, high in itertools.pairwise(edges):
        middle = (low + high) / 2
        parts.append(box((x, y + 0.009, middle), (width - 0.03, 0.018, high - low - 0.015), paint))
        parts.append(box((x, y + 0.026, middle), (min(0.14, width * 0.4), 0.016, 0.014), STEEL))
    return parts


def _doors(width: float, y: float, heights: tuple[float, float], count: int, paint: Paint) -> list[Mesh]:
    """Cabinet doors side by side with upright handles, on the face at `y`."""
    low, high = heights
    each, parts = width / count, []
    for index in range(count):
        x = -width / 2 + each * (index + 0.5)
        parts.append(box((x, y + 0.009, (low + high) / 2), (each - 0.012, 0.018, high - low - 0.012), paint))
        inner = x + (each / 2 - 0.05) * (1 if index % 2 == 0 else -1)
        parts.append(
            box((inner, y + 0.027, (low + high) / 2), (0.014, 0.018, min(0.2, (high - low) / 3)), STEEL)
        )
    return parts


def _carcass(label: str, rng: Generator, size: tuple[float, float, float], doors: int, drawers: int) -> Shape:
    """A closed box on a plinth with doors or drawers in front."""
    width, depth, height = size
    paint = wood(rng)
    front = paint if rng.random() < 0.6 else Paint(pick(rng, BRIGHT[2:5]), Material.PLAIN)
    body_depth = depth - 0.04
    face = depth / 2 - 0.04
    parts = [
        box((0, -0.02, 0.03), (width - 0.04, body_depth - 0.04, 0.06), darker(paint, 0.5)),
        box((0, -0.02, 0.06 + (height - 0.06) / 2), (width, body_depth, height - 0.06), darker(paint, 0.92)),
    ]
    if doors:
        parts += _doors(width, face, (0.07, height - 0.02), doors, front)
    else:
        parts += _fronts((0, face), width, (0.07, height - 0.02), drawers, front)
    surface = Surface((-width / 2 + 0.02, width / 2 - 0.02), (-depth / 2 + 0.02, face - 0.01), height)
    return Shape(label, join(parts), (surface,))


def nightstand(rng: Generator) -> Shape:
    """A small bedside unit with one or two drawers."""
    size = rng.uniform(0.4, 0.5), rng.uniform(0.36, 0.42), rng.uniform(0.45, 0.58)
    return _carcass("nightstand", rng, size, 0, int(rng.integers(1, 3)))


def commode(rng: Generator) -> Shape:
    """A chest of three or four wide drawers."""
    size = rng.uniform(0.8, 1.1), rng.uniform(0.42, 0.5), rng.uniform(0.78, 0.95)
    return _carcass("commode", rng, size, 0, int(rng.integers(3, 5)))


def cabinet(rng: Generator) -> Shape:
    """A sideboard or filing cabinet with two doors."""
    size = rng.uniform(0.75, 1.1), rng.uniform(0.38, 0.46), rng.uniform(0.75, 1.15)
    return _carcass("cabinet", rng, size, 2, 0)


def wardrobe(rng: Generator) -> Shape:
    """A tall closet with two or three doors."""
    doors = int(rng.integers(2, 4))
    return _carcass(
        "wardrobe", rng, (doors * rng.uniform(0.45, 0.55), 0.62, rng.uniform(1.9, 2.15)), doors, 0
    )


def tv_stand(rng: Generator) -> Shape:
    """A long low board with an open bay between two closed ones."""
    width, depth, height = rng.uniform(1.2, 1.7), rng.uniform(0.38, 0.45), rng.uniform(0.42, 0.55)
    paint = wood(rng)
    bay = width / 3
    parts = [
        box((0, 0, height - 0.015), (width, depth, 0.03), paint),
        box((0, 0, 0.06), (width, depth, 0.03), paint),
        box((0, -depth / 2 + 0.01, height / 2), (width, 0.02, height - 0.16), darker(paint, 0.6)),
        legs(width, depth, 0.045, Paint(pick(rng, DARKS)), thick=0.05),
    ]
    for side in (-1, 1):
        x = side * bay
        parts.append(
            box((x, 0.01, height / 2 + 0.02), (bay, depth - 0.04, height - 0.11), darker(paint, 0.9))
        )
        parts += [box((x, depth / 2 - 0.005, height / 2 + 0.02), (0.12, 0.012, 0.014), STEEL)]
    return Shape("tv stand", join(parts), (_top(width, depth, height),))


def bookshelf(rng: Generator) -> Shape:
    """A tall open case with rows of coloured book spines on most boards."""
    width, depth, height = rng.uniform(0.7, 1.0), rng.uniform(0.28, 0.34), rng.uniform(1.6, 2.0)
    paint, count = wood(rng), int(rng.integers(4, 6))
    boards = np.linspace(0.05, height - 0.015, count + 1)
    parts = [
        box((side * (width / 2 - 0.012), 0, height / 2), (0.024, depth, height), paint) for side in (-1, 1)
    ]
    parts.append(box((0, -depth / 2 + 0.006, height / 2), (width - 0.05, 0.012, height), darker(paint, 0.75)))
    parts += [box((0, 0.005, z), (width - 0.05, depth - 0.02, 0.024), paint) for z in boards]
    free = int(rng.integers(1, count - 1))
    for index in range(count):
        if index != free:
            parts += _book_row(rng, (width - 0.08, depth), boards[index] + 0.012, boards[index + 1] - 0.03)
    gap = float(boards[free + 1] - boards[free])
    inside = Surface(
        (-width / 2 + 0.05, width / 2 - 0.05),
        (-depth / 2 + 0.03, depth / 2 - 0.03),
        float(boards[free]) + 0.012,
        gap - 0.03,
    )
    return Shape("bookshelf", join(parts), (inside,))


def _book_row(rng: Generator, space: tuple[float, float], low: float, high: float) -> list[Mesh]:
    width, depth = space
    x, parts = -width / 2, []
    end = width / 2 - rng.uniform(0.0, 0.3) * width
    while x < end - 0.06:
        thick, tall = rng.uniform(0.018, 0.055), (high - low) * rng.uniform(0.66, 0.96)
        deep = depth * rng.uniform(0.55, 0.72)
        paint = Paint(pick(rng, [*BRIGHT, *DARKS], 30), Material.PLAIN)
        parts.append(box((x + thick / 2, -0.02, low + tall / 2), (thick - 0.002, deep, tall), paint))
        x += thick
    return parts


def shelf(rng: Generator) -> Shape:
    """A wall board on two brackets; its back is the plane y = 0."""
    width, depth = rng.uniform(0.6, 1.0), rng.uniform(0.18, 0.24)
    paint = wood(rng)
    parts = [box((0, depth / 2, 0.15), (width, depth, 0.03), paint)]
    for side in (-1, 1):
        parts.append(box((side * width * 0.35, 0.008, 0.0675), (0.03, 0.016, 0.135), STEEL))
        parts.append(box((side * width * 0.35, depth * 0.4, 0.12), (0.025, depth * 0.75, 0.03), STEEL))
    return Shape("shelf", join(parts), (Surface((-width / 2, width / 2), (0.01, depth), 0.165),))
