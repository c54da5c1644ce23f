"""Things to sit and lie on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import Material, Mesh, Paint, box, cushion, cylinder, join, slanted
from open3dsg.datasets.synth.shapes.base import (
    BRIGHT,
    DARKS,
    STEEL,
    WHITES,
    Shape,
    Surface,
    darker,
    fabric,
    legs,
    pick,
    wood,
)

if TYPE_CHECKING:
    from numpy.random import Generator


def chair(rng: Generator) -> Shape:
    """A dining or visitor's chair: seat, four legs, a back of slats, rails or one panel."""
    width, depth = rng.uniform(0.42, 0.5), rng.uniform(0.42, 0.5)
    seat, top = rng.uniform(0.43, 0.48), rng.uniform(0.82, 1.0)
    frame = wood(rng) if rng.random() < 0.75 else STEEL
    soft = rng.random() < 0.5
    cover = fabric(rng) if soft else frame
    seat_mesh = (
        cushion((0, 0, seat), (width, depth, 0.08), cover, squareness=0.2)
        if soft
        else box((0, 0, seat + 0.015), (width, depth, 0.035), cover)
    )
    parts = [seat_mesh, legs(width, depth, seat, frame, thick=0.035, inset=0.015)]
    parts += _chair_back(rng, width, depth, (seat, top), frame, cover)
    return Shape("chair", join(parts))


def _chair_back(
    rng: Generator, width: float, depth: float, heights: tuple[float, float], frame: Paint, cover: Paint
) -> list[Mesh]:
    seat, top = heights
    y, middle = -depth / 2 + 0.0175, (seat + top) / 2
    posts = [
        box((side * (width / 2 - 0.03), y, middle), (0.035, 0.035, top - seat), frame) for side in (-1, 1)
    ]
    style = rng.integers(3)
    if style == 0:
        bars = [
            box((x, y, middle + 0.02), (0.025, 0.018, top - seat - 0.06), frame)
            for x in np.linspace(-width / 4, width / 4, 4)
        ]
        return [*posts, *bars, box((0, y, top - 0.04), (width - 0.06, 0.025, 0.07), frame)]
    if style == 1:
        rails = [
            box((0, y, z), (width - 0.06, 0.02, 0.06), frame) for z in np.linspace(seat + 0.16, top - 0.05, 3)
        ]
        return [*posts, *rails]
    panel = (width - 0.02, 0.045, (top - seat) * 0.66)
    return [*posts, cushion((0, y, top - panel[2] / 2), panel, cover, squareness=0.2)]


def office_chair(rng: Generator) -> Shape:
    """A swivel chair: star base on castors, gas column, padded seat, high back, arms."""
    cover = fabric(rng, [*DARKS, (60, 78, 110), (120, 44, 40)])
    black = Paint(pick(rng, DARKS), Material.PLAIN)
    seat, top = rng.uniform(0.45, 0.52), rng.uniform(0.95, 1.15)
    parts = [
        cylinder((0, 0, 0.1), 0.03, seat - 0.12, STEEL),
        cushion((0, 0.02, seat), (0.5, 0.48, 0.1), cover, squareness=0.3),
        cushion((0, -0.22, (seat + top) / 2 + 0.06), (0.46, 0.09, top - seat - 0.12), cover, squareness=0.3),
        box((0, -0.26, seat + 0.1), (0.06, 0.02, 0.3), black),
    ]
    for angle in np.arange(5) * 2 * np.pi / 5 + 0.3:
        arm = box((0.14, 0, 0.075), (0.28, 0.045, 0.035), black).moved(angle, (0, 0, 0))
        castor = cylinder((0.27, 0, 0), 0.03, 0.06, black, sides=8).moved(angle, (0, 0, 0))
        parts += [arm, castor]
    if rng.random() < 0.7:
        for side in (-1, 1):
            parts.append(box((side * 0.27, 0.02, seat + 0.2), (0.05, 0.26, 0.03), black))
            parts.append(box((side * 0.265, -0.02, seat + 0.1), (0.03, 0.05, 0.19), black))
    return Shape("chair", join(parts))


def _upholstered(rng: Generator, label: str, width: float, seats: int, cover: Paint) -> Shape:
    depth, seat, back = rng.uniform(0.8, 0.95), rng.uniform(0.38, 0.44), rng.uniform(0.75, 0.92)
    arm_width, arm_top = rng.uniform(0.12, 0.22), rng.uniform(0.56, 0.66)
    foot = Paint(pick(rng, DARKS), Material.PLAIN)
    front, rear = depth / 2, -depth / 2
    back_thick = 0.2
    inner = width - 2 * arm_width
    base_top = seat - 0.16
    parts = [
        legs(width, depth, 0.07, foot, thick=0.06, round_legs=True),
        box(
            (0, 0, (0.07 + base_top) / 2), (width - 0.02, depth - 0.02, base_top - 0.07), darker(cover, 0.88)
        ),
        cushion(
            (0, rear + back_thick / 2, (back + base_top) / 2),
            (width, back_thick, back - base_top),
            cover,
            squareness=0.15,
        ),
    ]
    for side in (-1, 1):
        centre = (side * (width - arm_width) / 2, 0.06, (arm_top + base_top) / 2)
        parts.append(cushion(centre, (arm_width, depth - 0.14, arm_top - base_top), cover, squareness=0.18))
    each = inner / seats
    for index in range(seats):
        x = -inner / 2 + each * (index + 0.5)
        parts.append(
            cushion(
                (x, back_thick / 2, seat - 0.075),
                (each - 0.01, depth - back_thick, 0.17),
                cover,
                squareness=0.16,
            )
        )
        parts.append(
            cushion(
                (x, rear + back_thick + 0.07, seat + 0.2),
                (each - 0.02, 0.16, 0.36),
                darker(cover, 1.05),
                squareness=0.25,
            )
        )
    surface = Surface((-inner / 2, inner / 2), (rear + back_thick + 0.16, front), seat + 0.01)
    return Shape(label, join(parts), (surface,))


def sofa(rng: Generator) -> Shape:
    """Two or three seats: base, back, arms, seat and back cushions."""
    seats = int(rng.integers(2, 4))
    return _upholstered(rng, "sofa", seats * rng.uniform(0.62, 0.72) + 0.36, seats, fabric(rng))


def armchair(rng: Generator) -> Shape:
    """A one-seat upholstered chair with arms."""
    return _upholstered(rng, "armchair", rng.uniform(0.82, 0.98), 1, fabric(rng, [*BRIGHT, (120, 96, 70)]))


def stool(rng: Generator) -> Shape:
    """A backless seat on three or four legs or on a column."""
    height, radius = rng.uniform(0.44, 0.7), rng.uniform(0.16, 0.21)
    paint = wood(rng)
    top = cylinder((0, 0, height - 0.04), radius, 0.04, paint, sides=20)
    if rng.random() < 0.6:
        side = radius * 1.75
        parts = [top, legs(side, side, height - 0.04, paint, thick=0.035, inset=0.02, round_legs=True)]
        bar = box((0, 0, height * 0.4), (side - 0.1, 0.02, 0.02), paint)
        parts += [bar, bar.moved(np.pi / 2, (0, 0, 0))]
    else:
        parts = [
            top,
            cylinder((0, 0, 0.02), 0.03, height - 0.06, STEEL),
            cylinder((0, 0, 0), radius * 0.95, 0.02, STEEL, sides=20),
        ]
    return Shape("stool", join(parts))


def bench(rng: Generator) -> Shape:
    """A long backless plank seat on two trestles."""
    width, depth, height = rng.uniform(1.0, 1.4), rng.uniform(0.32, 0.4), rng.uniform(0.42, 0.47)
    paint = wood(rng)
    parts = [
        box((0, 0, height - 0.025), (width, depth, 0.05), paint),
        box((0, 0, height * 0.35), (width - 0.24, 0.05, 0.07), paint),
    ]
    parts += [
        box((side * (width / 2 - 0.12), 0, (height - 0.05) / 2), (0.06, depth - 0.04, height - 0.05), paint)
        for side in (-1, 1)
    ]
    return Shape("bench", join(parts))


def ottoman(rng: Generator) -> Shape:
    """A low padded footrest without back or arms."""
    side, height = rng.uniform(0.45, 0.6), rng.uniform(0.36, 0.44)
    cover = fabric(rng)
    parts = [
        legs(side, side, 0.06, Paint(pick(rng, DARKS)), thick=0.05),
        box((0, 0, (height - 0.08) / 2 + 0.03), (side, side, height - 0.14), cover),
        cushion((0, 0, height - 0.06), (side + 0.01, side + 0.01, 0.12), darker(cover, 1.08), squareness=0.2),
    ]
    return Shape("ottoman", join(parts))


def bed(rng: Generator) -> Shape:
    """A bed: frame, headboard, mattress and a duvet over its lower part; pillows come as instances."""
    width, length = float(rng.choice([0.95, 1.25, 1.6])) + rng.uniform(-0.04, 0.04), rng.uniform(2.0, 2.1)
    frame, sheet = wood(rng), Paint(pick(rng, WHITES), Material.FABRIC)
    duvet = Paint(
        pick(rng, [(236, 234, 228), (120, 140, 170), (190, 170, 150), (90, 110, 100), (170, 90, 90)]),
        Material.STRIPES if rng.random() < 0.35 else Material.FABRIC,
    )
    top, board = rng.uniform(0.46, 0.54), rng.uniform(0.85, 1.15)
    rear = -length / 2
    parts = [
        box((0, rear + 0.03, board / 2), (width, 0.06, board), frame),
        box((0, 0.03, 0.22), (width, length - 0.06, 0.14), frame),
        legs(width, length, 0.15, frame, thick=0.07, inset=0.02),
        cushion((0, 0.03, (top + 0.27) / 2), (width - 0.04, length - 0.1, top - 0.27), sheet, squareness=0.1),
        cushion((0, 0.3, top - 0.05), (width + 0.02, length * 0.66, 0.16), duvet, squareness=0.14),
    ]
    head = Surface((-width / 2 + 0.05, width / 2 - 0.05), (rear + 0.1, rear + 0.55), top + 0.002)
    foot = Surface((-width / 2 + 0.1, width / 2 - 0.1), (length / 2 - 0.85, length / 2 - 0.1), top + 0.03)
    return Shape("bed", join(parts), (head, foot))


def pillow(rng: Generator) -> Shape:
    """A stuffed cushion lying flat, a little thicker in its middle."""
    side = rng.uniform(0.36, 0.46)
    colour = pick(rng, [*BRIGHT, *WHITES])
    material = Material.STRIPES if rng.random() < 0.3 else Material.FABRIC
    return Shape(
        "pillow",
        cushion(
            (0, 0, 0.06),
            (side, side * rng.uniform(0.75, 1.0), 0.12),
            Paint(colour, material),
            squareness=0.45,
        ),
    )


def bed_pillow(rng: Generator) -> Shape:
    """A sleeping pillow: wide and pale."""
    return Shape(
        "pillow",
        cushion(
            (0, 0, 0.065),
            (rng.uniform(0.55, 0.68), 0.4, 0.13),
            Paint(pick(rng, WHITES), Material.FABRIC),
            squareness=0.4,
        ),
    )


def blanket(rng: Generator) -> Shape:
    """A folded blanket in two layers."""
    cover = Paint(pick(rng, BRIGHT), Material.STRIPES if rng.random() < 0.5 else Material.CARPET)
    width, depth = rng.uniform(0.5, 0.7), rng.uniform(0.4, 0.5)
    layers = [
        cushion((0, 0.01 * k, 0.028 + 0.048 * k), (width, depth - 0.03 * k, 0.056), cover, squareness=0.15)
        for k in range(2)
    ]
    return Shape("blanket", join(layers))


def backpack(rng: Generator) -> Shape:
    """A backpack that stands: body, front pocket, lid, two straps and a handle."""
    cover = fabric(rng, [*BRIGHT, *DARKS])
    strap = darker(cover, 0.55)
    height = rng.uniform(0.42, 0.5)
    parts = [
        cushion((0, 0, height / 2), (0.3, 0.18, height), cover, squareness=0.3),
        cushion((0, 0.1, height * 0.3), (0.24, 0.08, height * 0.42), darker(cover, 0.85), squareness=0.3),
        slanted((0, 0.04, height * 0.86), (0.27, 0.12, 0.03), 0.35, strap),
        box((0, 0, height + 0.015), (0.08, 0.02, 0.03), strap),
    ]
    parts += [box((side * 0.08, -0.1, height * 0.5), (0.05, 0.02, height * 0.75), strap) for side in (-1, 1)]
    return Shape("backpack", join(parts))
