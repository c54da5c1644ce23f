"""The options of `open3dsg train`, which `runs resume` and `profile memory --train` share in part."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from open3dsg.cli.output import json_option
from open3dsg.errors import UserError
from open3dsg.settings import load_settings
from open3dsg.training.options import (
    BACKBONES,
    SCHEDULERS,
    TARGETS,
    Graphs,
    Norm,
    PointEncoder,
    Preset,
    RunOptions,
    TrainPrecision,
    preset,
)
from open3dsg.training.request import LOGGERS, Conduct

_Command = TypeVar("_Command", bound=Callable[..., Any])


_LARGEST = 1e30  # Adam divides rates by small numbers


class _Number(click.FloatRange):
    """A number from 0 on: not inf, nor nan, which click takes for one of any range."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        """Return it as float; fails as click does."""
        number: float = super().convert(value, parameter, context)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", parameter, context)
        if number > _LARGEST:
            self.fail(f"{value} is more than single precision reckons with.", parameter, context)
        return number


_COUNT = click.IntRange(min=1)
_NUMBER = _Number(min=0)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


def _flag(name: str, text: str) -> Callable[[_Command], _Command]:
    return click.option(f"--{name}/--no-{name}", default=None, help=text)


def _choice(name: str, kind: Any, text: str) -> Callable[[_Command], _Command]:
    return click.option(f"--{name}", type=click.Choice(get_args(kind)), help=text)


# What a preset says unless it is given: named as fields of the three parts of `RunOptions`.
_PRESET_OPTIONS = (
    _choice("point-encoder", PointEncoder, "What sees the points."),
    _flag("use-rgb", "Show it colours too."),
    click.option(
        "--instance-points", type=_COUNT, help="Points an instance, at most as `graph build` sampled."
    ),
    click.option("--pair-points", type=_COUNT, help="Points a pair."),
    click.option("--backbone", type=click.Choice(BACKBONES), help="What passes messages between nodes."),
    _flag("centre", "Let it see where each instance's centre is, too."),
    _flag("geometry", "Let it see sizes, heights and how boxes lie to each other, too."),
    click.option("--gnn-layers", type=click.IntRange(min=0), help="How often; 0: never."),
    click.option("--gconv-dim", type=_COUNT, help="Numbers a node and an edge."),
    click.option("--hidden-dim", type=_COUNT, help="Numbers within a message."),
    click.option("--blip-layers", type=_COUNT, help="Layers of the projector onto tokens."),
    _choice("norm", Norm, "What is normalised: over the batch, by groups, or by statistics that stay."),
    _choice("graphs", Graphs, "Learn from subgraphs, or from whole scans."),
    _flag("augment", "Jitter, scale and turn objects, and change colours."),
    click.option("--batch-size", type=_COUNT, help="Units a batch and process."),
    click.option(
        "--workers", type=click.IntRange(min=0), help="Processes that read ahead, for each of --devices."
    ),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Of weights and order."),
    click.option("--epochs", type=_COUNT, help="Times that all units are seen."),
    click.option("--lr", type=_NUMBER, help="Learning rate."),
    click.option("--lr-scheduler", type=click.Choice(SCHEDULERS), help="How it changes, epoch by epoch."),
    click.option("--weight-decay", type=_NUMBER, help="Of Adam."),
    _choice("precision", TrainPrecision, "Of the network at work; weights stay fp32."),
    click.option("--accumulate", type=_COUNT, help="Batches a step."),
    click.option("--w-obj", type=_NUMBER, help="Weight of the loss of nodes."),
    click.option("--w-rel", type=_NUMBER, help="Weight of the loss of relations."),
    click.option(
        "--patience", type=click.IntRange(min=0), help="Epochs without a better validation; 0: any."
    ),
    click.option("--keep", type=_COUNT, help="Best checkpoints to keep, beside the last."),
)


def preset_options(command: _Command) -> _Command:
    """Add --preset and all that it decides unless it is given; `chosen_options` reads them."""
    for option in reversed(_PRESET_OPTIONS):
        command = option(command)
    return click.option(
        "--preset",
        type=click.Choice(get_args(Preset)),
        default="published",
        show_default=True,
        help="What the options below are unless given; small is for CPUs.",
    )(command)


def chosen_options(given: dict[str, Any]) -> RunOptions:
    """Take the options of `preset_options` out of `given`, and return what they and the preset say."""
    options = preset(given.pop("preset"))
    names = {
        part: {field.name for field in fields(getattr(options, part))} & given.keys()
        for part in ("network", "stream", "learning")
    }
    taken = {name: given.pop(name) for name in set().union(*names.values())}
    changed = {
        part: replace(
            getattr(options, part), **{name: taken[name] for name in of_part if taken[name] is not None}
        )
        for part, of_part in names.items()
    }
    return replace(options, **changed)


_CONDUCT_OPTIONS = (
    click.option(
        "--gpus", type=click.IntRange(min=-1), help="How many GPUs; -1: all, as by default; 0: the CPU."
    ),
    click.option(
        "--devices", metavar="LIST", help="Devices, one a process, such as cuda:0,cuda:2 or cpu,cpu."
    ),
    click.option("--logger", type=click.Choice(LOGGERS), help="Write its files too; none by default."),
    click.option(
        "--logs-in", type=_FOLDER, metavar="FOLDER", help="Where to; below the data folder by default."
    ),
    click.option(
        "--checkpoints-in",
        type=_FOLDER,
        metavar="FOLDER",
        help="Keep checkpoints there, not in the database.",
    ),
    click.option("--every-steps", type=_COUNT, help="Keep a checkpoint every so many steps, too."),
)


def conduct_options(command: _Command) -> _Command:
    """Add the options that say where and how a run works; `chosen_conduct` reads them."""
    for option in reversed(_CONDUCT_OPTIONS):
        command = option(command)
    return command


def chosen_conduct(given: dict[str, Any], before: Conduct | None = None) -> Conduct:
    """Take the options of `conduct_options` out of `given`; what is not given stays as it was `before`."""
    taken = {field.name: given.pop(field.name) for field in fields(Conduct)}
    if taken["devices"] is not None:
        taken["devices"] = tuple(name.strip() for name in taken["devices"].split(","))
        if "" in taken["devices"]:
            raise UserError(f"--devices {','.join(taken['devices'])}: a name between commas is missing")
    changed = {name: value for name, value in taken.items() if value is not None}
    for one, other in (("gpus", "devices"), ("devices", "gpus")):
        if one in changed and other not in changed:
            changed[other] = Conduct.__dataclass_fields__[other].default
    for name in ("logs_in", "checkpoints_in"):
        if name in changed:
            changed[name] = changed[name].absolute()
    conduct = replace(before or Conduct(), **changed)
    if conduct.logger is None and conduct.logs_in is not None:
        raise UserError("--logs-in is where --logger writes: give that, too")
    if conduct.logger is not None and conduct.logs_in is None:
        return replace(conduct, logs_in=load_settings().home / conduct.logger)
    return conduct


_DATA_OPTIONS = (
    click.option("--dataset", metavar="NAME", required=True, help="What to learn from."),
    click.option(
        "--split", metavar="NAME", default="train", show_default=True, help="Of it; all: all scans."
    ),
    click.option(
        "--validation-split", metavar="NAME", default="validation", show_default=True, help="To validate on."
    ),
    click.option("--mini", is_flag=True, help="Ten units, learnt by heart: trained and validated on alike."),
    click.option("--encoder", metavar="NAME", help="Whose features of instances to learn."),
    click.option("--pair-encoder", metavar="NAME", help="Whose features or captions of pairs to learn."),
    click.option(
        "--targets", type=click.Choice(TARGETS), help="What of pairs: by default what that encoder has."
    ),
    click.option("--supervised", is_flag=True, help="Learn annotated relations, as --targets classes."),
    click.option(
        "--checkpoint",
        metavar="RUN|FILE",
        help="Start from the weights of RUN, RUN:best, RUN:STEP or a file.",
    ),
    click.option("--point-weights", type=_FILE, metavar="FILE", help="Start from published point encoders."),
    click.option("--name", metavar="NAME", help="Call the run so."),
)


def data_options(command: _Command) -> _Command:
    """Add what a run learns from, and its name."""
    for option in reversed((*_DATA_OPTIONS, json_option)):
        command = option(command)
    return command
