"""`open3dsg train`: teach a 3D network the features in the store; and what `runs resume` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from open3dsg.cli.output import counted, message, print_json, print_pairs
from open3dsg.cli.session import open_for_work
from open3dsg.cli.train_options import (
    chosen_conduct,
    chosen_options,
    conduct_options,
    data_options,
    preset_options,
)
from open3dsg.cli.train_watch import watching
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from open3dsg.training.request import TrainRequest, TrainSummary

__all__ = ["conduct_options", "resume_run", "train"]

_INTERRUPTED = 130  # as a shell says of Ctrl-C


@click.command(
    epilog="Example: open3dsg train --dataset rooms --encoder rooms --pair-encoder geometry --preset small"
)
@data_options
@preset_options
@conduct_options
def train(as_json: bool, **given: Any) -> None:
    """Teach a network to embed objects and relations from points alone.

    It learns by distillation from features in the store, in batches read from there, and leaves a run: its
    figures and checkpoints, in the database. Interrupted or killed, `open3dsg runs resume` goes on with it.
    The database and its features must be there: see `open3dsg features dump` and `features caption`.
    """
    from open3dsg.training.loop import train as train_run

    request = _request(given)
    with open_for_work() as store:
        url = store.url
    with watching() as watch:
        summary = train_run(url, request, tell=message, watch=watch)
    _report(summary, as_json=as_json)


def resume_run(name: str, *, as_json: bool, workers: int | None = None, **given: Any) -> None:
    """Go on with a run, where and how it worked unless options of `conduct_options` say otherwise."""
    from open3dsg.store.runs import find_run
    from open3dsg.training.request import conduct_from

    with open_for_work() as store:
        url, run = store.url, find_run(store.connection, name)
    from open3dsg.training.loop import resume  # takes seconds, which a slip in the name need not wait for

    conduct = chosen_conduct(given, conduct_from(run.options["conduct"]))
    with watching() as watch:
        summary = resume(url, name, conduct=conduct, workers=workers, tell=message, watch=watch)
    _report(summary, as_json=as_json)


def _request(given: dict[str, Any]) -> TrainRequest:
    """Return what the options of the command ask for."""
    from open3dsg.training.request import TrainRequest

    if given.pop("supervised"):
        if given["targets"] not in {None, "classes"} or given["pair_encoder"] is not None:
            raise UserError("--supervised learns annotated relations: leave out --targets and --pair-encoder")
        given["targets"] = "classes"
    if given["checkpoint"] is not None and given["point_weights"] is not None:
        raise UserError("--checkpoint fills the point encoders, too: leave out --point-weights")
    train_split, validation_split = (
        None if split == "all" else split for split in (given.pop("split"), given.pop("validation_split"))
    )
    return TrainRequest(
        train_split=train_split,
        validation_split=validation_split,
        options=chosen_options(given),
        conduct=chosen_conduct(given),
        **given,
    )


def _report(summary: TrainSummary | None, *, as_json: bool) -> None:
    """Tell how a run ended; leave with 130 where it was told to stop."""
    if summary is None:  # a process of torchrun's, of which the first one tells
        return
    if as_json:
        print_json(summary.as_json())
    else:
        print_pairs(_lines(summary))
    if summary.status == "stopped":
        message(f"stopped: `open3dsg runs resume {summary.run}` goes on")
        raise click.exceptions.Exit(_INTERRUPTED)


def _lines(summary: TrainSummary) -> dict[str, object]:
    best = summary.best_val_loss
    return {
        "run": summary.run,
        "status": summary.status if summary.message is None else f"{summary.status}: {summary.message}",
        "steps": f"{summary.step:,} in {counted(summary.epoch, 'epoch')}",
        "units": ", ".join(f"{part} {count:,}" for part, count in summary.units.items()),
        "train loss": _loss(summary.train_loss),
        "validation loss": _loss(summary.val_loss),
        "best": "" if best is None else f"{best:.4f} at step {summary.best_step:,}",
        "seconds": f"{summary.seconds:.1f}, {summary.waited_s:.1f} of them waiting for batches",
    }


def _loss(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.4f}"
