"""`open3dsg features`: embeddings of instances and of pairs."""

from __future__ import annotations

import click

from open3dsg.cli.features_caption import caption
from open3dsg.cli.features_dump import dump
from open3dsg.cli.features_files import export_files, import_files
from open3dsg.cli.features_images import images
from open3dsg.cli.features_index import index
from open3dsg.cli.features_stats import stats
from open3dsg.cli.features_versions import activate, diff, drop


@click.group()
def features() -> None:
    """Compute embeddings of instances and of pairs."""


features.add_command(dump)
for command in (diff, drop, activate, export_files, import_files):
    features.add_command(command)
features.add_command(caption)
features.add_command(images)
features.add_command(index)
features.add_command(stats)
