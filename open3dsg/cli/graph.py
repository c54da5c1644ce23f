"""`open3dsg graph`: scans into training units, and which there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from open3dsg.cli.output import json_option, message, print_json, print_table
from open3dsg.cli.session import check_force, open_for_work, run_and_report, split_option, step_options
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Literal

    from open3dsg.steps.graph import GraphOptions

# Of windows alone: without a value unless given, so that --full can refuse them.
_WINDOW_OPTIONS = {
    "seed_distance": "--seed-distance",
    "min_instances": "--min-instances",
    "max_instances": "--max-instances",
    "seed": "--seed",
}


@click.group()
def graph() -> None:
    """Cut scans into training units, with samples of their points."""


def _window_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of subgraphs that are not given."""
    options = (
        click.option(
            "--seed-distance", type=float, show_default="1.3", help="Metres between the middles of windows."
        ),
        click.option("--min-instances", type=int, show_default="6", help="Fewer in a window make no group."),
        click.option("--max-instances", type=int, show_default="9", help="More in a window are cut up."),
        click.option("--seed", type=int, show_default="0", help="Another one places other windows."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _full_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of the graph of a whole scan."""
    options = (
        click.option("--full", is_flag=True, help="One graph of the whole scan, beside the subgraphs."),
        click.option(
            "--max-distance",
            type=float,
            show_default="1.0",
            help="With --full: metres between the nearest points of a pair, at most.",
        ),
        click.option("--all-pairs", is_flag=True, help="With --full: all pairs, however far apart."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@graph.command(epilog="Example: open3dsg graph build --split train --jobs 2")
@step_options
@click.option(
    "--method",
    type=click.Choice(["bbox", "radius"]),
    default="bbox",
    show_default=True,
    help="Neighbours by their grown boxes, or by their points.",
)
@click.option(
    "--receptive-field",
    default=0.8,
    show_default=True,
    help="Metres that boxes grow by, or points reach; half the side of a window.",
)
@_window_options
@click.option(
    "--instance-points", type=int, show_default="1000 for ScanNet, else 2000", help="Points an instance."
)
@click.option("--pair-points", type=int, show_default="3000 for ScanNet, else 5000", help="Points a pair.")
@click.option(
    "--boxes",
    type=click.Choice(["oriented", "axis-aligned"]),
    show_default="oriented for 3RScan, else axis-aligned",
    help="The points of a pair are those in either box.",
)
@_full_options
@json_option
def build(
    dataset: str | None,
    split: str | None,
    scans: tuple[str, ...],
    jobs: int,
    force: bool,
    replace: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Build training units: subgraphs, samples of their instances, geometry of their pairs.

    The subgraphs are those that annotations give; a scan without is cut into windows over its floor plan,
    each a group of instances that lie together. Windows overlap, so groups do.
    """
    from open3dsg.steps.graph import Graph
    from open3dsg.store.scans import select_scans

    check_force(force, scans)
    work = Graph(_options(**chosen), force, replace)
    with open_for_work() as store:
        keys = select_scans(store.connection, dataset=dataset, split=split, scans=scans)
        run_and_report("graph", work, keys, store=store, jobs=jobs, as_json=as_json)


@graph.command("list", epilog="Example: open3dsg graph list --split train --unusable")
@click.option("--dataset", metavar="NAME", help="Only of this dataset.")
@split_option
@click.option("--scan", metavar="SCAN", help="Only of this scan.")
@click.option("--unusable", is_flag=True, help="Only those that a trainer passes over.")
@json_option
def list_subgraphs(
    dataset: str | None, split: str | None, scan: str | None, unusable: bool, as_json: bool
) -> None:
    """List subgraphs with what they hold, and the reason where a trainer passes over one.

    The graph of a whole scan has the number -1. A trainer needs 2 objects with points and, where the scan was
    observed, 4 that a frame shows.
    """
    from open3dsg.store.graphs import stored_subgraphs

    with open_for_work() as store:
        found = stored_subgraphs(store.connection, dataset=dataset, split=split, scan=scan)
    shown = [subgraph for subgraph in found if subgraph.reason is not None or not unusable]
    if as_json:
        print_json(shown)
        return
    counts = ("objects", "visible", "pairs", "relations")
    print_table(
        ("dataset", "scan", "subgraph", "method", *counts, "reason"),
        [
            (
                s.dataset,
                s.scan,
                s.subgraph,
                s.method,
                s.objects,
                s.visible_objects,
                s.pairs,
                s.relations,
                s.reason,
            )
            for s in shown
        ],
        right=("subgraph", *counts),
    )
    message(f"{len(found)} subgraphs, {sum(s.reason is not None for s in found)} of them unusable")


def _options(
    *,
    method: Literal["bbox", "radius"],
    receptive_field: float,
    instance_points: int | None,
    pair_points: int | None,
    boxes: Literal["oriented", "axis-aligned"] | None,
    full: bool,
    max_distance: float | None,
    all_pairs: bool,
    **windows: Any,
) -> GraphOptions:
    """Return the options of the step; UserError for one that has no effect beside the others."""
    from open3dsg.steps.graph import GraphOptions

    given = {name: value for name, value in windows.items() if value is not None}
    _check_alone(full, given, max_distance, all_pairs)
    if "seed_distance" in given:
        given["seed_distance_m"] = given.pop("seed_distance")
    if all_pairs or max_distance is not None:
        given["max_distance_m"] = max_distance
    return GraphOptions(
        method=method,
        receptive_field_m=receptive_field,
        instance_points=instance_points,
        pair_points=pair_points,
        boxes=boxes,
        full=full,
        **given,
    )


def _check_alone(full: bool, windows: Mapping[str, Any], max_distance: float | None, all_pairs: bool) -> None:
    """Refuse options of one variant beside the other."""
    if full and windows:
        raise UserError(f"{_WINDOW_OPTIONS[next(iter(windows))]} is of subgraphs: leave it out, or --full")
    if not full and (all_pairs or max_distance is not None):
        raise UserError(f"{'--all-pairs' if all_pairs else '--max-distance'} goes with --full")
    if all_pairs and max_distance is not None:
        raise UserError("--all-pairs has no --max-distance: give one of the two")
