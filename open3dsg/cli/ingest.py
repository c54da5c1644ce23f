"""`open3dsg ingest`: dataset folders into the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from open3dsg.cli.ingest_dsg import ingest_dsg
from open3dsg.cli.ingest_folder import FOLDER, Chosen, choosing, ingest_folder
from open3dsg.cli.ingest_rgbd import ingest_rgbd
from open3dsg.cli.ingest_scenezoo import ingest_scenezoo
from open3dsg.cli.output import json_option
from open3dsg.cli.session import open_for_work, run_and_report

if TYPE_CHECKING:
    from pathlib import Path


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
@choosing("3rscan")
@json_option
def ingest_3rscan(
    root: Path,
    annotations: Path | None,
    camera_axes: str,
    chosen: Chosen,
    as_json: bool,
) -> None:
    """Read 3RScan scans, and their 3DSSG annotations where there are any."""
    arguments = {
        "annotations": None if annotations is None else str(annotations.resolve()),
        "camera_axes": camera_axes,
    }
    ingest_folder("3rscan", root, arguments, chosen, as_json=as_json)


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
@choosing("scannet")
@json_option
def ingest_scannet(
    root: Path,
    metadata: Path | None,
    frames: Path | None,
    labels: str,
    sens_every: int,
    chosen: Chosen,
    as_json: bool,
) -> None:
    """Read ScanNet scans, raw or with the preprocessed frames."""
    arguments = {
        "metadata": None if metadata is None else str(metadata.resolve()),
        "frames": None if frames is None else str(frames.absolute()),
        "labels": labels,
        "sens_every": sens_every,
    }
    ingest_folder("scannet", root, arguments, chosen, as_json=as_json)


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


ingest.add_command(ingest_dsg)
ingest.add_command(ingest_rgbd)
ingest.add_command(ingest_scenezoo)
