"""How far a run is, on standard error while it is trained: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from open3dsg.cli.output import message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from open3dsg.training.fit import Moment

_LINE_EVERY_S = 5.0


@contextmanager
def watching() -> Iterator[Callable[[Moment], None]]:
    """Give a function to call after each batch."""
    if sys.stderr.isatty():
        with _bar() as watch:
            yield watch
    else:
        yield _lines()


def _lines() -> Callable[[Moment], None]:
    """Tell at the end of each part of an epoch, and every few seconds."""
    told = time.monotonic()

    def watch(moment: Moment) -> None:
        nonlocal told
        if moment.position == moment.units or time.monotonic() - told >= _LINE_EVERY_S:
            told = time.monotonic()
            message(f"{_where(moment)}: {moment.position}/{moment.units}, {_figures(moment)}")

    return watch


@contextmanager
def _bar() -> Iterator[Callable[[Moment], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=None, figures="")
        shown = ""

        def watch(moment: Moment) -> None:
            nonlocal shown
            if _where(moment) != shown:
                shown = _where(moment)
                bar.reset(task, description=shown)
            bar.update(task, completed=moment.position, total=moment.units, figures=_figures(moment))

        yield watch


def _where(moment: Moment) -> str:
    return f"epoch {moment.epoch + 1}/{moment.epochs} {moment.part}"


def _figures(moment: Moment) -> str:
    loss = "" if moment.loss is None else f"loss {moment.loss:.4f}, "
    return f"{loss}step {moment.step}"
