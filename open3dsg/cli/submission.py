"""The commands of steps once more, below `open3dsg jobs submit`: the same options, but for the queue."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from open3dsg.cli.output import progress
from open3dsg.errors import UserError
from open3dsg.jobs.items import MAX_ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open3dsg.cli.session import Store
    from open3dsg.steps.runner import Step

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class Submission:
    """That a command is to queue its step, and how; the context's object below `jobs submit`."""

    queue: str | None
    max_attempts: int


def queue_names(texts: Sequence[str]) -> list[str]:
    """Return the names of queues in `texts`, each one name or several with commas; UserError for others."""
    names = [name.strip() for text in texts for name in text.split(",")]
    for name in names:
        if not _NAME.fullmatch(name):
            raise UserError(f"{name!r} is no name of a queue: letters, digits, _ . - make one, such as cpu")
    return list(dict.fromkeys(names))


def queued(command: click.Command, direct: str, name: str) -> click.Command:
    """Return the command `name` of `jobs submit` for the command that `open3dsg DIRECT` runs here and now."""
    body = command.callback
    if body is None:
        raise ValueError(f"the command {direct} does nothing")

    def submit(queue: str | None, max_attempts: int, **options: Any) -> None:
        chosen = None if queue is None else queue_names([queue])[0]
        click.get_current_context().obj = Submission(chosen, max_attempts)
        body(jobs=1, **options)

    example = (command.epilog or "").replace(f"open3dsg {direct}", f"open3dsg jobs submit {name}")
    return click.Command(
        name.rsplit(maxsplit=1)[-1],
        callback=submit,
        params=[*(option for option in command.params if option.name != "jobs"), *_options()],
        help=f"Queue what `open3dsg {direct}` does, with the same options.\n\nIt is done by workers: see"
        " `open3dsg worker`. What is done or queued already is left out.",
        short_help=command.get_short_help_str(limit=100),
        epilog=re.sub(r" --jobs \d+", "", example),
    )


def _options() -> Sequence[click.Parameter]:
    return (
        click.Option(
            ["--queue"],
            metavar="NAME",
            help="Queue to put it in; else cpu, or gpu for features, pairs, captions and predict.",
        ),
        click.Option(
            ["--max-attempts"],
            type=click.IntRange(min=1),
            default=MAX_ATTEMPTS,
            show_default=True,
            help="Give an item up after so many attempts that broke off.",
        ),
    )


def submit(
    step: str, work: Step, scans: Sequence[str], submission: Submission, *, store: Store, as_json: bool
) -> dict[str, Any]:
    """Queue what is left to do of a step on some scans; return how much that is, told unless `as_json`."""
    from open3dsg.jobs.queue import open_queue
    from open3dsg.jobs.submit import share_out
    from open3dsg.steps.catalogue import default_queue

    name = submission.queue or default_queue(step)
    with open_queue(store.connection, store.url) as queue, progress(step, len(scans)) as advance:
        share = share_out(
            store.connection, step, work, scans, max_attempts=submission.max_attempts, advance=advance
        )
        new = queue.submit(share.items, name)
    found = {
        "step": step,
        "queue": name,
        "queued": new,
        "already_queued": len(share.items) - new,
        "already_done": share.done,
        "failures": share.failures,
    }
    if not as_json:
        click.echo(
            f"{step}: {new} queued in {name}, {found['already_queued']} already queued,"
            f" {share.done} already done, {len(share.failures)} failed"
        )
    return found
