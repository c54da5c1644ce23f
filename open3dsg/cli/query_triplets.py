"""`open3dsg query triplets`, `path`, `phrase` and `similar`: relations, several of them, and likeness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from open3dsg.cli.output import json_option, message, print_json, print_table
from open3dsg.cli.session import open_for_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from open3dsg.query.paths import Chain, PathAnswer, PathHit
    from open3dsg.query.phrases import Reading
    from open3dsg.query.triplets import TripletFilters, TripletHit

_Command = TypeVar("_Command", bound="Callable[..., Any]")


def _where_options(command: _Command) -> _Command:
    """Add what hits must be, as `_filters` takes it, and whose embeddings are compared."""
    options = (
        click.option("-k", type=click.IntRange(min=1), default=5, show_default=True, help="Hits."),
        click.option("--encoder", help="Whose features of objects; needed where there are several."),
        click.option("--pair-encoder", help="Whose features or captions of pairs; needed where several."),
        click.option(
            "--run", metavar="RUN[:LABEL]", help="Ask what this run predicted, in place of features."
        ),
        click.option("--scan", help="Only this scan."),
        click.option("--dataset", help="Only scans of this dataset."),
        click.option(
            "--max-distance",
            type=click.FloatRange(min=0),
            metavar="M",
            help="Only pairs whose closest points are at most so far apart, in metres.",
        ),
        click.option(
            "--within",
            type=float,
            nargs=6,
            metavar="X0 Y0 Z0 X1 Y1 Z1",
            help="Only objects whose centroids lie in this box, in metres.",
        ),
        click.option("--exact", is_flag=True, help="Compare with every pair, without the vector index."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _filters(options: dict[str, Any]) -> TripletFilters:
    """Take what hits must be out of the options of a command."""
    from open3dsg.query.triplets import TripletFilters

    return TripletFilters(
        scan=options.pop("scan"),
        dataset=options.pop("dataset"),
        within=options.pop("within"),
        max_distance_m=options.pop("max_distance"),
        exact=options.pop("exact"),
    )


@click.command(epilog='Example: open3dsg query triplets "a cup" on label:table --max-distance 0.1')
@click.argument("subject")
@click.argument("predicate")
@click.argument("object_", metavar="OBJECT")
@_where_options
@json_option
def triplets(subject: str, predicate: str, object_: str, as_json: bool, **options: Any) -> None:
    """Find pairs of objects that relate as SUBJECT PREDICATE OBJECT.

    Each is words; label:CHAIR, as annotated; instance:SCAN/12, that very object; like:SCAN/12, what looks
    like it; image:FILE, what looks like a picture; or * for anything. Hits are ranked by the mean of the
    similarities of what was asked in words, by likeness or by picture.
    """
    from open3dsg.query.slots import parse_slot
    from open3dsg.query.triplets import search_triplets

    slots = parse_slot(subject, "subject"), parse_slot(predicate, "predicate"), parse_slot(object_, "object")
    filters = _filters(options)
    with open_for_work() as store:
        hits = search_triplets(store.connection, *slots, filters=filters, **options)
    if as_json:
        print_json([hit.as_json() for hit in hits])
        return
    _print_triplets(hits)
    if not hits:
        message("no pair passes the filters")


@click.command(epilog='Example: open3dsg query path cup on table "next to" window')
@click.argument("slots", nargs=-1, required=True, metavar="THING PREDICATE THING [PREDICATE THING]...")
@_where_options
@json_option
def path(slots: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Find objects of one scan that relate in a chain: a cup on a table, the table next to a window.

    Things and predicates are as in `open3dsg query triplets`. Hits are ranked by the mean of the scores of
    their triplets.
    """
    from open3dsg.query.paths import path as path_of
    from open3dsg.query.slots import parse_slot

    chain = path_of(
        [
            parse_slot(text, "predicate" if place % 2 else "object" if place else "subject")
            for place, text in enumerate(slots)
        ]
    )
    _search_and_print(chain, as_json, options)


@click.command(epilog='Example: open3dsg query phrase "the mug on the desk near the window"')
@click.argument("text", metavar="PHRASE")
@_where_options
@json_option
def phrase(text: str, as_json: bool, **options: Any) -> None:
    """Find what PHRASE describes, and tell how it was read: the mug on the desk near the window.

    A relation is of the thing before it; behind a comma or "and", of the first thing. A phrase without a
    relation, such as "a red chair", finds objects. The word `phrase` may be left out.
    """
    from open3dsg.query.paths import chain_of
    from open3dsg.query.phrases import read_phrase

    reading = read_phrase(text)
    message(f"read as: {reading.told()}")
    for remark in reading.remarks:
        message(f"  {remark}")
    if not reading.triplets:
        message("  no relation is said: objects like these words are searched")
    _search_and_print(chain_of(reading), as_json, options, reading)


def _search_and_print(
    chain: Chain, as_json: bool, options: dict[str, Any], reading: Reading | None = None
) -> None:
    from open3dsg.query.paths import search_paths

    filters = _filters(options)
    with open_for_work() as store:
        answer = search_paths(store.connection, chain, filters=filters, **options)
    if as_json:
        hits = [hit.as_json() for hit in answer.hits]
        read = {} if reading is None else {"read_as": reading.told(), "remarks": reading.remarks}
        print_json({**read, "is_complete": answer.is_complete, "hits": hits})
        return
    _print_paths(answer, is_alone=not chain.triplets)


def _print_paths(answer: PathAnswer, *, is_alone: bool) -> None:
    for rank, hit in enumerate(answer.hits, 1):
        click.echo(f"{rank}. {_told(hit)}")
        _print_triplets(hit.triplets)
    if not answer.hits and is_alone:
        message("no object passes the filters")
    elif not answer.hits:
        message("no objects of one scan pass the filters and relate so")
    if not answer.is_complete:
        message(
            "the best pairs of each relation were joined; others might fit better: narrow the question with"
            " --scan, --dataset or --max-distance"
        )


def _told(hit: PathHit) -> str:
    things = ", ".join(f"{label} {number}" for number, label in hit.things)
    return f"{hit.dataset}/{hit.scan}: {things}; score {hit.score:.3f}"


def _print_triplets(hits: Sequence[TripletHit]) -> None:
    if not hits:
        return
    similarities = ("of subject", "of predicate", "of object")
    print_table(
        ("score", "scan", "subject", "predicate", "object", *similarities, "distance m", "frames"),
        [
            (
                f"{hit.score:.3f}",
                f"{hit.dataset}/{hit.scan}",
                f"{hit.subject} {hit.subject_label}",
                hit.predicate or "",
                f"{hit.object} {hit.object_label}",
                *_numbers((hit.subject_similarity, hit.predicate_similarity, hit.object_similarity)),
                *_numbers([hit.distance_m]),
                " ".join(map(str, hit.frames)),
            )
            for hit in hits
        ],
        right=("score", *similarities, "distance m"),
    )


def _numbers(values: Iterable[float | None]) -> list[str]:
    return ["" if value is None else f"{value:.3f}" for value in values]


@click.command(epilog="Example: open3dsg query similar scene0000_00/12 -k 10")
@click.argument("instance", metavar="SCAN/INSTANCE")
@click.option("-k", type=click.IntRange(min=1), default=5, show_default=True, help="Hits.")
@click.option("--encoder", help="Whose features are compared; needed where there are several.")
@click.option("--run", metavar="RUN[:LABEL]", help="Compare what this run predicted, in place of features.")
@click.option("--dataset", help="Only scans of this dataset.")
@click.option("--label", help="Only instances with this label.")
@click.option("--same-scan", is_flag=True, help="Also in the scan itself.")
@json_option
def similar(
    instance: str,
    k: int,
    encoder: str | None,
    run: str | None,
    dataset: str | None,
    label: str | None,
    same_scan: bool,
    as_json: bool,
) -> None:
    """Find the objects most like SCAN/INSTANCE, such as 3rscan/NAME/12, in other scans."""
    from open3dsg.cli.query import print_hits
    from open3dsg.query.nodes import NodeFilters
    from open3dsg.query.similar import similar_instances
    from open3dsg.query.slots import split_instance

    scan, number = split_instance(instance)
    filters = NodeFilters(dataset=dataset, label=label)
    with open_for_work() as store:
        hits = similar_instances(
            store.connection,
            scan,
            number,
            k=k,
            encoder=encoder,
            run=run,
            filters=filters,
            same_scan=same_scan,
        )
    if as_json:
        print_json([hit.as_json() for hit in hits])
        return
    print_hits(hits)
    if not hits:
        message("no other node passes the filters")
