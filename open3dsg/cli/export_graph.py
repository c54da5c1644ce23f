"""`open3dsg export graph`: scene graphs and training units as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from open3dsg.cli.output import counted, json_option, message, print_json, progress
from open3dsg.cli.session import exit_on_failures, open_for_work, split_option
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

    from open3dsg.export.scene_graphs import GraphFormat

_FORMATS = ("3dssg", "json", "networkx", "graphml", "dsg", "pyg", "dot", "svg")
_UNSET = {"k": 1}  # what an option is that was not given; None but for these


@dataclass(frozen=True)
class _What:
    """What of a scan is written; all None and 1: its annotated graph."""

    run: str | None
    classes: str | None
    predicates: str | None
    k: int
    encoder: str | None
    pair_encoder: str | None

    def check(self, format_: str) -> None:
        """Raise UserError for options that the format, or another option, makes no use of."""
        for name in (name for name, value in vars(self).items() if value != _UNSET.get(name)):
            option = f"-{name}" if name == "k" else f"--{name.replace('_', '-')}"
            if format_ == "3dssg":
                raise UserError(f"{option} goes with scene graphs: name another --format than 3dssg")
            if name in ("classes", "predicates", "k") and self.run is None:
                raise UserError(f"{option} goes with --run, whose embeddings it names")
            if name in ("encoder", "pair_encoder") and format_ != "pyg":
                raise UserError(f"{option} goes with --format pyg, which alone holds embeddings")


@click.command(epilog="Example: open3dsg export graph --format svg --scan mini-0001 --out pictures")
@click.option(
    "--format",
    "format_",
    type=click.Choice(_FORMATS),
    default="3dssg",
    show_default=True,
    help="3dssg: training units as 3DSSG's relationships_*.json; others: the scene graph of each scan.",
)
@click.option("--dataset", metavar="NAME", help="Only scans of this dataset.")
@split_option
@click.option("--scan", "scans", metavar="SCAN", multiple=True, help="Only this scan; repeatable.")
@click.option("--full", is_flag=True, help="3dssg: the graphs of whole scans too, relationships_*_full.json.")
@click.option("--run", metavar="RUN[:LABEL]", help="As this run predicts it, in place of the annotations.")
@click.option("--classes", metavar="VOCAB", help="With --run: what objects can be.")
@click.option("--predicates", metavar="VOCAB", help="With --run: what relations can be.")
@click.option(
    "-k", type=click.IntRange(min=1), default=1, show_default=True, help="With --run: predicates an edge."
)
@click.option("--encoder", metavar="ENCODER", help="pyg: whose features of instances, in place of the run's.")
@click.option(
    "--pair-encoder", metavar="ENCODER", help="pyg: whose features of pairs, in place of the run's."
)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The folder to write to."
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@json_option
def graph(
    format_: str,
    dataset: str | None,
    split: str | None,
    scans: tuple[str, ...],
    full: bool,
    out: Path,
    overwrite: bool,
    as_json: bool,
    **what: Any,
) -> None:
    """Write scene graphs for other programs, or subgraphs as 3DSSG's files.

    A scene graph is a file a scan: json, networkx (node-link JSON), graphml, dsg (Spark-DSG), pyg (PyTorch
    Geometric), dot (Graphviz) or svg (a picture); docs/exports.md says what is in each. The format 3dssg has
    given subgraphs and built ones, their relations and the neighbours of their objects, a file a split.
    """
    from open3dsg.store.scans import select_scans

    chosen = _What(**what)
    chosen.check(format_)
    if full and format_ != "3dssg":
        raise UserError("--full goes with --format 3dssg: other formats hold the graph of the whole scan")
    with open_for_work() as store:
        keys = select_scans(store.connection, dataset=dataset, split=split, scans=scans, bare=True)
        if format_ == "3dssg":
            _write_units(store.connection, keys, out, full=full, overwrite=overwrite, as_json=as_json)
            return
        named = cast("GraphFormat", format_)
        _write_graphs(store.connection, keys, named, chosen, out, overwrite=overwrite, as_json=as_json)


def _write_units(
    connection: Connection[Any],
    scans: Sequence[str],
    out: Path,
    *,
    full: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write training units as 3DSSG's files, and say so."""
    from open3dsg.export.graphs import read_graph_files, write_graph_files

    content = read_graph_files(connection, scans, full=full)
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


def _write_graphs(
    connection: Connection[Any],
    scans: Sequence[str],
    format_: GraphFormat,
    what: _What,
    out: Path,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the scene graph of each scan, and say so; leave with 2 where one cannot be written."""
    from open3dsg.export.scene_graphs import graph_files
    from open3dsg.store.predictions import find_prediction

    if what.run is not None:
        find_prediction(connection, what.run)  # where it is not there, that is said once
    files = graph_files(out, scans, format_, overwrite=overwrite)
    written: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    with progress("export", len(files)) as advance:
        for scan, path in files.items():
            try:
                written.append(_write_one(connection, scan, path, format_, what))
            except UserError as error:
                failures[scan] = str(error)
            advance(scan)
    if as_json:
        print_json({"format": format_, "written": written, "failures": failures})
    else:
        nodes, edges = (sum(each[name] for each in written) for name in ("nodes", "edges"))
        such = f", such as {written[0]['file'].name}" if written else ""
        click.echo(
            f"{out}: {counted(len(written), 'scene graph')} with {counted(nodes, 'node')} and"
            f" {counted(edges, 'relation')}{such}"
        )
    exit_on_failures(failures)


def _write_one(
    connection: Connection[Any], scan: str, path: Path, format_: GraphFormat, what: _What
) -> dict[str, Any]:
    from open3dsg.export.pyg import read_embeddings
    from open3dsg.export.scene_graphs import write_graph
    from open3dsg.query.graph import read_graph

    found = read_graph(
        connection, scan, run=what.run, classes=what.classes, predicates=what.predicates, k=what.k
    )
    embeddings = None
    if format_ == "pyg":
        embeddings = read_embeddings(
            connection, scan, run=what.run, encoder=what.encoder, pair_encoder=what.pair_encoder
        )
    write_graph(path, found, format_, embeddings)
    return {"file": path, "scan": scan, "nodes": len(found.nodes), "edges": len(found.edges)}
