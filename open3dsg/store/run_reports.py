"""What there is to tell of runs: one by itself, and several side by side."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from open3dsg.db.queries import execute
from open3dsg.store.checkpoints import StoredCheckpoint, best_checkpoint, list_checkpoints
from open3dsg.store.runs import StoredRun, find_run, run_units

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from psycopg import Connection


@dataclass(frozen=True)
class MetricLine:
    """A figure over the steps of a run: how often it was noted, the last and the least; None: not finite."""

    name: str
    count: int
    last: float | None
    least: float | None
    least_step: int


@dataclass(frozen=True)
class PredictionLine:
    """A prediction of a run, called RUN:label."""

    label: str
    source: str
    weight_2d: float
    checkpoint_step: int | None
    made_at: datetime
    evaluations: int


@dataclass(frozen=True)
class EvaluationLine:
    """The figures of a prediction under a protocol; `metrics` as `open3dsg evaluate` stores them."""

    label: str
    protocol: str
    options: Mapping[str, Any]
    vocabularies: Mapping[str, Any]
    metrics: Mapping[str, Any]
    scans: int
    code_revision: str
    made_at: datetime

    def figures(self) -> Mapping[str, Any]:
        """Return the metrics under names with dots: ``object.recall.5``."""
        return flat(self.metrics)


@dataclass(frozen=True)
class RunReport:
    """A run with all that came of it; `units` and `scans` count those of each part."""

    run: StoredRun
    units: Mapping[str, int]
    scans: Mapping[str, int]
    checkpoints: Sequence[StoredCheckpoint]
    metrics: Sequence[MetricLine]
    predictions: Sequence[PredictionLine]
    evaluations: Sequence[EvaluationLine]

    @property
    def encoders(self) -> Mapping[str, str | None]:
        """Return the encoders it learns from, and whose words it speaks, as `name@revision`."""
        run = self.run
        found = (run.node_encoder, run.relation_encoder, run.words_encoder)
        names = (None if encoder is None else encoder.full_name for encoder in found)
        return dict(zip(("encoder", "relation_encoder", "words_encoder"), names, strict=True))

    @property
    def best(self) -> StoredCheckpoint | None:
        """Return the checkpoint with the smallest validation loss."""
        return best_checkpoint(self.checkpoints)

    def summary(self) -> dict[str, Any]:
        """Return what runs are compared by, beside their options and evaluations."""
        run, best = self.run, self.best
        return {
            "status": run.status,
            **self.encoders,
            "targets": run.targets,
            **{f"{part}_units": count for part, count in self.units.items()},
            "manifest": run.manifest,
            "code_revision": run.code_revision,
            "step": run.step,
            "epoch": run.epoch,
            "best_val_loss": best and best.val_loss,
            "best_step": best and best.step,
        }

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        told = asdict(self)
        run = told.pop("run")
        without = ("run_id", "node_encoder", "relation_encoder", "words_encoder")
        return {**{name: run[name] for name in run if name not in without}, **self.encoders, **told}


def run_report(connection: Connection[Any], name: str) -> RunReport:
    """Return all about the run `name`; UserError where there is none."""
    run = find_run(connection, name)
    key = {"run_id": run.run_id}
    units = run_units(connection, run)
    return RunReport(
        run=run,
        units={part: sum(map(len, scans.values())) for part, scans in units.items()},
        scans={part: len(scans) for part, scans in units.items()},
        checkpoints=list_checkpoints(connection, run),
        metrics=[
            MetricLine(name, count, _finite(last), _finite(least), step)
            for name, count, last, least, step in execute(connection, "run_metric_lines", key)
        ],
        predictions=[PredictionLine(*row) for row in execute(connection, "run_predictions", key)],
        evaluations=[EvaluationLine(*row) for row in execute(connection, "run_evaluations", key)],
    )


def option_differences(reports: Sequence[RunReport]) -> Mapping[str, Sequence[Any]]:
    """Return the options that are not the same in all runs: name -> value of each, None where it has none."""
    options = [flat(report.run.options) for report in reports]
    names = sorted({name for chosen in options for name in chosen})
    values = {name: [chosen.get(name) for chosen in options] for name in names}
    return {name: found for name, found in values.items() if len(set(map(json.dumps, found))) > 1}


def conditions(evaluations: Sequence[EvaluationLine]) -> list[str]:
    """Say by what each was judged: its protocol, and those of its options that are not the same in all."""
    options = [flat(evaluation.options) for evaluation in evaluations]
    names = sorted({name for chosen in options for name in chosen})
    differ = [name for name in names if len({json.dumps(chosen.get(name)) for chosen in options}) > 1]
    return [
        f"{evaluation.protocol} {given_options({name: chosen.get(name) for name in differ})}".rstrip()
        for evaluation, chosen in zip(evaluations, options, strict=True)
    ]


def given_options(options: Mapping[str, Any]) -> str:
    """Write the options of an evaluation that were given: ``gt-objects split=validation``."""
    given = {name.replace("_", "-"): value for name, value in options.items() if value not in (None, False)}
    return " ".join(name if value is True else f"{name}={value}" for name, value in given.items())


def evaluations_side_by_side(reports: Sequence[RunReport]) -> Mapping[tuple[str, str, str], Sequence[Any]]:
    """Return (label, conditions, figure) -> its value in each run, None where it was not evaluated so."""
    found = [(place, each) for place, report in enumerate(reports) for each in report.evaluations]
    judged_by = conditions([evaluation for _, evaluation in found])
    values: dict[tuple[str, str, str], list[Any]] = {}
    for (place, evaluation), judged in zip(found, judged_by, strict=True):
        for name, value in evaluation.figures().items():
            row = values.setdefault((evaluation.label, judged, name), [None] * len(reports))
            row[place] = value
    return values


def flat(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves of nested mappings under names with dots between."""
    return dict(_leaves(value, ""))


def _leaves(value: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _leaves(inner, f"{above}{name}.")
        else:
            yield f"{above}{name}", inner


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
