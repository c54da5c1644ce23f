"""`open3dsg features caption`: how instances relate, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from open3dsg.cli.output import json_option
from open3dsg.cli.session import (
    check_force,
    device_names,
    device_option,
    open_for_work,
    run_and_report,
    step_options,
)

if TYPE_CHECKING:
    from open3dsg.encoders.contract import Precision


@click.command(epilog="Example: open3dsg features caption --encoder geometry --scan SCAN")
@click.option(
    "--encoder",
    default="geometry",
    show_default=True,
    help="Which encoder speaks: geometry by rules, or one that captions the tokens of pairs.",
)
@click.option(
    "--beams",
    type=click.IntRange(min=1),
    show_default="5",
    help="Captions that the search for the best follows at a time.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), show_default="8", help="Captions a pass through the model."
)
@device_option
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    show_default="fp32",
    help="Numbers the model reckons with.",
)
@step_options
@json_option
def caption(
    encoder: str,
    beams: int | None,
    batch: int | None,
    device: str | None,
    precision: Precision | None,
    dataset: str | None,
    split: str | None,
    scans: tuple[str, ...],
    jobs: int,
    force: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Say how the two instances of each pair relate, in both directions, and embed the phrase.

    The encoder geometry looks at boxes, distances and the camera of a frame that shows both. An encoder such
    as instructblip reads the tokens that `features dump --pairs` made, and calls instances by their labels.
    """
    from open3dsg.steps.captions import CaptionOptions, DumpCaptions
    from open3dsg.store.scans import select_scans

    check_force(force, scans)
    devices = device_names(device)
    first = devices[0] if devices else None
    options = CaptionOptions(encoder, beams)
    work = DumpCaptions(options, force, replace, batch=batch, device=first, precision=precision)
    work.prepare()
    with open_for_work() as store:
        keys = select_scans(store.connection, dataset=dataset, split=split, scans=scans)
        run_and_report("captions", work, keys, store=store, jobs=jobs, as_json=as_json, devices=devices)
