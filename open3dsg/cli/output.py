"""What commands print: answers on standard output, as a table or JSON; everything else on standard error."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from open3dsg.datasets.scan import Problem

_Command = TypeVar("_Command", bound=Callable[..., Any])

_LINE_EVERY_S = 5.0


def json_option(command: _Command) -> _Command:
    """Add ``--json`` to a command, as its argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


def print_json(value: object) -> None:
    """Print `value` as JSON on standard output; NaN and infinity are refused, being no JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2, default=_plain))


def print_table(
    headers: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[str] = ()
) -> None:
    """Print a table on standard output; columns whose header is in `right` are flush right.

    Cells are text as it stands: square brackets are no markup, control characters are replaced. On a
    terminal they are folded; a pipe or file has no width, and folded cells would break grep and awk.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_folded(headers, cells, right)
        return
    from rich.cells import cell_len

    columns = [list(column) for column in zip(headers, *cells, strict=True)]
    widths = [max(map(cell_len, column)) for column in columns]
    for line in (headers, *cells):
        padding = [" " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
        parts = zip(headers, line, padding, strict=True)
        told = (space + cell if header in right else cell + space for header, cell, space in parts)
        click.echo("  ".join(told).rstrip())


def _print_folded(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str]) -> None:
    """Print a table as wide as the terminal, cells folded as needed."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for header in headers:
        table.add_column(Text(header), justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Print names and values on standard output, a line each."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        click.echo(f"{name:<{width}}  {_cell(value)}".rstrip())


def print_problems(problems: Iterable[Problem]) -> None:
    """Print how many there are of each kind, and the first of them, on standard output."""
    of_kind: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        of_kind[problem.kind].append(problem.detail)
    for kind, details in sorted(of_kind.items()):
        click.echo(f"  {kind}: {len(details)}, such as: {details[0]}")


def counted(count: int, noun: str) -> str:
    """Return how many there are of what `noun` calls one: 1 scan, 1,513 scans."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def message(text: str) -> None:
    """Tell the user something that is not the answer, on standard error."""
    click.echo(text, err=True)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show how far a loop over `total` items is, on standard error.

    The block gets a function to call with the name of each item that is done. On a terminal a bar is drawn;
    elsewhere a plain line appears every few seconds and at the end.
    """
    if sys.stderr.isatty():
        with _bar(title, total) as advance:
            yield advance
        return
    done = 0
    told = time.monotonic()

    def advance_plain(name: str) -> None:
        nonlocal done, told
        done += 1
        if done == total or time.monotonic() - told >= _LINE_EVERY_S:
            told = time.monotonic()
            message(f"{title}: {done}/{total} {name}")

    yield advance_plain


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[item]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(escape(title), total=total, item="")

        def advance(name: str) -> None:
            bar.update(task, advance=1, item=escape(name))

        yield advance


def _cell(value: object) -> str:
    """Write a value so that it can neither break a line nor steer the terminal."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _plain(value: object) -> object:
    """Turn what `json` does not know into what it does."""
    if isinstance(value, Path):
        return os.fsencode(value).decode("utf-8", "replace")
    if isinstance(value, datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
    raise TypeError(f"cannot print a {type(value).__name__} as JSON")
