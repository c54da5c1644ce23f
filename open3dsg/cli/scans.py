"""`open3dsg scans`: what is in the store, what is done for it and what is missing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from open3dsg.cli.output import json_option, print_json, print_pairs, print_table
from open3dsg.cli.session import open_for_work


@click.group()
def scans() -> None:
    """List scans: what is done and what is missing."""


@scans.command("list", epilog="Example: open3dsg scans list --dataset 3rscan --json")
@click.option("--dataset", help="Only scans of this dataset.")
@json_option
def list_scans(dataset: str | None, as_json: bool) -> None:
    """List the scans of the store with what they hold and the next step."""
    from open3dsg.store.scans import scan_statuses

    with open_for_work() as store:
        statuses = scan_statuses(store.connection, dataset=dataset)
    if as_json:
        print_json([status.as_json() for status in statuses])
        return
    columns = ("dataset", "scan", "split", "points", "frames", "instances", "observations")
    print_table(
        (*columns, "features", "problems", "missing"),
        [
            (
                *(status.row[column] for column in columns),
                ", ".join(f"{name.split('@')[0]} {count}" for name, count in status.row["features"].items()),
                len(status.row["problems"]),
                status.missing or "",
            )
            for status in statuses
        ],
        right=("points", "frames", "instances", "observations", "problems"),
    )


@scans.command(epilog="Example: open3dsg scans show 7272e16c-a01b-20f6-8961-a0927b4a7629")
@click.argument("scan")
@json_option
def show(scan: str, as_json: bool) -> None:
    """Show all about one SCAN (its name, or DATASET/NAME), its problems one by one."""
    from open3dsg.store.scans import find_scan, scan_statuses

    with open_for_work() as store:
        found = find_scan(store.connection, scan)
        (status,) = scan_statuses(store.connection, scan=found.key)
    if as_json:
        print_json(status.as_json())
        return
    row = {name: value for name, value in status.row.items() if name not in ("problems", "features")}
    problems = Counter(problem["kind"] for problem in status.row["problems"])
    print_pairs(
        {
            **row,
            **{f"features {name}": f"{count} nodes" for name, count in status.row["features"].items()},
            **{f"done {name}": _progress(step) for name, step in status.steps.items()},
            **{f"problem {kind}": count for kind, count in sorted(problems.items())},
            "missing": status.missing or "nothing",
        }
    )
    for problem in status.row["problems"]:
        click.echo(f"  {problem['kind']}: {problem['detail']}")


def _progress(step: dict[str, Any]) -> str:
    part = "" if step["chunks"] == step["of"] else f" ({step['chunks']} of {step['of']} chunks)"
    return f"{step['finished']}{part}"
