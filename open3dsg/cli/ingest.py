"""`open3dsg ingest`: dataset folders into the database."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from open3dsg.cli.output import json_option, message
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
class _Chosen:
    """The options that every layout has."""

    dataset: str
    split: str | None
    scans: Sequence[str]
    jobs: int
    force: bool
    replace: bool


def _choosing(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that every layout has, and hand them over together; `name` is the dataset's default."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def gathered(
            dataset: str,
            split: str | None,
            scans: tuple[str, ...],
            jobs: int,
            force: bool,
            replace: bool,
            **own: Any,
        ) -> None:
            command(chosen=_Chosen(dataset, split, scans, jobs, force, replace), **own)

        options = (
            click.option(
                "--dataset", default=name, show_default=True, help="The dataset's name in the store."
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


@click.group()
def ingest() -> None:
    """Read a dataset folder into the database."""


@ingest.command("3rscan", epilog="Example: open3dsg ingest 3rscan ~/3RScan --split train --jobs 2")
@click.argument("root", type=FOLDER)
@click.option(
    "--annotations", type=FOLDER, help="Folder of 3DSSG's JSON files; else they are looked for in ROOT."
)
@click.option(
    "--camera-axes",
    type=click.Choice(["y-down", "y-up"]),
    default="y-down",
    show_default=True,
    help="The camera of the poses: OpenCV's (as published) or OpenGL's.",
)
@_choosing("3rscan")
@json_option
def ingest_3rscan(
    root: Path,
    annotations: Path | None,
    camera_axes: str,
    chosen: _Chosen,
    as_json: bool,
) -> None:
    """Read 3RScan scans, and their 3DSSG annotations where there are any."""
    arguments = {
        "annotations": None if annotations is None else str(annotations.resolve()),
        "camera_axes": camera_axes,
    }
    _ingest("3rscan", root, arguments, chosen, as_json=as_json)


@ingest.command(
    "scannet", epilog="Example: open3dsg ingest scannet ~/ScanNet --split train --labels nyu40 --jobs 2"
)
@click.argument("root", type=FOLDER)
@click.option(
    "--metadata", type=FOLDER, help="Folder of the split lists and the label table; else they are in ROOT."
)
@click.option(
    "--frames", type=FOLDER, help="Folder of color/, depth/ and pose/ by scan, under ROOT; else looked for."
)
@click.option(
    "--labels",
    type=click.Choice(["raw", "nyu40", "scannet200"]),
    default="raw",
    show_default=True,
    help="Labels of instances: as annotated, or the class they map to.",
)
@click.option(
    "--sens-every", type=int, default=20, show_default=True, help="Of a .sens file, take every n-th frame."
)
@_choosing("scannet")
@json_option
def ingest_scannet(
    root: Path,
    metadata: Path | None,
    frames: Path | None,
    labels: str,
    sens_every: int,
    chosen: _Chosen,
    as_json: bool,
) -> None:
    """Read ScanNet scans, raw or with the preprocessed frames."""
    arguments = {
        "metadata": None if metadata is None else str(metadata.resolve()),
        "frames": None if frames is None else str(frames.absolute()),
        "labels": labels,
        "sens_every": sens_every,
    }
    _ingest("scannet", root, arguments, chosen, as_json=as_json)


@ingest.command("3dssg", epilog="Example: open3dsg ingest 3dssg ~/3DSSG_subset")
@click.argument("folder", type=FOLDER)
@click.option("--dataset", default="3rscan", show_default=True, help="The dataset's name in the store.")
@json_option
def ingest_3dssg(folder: Path, dataset: str, as_json: bool) -> None:
    """Read 3DSSG's annotations of all scans, whether their geometry is at hand or not."""
    from open3dsg.datasets.annotations import AnnotationReader
    from open3dsg.steps.ingest import Ingest

    reader = AnnotationReader(folder, dataset)
    work = Ingest(reader, dataset, "3rscan", None)
    with open_for_work() as store:
        work.check_dataset(store.connection)
        names = list(reader.annotations.scans)
        run_and_report("annotate", work, names, store=store, jobs=1, as_json=as_json)


def _ingest(layout: str, root: Path, arguments: Mapping[str, Any], chosen: _Chosen, *, as_json: bool) -> None:
    """Read the chosen scans of a folder."""
    from open3dsg.datasets.layouts import open_reader
    from open3dsg.steps.ingest import Ingest

    check_force(chosen.force, chosen.scans)
    reader = open_reader(layout, root, arguments)
    names = _scan_names(reader, root, chosen.split, chosen.scans)
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
