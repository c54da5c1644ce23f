"""`open3dsg show predictions`: the scene graph that a run predicts of a scan."""

from __future__ import annotations

from dataclasses import asdict

import click

from open3dsg.cli.output import counted, json_option, message, print_json, print_table
from open3dsg.cli.session import open_for_work


@click.command(epilog="Example: open3dsg show predictions scene0000_00 --run brave-otter-7")
@click.argument("scan")
@click.option("--run", required=True, metavar="RUN[:LABEL]", help="Whose prediction.")
@click.option(
    "--classes", metavar="NAME", show_default="the dataset's", help="The vocabulary that names objects."
)
@click.option(
    "--predicates", metavar="NAME", show_default="the dataset's", help="The one that names relations."
)
@click.option("-k", type=click.IntRange(1, 1000), default=1, show_default=True, help="Predicates a pair.")
@json_option
def predictions(
    scan: str, run: str, classes: str | None, predicates: str | None, k: int, as_json: bool
) -> None:
    """List how the objects of SCAN relate, as `open3dsg predict` has it.

    Objects are called by the nearest class, relations by the nearest predicates, best first: other
    vocabularies give other names, and nothing is predicted again.
    """
    from open3dsg.query.predictions import predicted_triplets
    from open3dsg.store.scans import find_scan

    with open_for_work() as store:
        found = find_scan(store.connection, scan)
        triplets = predicted_triplets(
            store.connection,
            run,
            found.key,
            classes=classes or f"{found.dataset}-classes",
            predicates=predicates or f"{found.dataset}-predicates",
            k=k,
        )
    if as_json:
        print_json([asdict(triplet) for triplet in triplets])
        return
    if triplets:
        headers = ("subject", "class", "predicate", "object", "class", "similarity", "from")
        rows = [
            (
                one.subject,
                one.subject_class,
                one.predicate,
                one.object,
                one.object_class,
                f"{one.similarity:.3f}",
                one.origin,
            )
            for one in triplets
        ]
        print_table(headers, rows, right=("subject", "object", "similarity"))
    message(f"{counted(len(triplets), 'relation')}; `open3dsg predict` makes them")
