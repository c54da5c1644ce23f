"""Lamps, plants and the clutter of rooms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import (
    Material,
    Paint,
    box,
    cushion,
    cylinder,
    join,
    leaves,
    slanted,
    turned,
)
from open3dsg.datasets.synth.shapes.base import (
    BRIGHT,
    CERAMIC,
    DARKS,
    FABRICS,
    STEEL,
    WHITES,
    WOODS,
    Shape,
    Surface,
    darker,
    pick,
)

if TYPE_CHECKING:
    from numpy.random import Generator


def _lamp(rng: Generator, height: float, base: float, shade_radius: float) -> Shape:
    metal = STEEL if rng.random() < 0.4 else Paint(pick(rng, [*DARKS, *WOODS]))
    shade_height = shade_radius * rng.uniform(1.1, 1.5)
    shade = Paint(pick(rng, [(250, 236, 200), (248, 226, 180), (250, 244, 226)]), Material.GLOWING)
    low = height - shade_height
    parts = [
        cylinder((0, 0, 0), base, 0.025, metal, sides=20),
        cylinder((0, 0, 0.025), max(base * 0.1, 0.01), low + shade_height * 0.5 - 0.025, metal, sides=8),
        turned(
            (0, 0, low),
            [
                (shade_radius, 0),
                (shade_radius * 0.68, shade_height),
                (shade_radius * 0.66, shade_height),
                (shade_radius * 0.97, 0.0),
            ],
            shade,
            sides=22,
        ),
    ]
    return Shape("lamp", join(parts))


def floor_lamp(rng: Generator) -> Shape:
    """A lamp on a tall pole."""
    return _lamp(rng, rng.uniform(1.4, 1.7), rng.uniform(0.13, 0.17), rng.uniform(0.17, 0.24))


def table_lamp(rng: Generator) -> Shape:
    """A lamp to stand on furniture."""
    return _lamp(rng, rng.uniform(0.36, 0.5), rng.uniform(0.06, 0.09), rng.uniform(0.1, 0.14))


def plant(rng: Generator) -> Shape:
    """A potted plant that stands on the floor."""
    return _plant(rng, rng.uniform(0.7, 1.25), rng.uniform(0.14, 0.19))


def small_plant(rng: Generator) -> Shape:
    """A potted plant for a table or sill."""
    return _plant(rng, rng.uniform(0.24, 0.38), rng.uniform(0.06, 0.085))


def _plant(rng: Generator, height: float, pot_radius: float) -> Shape:
    pot_height = pot_radius * rng.uniform(1.5, 1.9)
    pot = Paint(pick(rng, [(176, 96, 62), *WHITES, *DARKS, (110, 130, 140)]))
    soil = pot_height - 0.02
    count = int(rng.integers(36, 64))
    angle, rise = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.15, 1.0, count)
    reach = (height - pot_height) * rng.uniform(0.28, 0.5, count) * (1.25 - 0.6 * rise)
    crown = soil + (height - soil) * rise
    stem = soil + (crown - soil) * rng.uniform(0.1, 0.7, count)
    tips = np.c_[reach * np.cos(angle), reach * np.sin(angle), crown]
    roots = np.c_[np.zeros(count), np.zeros(count), stem] + 0.12 * tips * [1, 1, 0]
    green = Paint(pick(rng, [(58, 120, 52), (80, 140, 60), (44, 96, 60), (104, 148, 70)]), Material.LEAF)
    half = count // 2
    parts = [
        turned(
            (0, 0, 0),
            [
                (0, 0),
                (pot_radius * 0.72, 0),
                (pot_radius, pot_height),
                (pot_radius * 0.9, pot_height),
                (pot_radius * 0.86, soil),
                (0, soil),
            ],
            pot,
        ),
        cylinder((0, 0, soil), 0.012 + pot_radius * 0.05, (height - soil) * 0.7, Paint((96, 80, 48))),
        leaves(tips[:half], roots[:half], height * 0.085, green),
        leaves(tips[half:], roots[half:], height * 0.085, darker(green, 1.25)),
    ]
    return Shape("plant", join(parts))


def trash_can(rng: Generator) -> Shape:
    """An open tapered bin, or a steel one with a lid."""
    radius, height = rng.uniform(0.12, 0.16), rng.uniform(0.28, 0.4)
    if rng.random() < 0.35:
        parts = [
            cylinder((0, 0, 0), radius, height, STEEL, sides=22),
            turned(
                (0, 0, height),
                [(radius * 1.02, 0), (radius * 0.9, 0.04), (0, 0.06)],
                Paint(pick(rng, DARKS)),
                sides=22,
            ),
            box((0, radius + 0.02, 0.02), (0.08, 0.05, 0.02), Paint(DARKS[0])),
        ]
        return Shape("trash can", join(parts))
    paint = Paint(pick(rng, [*DARKS, *WHITES, (90, 110, 140)]))
    body = turned(
        (0, 0, 0),
        [
            (0, 0),
            (radius * 0.78, 0),
            (radius, height),
            (radius * 1.05, height),
            (radius * 0.94, height - 0.005),
            (radius * 0.74, 0.02),
            (0, 0.02),
        ],
        paint,
        sides=22,
    )
    bag = turned(
        (0, 0, height - 0.06),
        [(radius * 1.06, 0.0), (radius * 1.08, 0.064), (radius * 0.9, 0.055)],
        Paint((226, 226, 230)),
        sides=22,
    )
    return Shape("trash can", join([body, bag] if rng.random() < 0.5 else [body]))


def cardboard_box(rng: Generator) -> Shape:
    """A cardboard box, taped shut or with open flaps."""
    width, depth, height = rng.uniform(0.3, 0.5), rng.uniform(0.26, 0.4), rng.uniform(0.2, 0.36)
    paint = Paint(pick(rng, [(184, 142, 96), (170, 128, 84), (196, 158, 112)]), Material.CARDBOARD)
    parts = [box((0, 0, height / 2), (width, depth, height), paint)]
    if rng.random() < 0.4:
        for side in (-1, 1):
            flap = slanted((0, 0, 0), (width, depth * 0.45, 0.006), 0.9, darker(paint, 1.05))
            turn = 0.0 if side > 0 else np.pi
            parts.append(flap.moved(turn, (0, side * depth * 0.5, height + depth * 0.17)))
    return Shape("box", join(parts))


def basket(rng: Generator) -> Shape:
    """A woven basket with two handles and something soft inside."""
    radius, height = rng.uniform(0.16, 0.22), rng.uniform(0.22, 0.32)
    straw = Paint(pick(rng, [(190, 150, 96), (160, 118, 70), (210, 180, 130)]), Material.WICKER)
    body = turned(
        (0, 0, 0),
        [
            (0, 0),
            (radius * 0.82, 0),
            (radius, height),
            (radius * 0.9, height),
            (radius * 0.8, 0.03),
            (0, 0.03),
        ],
        straw,
        sides=24,
    )
    handles = [
        box((side * radius, 0, height + 0.02), (0.02, 0.12, 0.05), darker(straw, 0.8)) for side in (-1, 1)
    ]
    cloth = cushion(
        (0, 0, height * 0.6),
        (radius * 1.5, radius * 1.5, height * 0.5),
        Paint(pick(rng, FABRICS), Material.FABRIC),
        squareness=0.7,
    )
    return Shape("basket", join([body, *handles, cloth]))


def book(rng: Generator) -> Shape:
    """A closed book lying flat: covers and a block of pages."""
    width, depth, thick = rng.uniform(0.16, 0.24), rng.uniform(0.22, 0.3), rng.uniform(0.025, 0.05)
    cover = Paint(pick(rng, [*BRIGHT, *DARKS], 30))
    parts = [
        box((0, 0, 0.003), (width, depth, 0.006), cover),
        box((0.004, 0, thick / 2), (width - 0.012, depth - 0.012, thick - 0.012), Paint((238, 232, 214))),
        box((0, 0, thick - 0.003), (width, depth, 0.006), cover),
        box((-width / 2 + 0.003, 0, thick / 2), (0.006, depth, thick - 0.012), cover),
        box((0.02, 0.04, thick + 0.001), (width * 0.6, depth * 0.2, 0.002), darker(cover, 1.6)),
    ]
    return Shape("book", join(parts))


def cup(rng: Generator) -> Shape:
    """A mug with a handle."""
    radius, height = rng.uniform(0.04, 0.052), rng.uniform(0.09, 0.12)
    paint = Paint(pick(rng, [*BRIGHT, *WHITES]), Material.GLOSSY)
    body = turned(
        (0, 0, 0),
        [
            (0, 0),
            (radius * 0.9, 0),
            (radius, height),
            (radius * 0.9, height),
            (radius * 0.84, 0.015),
            (0, 0.015),
        ],
        paint,
    )
    x = radius + 0.018
    parts = [body, box((x + 0.012, 0, height / 2), (0.012, 0.014, height * 0.6), paint)]
    parts += [box((x - 0.004, 0, z), (0.03, 0.014, 0.012), paint) for z in (height * 0.24, height * 0.76)]
    return Shape("cup", join(parts))


def vase(rng: Generator) -> Shape:
    """A bellied vase, often with stems and flowers in it."""
    height, belly = rng.uniform(0.2, 0.32), rng.uniform(0.06, 0.09)
    paint = Paint(pick(rng, [*BRIGHT, *WHITES, *DARKS]), Material.GLOSSY)
    neck = belly * rng.uniform(0.4, 0.6)
    outline = [(0, 0), (belly * 0.6, 0), (belly, height * 0.38), (neck, height * 0.8), (neck * 1.3, height)]
    parts = [
        turned(
            (0, 0, 0),
            [*outline, (neck * 0.9, height), (neck * 0.8, height * 0.5), (0, height * 0.5)],
            paint,
            sides=20,
        )
    ]
    if rng.random() < 0.6:
        count = int(rng.integers(4, 8))
        angle = rng.uniform(0, 2 * np.pi, count)
        tips = np.c_[0.09 * np.cos(angle), 0.09 * np.sin(angle), height * rng.uniform(1.4, 1.75, count)]
        roots = np.tile([0.0, 0.0, height * 0.9], (count, 1))
        parts.append(leaves(tips, roots, 0.025, Paint((80, 130, 70), Material.LEAF)))
        bloom = Paint(pick(rng, BRIGHT))
        parts += [cushion(tip, (0.055, 0.055, 0.045), bloom, squareness=0.8, rows=5) for tip in tips]
    return Shape("vase", join(parts))


def bottle(rng: Generator) -> Shape:
    """A bottle with a narrow neck, a label and a cap."""
    radius, height = rng.uniform(0.032, 0.045), rng.uniform(0.22, 0.32)
    glass = Paint(pick(rng, [(60, 110, 70), (110, 66, 36), (90, 140, 180), (220, 222, 224)]), Material.GLOSSY)
    parts = [
        turned(
            (0, 0, 0),
            [
                (0, 0),
                (radius, 0),
                (radius, height * 0.6),
                (radius * 0.36, height * 0.78),
                (radius * 0.36, height),
                (0, height),
            ],
            glass,
        ),
        cylinder((0, 0, height * 0.2), radius * 1.02, height * 0.25, Paint(pick(rng, WHITES))),
        cylinder((0, 0, height), radius * 0.4, 0.02, Paint(pick(rng, BRIGHT))),
    ]
    return Shape("bottle", join(parts))


def suitcase(rng: Generator) -> Shape:
    """An upright trolley case: ribbed shell, wheels, telescopic handle."""
    height, width, depth = rng.uniform(0.52, 0.7), rng.uniform(0.36, 0.45), rng.uniform(0.22, 0.27)
    shell = Paint(pick(rng, [*BRIGHT, *DARKS]), Material.GLOSSY)
    parts = [cushion((0, 0, 0.05 + height / 2), (width, depth, height), shell, squareness=0.15)]
    parts += [
        box((x, 0, 0.05 + height / 2), (0.02, depth + 0.012, height * 0.8), darker(shell))
        for x in np.linspace(-width * 0.3, width * 0.3, 5)
    ]
    parts += [
        box((x, y, 0.03), (0.03, 0.04, 0.06), Paint(DARKS[0]))
        for x in (-width * 0.38, width * 0.38)
        for y in (-depth * 0.36, depth * 0.36)
    ]
    parts += [box((side * 0.09, -depth * 0.4, height + 0.14), (0.014, 0.014, 0.2), STEEL) for side in (-1, 1)]
    parts.append(box((0, -depth * 0.4, height + 0.25), (0.22, 0.025, 0.03), Paint(DARKS[0])))
    return Shape("suitcase", join(parts))


def carpet(rng: Generator) -> Shape:
    """A thin rug with a border and, sometimes, stripes."""
    width, depth = rng.uniform(1.4, 2.0), rng.uniform(1.0, 1.3)
    field = Paint(pick(rng, [*FABRICS, *BRIGHT]), Material.CARPET)
    inner = Paint(pick(rng, [*FABRICS, *WHITES]), Material.CARPET)
    parts = [
        box((0, 0, 0.005), (width, depth, 0.01), field),
        box((0, 0, 0.0105), (width - 0.24, depth - 0.24, 0.003), inner),
    ]
    if rng.random() < 0.6:
        parts += [
            box((x, 0, 0.0125), (0.08, depth - 0.24, 0.002), field)
            for x in np.linspace(-width * 0.3, width * 0.3, 4)
        ]
    top = Surface((-width / 2, width / 2), (-depth / 2, depth / 2), 0.0135)
    return Shape("carpet", join(parts), (top,))


def stuffed_animal(rng: Generator) -> Shape:
    """A sitting teddy bear: body, head, ears, limbs, snout."""
    fur = Paint(pick(rng, [(150, 104, 62), (196, 160, 120), (222, 206, 190), (110, 80, 60)]), Material.CARPET)
    pale, black = darker(fur, 1.3), Paint(DARKS[0])
    parts = [
        cushion((0, 0, 0.1), (0.18, 0.15, 0.2), fur, squareness=0.9),
        cushion((0, 0.01, 0.245), (0.15, 0.14, 0.14), fur, squareness=0.95),
        cushion((0, 0.08, 0.23), (0.06, 0.05, 0.05), pale, squareness=0.95, rows=5),
        cushion((0, 0.105, 0.235), (0.02, 0.015, 0.015), black, squareness=1, rows=4),
    ]
    for side in (-1, 1):
        parts += [
            cushion((side * 0.06, 0, 0.315), (0.055, 0.03, 0.055), fur, squareness=0.9, rows=5),
            cushion((side * 0.1, 0.04, 0.13), (0.06, 0.12, 0.06), fur, squareness=0.9, rows=5),
            cushion((side * 0.07, 0.1, 0.036), (0.07, 0.14, 0.07), pale, squareness=0.9, rows=5),
            cushion((side * 0.032, 0.075, 0.265), (0.016, 0.012, 0.016), black, squareness=1, rows=4),
        ]
    return Shape("stuffed animal", join(parts))


def plate(rng: Generator) -> Shape:
    """A dinner plate."""
    radius = rng.uniform(0.11, 0.135)
    paint = Paint(pick(rng, [*WHITES, *WHITES, *BRIGHT]), Material.GLOSSY)
    return Shape(
        "plate",
        turned(
            (0, 0, 0),
            [
                (0, 0),
                (radius * 0.6, 0),
                (radius, 0.022),
                (radius * 0.98, 0.026),
                (radius * 0.6, 0.008),
                (0, 0.008),
            ],
            paint,
            sides=24,
        ),
    )


def fruit_plate(rng: Generator) -> Shape:
    """A shallow bowl heaped with round fruit."""
    bowl = turned(
        (0, 0, 0),
        [(0, 0), (0.07, 0), (0.16, 0.06), (0.15, 0.062), (0.06, 0.015), (0, 0.015)],
        CERAMIC if rng.random() < 0.5 else Paint(pick(rng, WOODS), Material.WOOD),
        sides=24,
    )
    spots = [(0.0, 0.0, 0.1), *((0.075 * np.cos(a), 0.075 * np.sin(a), 0.062) for a in np.arange(5) * 1.257)]
    fruit = [(190, 40, 36), (230, 150, 40), (120, 170, 50), (230, 200, 60)]
    parts = [
        cushion(
            spot, (0.075, 0.075, 0.072), Paint(pick(rng, fruit), Material.GLOSSY), squareness=0.95, rows=6
        )
        for spot in spots
    ]
    return Shape("fruit plate", join([bowl, *parts]))
