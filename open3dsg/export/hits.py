"""Hits of a query: their colours, and a log of indices and scores."""

from __future__ import annotations

import colorsys
import json
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.export.files import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from open3dsg.datasets.scan import Cloud
    from open3dsg.query.nodes import NodeHit

# Paul Tol's bright scheme (SRON/EPS/TN/09-002): told apart by colour-blind people too.
_PALETTE = ("#EE6677", "#4477AA", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#EE7733", "#009988")
_MOST = 8000  # `_colours` has some 9,300 that differ, and no end


def hit_colours(instances: Sequence[int]) -> Mapping[int, tuple[int, int, int]]:
    """Give each instance a colour of its own, in the order of the hits: the palette, then hues between.

    After 8,000 instances colours come again.
    """
    colours: dict[int, tuple[int, int, int]] = {}
    taken: set[tuple[int, int, int]] = set()
    fresh = _colours()
    for instance in dict.fromkeys(instances):
        if len(taken) == _MOST:
            taken, fresh = set(), _colours()
        colours[instance] = next(colour for colour in fresh if colour not in taken)
        taken.add(colours[instance])
    return colours


def _colours() -> Iterator[tuple[int, int, int]]:
    for digits in _PALETTE:
        red, green, blue = bytes.fromhex(digits[1:])
        yield red, green, blue
    for place in count():
        # Steps of the golden angle never come back to a hue; brightness tells near hues apart.
        rgb = colorsys.hsv_to_rgb(place * 0.618034 % 1, 0.9 - place % 3 * 0.2, 0.95 - place % 4 * 0.15)
        red, green, blue = (round(255 * part) for part in rgb)
        yield red, green, blue


def paint_hits(cloud: Cloud, colours: Mapping[int, tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Return (N, 3) uint8: hits in their colours, all else as pale grey of its own brightness."""
    grey = cloud.rgb.mean(axis=1, keepdims=True)
    painted = np.repeat(160 + grey * 0.35, 3, axis=1).astype(np.uint8)
    for instance, colour in colours.items():
        painted[cloud.instance == instance] = colour
    return painted


def write_log(
    path: Path, answers: Sequence[Sequence[NodeHit]], colours: Mapping[int, tuple[int, int, int]]
) -> None:
    """Write one JSON object a line: the hit, its rank within its answer, and its colour in the PLY."""
    with whole_file(path) as file:
        for answer in answers:
            for rank, hit in enumerate(answer, 1):
                row = {**hit.as_json(), "rank": rank, "colour": colours.get(hit.instance)}
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
