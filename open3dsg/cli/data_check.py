"""`open3dsg data check`: what is wrong with a dataset's folder, and what the steps will make of it."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from open3dsg.cli.output import counted, json_option, print_json, print_table, progress
from open3dsg.cli.session import jobs_option
from open3dsg.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from open3dsg.datasets.check.estimate import Estimate
    from open3dsg.datasets.check.findings import Finding
    from open3dsg.datasets.check.run import Checked

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_LISTED = 5  # findings alike; --json has all


@click.group()
def check() -> None:
    """Look for missing, cut off and wrong files before work starts; nothing is written.

    Ends with 0 where every step can run on every scan, and with 2 where a needed thing is wrong.
    """


def _check_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every layout has."""
    options = (
        click.option("--split", help="Only scans of this split, all of which must be there."),
        click.option("--scan", "scans", metavar="SCAN", multiple=True, help="Only this scan; repeatable."),
        click.option("--deep", is_flag=True, help="Read every file wholly and decode every picture."),
        jobs_option,
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@check.command("3rscan", epilog="Example: open3dsg data check 3rscan ~/3RScan --split train")
@click.argument("root", type=_FOLDER)
@click.option(
    "--annotations", type=_FOLDER, help="Folder of 3DSSG's JSON files; else they are looked for in ROOT."
)
@click.option(
    "--camera-axes",
    type=click.Choice(["y-down", "y-up"]),
    default="y-down",
    show_default=True,
    help="The camera of the poses, as `ingest` will be told.",
)
@_check_options
def check_3rscan(root: Path, annotations: Path | None, camera_axes: str, **chosen: Any) -> None:
    """Check a 3RScan folder, with 3DSSG's annotations where there are any."""
    arguments = {
        "annotations": None if annotations is None else str(annotations.resolve()),
        "camera_axes": camera_axes,
    }
    _check("3rscan", root, arguments, **chosen)


@check.command("scannet", epilog="Example: open3dsg data check scannet ~/ScanNet --deep --jobs 2")
@click.argument("root", type=_FOLDER)
@click.option(
    "--metadata", type=_FOLDER, help="Folder of the split lists and the label table; else they are in ROOT."
)
@click.option(
    "--frames", type=_FOLDER, help="Folder of color/, depth/ and pose/ by scan, under ROOT; else looked for."
)
@_check_options
def check_scannet(root: Path, metadata: Path | None, frames: Path | None, **chosen: Any) -> None:
    """Check a ScanNet folder, raw or with the preprocessed frames."""
    arguments = {
        "metadata": None if metadata is None else str(metadata.resolve()),
        "frames": None if frames is None else str(frames.absolute()),
    }
    _check("scannet", root, arguments, **chosen)


def _check(
    layout: str,
    root: Path,
    arguments: Mapping[str, Any],
    *,
    split: str | None,
    scans: Sequence[str],
    deep: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Check a folder, print what was found and what the steps will make of it, and exit as `check` says."""
    from open3dsg.datasets.check.estimate import disk_finding, estimate
    from open3dsg.datasets.check.run import check_scans, survey

    started = time.monotonic()
    found = survey(layout, root, arguments, split=split, scans=scans)
    with progress("check", len(found.folders)) as advance:
        checked = check_scans(found, deep=deep, jobs=jobs, advance=advance)
    estimates = estimate(checked.facts.values())
    home, free_bytes = _disk()
    if free_bytes is not None and (full := disk_finding(estimates, str(home), free_bytes)):
        checked.findings.append(full)
    seconds = round(time.monotonic() - started, 1)
    if as_json:
        disk = {"folder": home, "free_bytes": free_bytes}
        print_json(_as_json(layout, root, checked, estimates) | {"disk": disk, "seconds": seconds})
    else:
        _print(checked, estimates, home, free_bytes, seconds)
    if not checked.is_ready:
        raise click.exceptions.Exit(2)


def _disk() -> tuple[Path | None, int | None]:
    """Return where the embedded database lies, or will, and the free bytes there; None for a given server."""
    settings = load_settings()
    if settings.database_url is not None:
        return None, None
    there = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    return settings.home, shutil.disk_usage(there).free


def _as_json(layout: str, root: Path, checked: Checked, estimates: Sequence[Estimate]) -> dict[str, Any]:
    return {
        "layout": layout,
        "root": root,
        "ready": checked.is_ready,
        "scans": len(checked.facts),
        "points": sum(facts.points for facts in checked.facts.values()),
        "frames": sum(facts.frames for facts in checked.facts.values()),
        "instances": sum(facts.instances for facts in checked.facts.values()),
        "findings": [finding.as_json() for finding in checked.findings],
        "estimates": [one.as_json() for one in estimates],
    }


def _print(
    checked: Checked,
    estimates: Sequence[Estimate],
    home: Path | None,
    free_bytes: int | None,
    seconds: float,
) -> None:
    _print_findings(checked.findings)
    severities = Counter(finding.severity for finding in checked.findings)
    every = checked.facts.values()
    parts = (
        counted(len(every), "scan"),
        counted(sum(facts.frames for facts in every), "frame"),
        counted(sum(facts.instances for facts in every), "instance"),
        counted(sum(facts.points for facts in every), "point"),
    )
    told = f"{counted(severities['error'], 'error')} and {counted(severities['warning'], 'warning')}"
    click.echo(f"{', '.join(parts)}: {told}, found in {seconds:g} s")
    if checked.facts:
        _print_estimates(estimates, home, free_bytes)


def _print_findings(findings: Sequence[Finding]) -> None:
    """Print a line a finding; of many alike, as those of one file name in many scans, the first."""
    told: Counter[tuple[str, str, str]] = Counter()
    for finding in findings:
        _, slash, file = finding.file.rpartition("/")
        alike = finding.severity, finding.kind, re.sub(r"[0-9]+", "N", file) if slash else ""
        told[alike] += 1
        if told[alike] <= _LISTED:
            click.echo(f"{finding.severity}: {finding.kind}: {finding}")
    for (severity, kind, file), count in told.items():
        if count > _LISTED:
            click.echo(
                f"{severity}: {kind}: and {count - _LISTED:,} more of {file or 'this kind'}; --json lists all"
            )


def _print_estimates(estimates: Sequence[Estimate], home: Path | None, free_bytes: int | None) -> None:
    from open3dsg.datasets.check.estimate import BASIS, duration, size

    def count(number: float) -> str:
        return f"{number:,.0f}"

    def text(low: float, high: float, write: Callable[[float], str]) -> str:
        return write(low) if write(low) == write(high) else f"{write(low)} to {write(high)}"

    columns = ("step", "rows", "in the database", "time")
    print_table(
        columns,
        [
            (one.step, text(*one.rows, count), text(*one.bytes, size), text(*one.seconds, duration))
            for one in estimates
        ],
        right=columns[1:],
    )
    click.echo(f"About, as {BASIS}.")
    if free_bytes is None:
        click.echo(
            "Database: a given server (OPEN3DSG_DATABASE_URL), whose free disk cannot be seen from here."
        )
    else:
        click.echo(f"Database: {home}, {size(free_bytes)} free.")
