"""`open3dsg features stats`: what features take, and what the published layout would take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from open3dsg.cli.output import counted, json_option, message, print_json, print_table
from open3dsg.cli.session import open_for_work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open3dsg.query.feature_stats import EncoderStats, Published

_LEVERS = {
    "symmetry": "both directions once",
    "sharing": "what units share once",
    "absence": "nothing for what no frame shows",
    "format": "fewer, smaller numbers",
    "packing": "lossless packing",
    "rest": "keys, evidence, embedding for search",
}


@click.command(epilog="Example: open3dsg features stats --dataset 3rscan --encoder conse")
@click.option("--dataset", metavar="NAME", help="Only scans of this dataset.")
@click.option("--encoder", metavar="ENCODER", help="Only this one: NAME, or NAME@REVISION.")
@json_option
def stats(dataset: str | None, encoder: str | None, as_json: bool) -> None:
    """Say what features take, and against the published layout what saves how much.

    Bytes are those of the columns of rows, out of line or not, and the heads of rows; indexes and free space
    are in `open3dsg db stats`. The published layout has a file a training unit, with both directions of a
    pair, and rows for what no frame shows; it is reckoned for the scans that were dumped, from the units that
    `open3dsg graph build` made.
    """
    from open3dsg.query.feature_stats import feature_stats

    with open_for_work() as store:
        found = feature_stats(store.connection, dataset=dataset, encoder=encoder)
    if as_json:
        print_json([each.as_json() for each in found])
        return
    _print_stored(found)
    for each in found:
        for kind, published in each.published.items():
            _print_published(each.encoder, kind, published)
    if not found:
        message("no features yet: run `open3dsg features dump`")


def _print_stored(found: Sequence[EncoderStats]) -> None:
    print_table(
        ("encoder", "kind", "scans", "rows", "bytes", "a row", "a scan"),
        (
            (
                each.encoder,
                kind,
                f"{stored.scans:,}",
                f"{stored.rows:,}",
                f"{stored.bytes:,}",
                f"{stored.bytes / stored.rows:,.0f}",
                f"{stored.bytes / stored.scans:,.0f}",
            )
            for each in found
            for kind, stored in each.kinds.items()
        ),
        right=("scans", "rows", "bytes", "a row", "a scan"),
    )


def _print_published(encoder: str, kind: str, published: Published) -> None:
    """Print the levers, each with the bytes that are left after it."""
    rows = f"{published.rows:,} rows of {published.row_bytes:,} bytes in {counted(published.units, 'unit')}"
    click.echo(f"\n{encoder}, {kind}: {rows} as published, {published.bytes:,} bytes")
    print_table(
        ("lever", "leaves", "saves", "share"),
        (
            (
                _LEVERS[lever],
                f"{left:,}",
                f"{published.saved[lever]:,}",
                "" if (share := published.share[lever]) is None else f"{share:.3f}",
            )
            for lever, left in published.left.items()
        ),
        right=("leaves", "saves", "share"),
    )
    if published.bytes:
        click.echo(f"in all {published.stored_bytes / published.bytes:.4f} of the published bytes")
