"""Curves of losses: a picture of one run or several, and a line of text."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.errors import UserError
from open3dsg.export.files import check_folder, whole_file
from open3dsg.export.hits import hit_colours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from open3dsg.store.runs import Metric

_SUFFIXES = (".png", ".svg", ".pdf")
_FEW = 30
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT = 6.4, 3.4  # inches a panel
_LINES = {"train": "-", "val": "--"}


def check_plot(path: Path) -> None:
    """Raise UserError where no picture `path` can come to be."""
    if path.suffix not in _SUFFIXES:
        raise UserError(f"{path}: a plot is one of {', '.join(_SUFFIXES)}: name it so")
    check_folder(path)


def plot_losses(runs: Mapping[str, Sequence[Metric]], path: Path) -> None:
    """Draw the figures of runs over optimizer steps, a panel a figure, a colour a run.

    ``train/loss`` and ``val/loss`` share a panel, drawn through and dashed. Raises UserError where there is
    nothing to draw, matplotlib is missing or the file cannot be written.
    """
    check_plot(path)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("plots need matplotlib: pip install 'open3dsg[picture]'") from error
    panels = list(dict.fromkeys(_panel(metric.name) for metrics in runs.values() for metric in metrics))
    if not panels:
        raise UserError(f"there is nothing to draw: {', '.join(runs)} noted no losses yet")
    panels.sort(key=lambda panel: (panel != "loss", panel))
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(columns * _WIDTH, rows * _HEIGHT), layout="constrained")
    for place, panel in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.set_title(panel, parse_math=False)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        _draw(axes, panel, runs)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=120)
    with whole_file(path) as file:
        file.write(picture.getvalue())


def spark(values: Sequence[float], width: int = 30) -> str:
    """Return at most `width` bars of text, the lowest for the least of `values`, the highest for the most.

    Where there are more, neighbours are averaged; a bar without a finite one is a gap.
    """
    means = _thinned(np.asarray(values, np.float64), width)
    finite = means[np.isfinite(means)]
    if not len(finite):
        return ""
    span = np.ptp(finite) or 1.0
    height = np.where(np.isfinite(means), (means - finite.min()) / span * (len(_BARS) - 1), -1)
    return "".join(" " if bar < 0 else _BARS[round(bar)] for bar in height.tolist())


def _draw(axes: Any, panel: str, runs: Mapping[str, Sequence[Metric]]) -> None:
    colours = hit_colours(range(len(runs))).values()
    for (run, metrics), colour in zip(runs.items(), colours, strict=True):
        for name in dict.fromkeys(metric.name for metric in metrics if _panel(metric.name) == panel):
            curve = np.array([(metric.step, metric.value) for metric in metrics if metric.name == name])
            steps, values = curve.T
            axes.plot(
                steps,
                values,
                color="#" + bytes(colour).hex(),
                linestyle=_LINES.get(name.partition("/")[0], "-"),
                marker="o" if len(values) < _FEW else None,  # of one value there is no line
                markersize=3,
                linewidth=1.2,
                label=f"{name}  {run}",
            )
    for text in axes.legend(fontsize="small").get_texts():
        text.set_parse_math(False)  # a dollar sign in a name is no formula


def _panel(name: str) -> str:
    """Return what a figure is of: `loss` for ``train/loss`` and ``val/loss``."""
    part, _, rest = name.partition("/")
    return rest if part in _LINES and rest else name


def _thinned(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return at most `count` means of neighbours; those that are not finite are left out of them."""
    if len(values) <= count:
        return values
    starts = np.linspace(0, len(values), count, endpoint=False).astype(np.intp)
    finite = np.isfinite(values)
    sums = np.add.reduceat(np.where(finite, values, 0.0), starts)
    counts = np.add.reduceat(finite, starts, dtype=np.int64)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(count, np.nan), where=counts > 0)
    return means
