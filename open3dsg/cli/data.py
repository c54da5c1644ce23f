"""`open3dsg data`: dataset folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from open3dsg.cli.data_check import check
from open3dsg.cli.output import json_option, print_json, progress
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from open3dsg.datasets.synth.write import Layout


@click.group()
def data() -> None:
    """Make dataset folders of synthetic rooms, and check folders of any."""


data.add_command(check)


@data.command(epilog="Example: open3dsg data synth rooms --scans 10 --seed 1")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--layout",
    type=click.Choice(["3rscan", "scannet"]),
    default="3rscan",
    show_default=True,
    help="Whose files: those of 3RScan with 3DSSG, or those of ScanNet.",
)
@click.option("--scans", type=click.IntRange(min=1), default=3, show_default=True, help="How many rooms.")
@click.option(
    "--seed", type=click.IntRange(0, 999_999), default=0, show_default=True, help="Same seed, same files."
)
@click.option("--frames", type=click.IntRange(min=1), default=100, show_default=True, help="Frames a room.")
@click.option(
    "--zip", "zip_sequences", is_flag=True, help="3rscan: write sequence.zip instead of the folder sequence."
)
@click.option(
    "--sens",
    is_flag=True,
    help="scannet: write a .sens file a scan instead of scannet_2d; ingest it with --sens-every 1.",
)
@click.option(
    "--masks",
    is_flag=True,
    help="Write OUT/masks/SCAN too: the true instance masks of the photos, to try `open3dsg masks merge` on.",
)
@click.option(
    "--rescans",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="3rscan: later visits to each room, in which some things were moved, taken away or are new.",
)
@json_option
def synth(
    out: Path,
    layout: str,
    scans: int,
    seed: int,
    frames: int,
    zip_sequences: bool,
    sens: bool,
    masks: bool,
    rescans: int,
    as_json: bool,
) -> None:
    """Furnish rooms, film them, and write them to OUT as the true files of a dataset.

    ScanNet has no relations, and of two or more scans the last is of its test split, without annotations.
    """
    from open3dsg.datasets.synth.write import write_rooms

    files = _layout(layout, zip_sequences, sens, masks, rescans)
    with progress("rooms", scans) as advance:
        summary = write_rooms(out, files, scans=scans, seed=seed, frames=frames, report=advance)
    if as_json:
        print_json(summary)
        return
    visits = f"{scans} rooms" + (f" in {summary.scans} scans" if rescans else "")
    click.echo(
        f"{out}: {visits} with {summary.instances} objects of {len(summary.labels)} categories,"
        f" {summary.frames} frames, {summary.points:,} points"
        + (f", {summary.relationships} relations" if summary.relationships else "")
    )


def _layout(layout: str, zip_sequences: bool, sens: bool, masks: bool, rescans: int) -> Layout:
    """Make the layout of these options. Raises UserError for one that the layout does not have."""
    from open3dsg.datasets.synth.write_3rscan import ThreeRScanLayout
    from open3dsg.datasets.synth.write_scannet import ScanNetLayout

    if layout == "scannet":
        if zip_sequences:
            raise UserError("--zip: ScanNet's frames come in no archive; leave it out, or use --sens")
        if rescans:
            raise UserError("--rescans: ScanNet does not say how its visits lie to each other; leave it out")
        return ScanNetLayout(sens, masks)
    if sens:
        raise UserError("--sens: 3RScan has no .sens files; leave it out, or add --layout scannet")
    return ThreeRScanLayout(zip_sequences, masks, rescans)
