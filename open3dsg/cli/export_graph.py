"""`open3dsg export graph`: subgraphs and their relations as files."""

from __future__ import annotations

from pathlib import Path

import click

from open3dsg.cli.output import json_option, message, print_json
from open3dsg.cli.session import open_for_work


@click.command(epilog="Example: open3dsg export graph --dataset scannet --split train --out ~/subgraphs")
@click.option(
    "--format",
    "_format",
    type=click.Choice(["3dssg"]),
    default="3dssg",
    show_default=True,
    help="Whose files: the relationships_*.json of 3DSSG, which Open3DSG reads too.",
)
@click.option("--dataset", metavar="NAME", help="Only scans of this dataset.")
@click.option("--split", metavar="NAME", help="Only scans of this split.")
@click.option("--scan", "scans", metavar="SCAN", multiple=True, help="Only this scan; repeatable.")
@click.option("--full", is_flag=True, help="Write the graphs of whole scans too, relationships_*_full.json.")
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The folder to write to."
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@json_option
def graph(
    _format: str,
    dataset: str | None,
    split: str | None,
    scans: tuple[str, ...],
    full: bool,
    out: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write subgraphs, their relations and the neighbours of their objects.

    Given subgraphs and built ones alike, a file a split, with the list of its scans and that of the
    predicates. What was left out when 3DSSG was read is not written again.
    """
    from open3dsg.export.graphs import read_graph_files, write_graph_files
    from open3dsg.store.scans import select_scans

    with open_for_work() as store:
        keys = select_scans(store.connection, dataset=dataset, split=split, scans=scans, bare=True)
        content = read_graph_files(store.connection, keys, full=full)
    write_graph_files(out, content, overwrite=overwrite)
    if as_json:
        print_json(content.as_json())
    else:
        click.echo(
            f"{out}: {content.scans:,} scans, {content.subgraphs:,} subgraphs, {content.full_graphs:,} graphs"
            f" of whole scans, {content.relationships:,} relations in {', '.join(content.names)}"
        )
    if content.without:
        message(f"{len(content.without)} scans have no subgraph, such as {content.without[0]}")
