"""`open3dsg ingest dsg`: a scene graph of Spark-DSG into the database."""

from __future__ import annotations

from pathlib import Path

import click

from open3dsg.cli.output import json_option
from open3dsg.cli.session import open_for_work, run_and_report

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("dsg", epilog="Example: open3dsg ingest dsg apartment_dsg.json --name apartment")
@click.argument("file", type=_FILE)
@click.option("--dataset", default="dsg", show_default=True, help="The dataset's name in the store.")
@click.option("--name", metavar="SCAN", show_default="the file's", help="The scan's name in the store.")
@click.option(
    "--classes", type=_FILE, help='What classes of objects are called: a JSON file {"5": "chair", ...}.'
)
@click.option("--replace", is_flag=True, help="Let it take the place of another graph of that name.")
@json_option
def ingest_dsg(
    file: Path, dataset: str, name: str | None, classes: Path | None, replace: bool, as_json: bool
) -> None:
    """Read a scene graph of Spark-DSG, as Hydra makes them: instances and relations, without points.

    Objects, places, rooms and buildings become instances with their boxes, edges become relations;
    docs/exports.md says how. Poses of the robot and the mesh are left out.
    """
    from open3dsg.datasets.dsg import DsgReader, read_class_names
    from open3dsg.steps.ingest_dsg import GRAPHS, IngestGraph

    scan = file.stem.removesuffix(".dsg") if name is None else name
    reader = DsgReader(file, scan, dataset, None if classes is None else read_class_names(classes))
    work = IngestGraph(reader, dataset, GRAPHS, None, replace=replace)
    with open_for_work() as store:
        work.check_dataset(store.connection)
        run_and_report("ingest", work, [scan], store=store, jobs=1, as_json=as_json)
