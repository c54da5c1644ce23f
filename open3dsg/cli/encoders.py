"""`open3dsg encoders`: which there are, and whether one works."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from open3dsg.cli.output import json_option, message, print_json, print_pairs, print_table

if TYPE_CHECKING:
    from open3dsg.encoders.contract import Precision

SEES = {
    "crops": "crops",
    "pixels": "pixels of photos",
    "tokens": "crops, as tokens",
    "boxes": "boxes",
    "text": "words only",
}


@click.group()
def encoders() -> None:
    """List the encoders of pictures and words, and check that one works."""


@encoders.command(name="list", epilog="Example: open3dsg encoders list")
@json_option
def list_(as_json: bool) -> None:
    """List the encoders, and what each still needs.

    Weights are not read: `open3dsg encoders check NAME` does that. They are looked for in the folder of the
    setting `checkpoints`, under the encoder's name, or where [encoders.NAME] in the settings says.
    """
    from open3dsg.encoders.overview import list_encoders
    from open3dsg.settings import load_settings

    rows = list_encoders()
    folder = load_settings().checkpoints
    if as_json:
        print_json([{**dataclasses.asdict(row), "ready": row.ready} for row in rows])
        return
    print_table(
        ("encoder", "sees", "dimension", "weights", "missing"),
        [
            (
                row.name,
                SEES.get(row.views or "", "?"),
                row.dimension or "-",
                _short(row.checkpoint, folder),
                ", ".join(row.missing) or "-",
            )
            for row in rows
        ],
        right=("dimension",),
    )
    message(f"checkpoints/ is {folder}")
    if not all(row.ready for row in rows):
        message("`open3dsg encoders check NAME` says where to get what is missing")


def _short(path: Path | None, checkpoints: Path) -> str:
    """Write a path in the folder of checkpoints as below it: the whole one makes the table too wide."""
    if path is None:
        return "-"
    return f"checkpoints/{path.relative_to(checkpoints)}" if path.is_relative_to(checkpoints) else str(path)


@encoders.command(epilog="Example: open3dsg encoders check clip --device cuda:0 --precision bf16")
@click.argument("name")
@click.option("--device", help="Where it works, such as cpu or cuda:1; a GPU where there is one if left out.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default="fp32",
    show_default=True,
    help="Numbers that its vision model reckons in.",
)
@json_option
def check(name: str, device: str | None, precision: str, as_json: bool) -> None:
    """Load the encoder NAME, let it encode a picture and a word, and tell its revision.

    Where something is missing, one line says what, where it is to be had and where to put it.
    """
    from open3dsg.encoders.overview import check_encoder

    checked = check_encoder(name, device, cast("Precision", precision))
    if as_json:
        print_json(checked)
        return
    print_pairs({key: value for key, value in dataclasses.asdict(checked).items() if value is not None})
