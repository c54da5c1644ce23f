"""`open3dsg jobs`: steps into the queue, and what became of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from open3dsg.cli.features_caption import caption
from open3dsg.cli.features_dump import dump
from open3dsg.cli.graph import build
from open3dsg.cli.ingest import ingest
from open3dsg.cli.masks import merge
from open3dsg.cli.observe import observe
from open3dsg.cli.output import json_option, message, print_json, print_pairs, print_table
from open3dsg.cli.predict import predict
from open3dsg.cli.session import open_for_work
from open3dsg.cli.submission import queued
from open3dsg.datasets.layouts import LAYOUTS
from open3dsg.errors import UserError
from open3dsg.jobs.items import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from open3dsg.jobs.queue import Attempt, QueuedItem

_ID = click.IntRange(1, 2**63 - 1)


@click.group()
def jobs() -> None:
    """Share steps out over workers, on this machine and on others.

    An item is a step on one scan, or on a chunk of it. `open3dsg worker` does them.
    """


@jobs.group()
def submit() -> None:
    """Put a step into the queue, with the options that it has when it runs here and now."""


@submit.group("ingest")
def submit_ingest() -> None:
    """Queue the reading of a dataset folder."""


@submit.group("masks")
def submit_masks() -> None:
    """Queue the merging of masks."""


@submit.group("graph")
def submit_graph() -> None:
    """Queue the building of training units."""


for _layout in LAYOUTS:
    submit_ingest.add_command(queued(ingest.commands[_layout], f"ingest {_layout}", f"ingest {_layout}"))
submit_masks.add_command(queued(merge, "masks merge", "masks merge"))
submit.add_command(queued(observe, "observe", "observe"))
submit_graph.add_command(queued(build, "graph build", "graph build"))
submit.add_command(queued(dump, "features dump", "features"))
submit.add_command(queued(caption, "features caption", "captions"))
submit.add_command(queued(predict, "predict", "predict"))


@jobs.command("list", epilog="Example: open3dsg jobs list --status failed")
@click.option(
    "--status", type=click.Choice(list(STATUSES)), help="Only these; else all but those that are done."
)
@click.option(
    "--step",
    metavar="STEP",
    help="Only items of this step: ingest, masks, observe, graph, features, pairs, captions or predict.",
)
@json_option
def list_items(status: str | None, step: str | None, as_json: bool) -> None:
    """List items: what waits, what runs where, what failed and why."""
    from open3dsg.jobs.queue import open_queue

    with open_for_work() as store, open_queue(store.connection, store.url) as queue:
        found = queue.find(status=status, step=step)
        counts = queue.counts()
    shown = [entry for entry in found if status is not None or entry.status != "done"]
    if as_json:
        print_json([_as_json(entry) for entry in shown])
        return
    if shown:
        print_table(
            ("id", "status", "queue", "item", "attempts", "worker", "seconds", "reason"),
            [_row(entry) for entry in shown],
            right=("id", "attempts", "seconds"),
        )
    message(", ".join(f"{count} {name}" for name, count in counts.items()))


@jobs.command(epilog="Example: open3dsg jobs show 12")
@click.argument("item", type=_ID, metavar="ID")
@json_option
def show(item: int, as_json: bool) -> None:
    """Show one item, and every attempt at it: when, by which worker, how it ended."""
    from open3dsg.jobs.queue import open_queue

    with open_for_work() as store, open_queue(store.connection, store.url) as queue:
        (entry,) = queue.find(ids=[item])
        attempts = queue.attempts(item)
    if as_json:
        print_json(_as_json(entry) | {"attempts": [asdict(attempt) for attempt in attempts]})
        return
    print_pairs(_pairs(entry))
    for attempt in attempts:
        click.echo(_line(attempt))
    if attempts and attempts[-1].trace:
        click.echo(attempts[-1].trace)


@jobs.command(epilog="Example: open3dsg jobs retry --failed")
@click.argument("items", type=_ID, nargs=-1, metavar="[ID]...")
@click.option("--failed", is_flag=True, help="All items that failed.")
def retry(items: tuple[int, ...], failed: bool) -> None:
    """Let failed items wait again, with new attempts: once what was wrong with them is mended."""
    from open3dsg.jobs.queue import open_queue

    _check_one_of({"an ID": bool(items), "--failed": failed})
    with open_for_work() as store, open_queue(store.connection, store.url) as queue:
        found = queue.find(ids=items or None, status=None if items else "failed")
        if not found:
            raise UserError("no item has failed: there is nothing to retry")
        done = queue.retry(found)
    click.echo(f"{done} of {len(found)} wait again")
    if done < len(found):
        message(f"{len(found) - done} were left as they are: the same work waits as another item")


@jobs.command(epilog="Example: open3dsg jobs cancel --step observe")
@click.argument("items", type=_ID, nargs=-1, metavar="[ID]...")
@click.option("--step", metavar="STEP", help="All items of this step that wait.")
@click.option("--all", "everything", is_flag=True, help="All items that wait.")
def cancel(items: tuple[int, ...], step: str | None, everything: bool) -> None:
    """Take items that wait out of the queue; what runs goes on to its end."""
    from open3dsg.jobs.queue import open_queue

    _check_one_of({"an ID": bool(items), "--step": step is not None, "--all": everything})
    with open_for_work() as store, open_queue(store.connection, store.url) as queue:
        found = queue.find(ids=items or None, status=None if items else "waiting", step=step)
        if not found:
            raise UserError(f"no item{f' of {step}' if step else ''} waits: there is nothing to cancel")
        done = queue.cancel(found)
        running = queue.counts()["running"]
    click.echo(f"{done} cancelled")
    if running:
        message(f"{running} items are under way and go on to their end")


def _check_one_of(chosen: dict[str, bool]) -> None:
    if sum(chosen.values()) != 1:
        raise UserError(f"say which items: give {' or '.join(chosen)}")


def _row(entry: QueuedItem) -> Sequence[object]:
    seconds = "" if entry.took is None else f"{entry.took.total_seconds():.1f}"
    reason = entry.reason if entry.status in ("failed", "waiting") else None
    return (
        entry.job_id,
        entry.status,
        entry.queue,
        entry.item.label,
        entry.attempts,
        entry.worker,
        seconds,
        reason,
    )


def _pairs(entry: QueuedItem) -> dict[str, object]:
    return {
        "id": entry.job_id,
        "item": entry.item.label,
        "status": entry.status,
        "queue": entry.queue,
        "submitted": f"{entry.submitted_at:%Y-%m-%d %H:%M:%S}",
        "not before": None if entry.not_before is None else f"{entry.not_before:%Y-%m-%d %H:%M:%S}",
        "attempts at most": entry.item.max_attempts,
        **{f"option {name}": value for name, value in _flat(entry.item.arguments)},
    }


def _flat(arguments: Any, within: str = "") -> Iterator[tuple[str, object]]:
    for name, value in arguments.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value


def _line(attempt: Attempt) -> str:
    took = (
        ""
        if attempt.ended_at is None
        else f" after {(attempt.ended_at - attempt.started_at).total_seconds():.1f} s"
    )
    ended = f"{attempt.outcome or 'running'}{took}{f': {attempt.reason}' if attempt.reason else ''}"
    return f"attempt {attempt.attempt}  {attempt.started_at:%Y-%m-%d %H:%M:%S}  {attempt.worker}  {ended}"


def _as_json(entry: QueuedItem) -> dict[str, Any]:
    took = None if entry.took is None else round(entry.took.total_seconds(), 3)
    return asdict(entry) | {"took": took}
