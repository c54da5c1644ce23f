"""What the commands of `open3dsg ingest` share: options that every layout has, and the run over a folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from open3dsg.cli.output import message
from open3dsg.cli.session import (
    check_force,
    jobs_option,
    open_for_work,
    replace_option,
    run_and_report,
)
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from open3dsg.datasets.layouts import Reader

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@dataclass(frozen=True)
class Chosen:
    """The options that every layout has."""

    dataset: str
    split: str | None
    scans: Sequence[str]
    jobs: int
    force: bool
    replace: bool


def choosing(name: str | None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that every layout has, and hand them over together.

    `name` is the default of the dataset's name; None: it is the argument NAME.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def gathered(
            dataset: str | None,
            split: str | None,
            scans: tuple[str, ...],
            jobs: int,
            force: bool,
            replace: bool,
            **own: Any,
        ) -> None:
            named = own["name"] if dataset is None else dataset
            command(chosen=Chosen(named, split, scans, jobs, force, replace), **own)

        options = (
            click.option(
                "--dataset",
                default=name,
                show_default=name or "NAME",
                help="The dataset's name in the store.",
            ),
            click.option("--split", help="Only scans of this split: train, validation or test."),
            click.option("--scan", "scans", multiple=True, help="Only this scan; repeatable."),
            jobs_option,
            click.option("--force", is_flag=True, help="Read one --scan again, even if it is there."),
            replace_option,
        )
        for option in reversed(options):
            gathered = option(gathered)
        return gathered

    return decorate


def ingest_folder(
    layout: str, root: Path, arguments: Mapping[str, Any], chosen: Chosen, *, as_json: bool
) -> None:
    """Read the chosen scans of a folder."""
    from open3dsg.datasets.layouts import open_reader
    from open3dsg.steps.ingest import Ingest

    check_force(chosen.force, chosen.scans)
    reader = open_reader(layout, root, arguments)
    names = _scan_names(reader, root, chosen.split, chosen.scans)
    reader.attributes_of(names[0])  # one file for all scans: what is wrong with it is told once, not for each
    absent = [] if chosen.scans else reader.missing(chosen.split)
    work = Ingest(reader, chosen.dataset, layout, str(root.resolve()), chosen.force, chosen.replace)
    with open_for_work() as store:
        work.check_dataset(store.connection)
        if absent:
            message(f"{len(absent)} scans of the metadata have no folder here, such as {absent[0]}")
        run_and_report("ingest", work, names, store=store, jobs=chosen.jobs, as_json=as_json)


def _scan_names(reader: Reader, root: Path, split: str | None, scans: Sequence[str]) -> Sequence[str]:
    """Return the scans to read: those named, else those of the split with a folder; there must be one."""
    if scans and split is not None:
        raise UserError("--split chooses scans, --scan names them: give one of the two")
    names = scans or reader.scan_names(split)
    if not names:
        which = f" of split {split!r}" if split is not None else ""
        raise UserError(f"{root}: no folder of a scan{which} is here: ROOT is the folder that holds them")
    return names
