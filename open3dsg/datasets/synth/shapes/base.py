"""What every furniture function returns, and the paints they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import Material, Mesh, Paint, box, cylinder, join

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

Colour = tuple[int, int, int]

WOODS: Sequence[Colour] = (
    (196, 154, 106),
    (160, 112, 66),
    (112, 72, 42),
    (216, 186, 146),
    (78, 52, 36),
    (178, 132, 90),
)
FABRICS: Sequence[Colour] = (
    (110, 112, 118),
    (62, 78, 110),
    (150, 60, 54),
    (92, 116, 90),
    (186, 172, 150),
    (70, 66, 64),
    (176, 120, 66),
    (60, 110, 120),
    (140, 100, 120),
    (206, 196, 180),
)
BRIGHT: Sequence[Colour] = (
    (196, 60, 50),
    (222, 160, 50),
    (60, 130, 90),
    (50, 96, 160),
    (230, 226, 214),
    (120, 70, 120),
    (40, 150, 160),
    (230, 120, 90),
)
WHITES: Sequence[Colour] = ((236, 235, 230), (226, 226, 224), (240, 236, 224))
DARKS: Sequence[Colour] = ((34, 34, 36), (48, 46, 46), (60, 60, 64))
STEEL = Paint((168, 170, 174), Material.METAL)
CHROME = Paint((196, 198, 202), Material.METAL)
CERAMIC = Paint((238, 238, 236), Material.GLOSSY)


@dataclass(frozen=True)
class Surface:
    """A horizontal rectangle that things can be put on, in the frame of its shape; `clearance_m` above it."""

    x: tuple[float, float]
    y: tuple[float, float]
    z: float
    clearance_m: float = 2.0


@dataclass(frozen=True)
class Shape:
    """One example of a category: its mesh in its own frame and the surfaces it offers."""

    label: str
    mesh: Mesh
    surfaces: tuple[Surface, ...] = ()

    @property
    def size(self) -> tuple[float, float, float]:
        """Width, depth and height in metres."""
        low, high = self.mesh.vertices.min(axis=0), self.mesh.vertices.max(axis=0)
        width, depth, height = (high - low).tolist()
        return width, depth, height


def pick(rng: Generator, colours: Sequence[Colour], spread: int = 14) -> Colour:
    """One of `colours`, each channel shifted by up to `spread`, brightness more than hue."""
    base = colours[int(rng.integers(len(colours)))]
    shift = rng.integers(-spread, spread + 1) + rng.integers(-spread // 3, spread // 3 + 1, size=3)
    red, green, blue = np.clip(np.array(base) + shift, 8, 248).tolist()
    return red, green, blue


def wood(rng: Generator) -> Paint:
    """A wooden surface, now and then painted white or dark."""
    draw = rng.random()
    if draw < 0.22:
        return Paint(pick(rng, WHITES), Material.PLAIN)
    if draw < 0.3:
        return Paint(pick(rng, DARKS), Material.PLAIN)
    return Paint(pick(rng, WOODS), Material.WOOD)


def fabric(rng: Generator, colours: Sequence[Colour] = FABRICS) -> Paint:
    """A woven surface."""
    return Paint(pick(rng, colours), Material.FABRIC)


def darker(paint: Paint, factor: float = 0.75) -> Paint:
    """The same material in a darker (or, above 1, brighter) shade."""
    red, green, blue = (int(min(channel * factor, 250)) for channel in paint.colour)
    return Paint((red, green, blue), paint.material)


def legs(
    width: float,
    depth: float,
    height: float,
    paint: Paint,
    *,
    thick: float = 0.04,
    inset: float = 0.03,
    bottom: float = 0.0,
    round_legs: bool = False,
) -> Mesh:
    """Four legs at the corners of a `width` x `depth` rectangle, from `bottom` up to `height`."""
    x, y = width / 2 - inset - thick / 2, depth / 2 - inset - thick / 2
    length = height - bottom
    corners = [(sx * x, sy * y) for sx in (-1, 1) for sy in (-1, 1)]
    if round_legs:
        return join(
            [
                cylinder((cx, cy, bottom), thick * 0.35, length, paint, top=thick / 2, sides=10)
                for cx, cy in corners
            ]
        )
    return join([box((cx, cy, bottom + length / 2), (thick, thick, length), paint) for cx, cy in corners])
