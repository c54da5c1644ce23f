"""`open3dsg query`: ask the store in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from open3dsg.cli.output import json_option, message, print_json, print_table
from open3dsg.cli.query_changes import changes
from open3dsg.cli.query_triplets import path, phrase, similar, triplets
from open3dsg.cli.session import open_for_work
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from open3dsg.cli.session import Store
    from open3dsg.query.nodes import NodeHit

FILE = click.Path(dir_okay=False, path_type=Path)


class _Questions(click.Group):
    """A first argument of several words is a phrase: `query "the mug on the desk"`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if len(args[0].split()) > 1:
            return phrase.name, phrase, args
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            told = f'{error.format_message()} A phrase is one argument: open3dsg query "the mug on the desk"'
            raise click.UsageError(told, ctx) from error


@click.group(cls=_Questions)
def query() -> None:
    """Ask the store in words."""


for _command in (triplets, path, phrase, similar, changes):
    query.add_command(_command)


@query.command(epilog='Example: open3dsg query nodes "a place to sit" tv -k 3 --picture answers.png')
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@click.option("-k", default=5, show_default=True, help="Hits a question.")
@click.option("--encoder", help="NAME or NAME@REVISION; needed where the store has features of several.")
@click.option("--run", metavar="RUN[:LABEL]", help="Ask what this run predicted, in place of features.")
@click.option("--scan", help="Only this scan.")
@click.option("--dataset", help="Only scans of this dataset.")
@click.option("--label", help="Only instances with this label.")
@click.option(
    "--within",
    type=float,
    nargs=6,
    metavar="X0 Y0 Z0 X1 Y1 Z1",
    help="Only instances whose centroid lies in this box, in metres.",
)
@click.option("--exact", is_flag=True, help="Compare with every node, without the vector index.")
@click.option(
    "--ply", type=FILE, help="Write the scene with its hits in colours; all hits must be of one scan."
)
@click.option("--log", type=FILE, help="Write hits, ranks, scores and colours, one JSON object a line.")
@click.option("--picture", type=FILE, help="Draw the scan of the best hit of each question as PNG.")
@json_option
def nodes(
    texts: tuple[str, ...],
    k: int,
    encoder: str | None,
    run: str | None,
    scan: str | None,
    dataset: str | None,
    label: str | None,
    within: tuple[float, float, float, float, float, float] | None,
    exact: bool,
    ply: Path | None,
    log: Path | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Find the objects most similar to each TEXT, over one scan or all."""
    from open3dsg.export.files import check_folder
    from open3dsg.export.hits import hit_colours, write_log
    from open3dsg.query.nodes import NodeFilters, search_nodes
    from open3dsg.query.predictions import search_predictions

    if run is not None and encoder is not None:
        raise UserError("--run asks by the words of its own encoder: leave out --encoder")
    for file in filter(None, (ply, log, picture)):
        check_folder(file)
    filters = NodeFilters(scan, dataset, label, within, exact)
    with open_for_work() as store:
        if run is None:
            answers = search_nodes(store.connection, texts, k=k, encoder=encoder, filters=filters)
        else:
            answers = search_predictions(store.connection, texts, run, k=k, filters=filters)
        hits = [hit for answer in answers for hit in answer]
        colours = hit_colours([hit.instance for hit in hits]) if ply is not None else {}
        if ply is not None:
            _write_scene(store, hits, scan, colours, ply)
        if log is not None:
            write_log(log, answers, colours)
        if picture is not None:
            _draw(store, answers, picture)
    if as_json:
        print_json([hit.as_json() for hit in hits])
        return
    for text, answer in zip(texts, answers, strict=True):
        if not answer:
            message(f"{text!r}: no node passes the filters")
    print_hits(hits)


def print_hits(hits: Sequence[NodeHit]) -> None:
    """Print a table of hits."""
    print_table(
        ("query", "similarity", "label", "scan", "instance", "position m"),
        [
            (
                hit.query,
                f"{hit.similarity:.3f}",
                hit.label,
                hit.scan,
                hit.instance,
                " ".join(f"{value:.2f}" for value in hit.position),
            )
            for hit in hits
        ],
        right=("similarity", "instance"),
    )


def _write_scene(
    store: Store,
    hits: Sequence[NodeHit],
    scan: str | None,
    colours: Mapping[int, tuple[int, int, int]],
    ply: Path,
) -> None:
    """Write the one scene that the hits are of, or that was asked for where there are none."""
    from open3dsg.export.clouds import write_ply
    from open3dsg.export.hits import paint_hits
    from open3dsg.store.cloud import read_cloud
    from open3dsg.store.scans import find_scan

    scans = sorted({f"{hit.dataset}/{hit.scan}" for hit in hits}) or list(filter(None, [scan]))
    if len(scans) != 1:
        raise UserError(f"--ply writes one scene, the hits are of {len(scans)}: choose one with --scan")
    found = find_scan(store.connection, scans[0])
    cloud = read_cloud(store.connection, found.scan_id, found.name)
    write_ply(ply, replace(cloud, rgb=paint_hits(cloud, colours)))


def _draw(store: Store, answers: Sequence[Sequence[NodeHit]], picture: Path) -> None:
    from open3dsg.store.cloud import read_cloud
    from open3dsg.store.scans import find_scan
    from open3dsg.view.picture import Panel, draw_answers

    panels = []
    for answer in filter(None, answers):
        best = answer[0]
        scan = find_scan(store.connection, f"{best.dataset}/{best.scan}")
        cloud = read_cloud(store.connection, scan.scan_id, scan.name)
        panels.append(
            Panel(
                best.query,
                cloud,
                [hit for hit in answer if (hit.dataset, hit.scan) == (best.dataset, best.scan)],
            )
        )
    draw_answers(panels, picture)
