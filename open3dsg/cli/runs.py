"""`open3dsg runs`: training runs, what came of them, and going on with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from open3dsg.cli.confirm import confirm, yes_option
from open3dsg.cli.output import counted, json_option, message, print_json, print_pairs, print_table
from open3dsg.cli.session import open_for_work
from open3dsg.cli.train_options import conduct_options
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

    from open3dsg.store.checkpoints import StoredCheckpoint
    from open3dsg.store.run_reports import RunReport
    from open3dsg.store.runs import Metric

_POINTS = 400  # of a curve: as many as a picture can tell apart
_plot_option = click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the losses to a PNG, SVG or PDF."
)


@click.group()
def runs() -> None:
    """List, compare, continue and delete training runs."""


@runs.command("list", epilog="Example: open3dsg runs list")
@json_option
def list_runs(as_json: bool) -> None:
    """List the training runs, the newest last.

    A run is running, stopped, finished or failed; one whose process was killed is interrupted.
    """
    from open3dsg.store.runs import list_runs

    with open_for_work() as store:
        found = list_runs(store.connection)
    if as_json:
        print_json(found)
        return
    columns = ("run", "status", "dataset", "encoder", "pairs", "step", "epoch", "best val loss", "started")
    print_table(
        columns,
        [
            (
                line.name,
                line.status,
                line.dataset,
                line.encoder,
                line.relation_encoder or line.targets,
                line.step,
                line.epoch,
                _figure(line.best_val_loss),
                f"{line.started_at:%Y-%m-%d %H:%M}",
            )
            for line in found
        ],
        right=("step", "epoch", "best val loss"),
    )


@runs.command(epilog="Example: open3dsg runs show quiet-lamp-17 --plot losses.png")
@click.argument("run")
@_plot_option
@json_option
def show(run: str, plot: Path | None, as_json: bool) -> None:
    """Show all about one RUN: options, losses, checkpoints, predictions and evaluations."""
    from open3dsg.store.run_reports import run_report

    with open_for_work() as store:
        report = run_report(store.connection, run)
        curves = {run: _losses(store.connection, report)}
    if plot is not None:
        _draw(curves, plot)
    if as_json:
        print_json(report.as_json())
        return
    _print_run(report)
    _print_metrics(report, curves[run])
    _print_checkpoints(report)
    _print_predictions(report)


@runs.command(epilog="Example: open3dsg runs compare quiet-lamp-17 bold-vase-3 --plot both.png")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@_plot_option
@json_option
def compare(runs: Sequence[str], plot: Path | None, as_json: bool) -> None:
    """Compare two RUNs or more: the options that differ, losses, and evaluations, side by side."""
    from open3dsg.store.run_reports import evaluations_side_by_side, option_differences, run_report

    names = list(dict.fromkeys(runs))
    if len(names) < 2:
        raise UserError("runs compare: name two runs or more")
    with open_for_work() as store:
        reports = [run_report(store.connection, name) for name in names]
        curves = {report.run.name: _losses(store.connection, report) for report in reports}
    if plot is not None:
        _draw(curves, plot)
    options, evaluations = option_differences(reports), evaluations_side_by_side(reports)
    if as_json:
        figures = [
            {"label": label, "conditions": conditions, "figure": figure, "values": values}
            for (label, conditions, figure), values in evaluations.items()
        ]
        told = [{"run": report.run.name, **report.summary()} for report in reports]
        print_json({"runs": told, "options": options, "evaluations": figures})
        return
    print_table(("", *names), _side_by_side(reports, options, evaluations))


@runs.command(epilog="Example: open3dsg runs resume quiet-lamp-17 --gpus 1")
@click.argument("run")
@conduct_options
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Processes that read ahead, for each device.  [default: as before]",
)
@json_option
def resume(run: str, **given: Any) -> None:
    """Go on with a RUN that was stopped or interrupted, or failed, from its last checkpoint.

    It learns the same from the same units in the same order, as if it had never stopped. Where and how it
    works may be chosen anew; what is not given stays as it was.
    """
    from open3dsg.cli.train import resume_run

    resume_run(run, **given)


@runs.command(epilog="Example: open3dsg runs delete quiet-lamp-17 --yes")
@click.argument("run")
@yes_option
@json_option
def delete(run: str, yes: bool, as_json: bool) -> None:
    """Delete a RUN with its checkpoints and their files, its predictions and its evaluations.

    RUN:LABEL deletes that prediction alone, with its evaluations.
    """
    from open3dsg.store.checkpoints import lost_files
    from open3dsg.store.runs import delete_run, find_run, run_content

    with open_for_work() as store:
        if ":" in run:
            _delete_prediction(store.connection, run, yes=yes, as_json=as_json)
            return
        found = find_run(store.connection, run)
        confirm(f"delete the run {run} with {_content(run_content(store.connection, found))}", yes=yes)
        lost = lost_files(store.connection, found)
        gone = delete_run(store.connection, found)
    if lost:
        message(f"warning: not on this machine, so not deleted: {' '.join(lost)}")
    if as_json:
        print_json({"run": run, "deleted": gone._asdict()})
    else:
        click.echo(f"deleted the run {run} with {_content(gone)}")


def _delete_prediction(connection: Connection[Any], name: str, *, yes: bool, as_json: bool) -> None:
    from open3dsg.store.predictions import delete_prediction, find_prediction, prediction_content

    found = find_prediction(connection, name)
    confirm(f"delete the prediction {name} with {_content(prediction_content(connection, found))}", yes=yes)
    gone = delete_prediction(connection, found)
    if as_json:
        print_json({"prediction": name, "deleted": gone._asdict()})
    else:
        click.echo(f"deleted the prediction {name} with {_content(gone)}")


def _content(counts: Any) -> str:
    return ", ".join(counted(count, noun.removesuffix("s")) for noun, count in counts._asdict().items())


def _losses(connection: Connection[Any], report: RunReport) -> list[Metric]:
    """Return the figures that are drawn: whatever is called a loss."""
    from open3dsg.store.runs import read_metrics

    names = [line.name for line in report.metrics if line.name.endswith("loss")]
    return read_metrics(connection, report.run.run_id, names, _POINTS)


def _draw(curves: Mapping[str, Sequence[Metric]], path: Path) -> None:
    from open3dsg.view.losses import plot_losses

    plot_losses(curves, path)


def _side_by_side(
    reports: Sequence[RunReport],
    options: Mapping[str, Sequence[Any]],
    evaluations: Mapping[tuple[str, str, str], Sequence[Any]],
) -> list[tuple[object, ...]]:
    """Return the rows of a comparison; of evaluations the recalls, JSON has all."""
    summaries = [report.summary() for report in reports]
    names = dict.fromkeys(name for summary in summaries for name in summary)
    rows: dict[str, Sequence[Any]] = {
        **{name.replace("_", " "): [summary.get(name) for summary in summaries] for name in names},
        **options,
        **{" ".join(name): values for name, values in evaluations.items() if _is_headline(name[2])},
    }
    return [(name, *map(_figure, values)) for name, values in rows.items()]


def _is_headline(figure: str) -> bool:
    return figure.split(".")[1:-1] in (["recall"], ["mean_recall"])


def _print_run(report: RunReport) -> None:
    from open3dsg.store.run_reports import flat

    run = report.run
    parts = {
        part: f"{counted(count, 'unit')} of {counted(report.scans[part], 'scan')}"
        for part, count in report.units.items()
    }
    encoders = {name.replace("_", " "): encoder or "none" for name, encoder in report.encoders.items()}
    print_pairs(
        {
            "run": run.name,
            "status": run.status if run.message is None else f"{run.status}: {run.message}",
            **encoders,
            "targets": run.targets,
            **parts,
            "manifest": run.manifest,
            "code revision": run.code_revision,
            "step": run.step,
            "epoch": run.epoch,
            "started": f"{run.started_at:%Y-%m-%d %H:%M:%S}",
            "last news": f"{run.updated_at:%Y-%m-%d %H:%M:%S}",
            **dict(sorted(flat(run.options).items())),
        }
    )


def _print_metrics(report: RunReport, losses: Sequence[Metric]) -> None:
    from open3dsg.view.losses import spark

    if not report.metrics:
        return
    click.echo()
    curves: dict[str, list[float]] = {}
    for metric in losses:
        curves.setdefault(metric.name, []).append(metric.value)
    print_table(
        ("figure", "noted", "last", "least", "at step", "curve"),
        [
            (
                line.name,
                line.count,
                _figure(line.last),
                _figure(line.least),
                line.least_step,
                spark(curves.get(line.name, ())),
            )
            for line in report.metrics
        ],
        right=("noted", "last", "least", "at step"),
    )


def _print_checkpoints(report: RunReport) -> None:
    if not report.checkpoints:
        return

    def role(kept: StoredCheckpoint) -> str:
        return " ".join(name for name, on in (("best", kept == report.best), ("last", kept.is_last)) if on)

    click.echo()
    print_table(
        ("checkpoint", "epoch", "val loss", "kept as", "MB", "where"),
        [
            (
                kept.step,
                kept.epoch,
                _figure(kept.val_loss),
                role(kept),
                f"{kept.size / 1e6:,.1f}",
                kept.uri or "database",
            )
            for kept in report.checkpoints
        ],
        right=("checkpoint", "epoch", "val loss", "MB"),
    )


def _print_predictions(report: RunReport) -> None:
    from open3dsg.store.run_reports import conditions

    if not report.predictions:
        return
    click.echo()
    print_table(
        ("prediction", "source", "2D weight", "checkpoint", "evaluations"),
        [
            (
                f"{report.run.name}:{line.label}",
                line.source,
                f"{line.weight_2d:g}",
                line.checkpoint_step,
                line.evaluations,
            )
            for line in report.predictions
        ],
        right=("2D weight", "checkpoint", "evaluations"),
    )
    figures = [
        (evaluation.label, judged_by, name, _figure(value))
        for evaluation, judged_by in zip(report.evaluations, conditions(report.evaluations), strict=True)
        for name, value in evaluation.figures().items()
        if _is_headline(name)
    ]
    if figures:
        click.echo()
        print_table(("prediction", "judged by", "figure", "value"), figures, right=("value",))


def _figure(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
