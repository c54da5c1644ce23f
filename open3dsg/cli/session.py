"""What the commands of the pipeline share: the opened store, the options of steps, the printed report."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import click

from open3dsg.cli.output import message, print_json, print_problems, progress
from open3dsg.errors import UserError
from open3dsg.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from psycopg import Connection

    from open3dsg.steps.runner import Step
    from open3dsg.steps.summary import Report

_Command = TypeVar("_Command", bound="Callable[..., Any]")

_LISTED = 10  # failures shown by name; --json has all


@dataclass(frozen=True)
class Store:
    """An open store: a connection that commits by itself, and the URL for other processes."""

    connection: Connection[Any]
    url: str


@contextmanager
def open_for_work() -> Iterator[Store]:
    """Open the database of the settings, started and migrated where it is the embedded one."""
    from open3dsg.db.connect import database_url, open_store

    settings = load_settings()
    with open_store(settings) as connection:
        yield Store(connection, database_url(settings))


split_option = click.option("--split", metavar="NAME", help="Only scans of this split; all: all scans.")


def step_options(command: _Command) -> _Command:
    """Add the options that every step over scans has."""
    options = (
        click.option("--dataset", metavar="NAME", help="Only scans of this dataset."),
        split_option,
        click.option("--scan", "scans", metavar="SCAN", multiple=True, help="Only this scan; repeatable."),
        jobs_option,
        click.option("--force", is_flag=True, help="Do it again for one --scan, even if it is done."),
        replace_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


replace_option = click.option(
    "--replace", is_flag=True, help="Do over what was done with other options, and drop what was made of it."
)

jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes to share the scans."
)

device_option = click.option(
    "--device",
    metavar="NAMES",
    show_default="a GPU if there is one",
    help="Such as cpu; scans are shared out over several: cuda:0,cuda:1.",
)


def device_names(text: str | None) -> list[str]:
    """Return the devices in `text`, such as cuda:0,cuda:1; UserError for an empty name or one given twice."""
    names = [] if text is None else [name.strip() for name in text.split(",")]
    if "" in names or len({*names}) < len(names):
        raise UserError(f"--device is {text!r}: give each device once, such as cuda:0,cuda:1")
    return names


def check_force(force: bool, scans: Sequence[str]) -> None:
    """Refuse --force without exactly one scan: redoing everything by a slip costs days."""
    if force and len(scans) != 1:
        raise UserError("--force does one scan again: name it with --scan")


def run_and_report(
    step: str,
    work: Step,
    scans: Sequence[str],
    *,
    store: Store,
    jobs: int,
    as_json: bool,
    devices: Sequence[str] = (),
) -> None:
    """Run a step over scans with progress; print what it did, and the scans that failed on standard error.

    Below `open3dsg jobs submit` the step is put into the queue instead. Leaves with 2 where a scan failed.
    """
    run_all_and_report([(step, work)], scans, store=store, jobs=jobs, as_json=as_json, devices=devices)


def run_all_and_report(
    steps: Sequence[tuple[str, Step]],
    scans: Sequence[str],
    *,
    store: Store,
    jobs: int,
    as_json: bool,
    devices: Sequence[str] = (),
) -> None:
    """Run one step over scans after the other, as `run_and_report` does; of several, JSON is a list.

    A scan that failed in one of them is tried in the next all the same.
    """
    told: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    for step, work in steps:
        found = _run_or_submit(step, work, scans, store=store, jobs=jobs, as_json=as_json, devices=devices)
        told.append(found)
        failures.update(found["failures"])
    if as_json:
        print_json(told[0] if len(told) == 1 else told)
    exit_on_failures(failures)


def _run_or_submit(
    step: str,
    work: Step,
    scans: Sequence[str],
    *,
    store: Store,
    jobs: int,
    as_json: bool,
    devices: Sequence[str],
) -> dict[str, Any]:
    """Run or queue a step; return what there is to say in JSON, told in words unless `as_json`."""
    from open3dsg.cli.submission import Submission, submit
    from open3dsg.steps.runner import run_step

    submission = click.get_current_context().find_object(Submission)
    if submission is not None:
        return submit(step, work, scans, submission, store=store, as_json=as_json)
    with progress(step, len(scans)) as advance:
        report = run_step(step, work, scans, url=store.url, jobs=jobs, advance=advance, devices=devices)
    remarks = work.close(store.connection) if report.done + report.skipped else ()
    if not as_json:
        _print_report(report)
    for remark in remarks:
        message(remark)
    return report.as_json()


def exit_on_failures(failures: Mapping[str, str]) -> None:
    """Tell which scans failed, the first of them by name, and leave with 2 where there are any."""
    for scan, reason in list(failures.items())[:_LISTED]:
        message(f"error: {scan}: {reason}")
    if len(failures) > _LISTED:
        message(f"error: and {len(failures) - _LISTED} more; --json lists all")
    if failures:
        raise click.exceptions.Exit(2)


def _print_report(report: Report) -> None:
    parts = [f"{report.done} done", f"{report.skipped} already done", f"{len(report.failures)} failed"]
    click.echo(f"{report.step}: {', '.join(parts)} in {report.seconds:.1f} s")
    if report.counts:
        click.echo("  " + ", ".join(f"{name} {count:,}" for name, count in sorted(report.counts.items())))
    if report.encoder_seconds is not None:
        click.echo(f"  the encoder was at work for {report.encoder_seconds:.1f} s")
    print_problems(chain.from_iterable(report.problems.values()))
