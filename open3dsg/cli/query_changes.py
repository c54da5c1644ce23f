"""`open3dsg query changes`: what changed between two visits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from open3dsg.cli.output import counted, json_option, message, print_json, print_table
from open3dsg.cli.session import open_for_work

if TYPE_CHECKING:
    from open3dsg.query.changes import Changes, ObjectChange

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(epilog="Example: open3dsg query changes SCAN_A SCAN_B --moved 0.2")
@click.argument("scan_a")
@click.argument("scan_b")
@click.option(
    "--transform",
    type=FILE,
    help="Text file of 4x4 numbers, row by row, in metres, that map SCAN_A into SCAN_B; needed where they are"
    " not known as visits to one room.",
)
@click.option("--run", metavar="RUN[:LABEL]", help="Compare the relations that this run predicted.")
@click.option(
    "--predicates",
    metavar="VOCABULARY",
    show_default="DATASET-predicates",
    help="What --run calls its relations by.",
)
@click.option(
    "--moved",
    "moved_m",
    type=float,
    default=0.1,
    show_default=True,
    help="An object has moved where its box went further than this, in metres.",
)
@click.option(
    "--reach",
    "reach_m",
    type=float,
    default=2.0,
    show_default=True,
    help="Take nothing further apart, in metres, for one object; where numbers are kept it does not matter.",
)
@click.option(
    "--encoder", help="Match objects by its features too: a cosine distance of 1 weighs as much as a metre."
)
@json_option
def changes(
    scan_a: str,
    scan_b: str,
    transform: Path | None,
    run: str | None,
    predicates: str | None,
    moved_m: float,
    reach_m: float,
    encoder: str | None,
    as_json: bool,
) -> None:
    """Tell what changed from SCAN_A to SCAN_B, two visits to one room.

    Objects that appeared, vanished or moved, beside what annotations say of them, and relations between the
    others that began or ended. Objects of 3RScan keep their numbers; others are matched by label, nearest
    first.
    """
    from open3dsg.query.changes import read_transform, scan_changes

    T_b_a = None if transform is None else read_transform(transform)
    with open_for_work() as store:
        found = scan_changes(
            store.connection,
            scan_a,
            scan_b,
            transform=T_b_a,
            run=run,
            predicates=predicates,
            moved_m=moved_m,
            reach_m=reach_m,
            encoder=encoder,
        )
    if as_json:
        print_json(found.as_json())
        return
    _print_objects(found)
    _print_relations(found)


def _print_objects(found: Changes) -> None:
    changed = (*found.vanished, *found.appeared, *found.moved)
    told = [one for one in found.stayed if one.annotated is not None]
    print_table(
        ("change", "label", "in a", "in b", "by m", "annotated", "by m", "by degrees"),
        [_row(one) for one in (*changed, *told)],
        right=("in a", "in b", "by m", "by degrees"),
    )
    message(
        f"{counted(len(found.stayed), 'object')} of {len(found.objects):,} stayed within {found.moved_m:g} m;"
        f" objects are the same by {found.matched_by}"
    )


def _row(one: ObjectChange) -> tuple[object, ...]:
    seen = one.b or one.a
    return (
        one.change,
        None if seen is None else seen.label,
        None if one.a is None else one.a.instance,
        None if one.b is None else one.b.instance,
        _number(one.distance_m, 2),
        one.annotated,
        _number(one.annotated_m, 2),
        _number(one.annotated_degrees, 0),
    )


def _number(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _print_relations(found: Changes) -> None:
    if found.relations_of is None:
        message("relations are not compared: a scan has none, or only one of the two is annotated")
        return
    click.echo()
    print_table(
        ("relation", "subject", "in b", "predicate", "object", "in b", "the other visit"),
        [
            (
                one.change,
                one.subject_label,
                one.subject_b,
                one.predicate,
                one.object_label,
                one.object_b,
                None if one.other_tells else "tells nothing of the two",
            )
            for one in found.relations
        ],
        right=("in b",),
    )
    message(f"{counted(len(found.relations), 'relation')} changed, of those {found.relations_of}")
