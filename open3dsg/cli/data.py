"""`open3dsg data`: dataset folders."""

from __future__ import annotations

from pathlib import Path

import click

from open3dsg.cli.output import json_option, print_json, progress


@click.group()
def data() -> None:
    """Make dataset folders of synthetic rooms."""


@data.command(epilog="Example: open3dsg data synth rooms --scans 10 --seed 1")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--layout", type=click.Choice(["3rscan"]), default="3rscan", show_default=True, help="Whose files."
)
@click.option("--scans", type=click.IntRange(min=1), default=3, show_default=True, help="How many rooms.")
@click.option(
    "--seed", type=click.IntRange(0, 999_999), default=0, show_default=True, help="Same seed, same files."
)
@click.option("--frames", type=click.IntRange(min=1), default=100, show_default=True, help="Frames a room.")
@click.option(
    "--zip", "zip_sequences", is_flag=True, help="Write sequence.zip instead of the folder sequence."
)
@json_option
def synth(
    out: Path, layout: str, scans: int, seed: int, frames: int, zip_sequences: bool, as_json: bool
) -> None:
    """Furnish rooms, film them, and write them to OUT as the true files of a dataset."""
    from open3dsg.datasets.synth.write import write_rooms

    with progress("rooms", scans) as advance:
        summary = {"3rscan": write_rooms}[layout](
            out, scans=scans, seed=seed, frames=frames, zip_sequences=zip_sequences, report=advance
        )
    if as_json:
        print_json(summary)
        return
    click.echo(
        f"{out}: {summary.scans} rooms with {summary.instances} objects of {len(summary.labels)} categories,"
        f" {summary.frames} frames, {summary.points:,} points, {summary.relationships} relations"
    )
