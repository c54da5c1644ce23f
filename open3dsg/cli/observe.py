"""`open3dsg observe`: which instance is seen in which frame."""

from __future__ import annotations

import click

from open3dsg.cli.output import json_option
from open3dsg.cli.session import check_force, open_for_work, run_and_report, step_options


@click.command(epilog="Example: open3dsg observe --every 10 --jobs 2")
@step_options
@click.option(
    "--every",
    type=int,
    show_default="10 for 3RScan, 1 for ScanNet",
    help="Look at every n-th frame, by frame number.",
)
@click.option("--min-points", default=12, show_default=True, help="More visible points than this are needed,")
@click.option(
    "--min-ratio", default=0.3, show_default=True, help="and more than this share of all points, or"
)
@click.option("--enough-points", default=80, show_default=True, help="more visible points than this.")
@click.option("--depth-tolerance", default=0.2, show_default=True, help="Relative to the measured depth.")
@click.option(
    "--border", default=0, show_default=True, help="Pixels at the edge of the depth picture to ignore."
)
@click.option(
    "--surface",
    "surfaces",
    multiple=True,
    default=("wall", "floor"),
    show_default=True,
    help="Label kept by --enough-points alone; repeatable.",
)
@json_option
def observe(
    dataset: str | None,
    split: str | None,
    scans: tuple[str, ...],
    jobs: int,
    force: bool,
    replace: bool,
    every: int | None,
    min_points: int,
    min_ratio: float,
    enough_points: int,
    depth_tolerance: float,
    border: int,
    surfaces: tuple[str, ...],
    as_json: bool,
) -> None:
    """Find which instance is seen in which frame, and at which pixels.

    A point is visible where its projection on the depth picture agrees with the depth measured there.
    """
    from open3dsg.geometry.thresholds import VisibilityThresholds
    from open3dsg.steps.observe import Observe, ObserveOptions
    from open3dsg.store.scans import select_scans

    check_force(force, scans)
    thresholds = VisibilityThresholds(min_points, min_ratio, enough_points, depth_tolerance, border)
    work = Observe(ObserveOptions(every, thresholds, surfaces), force, replace)
    with open_for_work() as store:
        keys = select_scans(store.connection, dataset=dataset, split=split, scans=scans)
        run_and_report("observe", work, keys, store=store, jobs=jobs, as_json=as_json)
