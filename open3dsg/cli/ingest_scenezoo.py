"""`open3dsg ingest scenezoo`: datasets that the package scenezoo knows, into the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from open3dsg.cli.ingest_folder import FOLDER, Chosen, choosing, ingest_folder
from open3dsg.cli.output import json_option

if TYPE_CHECKING:
    from pathlib import Path


def _known(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    """Return the name that scenezoo gives the dataset; UserError, with those there are, where it has none."""
    from open3dsg.datasets.scenezoo_sources import find_source

    return find_source(name).name


@click.command("scenezoo", epilog="Example: open3dsg ingest scenezoo scannetppv2 ~/scannetpp --jobs 2")
@click.argument("name", callback=_known)
@click.argument("root", type=FOLDER)
@click.option(
    "--metadata",
    type=FOLDER,
    help="Folder of the split lists and label tables; else they are looked for in ROOT.",
)
@choosing(None)
@json_option
def ingest_scenezoo(name: str, root: Path, metadata: Path | None, chosen: Chosen, as_json: bool) -> None:
    """Read the dataset NAME through the package scenezoo: ScanNet++, Matterport3D, ARKitScenes, ...

    NAME is scannetppv2, arkitscenes, matterport3d, multiscan, s3dis, scenenn, structured3d or 3dfront.
    docs/scenezoo.md says what is read of each.
    """
    arguments = {"source": name, "metadata": None if metadata is None else str(metadata.resolve())}
    ingest_folder("scenezoo", root, arguments, chosen, as_json=as_json)
