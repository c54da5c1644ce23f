"""A picture of answers: the room as coloured points, seen from above at an angle, the hits highlighted."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.errors import UserError
from open3dsg.export.files import whole_file
from open3dsg.export.hits import hit_colours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from open3dsg.datasets.scan import Cloud
    from open3dsg.query.nodes import NodeHit

_WIDTH, _HEIGHT = 900, 640  # pixels a panel
_AZIMUTH, _ELEVATION = math.radians(-60), math.radians(52)
_NEAR_WALL_M = 0.3  # walls between the eye and the room are left out up to this depth
_HEADROOM = 0.88  # and so is all above this share of the height: the ceiling
_POINT_M = 0.045  # points of scans lie 2 to 5 cm apart: a little larger, so that surfaces close
_BACKGROUND = (250, 250, 248)


@dataclass(frozen=True)
class Panel:
    """One question and its answers within one scan."""

    query: str
    cloud: Cloud
    hits: Sequence[NodeHit]


@dataclass(frozen=True)
class _Projection:
    """World to picture: orthographic, along `forward`, `scale` pixels a metre, `centre` in the middle."""

    axes: NDArray[np.float64]  # (3, 3): right, down, forward
    centre: NDArray[np.float64]  # (3,)
    scale: float

    def __call__(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return (N, 3) float64: x and y in pixels, and the distance along the view."""
        seen: NDArray[np.float64] = (points - self.centre) @ self.axes.T
        seen[:, :2] = seen[:, :2] * self.scale + (_WIDTH / 2, _HEIGHT / 2)
        return seen


def draw_answers(panels: Sequence[Panel], path: Path) -> None:
    """Draw the panels side by side, two a row, and save them as PNG.

    Raises UserError where there is nothing to draw, matplotlib is missing or the file cannot be written.
    """
    if not panels:
        raise UserError("there are no answers to draw")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("pictures need matplotlib: pip install 'open3dsg[picture]'") from error
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(columns * _WIDTH / 100, rows * (_HEIGHT + 50) / 100), layout="constrained")
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, place + 1)
        colours = hit_colours([hit.instance for hit in panel.hits])
        projection = _fit(panel.cloud.xyz_m)
        axes.imshow(_render(panel.cloud, colours, projection))
        axes.set_axis_off()
        axes.set_title(
            f"\N{LEFT DOUBLE QUOTATION MARK}{panel.query}\N{RIGHT DOUBLE QUOTATION MARK}", fontsize=15
        )
        for rank, hit in enumerate(panel.hits, 1):
            x, y, _ = projection(np.asarray([hit.position]))[0]
            axes.annotate(
                f"{rank}  {hit.label}  {hit.similarity:.2f}",
                (x, y),
                xytext=(_WIDTH - 10, 40 * rank - 10),  # a column of their own: labels never cover each other
                ha="right",
                va="center",
                fontsize=11,
                parse_math=False,  # labels are data: a dollar sign in one is no formula
                bbox={"boxstyle": "round,pad=0.3", "fc": "white", "ec": _hex(colours[hit.instance]), "lw": 2},
                arrowprops={"arrowstyle": "-", "color": _hex(colours[hit.instance]), "lw": 1.5},
            )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    with whole_file(path) as file:
        file.write(picture.getvalue())


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + bytes(colour).hex()


def _fit(points: NDArray[np.float32]) -> _Projection:
    low, high = np.percentile(points, (0.5, 99.5), axis=0)
    to_eye = np.array(
        [
            math.cos(_ELEVATION) * math.cos(_AZIMUTH),
            math.cos(_ELEVATION) * math.sin(_AZIMUTH),
            math.sin(_ELEVATION),
        ]
    )
    right = np.array([-math.sin(_AZIMUTH), math.cos(_AZIMUTH), 0.0])
    axes = np.stack([right, np.cross(right, to_eye), -to_eye])
    centre = (low + high) / 2
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True)), axis=-1).reshape(-1, 3) - centre
    extent = np.abs(corners @ axes[:2].T).max(axis=0)
    scale = 0.94 * min(_WIDTH / 2 / extent[0], _HEIGHT / 2 / extent[1])
    return _Projection(axes, centre, scale)


def _render(
    cloud: Cloud, colours: Mapping[int, tuple[int, int, int]], projection: _Projection
) -> NDArray[np.uint8]:
    """Paint the points from far to near as small squares; hits stand out, all else is paler."""
    highlighted = np.isin(cloud.instance, list(colours))
    shown = highlighted | _inside(cloud.xyz_m)
    rgb = 110 + cloud.rgb * 0.5
    for instance, colour in colours.items():
        mask = cloud.instance == instance
        # A little of the photo's light and dark keeps the shape of the thing readable.
        light = cloud.rgb[mask].mean(axis=1, keepdims=True) / 255
        rgb[mask] = np.asarray(colour) * (0.75 + 0.35 * light)
    seen = projection(cloud.xyz_m[shown])
    order = np.argsort(-seen[:, 2], kind="stable")
    x, y = np.rint(seen[order, :2]).astype(np.int64).T
    paint = np.clip(rgb[shown][order], 0, 255).astype(np.uint8)
    size = max(2, round(projection.scale * _POINT_M))
    picture = np.full((_HEIGHT + 2 * size, _WIDTH + 2 * size, 3), _BACKGROUND, np.uint8)
    inside = (x >= 0) & (x < _WIDTH) & (y >= 0) & (y < _HEIGHT)
    # One assignment, so that of two squares the nearer, which comes later, wins at every pixel.
    dy, dx = np.mgrid[0:size, 0:size].reshape(2, -1)
    rows = (y[inside, None] + dy).ravel()
    columns = (x[inside, None] + dx).ravel()
    picture[rows, columns] = np.repeat(paint[inside], size * size, axis=0)
    return picture[:_HEIGHT, :_WIDTH]


def _inside(points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which points to show: not the ceiling, nor the walls between the eye and the room."""
    low, high = np.percentile(points, (0.5, 99.5), axis=0)
    shown: NDArray[np.bool_] = points[:, 2] < low[2] + _HEADROOM * (high[2] - low[2])
    near_x = high[0] - points[:, 0] if math.cos(_AZIMUTH) > 0 else points[:, 0] - low[0]
    near_y = high[1] - points[:, 1] if math.sin(_AZIMUTH) > 0 else points[:, 1] - low[1]
    above_floor = points[:, 2] > low[2] + 0.1
    shown &= ~(above_floor & ((near_x < _NEAR_WALL_M) | (near_y < _NEAR_WALL_M)))
    return shown
