"""`open3dsg worker`: do what waits in the queue."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import click

from open3dsg.cli.output import json_option, message, print_json
from open3dsg.cli.session import device_names, open_for_work
from open3dsg.cli.submission import queue_names

if TYPE_CHECKING:
    from open3dsg.jobs.worker import Tally


@click.command(epilog="Example: open3dsg worker --queues cpu,gpu --concurrency 2 --until-empty")
@click.option("--queues", metavar="NAMES", help="Only these queues, such as cpu,gpu; else all.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Items to do side by side, each in a process of its own.",
)
@click.option(
    "--device",
    "devices",
    metavar="NAMES",
    help="Devices of the encoders, such as cuda:0,cuda:1, shared out over the processes.",
)
@click.option("--until-empty", is_flag=True, help="End once nothing waits or runs in the queues.")
@json_option
def worker(
    queues: str | None, concurrency: int, devices: str | None, until_empty: bool, as_json: bool
) -> None:
    """Do what waits in the queue, until Ctrl-C.

    Any machine joins that has this package, the database's URL and the datasets under the same paths. What a
    dead worker had under way is taken over within 30 seconds. On Ctrl-C the items under way end first; a
    second one gives them up, and they wait again. With --until-empty it leaves with 2 where items failed.
    """
    from open3dsg.db.queue_schema import check_queue
    from open3dsg.jobs.queue import known_queues
    from open3dsg.jobs.worker import Worker

    names = None if queues is None else queue_names([queues])
    with open_for_work() as store:
        check_queue(store.connection)
        url, known = store.url, known_queues(store.connection)
    runner = Worker(
        url,
        tell=message,
        queues=names,
        concurrency=concurrency,
        until_empty=until_empty,
        devices=device_names(devices),
    )
    for name in sorted({*(names or ())} - {*known}):
        message(f"no item was ever put into queue {name!r}; there are {', '.join(known)}")
    message(f"waiting for items in {', '.join(names) if names else 'all queues'}")
    tally = runner.run()
    if as_json:
        print_json(tally.as_json())
    else:
        _print(tally)
    if tally.signal == signal.SIGINT:
        raise click.exceptions.Exit(130)
    if until_empty and (tally.failures or tally.handed_back):
        raise click.exceptions.Exit(2)


def _print(tally: Tally) -> None:
    told = tally.as_json()
    parts = [f"{count} {name}" for name, count in told["items"].items()]
    click.echo(f"worker: {', '.join(parts)} in {tally.seconds:.1f} s")
    if tally.counts:
        click.echo("  " + ", ".join(f"{name} {count:,}" for name, count in told["counts"].items()))
