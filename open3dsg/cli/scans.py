"""`open3dsg scans`: what is in the store, what is done for it and what is missing; moving and deleting."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from open3dsg.cli.confirm import confirm, yes_option
from open3dsg.cli.output import json_option, message, print_json, print_pairs, print_table, progress
from open3dsg.cli.scans_copy import copy
from open3dsg.cli.session import (
    exit_on_failures,
    jobs_option,
    open_for_work,
    run_and_report,
    split_option,
)
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from open3dsg.cli.session import Store
    from open3dsg.steps.status import Progress, ScanStatus
    from open3dsg.store.roots import Move
    from open3dsg.store.scans import StoredScan

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NAMED = 5  # examples of what is missing


@click.group()
def scans() -> None:
    """List, relabel, move, copy and delete scans."""


scans.add_command(copy)


@scans.command("list", epilog="Example: open3dsg scans list --split train --missing observe")
@click.option("--dataset", help="Only scans of this dataset.")
@split_option
@click.option(
    "--missing",
    type=click.Choice(["ingest", "annotate", "observe", "graph", "features"]),
    help="Only scans for which this step is not done, or not wholly.",
)
@click.option("--encoder", help="With --missing features: those of this encoder.")
@json_option
def list_scans(
    dataset: str | None, split: str | None, missing: str | None, encoder: str | None, as_json: bool
) -> None:
    """List the scans of the store with what they hold, what is done for each, and the next step.

    A step is done, partly done, stale (instances changed since, or the step does something else now: run it
    to bring it up to date) or was never run.
    """
    from open3dsg.steps.status import check_step, scan_statuses

    check_step(missing, encoder)
    with open_for_work() as store:
        found = scan_statuses(store.connection, dataset=dataset, split=split)
    chosen = [status for status in found if missing is None or status.lacks(missing, encoder)]
    if as_json:
        print_json([status.as_json() for status in chosen])
        return
    columns = ("dataset", "scan", "split", "points", "frames", "instances", "observations")
    steps = ("ingest", "annotate", "observe", "graph")
    print_table(
        (*columns, *steps, "features", "problems", "missing"),
        [
            (
                *(status.row[column] for column in columns),
                *(status.state(step) for step in steps),
                _features(status),
                len(status.row["problems"]),
                status.missing or "",
            )
            for status in chosen
        ],
        right=("points", "frames", "instances", "observations", "problems"),
    )


@scans.command(epilog="Example: open3dsg scans show 7272e16c-a01b-20f6-8961-a0927b4a7629")
@click.argument("scan")
@json_option
def show(scan: str, as_json: bool) -> None:
    """Show all about one SCAN (its name, or DATASET/NAME), its problems one by one."""
    from open3dsg.steps.status import scan_statuses

    with open_for_work() as store:
        (status,) = scan_statuses(store.connection, scan=scan)
    if as_json:
        print_json(status.as_json())
        return
    row = {name: value for name, value in status.row.items() if name not in ("problems", "features")}
    problems = Counter(problem["kind"] for problem in status.row["problems"])
    steps = ("ingest", "annotate", "observe", "graph")
    never = [step for step in steps if status.state(step) == "never"]
    print_pairs(
        {
            **row,
            **{f"features {name}": f"{count} nodes" for name, count in status.row["features"].items()},
            **{f"step {name}": _progress(step) for name, step in status.steps.items()},
            **{f"step {name}": "never" for name in never},
            **{f"problem {kind}": count for kind, count in sorted(problems.items())},
            "missing": status.missing or "nothing",
        }
    )
    for problem in status.row["problems"]:
        click.echo(f"  {problem['kind']}: {problem['detail']}")


@scans.command(epilog="Example: open3dsg scans roots")
@json_option
def roots(as_json: bool) -> None:
    """List the datasets with their folders, and whether those are there."""
    from open3dsg.store.roots import dataset_roots

    with open_for_work() as store:
        found = dataset_roots(store.connection)
    if as_json:
        print_json(found)
        return
    rows = [
        (known.dataset, known.layout, known.scans, "yes" if known.is_there else "no", known.root)
        for known in found
    ]
    print_table(("dataset", "layout", "scans", "there", "root"), rows, right=("scans",))


@scans.command(epilog="Example: open3dsg scans delete --dataset 3rscan --split test")
@click.argument("names", metavar="[SCAN]...", nargs=-1)
@click.option("--dataset", help="All scans of this dataset; beside SCAN, the dataset it is of.")
@click.option("--split", help="With --dataset: only scans of this split.")
@yes_option
@json_option
def delete(names: tuple[str, ...], dataset: str | None, split: str | None, yes: bool, as_json: bool) -> None:
    """Delete scans with all that was made of them.

    A dataset that has no scan left goes too, with the word lists that came with it, and so do words that
    nothing names any more. Files are left alone. Cut off, the same command deletes the rest.
    """
    from open3dsg.store.scans import find_scan

    if not names and dataset is None:
        raise UserError("nothing to delete: name a SCAN, or a --dataset")
    with open_for_work() as store:
        keys, absent = _to_delete(store, names, dataset, split)
        what = keys[0] if len(keys) == 1 else f"{len(keys)} scans, {keys[0]} to {keys[-1]},"
        confirm(f"delete {what} with all that was made of {'it' if len(keys) == 1 else 'them'}", yes=yes)
        _delete(store, [find_scan(store.connection, key) for key in keys], absent, as_json=as_json)


@scans.command(epilog="Example: open3dsg scans relabel --dataset 3rscan --split validation")
@click.argument("names", metavar="[SCAN]...", nargs=-1)
@click.option("--dataset", help="All scans of this dataset; beside SCAN, the dataset it is of.")
@split_option
@click.option(
    "--labels", type=FILE, help="Labels of your own, JSON or CSV, in place of those of the dataset."
)
@jobs_option
@json_option
def relabel(
    names: tuple[str, ...],
    dataset: str | None,
    split: str | None,
    labels: Path | None,
    jobs: int,
    as_json: bool,
) -> None:
    """Read scans again after their labels or instances were corrected; the rest stays.

    Where points and frames are the same, only what was made of instances that changed is dropped, and the
    next `observe` and `features dump` make it again. --labels takes a CSV file (dataset,scan,instance,label)
    or JSON ({"SCAN": {"NUMBER": "LABEL"}}) and reads no dataset files; such labels hold until the scan is
    read again.
    """
    from open3dsg.steps.relabel import Correct, Relabel
    from open3dsg.store.scans import select_scans

    with open_for_work() as store:
        if labels is not None:
            if names or dataset is not None or split is not None:
                raise UserError("--labels names the scans itself: leave SCAN, --dataset and --split out")
            corrections = _corrections(store, labels)
            work: Correct | Relabel = Correct(corrections)
            keys = list(corrections)
        elif not names and dataset is None and split is None:
            raise UserError("which scans? name a SCAN, a --dataset or a --split, or give --labels FILE")
        else:
            work = Relabel()
            keys = select_scans(store.connection, dataset=dataset, split=split, scans=names)
        run_and_report("relabel", work, keys, store=store, jobs=jobs, as_json=as_json)


@scans.command(epilog="Example: open3dsg scans relocate 3rscan /mnt/new/3RScan")
@click.argument("dataset")
@click.argument("new_root", type=click.Path(path_type=Path))
@click.option(
    "--check",
    type=click.Choice(["sample", "all", "none"]),
    default="sample",
    show_default=True,
    help="Look for some pictures, for all, or for nothing: a folder that only other machines see.",
)
@json_option
def relocate(dataset: str, new_root: Path, check: Literal["sample", "all", "none"], as_json: bool) -> None:
    """Say that the folder of DATASET is NEW_ROOT now.

    The scans and their pictures are looked for there first; what is missing is told. Where nothing is found,
    the dataset stays where it was.
    """
    from open3dsg.store import roots as store_roots

    with open_for_work() as store:
        move = store_roots.find_move(store.connection, dataset, new_root, check)
        store_roots.relocate(store.connection, move)
    if as_json:
        print_json(move)
        return
    click.echo(f"{move.dataset}: {move.old} -> {move.new}")
    _print_move(move)


def _to_delete(
    store: Store, names: Sequence[str], dataset: str | None, split: str | None
) -> tuple[list[str], dict[str, str]]:
    """Return the scans to delete, and of those named the ones that are not there, with the reason.

    The same command deletes the rest after it was cut off, so some may be gone; UserError where all are.
    """
    from open3dsg.store.scans import select_scans

    if not names or split is not None:
        return select_scans(store.connection, dataset=dataset, split=split, scans=names, bare=True), {}
    keys: dict[str, None] = {}
    absent: dict[str, str] = {}
    for name in names:
        try:
            (key,) = select_scans(store.connection, dataset=dataset, split=None, scans=(name,))
            keys[key] = None
        except UserError as error:
            absent[name] = str(error)
    if not keys:
        raise UserError(absent[names[0]])
    return list(keys), absent


def _delete(store: Store, found: Sequence[StoredScan], absent: Mapping[str, str], *, as_json: bool) -> None:
    """Delete scans one by one, those that someone works on left out, and say what went."""
    from open3dsg.store.removal import clear_away, delete_scan

    rows: Counter[str] = Counter()
    failures = dict(absent)
    with progress("delete", len(found)) as advance:
        for scan in found:
            try:
                rows.update(delete_scan(store.connection, scan))
            except UserError as error:
                failures[scan.key] = str(error)
            advance(scan.key)
    cleared = clear_away(store.connection, {scan.dataset for scan in found})
    rows.update(cleared or {})
    if as_json:
        print_json({"scans": rows["scan"], "rows": dict(sorted(rows.items())), "failures": failures})
    else:
        click.echo(f"deleted {rows['scan']} scans, {sum(rows.values()):,} rows")
        print_table(("table", "rows"), [(t, f"{n:,}") for t, n in sorted(rows.items())], right=("rows",))
    if cleared is None:
        message(
            "words that nothing names any more stay for now: someone is writing; the next deletion does it"
        )
    exit_on_failures(failures)


def _corrections(store: Store, path: Path) -> dict[str, dict[int, str]]:
    """Return dataset/name -> labels; UserError for a scan that is not there, or is named in two ways."""
    from open3dsg.datasets.labelfile import read_labels
    from open3dsg.store.scans import find_scan

    labels: dict[str, dict[int, str]] = {}
    for text, of_scan in read_labels(path).items():
        key = find_scan(store.connection, text).key
        if key in labels:
            raise UserError(f"{path}: names scan {key} in two ways: say {key} throughout")
        labels[key] = of_scan
    return labels


def _print_move(move: Move) -> None:
    click.echo(f"  {move.scans - len(move.missing)} of {move.scans} scans are there")
    found = move.pictures - len(move.pictures_missing)
    click.echo(f"  {found} of {move.pictures} pictures that were looked for are there")
    for missing in (move.missing, move.pictures_missing):
        for name in missing[:_NAMED]:
            click.echo(f"  missing: {name}")
        if len(missing) > _NAMED:
            click.echo(f"  missing: and {len(missing) - _NAMED} more; --json lists all")
    if move.annotations_differ:
        count = len(move.annotations_differ)
        click.echo(f"  {count} scans have other annotations there: `open3dsg ingest` reads them")


def _features(status: ScanStatus) -> str:
    """Say which encoders have embedded a scan, and how far they are."""
    told = [
        f"{name.split('@', maxsplit=1)[0]} {done.state}"
        + (f" {done.chunks}/{done.of}" if done.state == "partly" else "")
        for name, done in status.features().items()
    ]
    return ", ".join(told) or "never"


def _progress(step: Progress) -> str:
    part = f" ({step.chunks} of {step.of} chunks)" if step.chunks < step.of else ""
    return f"{step.state}{part}, {step.finished}"
