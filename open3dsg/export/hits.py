"""Hits of a query over their scene: a coloured PLY, and a log of indices and scores."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import IO

    from numpy.typing import NDArray

    from open3dsg.datasets.scan import Cloud
    from open3dsg.query.nodes import NodeHit

# Paul Tol's bright scheme (SRON/EPS/TN/09-002): told apart by colour-blind people too.
_PALETTE = ("#EE6677", "#4477AA", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#EE7733", "#009988")


def hit_colours(instances: Sequence[int]) -> Mapping[int, tuple[int, int, int]]:
    """Give each instance a colour of its own, in the order of the hits; shades darken after each round."""
    colours = {}
    for place, instance in enumerate(dict.fromkeys(instances)):
        round_, at = divmod(place, len(_PALETTE))
        shade = 0.75**round_
        digits = _PALETTE[at]
        red, green, blue = (round(int(digits[i : i + 2], 16) * shade) for i in (1, 3, 5))
        colours[instance] = (red, green, blue)
    return colours


def paint_hits(cloud: Cloud, colours: Mapping[int, tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Return (N, 3) uint8: hits in their colours, all else as pale grey of its own brightness."""
    grey = cloud.rgb.mean(axis=1, keepdims=True)
    painted = np.repeat(160 + grey * 0.35, 3, axis=1).astype(np.uint8)
    for instance, colour in colours.items():
        painted[cloud.instance == instance] = colour
    return painted


def write_ply(path: Path, cloud: Cloud, rgb: NDArray[np.uint8]) -> None:
    """Write points, colours and instance numbers as a binary little-endian PLY.

    UserError where the file cannot be written; nothing half-written stays.
    """
    vertex = np.empty(
        len(cloud.xyz_m),
        [("xyz", "<f4", 3), ("rgb", "u1", 3), ("instance", "<i4")],
    )
    vertex["xyz"], vertex["rgb"], vertex["instance"] = cloud.xyz_m, rgb, cloud.instance
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(vertex)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        "property int instance\nend_header\n"
    )
    with whole_file(path) as file:
        file.write(header.encode("ascii"))
        file.write(vertex.tobytes())


def write_log(path: Path, hits: Sequence[NodeHit], colours: Mapping[int, tuple[int, int, int]]) -> None:
    """Write one JSON object a line: the hit, its rank within its query, and its colour in the PLY."""
    ranks: dict[str, int] = {}
    with whole_file(path) as file:
        for hit in hits:
            ranks[hit.query] = ranks.get(hit.query, 0) + 1
            row = {**hit.as_json(), "rank": ranks[hit.query], "colour": colours.get(hit.instance)}
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name only when it is complete."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
