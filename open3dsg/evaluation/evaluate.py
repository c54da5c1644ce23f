"""Judge predictions of a run against the annotations of their scans, and keep figures and rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from open3dsg.datasets.scan import Problem
from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.snapshot import snapshot
from open3dsg.db.terms import term_ids, terms_in_use
from open3dsg.errors import UserError
from open3dsg.evaluation.judged import PLACES
from open3dsg.evaluation.judging import Task, judge_scan
from open3dsg.evaluation.recall import figures, tally, thirds
from open3dsg.evaluation.results import (
    Evaluation,
    check_may_keep,
    count_classes,
    keep_evaluation,
    named_predictions,
    outside_words,
)
from open3dsg.evaluation.words import choose_attributes, choose_vocabulary, read_words
from open3dsg.store.runs import find_run, run_units
from open3dsg.store.scans import check_dataset
from open3dsg.store.units import NONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg import Connection

    from open3dsg.evaluation.judged import Judged, Kind, Protocol
    from open3dsg.store.predictions import StoredPrediction
    from open3dsg.store.runs import StoredRun

# As what the classes of a kind are counted in the scans that a run was trained on.
_COUNTED_AS: Mapping[Kind, str] = {
    "object": "object",
    "predicate": "predicate",
    "relationship": "predicate",
    "attribute": "attribute",
}

# Given a title and how many scans there are, a function to call with each that is done.
Track = Callable[[str, int], AbstractContextManager[Callable[[str], None]]]

_Judged = dict[int, list["Judged"]]  # by scan


@dataclass(frozen=True)
class EvaluationOptions:
    """What is judged, and by which words; None: all scans, the lists of their dataset, no attributes."""

    dataset: str | None = None
    split: str | None = None
    classes: str | None = None
    predicates: str | None = None
    attributes: str | None = None
    gt_objects: bool = False  # objects are given, relationships judged with them


class EvaluationReport(NamedTuple):
    """What was found, and what is to be told beside it."""

    evaluations: list[Evaluation]
    problems: list[Problem]


class _Scan(NamedTuple):
    scan_id: int
    dataset: str
    key: str  # dataset/name


def evaluate(
    connection: Connection[Any],
    text: str,
    protocols: Sequence[Protocol],
    options: EvaluationOptions,
    track: Track | None = None,
) -> EvaluationReport:
    """Judge the prediction `RUN:LABEL`, or all of `RUN`, and keep what is found.

    What was found before with the same options is replaced; of several predictions one that says nothing of
    the scans is a problem. `track`: see `Track`. Raises UserError where there is no such prediction, nothing
    was predicted of the scans, they have no annotations, a vocabulary is wanting, or the role may only read.
    """
    check_may_keep(connection)
    if options.dataset is not None:
        check_dataset(connection, options.dataset)
    predictions = named_predictions(connection, text)
    chosen = [(prediction, *_choose_scans(connection, prediction, options)) for prediction in predictions]
    silent = [_says_nothing(prediction, options) for prediction, scans, _ in chosen if not scans]
    if len(silent) == len(chosen):
        raise UserError(silent[0])
    report = EvaluationReport([], [Problem("prediction_not_judged", detail) for detail in silent])
    for prediction, scans, problems in chosen:
        report.problems.extend(problems)
        if scans:
            with terms_in_use(connection):
                found, more = _evaluate(
                    connection, prediction, scans, protocols, options, track or _untracked
                )
            report.evaluations.extend(found)
            report.problems.extend(more)
    # Both protocols, and several predictions, may tell the same.
    return report._replace(problems=list(dict.fromkeys(report.problems)))


@contextmanager
def _untracked(title: str, total: int) -> Iterator[Callable[[str], None]]:  # noqa: ARG001
    """Tell nobody."""
    yield lambda _: None


def _evaluate(
    connection: Connection[Any],
    prediction: StoredPrediction,
    scans: Sequence[_Scan],
    protocols: Sequence[Protocol],
    options: EvaluationOptions,
    track: Track,
) -> EvaluationReport:
    run = find_run(connection, prediction.run)
    task, problems = _prepare(connection, prediction, run, scans, options)
    judged, left_out = _judge(connection, task, scans, protocols, track)
    trained_on = list(run_units(connection, run).get("train", {}))
    problems += [*left_out, *_trained(scans, trained_on)]
    counts = count_classes(connection, trained_on)
    found = []
    for protocol, of_scans in judged.items():
        if not any(of_scans.values()):
            problems.append(_nothing_judged(prediction, protocol))
            continue
        metrics, outside = _metrics(connection, of_scans, task, counts)
        problems += outside
        found.append(
            keep_evaluation(
                connection,
                prediction,
                protocol,
                options=asdict(options) | task.names(),
                vocabularies=task.vocabularies(),
                metrics=metrics,
                judged=of_scans,
            )
        )
    if not found:
        raise UserError("; ".join(problem.detail for problem in problems[-len(judged) :]))
    return EvaluationReport(found, problems)


def _choose_scans(
    connection: Connection[Any], prediction: StoredPrediction, options: EvaluationOptions
) -> tuple[list[_Scan], list[Problem]]:
    """Return the scans to judge: those predicted and annotated, with a problem for each that is but one."""
    key = {"prediction_id": prediction.prediction_id, "dataset": options.dataset, "split": options.split}
    every = execute(connection, "evaluation_scans", key).fetchall()
    rows = [row for row in every if row[-1]]
    if not rows:
        raise UserError(
            f"no scan{_which(options)} has subgraphs with annotated objects: `open3dsg scans list` shows the"
            " splits, `open3dsg graph build` cuts scans without given ones"
        )
    scans = [
        _Scan(scan_id, dataset, f"{dataset}/{name}")
        for scan_id, dataset, name, predicted, _ in rows
        if predicted
    ]
    datasets = {scan.dataset for scan in scans}
    missing = [
        Problem("scan_not_predicted", f"{dataset}/{name}: {prediction.full_name} says nothing of it")
        for _, dataset, name, predicted, _ in rows
        if not predicted and dataset in datasets and options.split is not None
    ]
    unknown = [
        Problem("scan_not_annotated", f"{dataset}/{name}: it has no subgraphs with annotated objects")
        for _, dataset, name, predicted, annotated in every
        if predicted and not annotated
    ]
    return scans, missing + unknown


def _says_nothing(prediction: StoredPrediction, options: EvaluationOptions) -> str:
    split = "" if options.split is None else f" --split {options.split}"
    return (
        f"{prediction.full_name} says nothing of any scan{_which(options)}:"
        f" run `open3dsg predict --run {prediction.run}{split}`"
    )


def _which(options: EvaluationOptions) -> str:
    chosen = (("split", options.split), ("dataset", options.dataset))
    return "".join(f" of {name} {value!r}" for name, value in chosen if value)


def _prepare(
    connection: Connection[Any],
    prediction: StoredPrediction,
    run: StoredRun,
    scans: Sequence[_Scan],
    options: EvaluationOptions,
) -> tuple[Task, list[Problem]]:
    """Find and embed the vocabularies; a problem says why relations cannot be judged."""
    datasets = sorted({scan.dataset for scan in scans})
    of_classes = choose_vocabulary(connection, "classes", options.classes, datasets, "class")
    classes = read_words(connection, of_classes, prediction.node_words)
    attributes = None
    if options.attributes is not None:
        of_attributes = choose_attributes(connection, options.attributes)
        attributes = read_words(connection, of_attributes, prediction.node_words)
    problem = _why_no_relations(connection, prediction, run, scans)
    predicates = None
    if problem is None:
        of_predicates = choose_vocabulary(connection, "predicates", options.predicates, datasets, "predicate")
        predicates = read_words(connection, of_predicates, prediction.relation_words, run.predicates)
    none_id = term_ids(connection, [NONE])[NONE]
    learnt = run.predicates if prediction.relation_words is None else None
    task = Task(prediction, learnt, options.gt_objects, classes, predicates, attributes, none_id)
    return task, [problem] if problem else []


def _why_no_relations(
    connection: Connection[Any], prediction: StoredPrediction, run: StoredRun, scans: Sequence[_Scan]
) -> Problem | None:
    if prediction.relation_words is None and run.predicates is None:
        return Problem(
            "relations_not_judged",
            f"the relations of {prediction.full_name} are in no space of words: they are not judged",
        )
    if not fetch_value(
        connection, "evaluation_has_relations", {"scan_ids": [scan.scan_id for scan in scans]}
    ):
        return Problem(
            "relations_not_judged", "the scans have no annotated relations: objects alone are judged"
        )
    return None


def _judge(
    connection: Connection[Any],
    task: Task,
    scans: Sequence[_Scan],
    protocols: Sequence[Protocol],
    track: Track,
) -> tuple[dict[Protocol, _Judged], list[Problem]]:
    """Judge all scans as they are at one moment."""
    judged: dict[Protocol, _Judged] = {protocol: {} for protocol in protocols}
    problems = []
    with snapshot(connection), track(f"evaluate {task.prediction.full_name}", len(scans)) as advance:
        for scan in scans:
            found = judge_scan(connection, scan.scan_id, task, protocols)
            for protocol, parts in found.judged.items():
                judged[protocol][scan.scan_id] = parts
            problems += [Problem(kind, f"{scan.key}: {detail}") for kind, detail in found.left_out]
            advance(scan.key)
    return judged, problems


def _metrics(
    connection: Connection[Any], judged: _Judged, task: Task, counts: Mapping[str, Mapping[int, int]]
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the figures of each kind, and a problem for each true class that is no candidate."""
    metrics: dict[str, Any] = {}
    problems = []
    for kind in PLACES:
        parts = [part for of_scan in judged.values() for part in of_scan if part.kind == kind]
        if not sum(len(part.rank) for part in parts):
            continue
        words = task.classes_of(kind)
        metrics[kind] = figures(tally(parts), thirds(words, counts.get(_COUNTED_AS[kind], {}), task.none_id))
        if kind == "relationship":
            continue  # its objects and predicates are named already
        for text, count in outside_words(connection, parts).items():
            metrics[kind].setdefault("outside", {})[text] = count
            detail = f"{text!r} is no word of {words.name}: {count} of it missed"
            problems.append(Problem(f"{kind}_outside_vocabulary", detail))
    return metrics, problems


def _nothing_judged(prediction: StoredPrediction, protocol: Protocol) -> Problem:
    way_out = {
        "published": "it takes observed and built subgraphs: see `open3dsg graph list --unusable`",
        "strict": "no object of the scans has points",
    }
    return Problem(
        "nothing_judged", f"nothing of {prediction.full_name} to judge as {protocol}: {way_out[protocol]}"
    )


def _trained(scans: Sequence[_Scan], trained_on: Sequence[str]) -> list[Problem]:
    """Tell which of the scans the run was trained on: figures of those say little of others."""
    known = set(trained_on)
    return [
        Problem("scan_trained_on", f"{scan.key}: the run was trained on it")
        for scan in scans
        if scan.key in known
    ]
