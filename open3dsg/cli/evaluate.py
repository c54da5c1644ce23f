"""`open3dsg evaluate`: judge predictions against annotations, and show what is behind a figure."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from open3dsg.cli.output import (
    counted,
    json_option,
    message,
    print_json,
    print_problems,
    print_table,
    progress,
)
from open3dsg.cli.session import open_for_work, split_option
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from open3dsg.evaluation.judged import Kind, Protocol
    from open3dsg.evaluation.results import Evaluation

_FIGURES = ("recall", "mean_recall", "head", "body", "tail")
_KINDS: tuple[Kind, ...] = ("object", "predicate", "relationship", "attribute")
_BOTH: tuple[Protocol, ...] = ("published", "strict")


@click.group(
    invoke_without_command=True, epilog="Example: open3dsg evaluate --run amber-comet-7 --split validation"
)
@click.option("--run", metavar="RUN[:LABEL]", help="What to judge; of a bare RUN all its predictions.")
@click.option(
    "--protocol",
    type=click.Choice([*_BOTH, "both"]),
    default="both",
    show_default=True,
    help="How: as the published code does, or each annotation once a scan.",
)
@click.option("--dataset", metavar="NAME", help="Only scans of this dataset.")
@split_option
@click.option("--classes", metavar="VOCAB", show_default="DATASET-classes", help="What objects can be.")
@click.option(
    "--predicates", metavar="VOCAB", show_default="DATASET-predicates", help="What relations can be."
)
@click.option(
    "--attributes", type=click.Choice(["materials", "colours"]), help="Judge these words of objects, too."
)
@click.option("--gt-objects", is_flag=True, help="Give the objects' labels; judge relations with them.")
@json_option
@click.pass_context
def evaluate(
    context: click.Context,
    run: str | None,
    protocol: str,
    dataset: str | None,
    split: str | None,
    classes: str | None,
    predicates: str | None,
    attributes: str | None,
    gt_objects: bool,
    as_json: bool,
) -> None:
    """Judge predictions against annotations, and show what is behind it.

    Recall, mean recall by class and that of frequent, middling and rare classes, with what chance would give.
    """
    from open3dsg.evaluation.evaluate import EvaluationOptions
    from open3dsg.evaluation.evaluate import evaluate as judge

    if context.invoked_subcommand is not None:
        if run is not None:
            raise UserError(f"--run goes behind {context.invoked_subcommand}")
        return
    if run is None:
        raise UserError(
            "say what to judge: --run RUN or --run RUN:LABEL; `open3dsg runs list` shows the runs"
        )
    options = EvaluationOptions(dataset, split, classes, predicates, attributes, gt_objects)
    protocols = _BOTH if protocol == "both" else tuple(name for name in _BOTH if name == protocol)
    with open_for_work() as store:
        report = judge(store.connection, run, protocols, options, progress)
    if as_json:
        print_json({"evaluations": report.evaluations, "problems": report.problems})
        return
    _print_evaluations(report.evaluations)
    print_problems(report.problems)


@evaluate.command("list", epilog="Example: open3dsg evaluate list --run amber-comet-7:student")
@click.option("--run", metavar="RUN[:LABEL]", help="Only those of this prediction, or of this run.")
@json_option
def list_(run: str | None, as_json: bool) -> None:
    """List the evaluations that are kept, with their middle recalls."""
    from open3dsg.evaluation.judged import PLACES
    from open3dsg.evaluation.results import list_evaluations, named_predictions
    from open3dsg.store.run_reports import given_options

    with open_for_work() as store:
        chosen = [None] if run is None else named_predictions(store.connection, run)
        found = [one for prediction in chosen for one in list_evaluations(store.connection, prediction)]
    if as_json:
        print_json(found)
        return
    middle = {kind: PLACES[kind][1] for kind in _KINDS}
    recalls = [f"{kind} R@{place}" for kind, place in middle.items()]
    print_table(
        ("prediction", "protocol", *recalls, "scans", "options", "code", "made"),
        [
            (
                one.prediction,
                one.protocol,
                *(
                    _share(one.metrics.get(kind, {}).get("recall", {}).get(str(at)))
                    for kind, at in middle.items()
                ),
                one.scans,
                given_options(one.options),
                one.code_revision,
                f"{one.made_at:%Y-%m-%d %H:%M}",
            )
            for one in found
        ],
        right=(*recalls, "scans"),
    )


@evaluate.command(epilog="Example: open3dsg evaluate show --run amber-comet-7:student --class chair --missed")
@click.option(
    "--run", metavar="RUN[:LABEL]", required=True, help="Of the last evaluation of this prediction."
)
@click.option(
    "--class", "word", metavar="WORD", help="Only where this is true, or the label of either object."
)
@click.option(
    "--protocol",
    type=click.Choice(_BOTH),
    default="strict",
    show_default=True,
    help="Under which it was judged.",
)
@click.option(
    "--kind", type=click.Choice(_KINDS), default="relationship", show_default=True, help="What was judged."
)
@click.option("--missed", "hit", flag_value="missed", help="Only those that are not among the first.")
@click.option("--hit", "hit", flag_value="hit", help="Only those that are.")
@click.option(
    "-k", type=click.IntRange(min=1), show_default="5, 3, 50 or 3, by kind", help="How many are the first."
)
@json_option
def show(
    run: str,
    word: str | None,
    protocol: Protocol,
    kind: Kind,
    hit: str | None,
    k: int | None,
    as_json: bool,
) -> None:
    """List the annotations behind a figure: what is true, what came first, and where the truth came."""
    from open3dsg.evaluation.results import find_evaluation, read_ranks
    from open3dsg.store.run_reports import given_options

    with open_for_work() as store:
        found = find_evaluation(store.connection, run, protocol)
        only = None if hit is None else hit == "hit"
        rows = read_ranks(store.connection, found, kind, word=word, hit=only, places=k)
    if as_json:
        print_json([row._asdict() for row in rows])
        return
    told = given_options(found.options)
    message(f"{found.prediction}, {found.protocol}, {told}: {counted(len(rows), 'annotation')}")
    print_table(
        ("scan", "subgraph", "subject", "label", "truth", "object", "label", "rank", "first"),
        [tuple(row) for row in rows],
        right=("subgraph", "subject", "object", "rank"),
    )


class _Column(NamedTuple):
    """The figures of an evaluation, or what chance would make of them."""

    header: str
    evaluation: Evaluation
    is_chance: bool


def _print_evaluations(evaluations: Sequence[Evaluation]) -> None:
    """Print the figures of evaluations side by side."""
    columns = list(_columns(evaluations))
    headers = [column.header for column in columns]
    print_table(("kind", "figure", "at", *headers), _lines(columns), right=("at", *headers))


def _columns(evaluations: Sequence[Evaluation]) -> Iterator[_Column]:
    """Put the predictions of each protocol together; chance comes once behind all that it is the same for."""
    in_order = sorted(evaluations, key=lambda one: _BOTH.index(one.protocol))
    for one, after in zip_longest(in_order, in_order[1:]):
        yield _Column(f"{one.protocol} {one.prediction.partition(':')[2]}", one, is_chance=False)
        if after is None or after.protocol != one.protocol or _chances(after) != _chances(one):
            yield _Column("chance", one, is_chance=True)


def _chances(evaluation: Evaluation) -> list[Mapping[str, float]]:
    of_kinds = [evaluation.metrics.get(kind, {}) for kind in _KINDS]
    return [_places(metrics, figure, is_chance=True) for metrics in of_kinds for figure in _FIGURES]


def _lines(columns: Sequence[_Column]) -> Iterator[tuple[object, ...]]:
    yield "scans", "", "", *("" if is_chance else one.scans for _, one, is_chance in columns)
    for kind in _KINDS:
        found = [(one.metrics.get(kind, {}), is_chance) for _, one, is_chance in columns]
        if not any(metrics for metrics, _ in found):
            continue
        for name in ("annotations", "not_predicted", "outside_vocabulary"):
            counts = ("" if is_chance else metrics.get(name) for metrics, is_chance in found)
            yield kind, name.replace("_", " "), "", *counts
        for figure in _FIGURES:
            shares = [_places(metrics, figure, is_chance=is_chance) for metrics, is_chance in found]
            for place in next(filter(None, shares), ()):
                yield kind, figure.replace("_", " "), place, *(_share(of.get(place)) for of in shares)


def _places(metrics: Mapping[str, Any], figure: str, *, is_chance: bool) -> Mapping[str, float]:
    """Return place -> value of a figure, or of chance."""
    part = metrics if figure in ("recall", "mean_recall") else metrics.get(figure, {})
    if figure == "recall":
        name = "chance" if is_chance else "recall"
    else:
        name = "mean_chance" if is_chance else "mean_recall"
    found: Mapping[str, float] = part.get(name, {})
    return found


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
