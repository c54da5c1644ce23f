"""`open3dsg predict`: what a run says of scans, from points, from pictures or from both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from open3dsg.cli.output import json_option, message
from open3dsg.cli.session import (
    check_force,
    device_names,
    device_option,
    open_for_work,
    run_and_report,
    step_options,
)

if TYPE_CHECKING:
    from psycopg import Connection

    from open3dsg.encoders.contract import Precision

_Command = TypeVar("_Command", bound=Callable[..., Any])


# What is predicted: named as fields of `PredictOptions`, but for --protocol.
_PREDICTION_OPTIONS = (
    click.option("--run", required=True, metavar="NAME", help="Whose predictions."),
    click.option(
        "--checkpoint",
        metavar="best|last|STEP",
        show_default="best",
        help="Which of the run's checkpoints.",
    ),
    click.option(
        "--weight-2d",
        type=click.FloatRange(0, 1),
        show_default="0.5",
        help="Share of the 2D features; 0: from points alone.",
    ),
    click.option("--from-2d", is_flag=True, help="From the 2D features alone, as the teacher has them."),
    click.option(
        "--protocol",
        type=click.Choice(["strict", "published"]),
        default="strict",
        show_default=True,
        help="published: relations are weighed the other way round than nodes.",
    ),
    click.option(
        "--graphs",
        type=click.Choice(["subgraph", "full"]),
        show_default="as the run was trained",
        help="Predict subgraph by subgraph, or whole scans.",
    ),
    click.option("--unseen", is_flag=True, help="Predict instances that no frame shows, too."),
    click.option(
        "--node-model",
        metavar="ENCODER",
        show_default="the run's",
        help="Whose words nodes are compared with; of the same space.",
    ),
    click.option(
        "--n-beams",
        "beams",
        type=click.IntRange(min=1),
        show_default="5",
        help="Where an encoder speaks of relations: captions that its search follows at a time.",
    ),
    click.option("--gt-objects", is_flag=True, help="There: call objects by their annotated labels."),
    click.option(
        "--vocabulary",
        metavar="NAME",
        show_default="the dataset's classes",
        help="There: call objects by the nearest word of this list.",
    ),
    click.option(
        "--label",
        metavar="NAME",
        help="What to call it beside the run; else student, teacher or fused-0.5.",
    ),
)

# How the encoder that speaks works: none of it changes a caption.
_SPEAKER_OPTIONS = (
    click.option("--batch", type=click.IntRange(min=1), show_default="8", help="Captions a pass."),
    device_option,
    click.option(
        "--precision",
        type=click.Choice(["fp32", "fp16", "bf16"]),
        show_default="fp32",
        help="Numbers the model that speaks reckons with.",
    ),
)


def _prediction_options(command: _Command) -> _Command:
    """Add what is predicted, and how the encoder that speaks works."""
    for option in reversed((*_PREDICTION_OPTIONS, *_SPEAKER_OPTIONS)):
        command = option(command)
    return command


@click.command(epilog="Example: open3dsg predict --run brave-otter-7 --weight-2d 0")
@_prediction_options
@step_options
@json_option
def predict(
    protocol: Literal["strict", "published"],
    batch: int | None,
    device: str | None,
    precision: Precision | None,
    dataset: str | None,
    split: str | None,
    scans: tuple[str, ...],
    jobs: int,
    force: bool,
    replace: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Predict scene graphs by a trained run, from points, pictures or both.

    What is predicted is searched, classified and evaluated as RUN:LABEL. A node or pair without 2D features
    is predicted from points alone. Without --dataset, --split and --scan it is the scans that the run is
    validated on. `query nodes --run RUN` asks what was predicted.
    """
    from open3dsg.steps.predict import Predict
    from open3dsg.steps.predict_options import PredictOptions
    from open3dsg.store.scans import select_scans

    check_force(force, scans)
    devices = device_names(device)
    options = PredictOptions(published=protocol == "published", **chosen)
    first = devices[0] if devices else None
    work = Predict(options, force, replace, batch=batch, device=first, precision=precision)
    with open_for_work() as store:
        if dataset or split or scans:
            keys = select_scans(store.connection, dataset=dataset, split=split, scans=scans)
        else:
            keys = _validation_scans(store.connection, options.run)
        work = work.settle(store.connection)
        message(f"the prediction is called {options.run}:{options.called}")
        run_and_report("predict", work, keys, store=store, jobs=jobs, as_json=as_json, devices=devices)


def _validation_scans(connection: Connection[Any], run: str) -> list[str]:
    from open3dsg.store.runs import find_run, run_units

    return sorted(run_units(connection, find_run(connection, run))["validation"])
