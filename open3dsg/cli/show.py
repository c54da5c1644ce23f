"""`open3dsg show`: what the store knows of a scan, drawn on its photos, and what no photo shows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from open3dsg.cli.output import (
    counted,
    json_option,
    message,
    print_json,
    print_problems,
    print_table,
    progress,
)
from open3dsg.cli.session import open_for_work, split_option
from open3dsg.cli.show_captions import captions
from open3dsg.cli.show_predictions import predictions
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open3dsg.cli.session import Store
    from open3dsg.datasets.scan import Problem
    from open3dsg.query.missing import MissingFrames
    from open3dsg.store.scans import StoredScan
    from open3dsg.view.search import Search

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)

_SCAN = "The scan: its name, or DATASET/NAME."


@click.group()
def show() -> None:
    """Draw instances on photos, list those that no photo shows, and how they relate."""


@show.command(epilog="Example: open3dsg show masks --scan 7272e16c-a01b-20f6-8961-a0927b4a7629 --out masks")
@click.option("--scan", required=True, help=_SCAN)
@click.option(
    "--out", required=True, type=FOLDER, help="Folder for the pictures; made where it is not there."
)
@click.option(
    "--top-k",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Frames an instance, best first.",
)
@click.option(
    "--instance",
    "instances",
    metavar="NUMBER",
    type=int,
    multiple=True,
    help="Only this instance; repeatable.",
)
@json_option
def masks(scan: str, out: Path, top_k: int, instances: tuple[int, ...], as_json: bool) -> None:
    """Draw the pixels at which each instance was observed over the photos that show it best.

    Instance 42 in its best frame is 42.png, in the next 42_2.png, and so on; masks.json says what each
    picture shows. Photos are drawn on as they are stored, not turned upright.
    """
    from open3dsg.query.sightings import best_sightings
    from open3dsg.store.instances import list_some
    from open3dsg.store.scans import find_scan
    from open3dsg.view.masks import draw_masks

    with open_for_work() as store:
        found = find_scan(store.connection, scan)
        best = best_sightings(store.connection, found, top_k=top_k, instances=instances)
    with progress("photos", len(best.frame_nos)) as advance:
        drawn = draw_masks(best, out, advance)
    if best.is_stale:
        message(
            f"instances changed since scan {found.key} was observed: run `open3dsg observe` to see them all"
        )
    if as_json:
        told = {"scan": found.key, "folder": out, "pictures": len(drawn.records)}
        told |= {"instances": drawn.instances, "unseen": best.unseen}
        print_json(told | _as_json(drawn.problems))
        return
    pictures, of_instances = counted(len(drawn.records), "picture"), counted(drawn.instances, "instance")
    click.echo(f"{out}: {pictures} of {of_instances}, listed in masks.json")
    if best.unseen:
        unseen = counted(len(best.unseen), "instance")
        click.echo(f"  no frame shows {unseen} well enough: {list_some(best.unseen)}")
    print_problems(drawn.problems)


@show.command(
    epilog="Example: open3dsg show projections --scan 7272e16c-a01b-20f6-8961-a0927b4a7629"
    " --instance 9 --out projections"
)
@click.option("--scan", required=True, help=_SCAN)
@click.option("--instance", metavar="NUMBER", type=int, help="The instance to look for, or")
@click.option(
    "--ply", type=FILE, help="the points to look for: vertices in metres, in the axes of `export cloud`."
)
@click.option(
    "--out", required=True, type=FOLDER, help="Folder for the pictures; made where it is not there."
)
@json_option
def projections(scan: str, instance: int | None, ply: Path | None, out: Path, as_json: bool) -> None:
    """Draw the box of one instance on every frame in which any of it is visible.

    All frames with depth are looked at, not only those that `observe` keeps. frames.json lists them by the
    share of the points that is visible, and says which would be kept: with the options that the scan was
    observed with, or the defaults.
    """
    from open3dsg.store.scans import find_scan
    from open3dsg.view.projections import draw_projections

    with open_for_work() as store:
        found = find_scan(store.connection, scan)
        search = _what_to_look_for(store, found, instance, ply)
    with progress("frames", len(search.frames)) as advance:
        done = draw_projections(search, out, advance)
    if as_json:
        told = {"scan": found.key, "folder": out, "frames": len(done.records), "seen": done.seen}
        told |= {"passing": done.passing, "pictures": done.pictures}
        print_json(told | _as_json(done.problems))
        return
    click.echo(
        f"{out}: {search.subject.caption} is visible in {done.seen} of {len(done.records)} frames,"
        f" in {done.passing} well enough for `observe`;"
        f" {counted(done.pictures, 'picture')}, listed in frames.json"
    )
    print_problems(done.problems)


@show.command(epilog="Example: open3dsg show missing --split validation --out results.json")
@click.option("--scan", "scans", metavar="SCAN", multiple=True, help="Only this scan; repeatable.")
@click.option("--dataset", metavar="NAME", help="Only scans of this dataset.")
@split_option
@click.option("--out", type=FILE, help="Write the list to this file, as JSON, and print the counts alone.")
@json_option
def missing(
    scans: tuple[str, ...], dataset: str | None, split: str | None, out: Path | None, as_json: bool
) -> None:
    """List the instances that no frame shows well enough, by scan.

    Scans that are not observed yet are told apart. Instances without points, which only annotations name, are
    not looked for.
    """
    from open3dsg.export.files import check_folder, write_json
    from open3dsg.query.missing import find_missing
    from open3dsg.store.scans import select_scans

    if out is not None:
        check_folder(out)
    with open_for_work() as store:
        keys = select_scans(store.connection, dataset=dataset, split=split, scans=scans)
        found = find_missing(store.connection, keys)
    if out is not None:
        write_json(out, found.as_json())
    if as_json:
        print_json(found.as_json())
    else:
        _print_missing(found, listed=out is None)


def _what_to_look_for(store: Store, scan: StoredScan, instance: int | None, ply: Path | None) -> Search:
    from open3dsg.view.search import search_instance, search_ply

    if instance is not None and ply is None:
        return search_instance(store.connection, scan, instance)
    if ply is not None and instance is None:
        return search_ply(store.connection, scan, ply)
    raise UserError("what to look for? give one of --instance NUMBER and --ply FILE")


def _as_json(problems: Sequence[Problem]) -> dict[str, object]:
    from open3dsg.steps.summary import count_problems

    return {"problems": count_problems(problems), "problem_details": [asdict(one) for one in problems]}


def _print_missing(found: MissingFrames, *, listed: bool) -> None:
    if listed and found.count:
        rows = [
            (scan, one.instance, one.label, one.points)
            for scan, many in found.missing.items()
            for one in many
        ]
        print_table(("scan", "instance", "label", "points"), rows, right=("instance", "points"))
    instances, scans = counted(found.instances, "instance"), counted(found.scans, "scan")
    message(f"{found.count:,} of {instances} of {scans} are shown by no frame")
    if found.not_observed:
        count, some = len(found.not_observed), found.not_observed[0]
        which = f"scan {some} is" if count == 1 else f"{count} scans, such as {some}, are"
        message(f"{which} not observed, or not since instances changed: run `open3dsg observe`")


show.add_command(captions)
show.add_command(predictions)
