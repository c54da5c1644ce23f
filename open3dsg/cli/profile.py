"""`open3dsg profile`: what encoders cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from open3dsg.cli.output import json_option, message, print_json, print_table
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from open3dsg.encoders.contract import Precision
    from open3dsg.encoders.memory import MemoryProfile


@click.group()
def profile() -> None:
    """Measure what encoders cost."""


@profile.command(epilog="Example: open3dsg profile memory --encoder clip --gpu-ids 0,1 --batch 64")
@click.option("--encoder", default="conse", show_default=True, help="Which encoder.")
@click.option("--gpus", type=click.IntRange(min=0), help="Measure on the first so many GPUs; 0: on the CPU.")
@click.option("--gpu-ids", metavar="NUMBERS", help="Measure on these GPUs, one after the other, such as 0,1.")
@click.option(
    "--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Items encoded at once."
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default="fp32",
    show_default=True,
    help="Numbers that the vision model reckons in.",
)
@json_option
def memory(
    encoder: str, gpus: int | None, gpu_ids: str | None, batch: int, precision: Precision, as_json: bool
) -> None:
    """Measure the memory that dumping with an encoder takes, part by part.

    Weights and activations are told apart: `stays` is what is still held afterwards, `peak` the most that
    was held meanwhile. An item is a crop, a set of pixels of one photo, a text, or a pair's boxes.
    """
    from open3dsg.encoders.memory import chosen_devices, measure_memory

    devices = chosen_devices(gpus, _numbers(gpu_ids))
    if devices == ["cpu"] and gpus is None:
        message("torch has no GPU here: measured on the CPU")
    profiles = [measure_memory(encoder, device, precision, batch) for device in devices]
    if as_json:
        print_json(profiles)
        return
    for measured in profiles:
        _print(measured)


def _numbers(text: str | None) -> list[int]:
    """Read GPUs as 0,1; UserError for what is no list of numbers."""
    parts = [] if text is None else text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UserError(f"--gpu-ids {text}: expected numbers with commas between, such as 0,1")
    return [int(part) for part in parts]


def _print(measured: MemoryProfile) -> None:
    on_gpu = measured.gpu_reserved is not None
    headers = ["part", "stays", "peak", *(["GPU stays", "GPU peak"] if on_gpu else [])]
    rows = [
        [part.name, *map(_mb, (part.kept, part.peak, part.gpu_kept, part.gpu_peak))][: len(headers)]
        for part in measured.parts
    ]
    click.echo(
        f"{measured.encoder} on {measured.device}, {measured.precision}, batch {measured.batch}, in MB"
    )
    print_table(headers, rows, right=headers[1:])
    further = "" if measured.an_item is None else f"; each further item adds {_mb(measured.an_item)}"
    click.echo(
        f"highest {_mb(measured.resident_peak)}, of which imports {measured.imports_share:.0%}{further}"
    )
    if on_gpu:
        click.echo(f"torch held {_mb(measured.gpu_reserved)} of the GPU at most, in use or not")


def _mb(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:,.1f}"
