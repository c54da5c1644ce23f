"""`open3dsg config`."""

from __future__ import annotations

import click

from open3dsg.cli.output import json_option, print_json, print_table
from open3dsg.settings import describe, load_settings


@click.command(epilog="Example: OPEN3DSG_HOME=/data/open3dsg open3dsg config")
@json_option
def config(as_json: bool) -> None:
    """Show the settings and where each comes from.

    A setting is taken from its environment variable, else from the file named by OPEN3DSG_CONFIG
    (~/.config/open3dsg/config.toml where unset), else it has its default.
    """
    rows = describe(load_settings())
    if as_json:
        print_json(rows)
        return
    print_table(
        ("setting", "value", "from", "variable", "meaning"),
        [(row.name, row.value or "-", row.source, row.variable, row.meaning) for row in rows],
    )
