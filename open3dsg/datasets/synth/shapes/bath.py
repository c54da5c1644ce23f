"""What bathrooms are fitted with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import (
    Material,
    Paint,
    box,
    cushion,
    cylinder,
    folded_cloth,
    join,
    turned,
    upright,
)
from open3dsg.datasets.synth.shapes.base import (
    BRIGHT,
    CERAMIC,
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


def bathtub(rng: Generator) -> Shape:
    """A built-in tub: four thick sides, a floor, a tap at one end."""
    width, depth, height = rng.uniform(1.5, 1.75), rng.uniform(0.7, 0.8), rng.uniform(0.52, 0.6)
    x, y, rim = (-width / 2, width / 2), (-depth / 2, depth / 2), 0.07
    hole = (x[0] + rim, x[1] - rim, y[0] + rim, y[1] - rim)
    parts = slab(x, y, (0.0, height), [hole], CERAMIC)
    parts.append(span(hole[:2], hole[2:], (0.1, 0.14), darker(CERAMIC, 0.96)))
    parts += [
        span((x[0] + 0.02, x[0] + 0.05), (-0.02, 0.02), (height, height + 0.12), CHROME),
        span((x[0] + 0.05, x[0] + 0.18), (-0.02, 0.02), (height + 0.09, height + 0.12), CHROME),
    ]
    rim_top = Surface((x[1] - 0.35, x[1] - 0.02), (y[0], y[0] + 0.095), height)
    return Shape("bathtub", join(parts), (rim_top,))


def shower_curtain(rng: Generator, height: float) -> Shape:
    """A patterned curtain bunched on a rail that hangs from the ceiling; its lower edge is at z = 0."""
    width = rng.uniform(0.6, 0.85)
    cloth = Paint(pick(rng, [*BRIGHT, *WHITES]), Material.STRIPES if rng.random() < 0.6 else Material.FABRIC)
    parts = [
        folded_cloth(width, height - 0.35, 0.12, 8, cloth),
        box((0, 0.06, height - 0.33), (width + 0.1, 0.03, 0.03), CHROME),
    ]
    parts += [
        box((s * (width / 2 + 0.03), 0.06, height - 0.1575), (0.02, 0.02, 0.315), CHROME) for s in (-1, 1)
    ]
    return Shape("shower curtain", join(parts))


def toilet(rng: Generator) -> Shape:
    """A toilet: foot, oval bowl, seat, lid down or up, cistern behind."""
    seat = rng.uniform(0.4, 0.44)
    lid = CERAMIC if rng.random() < 0.75 else Paint(pick(rng, [(150, 104, 66), *DARKS]), Material.GLOSSY)
    parts = [
        cushion((0, 0.02, seat * 0.3), (0.22, 0.36, seat * 0.6), CERAMIC, squareness=0.5),
        cushion((0, 0.08, seat - 0.11), (0.36, 0.46, 0.24), CERAMIC, squareness=0.7),
        box((0, -0.26, 0.37), (0.2, 0.1, 0.1), CERAMIC),
        cushion((0, -0.24, 0.59), (0.4, 0.18, 0.38), CERAMIC, squareness=0.15),
        cylinder((0, -0.24, 0.775), 0.03, 0.015, CHROME, sides=12),
    ]
    if rng.random() < 0.6:
        parts.append(cushion((0, 0.08, seat + 0.02), (0.37, 0.45, 0.045), lid, squareness=0.75))
    else:
        ring = [(0.12, 0.0), (0.18, 0.0), (0.185, 0.02), (0.12, 0.025), (0.12, 0.0)]
        parts.append(turned((0, 0.08, seat), ring, lid, sides=24))
        parts.append(cushion((0, -0.13, seat + 0.22), (0.36, 0.04, 0.42), lid, squareness=0.6))
    return Shape("toilet", join(parts))


def washstand(rng: Generator) -> dict[str, Shape]:
    """A bath cabinet and the sink let into its top, in one frame, by label."""
    width, depth, top = rng.uniform(0.6, 0.9), 0.48, rng.uniform(0.8, 0.88)
    front = wood(rng)
    x, y = (-width / 2, width / 2), (-depth / 2, depth / 2 - 0.02)
    hole = (-0.23, 0.23, -0.12, 0.17)
    parts = [
        span(x, y, (0.12, top - 0.17), darker(front, 0.92)),
        *slab(x, y, (top - 0.17, top), [hole], front),
    ]
    parts += door_front((x[0], 0.0), (0.13, top - 0.02), y[1], front)
    parts += door_front((0.0, x[1]), (0.13, top - 0.02), y[1], front)
    parts += [
        span((a, a + 0.04), (b, b + 0.04), (0.0, 0.12), CHROME)
        for a in (x[0] + 0.02, x[1] - 0.06)
        for b in (y[0] + 0.02, y[1] - 0.06)
    ]
    ledge = Surface((x[0] + 0.01, -0.26), (y[0] + 0.02, y[1] - 0.02), top)
    other = Surface((0.26, x[1] - 0.01), (y[0] + 0.02, y[1] - 0.02), top)
    return {
        "bath cabinet": Shape("bath cabinet", join(parts), (ledge, other)),
        "sink": Shape("sink", join(basin(hole, top, 0.15, CERAMIC))),
    }


def towel(rng: Generator) -> Shape:
    """A towel over a bar; the bar's wall plates are in the plane y = 0."""
    width, drop = rng.uniform(0.4, 0.55), rng.uniform(0.5, 0.75)
    cloth = Paint(pick(rng, [*BRIGHT, *WHITES]), Material.STRIPES if rng.random() < 0.4 else Material.CARPET)
    parts = [
        box((0, 0.07, drop), (width + 0.1, 0.018, 0.018), CHROME),
        cushion((0, 0.07, drop - 0.005), (width, 0.05, 0.04), cloth, squareness=0.25),
        folded_cloth(width, drop - 0.02, 0.035, 2, cloth).moved(0, (0, 0.075, 0)),
        folded_cloth(width, drop * 0.6, 0.025, 2, cloth).moved(0, (0, 0.04, drop * 0.4 - 0.02)),
    ]
    parts += [box((s * (width / 2 + 0.035), 0.035, drop), (0.02, 0.07, 0.03), CHROME) for s in (-1, 1)]
    return Shape("towel", join(parts))


def toilet_paper(rng: Generator) -> Shape:
    """A roll on a holder; the holder's plate is in the plane y = 0."""
    radius = rng.uniform(0.045, 0.06)
    roll = cylinder((0, 0, -0.05), radius, 0.1, Paint((246, 245, 240), Material.FABRIC), sides=20)
    across = upright(roll).moved(np.pi / 2, (0, 0.075, 0.06))
    sheet = box((0, 0.075 + radius, 0.03), (0.1, 0.004, 0.07), Paint((246, 245, 240), Material.FABRIC))
    return Shape(
        "toilet paper",
        join(
            [
                across,
                sheet,
                box((0, 0.004, 0.1), (0.14, 0.008, 0.08), CHROME),
                box((0.062, 0.045, 0.07), (0.01, 0.09, 0.02), CHROME),
            ]
        ),
    )


def toilet_brush(rng: Generator) -> Shape:
    """A brush in its holder."""
    cup = CHROME if rng.random() < 0.5 else Paint(pick(rng, WHITES), Material.GLOSSY)
    return Shape(
        "toilet brush",
        join(
            [
                cylinder((0, 0, 0), 0.055, 0.14, cup, top=0.045),
                cylinder((0, 0, 0.14), 0.009, 0.22, CHROME, sides=8),
                cylinder((0, 0, 0.36), 0.018, 0.03, CHROME, sides=10),
            ]
        ),
    )


def laundry_basket(rng: Generator) -> Shape:
    """A tall woven hamper with a lid and cloth showing under it."""
    radius, height = rng.uniform(0.19, 0.23), rng.uniform(0.5, 0.62)
    straw = Paint(pick(rng, [(196, 160, 110), (226, 216, 200), (120, 90, 64)]), Material.WICKER)
    parts = [
        cylinder((0, 0, 0), radius * 0.86, height, straw, top=radius, sides=24),
        cylinder((0, 0, height), radius * 0.97, 0.025, Paint(pick(rng, BRIGHT), Material.FABRIC), sides=24),
        cylinder((0, 0, height + 0.025), radius * 1.03, 0.035, darker(straw, 0.9), sides=24),
    ]
    return Shape("laundry basket", join(parts))


def washing_machine(rng: Generator) -> Shape:
    """A front loader: round door, drawer and dial above."""
    skin = Paint(pick(rng, WHITES), Material.GLOSSY)
    ring = upright(cylinder((0, 0, 0), 0.19, 0.03, CHROME, sides=26)).moved(0, (0, 0.28, 0.42))
    glass = upright(
        turned((0, 0, 0.03), [(0, 0), (0.15, 0), (0.08, 0.03), (0, 0.035)], BLACK_GLASS, sides=24)
    )
    dial = upright(cylinder((0, 0, 0), 0.035, 0.03, STEEL)).moved(0, (0.05, 0.28, 0.78))
    parts = [
        box((0, -0.01, 0.425), (0.6, 0.58, 0.85), skin),
        ring,
        glass.moved(0, (0, 0.28, 0.42)),
        dial,
        box((-0.18, 0.283, 0.78), (0.18, 0.006, 0.09), darker(skin, 0.85)),
        box((0.2, 0.283, 0.78), (0.12, 0.006, 0.04), BLACK_GLASS),
    ]
    return Shape("washing machine", join(parts), (Surface((-0.28, 0.28), (-0.28, 0.26), 0.85),))


def bath_mat(rng: Generator) -> Shape:
    """A small thick mat."""
    size = (rng.uniform(0.7, 0.9), rng.uniform(0.45, 0.55), 0.02)
    return Shape("carpet", box((0, 0, 0.01), size, Paint(pick(rng, BRIGHT), Material.CARPET)))
