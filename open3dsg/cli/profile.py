"""`open3dsg profile`: what encoders and training cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from open3dsg.cli.output import counted, json_option, message, print_json, print_table
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open3dsg.encoders.contract import Precision
    from open3dsg.encoders.memory import MemoryProfile, Part
    from open3dsg.training.memory import TrainingProfile
    from open3dsg.training.options import Preset, Targets

_BATCH = 32  # items that an encoder gets at once


@click.group()
def profile() -> None:
    """Measure what encoders and training cost."""


@profile.command(epilog="Example: open3dsg profile memory --encoder clip --gpu-ids 0,1 --batch 64")
@click.option("--encoder", help="Which encoder.  [default: conse]")
@click.option(
    "--train",
    type=click.Choice(["published", "small"]),
    metavar="PRESET",
    help="Measure a step of training with this preset, published or small, in place of an encoder.",
)
@click.option(
    "--targets",
    type=click.Choice(["pooled", "tokens", "captions", "classes"]),
    help="With --train: what of pairs is learnt.  [default: tokens; of small captions]",
)
@click.option("--gpus", type=click.IntRange(min=0), help="Measure on the first so many GPUs; 0: on the CPU.")
@click.option("--gpu-ids", metavar="NUMBERS", help="Measure on these GPUs, one after the other, such as 0,1.")
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    help=f"Items encoded at once, or units of a step.  [default: {_BATCH}; with --train that of the preset]",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default="fp32",
    show_default=True,
    help="Numbers that the vision model, or the network, reckons in.",
)
@json_option
def memory(
    encoder: str | None,
    train: Preset | None,
    targets: Targets | None,
    gpus: int | None,
    gpu_ids: str | None,
    batch: int | None,
    precision: Precision,
    as_json: bool,
) -> None:
    """Measure the memory that dumping with an encoder, or training, takes, part by part.

    Weights and activations are told apart: `stays` is what is still held after a part beyond what was held
    before it, `peak` the most that was held meanwhile. An item is a crop, a set of pixels of one photo, a
    text, or a pair's boxes; a unit of training has nine instances, all related, and is made of noise.
    """
    from open3dsg.encoders.memory import chosen_devices, measure_memory

    _check_train(train, encoder, targets)
    devices = chosen_devices(gpus, _numbers(gpu_ids))
    if devices == ["cpu"] and gpus is None:
        message("torch has no GPU here: measured on the CPU")
    if train is not None:
        from open3dsg.training.memory import measure_training

        trained = [measure_training(train, targets, device, precision, batch) for device in devices]
        _tell(trained, [_of_training(measured) for measured in trained], as_json=as_json)
        return
    name, count = encoder or "conse", batch or _BATCH
    profiles = [measure_memory(name, device, precision, count) for device in devices]
    _tell(profiles, [_of_encoder(measured) for measured in profiles], as_json=as_json)


def _check_train(train: Preset | None, encoder: str | None, targets: Targets | None) -> None:
    if train is not None and encoder is not None:
        raise UserError("--encoder measures an encoder, --train training: say one of the two")
    if train is None and targets is not None:
        raise UserError("--targets says what is learnt: give it with --train")


def _numbers(text: str | None) -> list[int]:
    """Read GPUs as 0,1; UserError for what is no list of numbers."""
    parts = [] if text is None else text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UserError(f"--gpu-ids {text}: expected numbers with commas between, such as 0,1")
    return [int(part) for part in parts]


def _of_encoder(measured: MemoryProfile) -> tuple[str, str]:
    """Return what was measured, and what one of it is called."""
    return f"{measured.encoder} on {measured.device}, {measured.precision}, batch {measured.batch}", "item"


def _of_training(measured: TrainingProfile) -> tuple[str, str]:
    what = f"training {measured.preset} with {measured.targets}, {measured.weights:,} weights"
    return f"{what}, on {measured.device}, {measured.precision}, {counted(measured.batch, 'unit')}", "unit"


def _tell(
    profiles: Sequence[MemoryProfile | TrainingProfile],
    names: Sequence[tuple[str, str]],
    *,
    as_json: bool,
) -> None:
    if as_json:
        print_json(profiles)
        return
    for measured, (title, item) in zip(profiles, names, strict=True):
        click.echo(f"{title}, in MB")
        _print_parts(measured.parts, on_gpu=measured.gpu_reserved is not None)
        further = "" if measured.an_item is None else f"; each further {item} adds {_mb(measured.an_item)}"
        click.echo(
            f"highest {_mb(measured.resident_peak)}, of which imports {measured.imports_share:.0%}{further}"
        )
        if measured.gpu_reserved is not None:
            click.echo(f"torch held {_mb(measured.gpu_reserved)} of the GPU at most, in use or not")


def _print_parts(parts: Sequence[Part], *, on_gpu: bool) -> None:
    headers = ["part", "stays", "peak", *(["GPU stays", "GPU peak"] if on_gpu else [])]
    rows = [
        [part.name, *map(_mb, (part.kept, part.peak, part.gpu_kept, part.gpu_peak))][: len(headers)]
        for part in parts
    ]
    print_table(headers, rows, right=headers[1:])


def _mb(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:,.1f}"
