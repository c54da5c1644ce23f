"""`open3dsg features dump`: embeddings of instances and of pairs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import click

from open3dsg.cli.output import counted, json_option, message, print_json, print_table, progress
from open3dsg.cli.session import (
    check_force,
    device_names,
    device_option,
    exit_on_failures,
    open_for_work,
    run_all_and_report,
    step_options,
)
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from open3dsg.cli.session import Store
    from open3dsg.steps.features import DumpNodes, DumpPairs, Running
    from open3dsg.steps.features.estimate import Estimate

_Command = TypeVar("_Command", bound="Callable[..., Any]")

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", re.IGNORECASE)
_NAMES = {"DumpNodes": "features", "DumpPairs": "pairs"}  # as the queue calls the steps


def _with(command: _Command, options: Sequence[Callable[[_Command], _Command]]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command


def look_options(command: _Command) -> _Command:
    """Add the options that say which frames are looked at, and how."""
    options = (
        click.option("--nodes", is_flag=True, help="Embed the instances."),
        click.option("--pairs", is_flag=True, help="Embed the pairs of `graph build`."),
        click.option("--encoder", default="conse", show_default=True, help="Which encoder sees instances."),
        click.option(
            "--pair-encoder",
            show_default="that of --encoder",
            help="Which encoder sees pairs: one of crops or of tokens.",
        ),
        click.option(
            "--top-k-frames", default=5, show_default=True, help="Frames an item, those that show most of it."
        ),
        click.option(
            "--scales",
            default=3,
            show_default=True,
            help="Crops a frame: 1.0, 1.5, 1.2, ... times the box; of pairs 1.0, 1.25, 1.1, ...",
        ),
        click.option(
            "--min-frames",
            default=2,
            show_default=True,
            help="Items that fewer frames show well enough get no embedding.",
        ),
        click.option(
            "--min-visibility",
            type=float,
            show_default="0.3; pixels 0.2; 3RScan 0.1 less",
            help="A frame must show more than this share of an instance's points,",
        ),
        click.option(
            "--min-area",
            type=float,
            show_default="500, 3RScan 250; pixels: none",
            help="and its box cover more pixels than this, as of a picture of 320x240, 3RScan 224x172;",
        ),
        click.option(
            "--large-area",
            type=float,
            show_default="8000, 3RScan 4000",
            help="or it must cover more pixels than this.",
        ),
        click.option(
            "--pair-min-visibility",
            type=float,
            show_default="0.3, 3RScan 0.2; tokens: half",
            help="Of each end of a pair a frame must show more than this share,",
        ),
        click.option(
            "--pair-large-area",
            type=float,
            show_default="10000, 3RScan 5000",
            help="or a box that covers more pixels than this.",
        ),
    )
    return _with(command, options)


def running_options(command: _Command) -> _Command:
    """Add the options that say how a dump is run and what is kept."""
    options = (
        click.option(
            "--tokens",
            type=click.Choice(["full", "grid17", "pooled"]),
            default="full",
            show_default=True,
            help="Tokens of a pair to keep: all, 17 of a coarser grid, or only their mean.",
        ),
        click.option(
            "--token-dtype",
            type=click.Choice(["fp16", "int8", "fp8"]),
            default="fp16",
            show_default=True,
            help="Numbers to keep them in; int8 and fp8 with a scale a token.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "fp16", "bf16"]),
            default="fp32",
            show_default=True,
            help="Numbers the encoder reckons with.",
        ),
        device_option,
        click.option("--batch", default=32, show_default=True, help="Crops the encoder is shown at once."),
        click.option("--pair-chunk", default=512, show_default=True, help="Pairs a commit."),
        click.option(
            "--max-memory",
            metavar="SIZE",
            default="4GB",
            show_default=True,
            help="For pictures and sums, beside what the encoder takes.",
        ),
        click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing."),
    )
    return _with(command, options)


@click.command(epilog="Example: open3dsg features dump --nodes --encoder conse --scan SCAN")
@look_options
@running_options
@step_options
@json_option
def dump(
    dry_run: bool,
    dataset: str | None,
    split: str | None,
    scans: tuple[str, ...],
    jobs: int,
    force: bool,
    replace: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Embed what the frames show of each instance and of each pair, once each.

    What is embedded already stays. The class lists of the store are embedded, too. docs/features.md has the
    rules by which frames are chosen.
    """
    from open3dsg.store.scans import select_scans

    check_force(force, scans)
    devices = device_names(chosen["device"])
    steps = _steps(chosen, devices, force=force, replace=replace)
    for work in steps:
        work.prepare()
    with open_for_work() as store:
        keys = select_scans(store.connection, dataset=dataset, split=split, scans=scans)
        if dry_run:
            _estimate(steps, keys, store=store, as_json=as_json)
            return
        named = [(_NAMES[type(work).__name__], work) for work in steps]
        run_all_and_report(named, keys, store=store, jobs=jobs, as_json=as_json, devices=devices)


def _steps(
    chosen: dict[str, Any], devices: Sequence[str], *, force: bool, replace: bool
) -> list[DumpNodes | DumpPairs]:
    """Return the steps that were asked for."""
    from open3dsg.steps.features import DumpNodes, DumpPairs, FeatureOptions, PairOptions

    if not (chosen["nodes"] or chosen["pairs"]):
        raise UserError("nothing to dump: say --nodes, --pairs or both")
    shared = {name: chosen[name] for name in ("top_k_frames", "scales", "min_frames", "precision")}
    running = _running(chosen, devices)
    steps: list[DumpNodes | DumpPairs] = []
    if chosen["nodes"]:
        of_nodes = {name: chosen[name] for name in ("min_visibility", "min_area", "large_area")}
        nodes = FeatureOptions(chosen["encoder"], **shared, **of_nodes)
        steps.append(DumpNodes(nodes, force, replace, running=running))
    if chosen["pairs"]:
        pairs = PairOptions(
            chosen["pair_encoder"] or chosen["encoder"],
            **shared,
            min_visibility=chosen["pair_min_visibility"],
            large_area=chosen["pair_large_area"],
            tokens=chosen["tokens"],
            dtype=chosen["token_dtype"],
        )
        steps.append(DumpPairs(pairs, force, replace, running=running))
    return steps


def _running(chosen: dict[str, Any], devices: Sequence[str]) -> Running:
    from open3dsg.cli.submission import Submission
    from open3dsg.steps.features import Running

    if devices and click.get_current_context().find_object(Submission) is not None:
        raise UserError("--device is the worker's choice: give it to `open3dsg worker`")
    device = devices[0] if devices else None
    return Running(chosen["batch"], _bytes(chosen["max_memory"]), chosen["pair_chunk"], device)


def _bytes(text: str) -> int:
    """Return a size such as 4GB or 500MB in bytes; powers of 1,024."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UserError(f"--max-memory is {text!r}: give a size such as 4GB or 500MB")
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " "))


def _estimate(
    steps: Sequence[DumpNodes | DumpPairs], scans: Sequence[str], *, store: Store, as_json: bool
) -> None:
    """Print what the steps would do."""
    from open3dsg.steps.features.estimate import estimate

    found = []
    for work in steps:
        with progress(f"{work.step}, planned", len(scans)) as advance:
            found.append(estimate(work, store.connection, scans, advance))
    if as_json:
        print_json([entry.as_json() for entry in found])
    else:
        headers = ("step", "encoder", "items", "passes", "shared", "photos", "MB", "time")
        print_table(headers, map(_row, found), right=headers[2:])
        for entry in found:
            _explain(entry)
    exit_on_failures({scan: reason for entry in found for scan, reason in entry.failures.items()})


def _row(entry: Estimate) -> Sequence[object]:
    numbers = [f"{entry.counts[name]:,}" for name in ("items", "passes", "shared", "photos")]
    time = "" if entry.seconds is None else _time(entry.seconds)
    return (entry.step, entry.encoder, *numbers, f"{entry.counts['bytes'] / 1e6:,.1f}", time)


def _time(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


def _explain(entry: Estimate) -> None:
    counts = entry.counts
    message(
        f"{entry.step}: {counts['scans_done']} of {counted(counts['scans'], 'scan')} done already;"
        f" beside the items {counts['unseen']:,} that no frame shows,"
        f" {counts['unqualified']:,} not seen well enough"
    )
    if entry.tried:
        message(f"{entry.step}: the time is reckoned from {entry.tried} of these passes, run just now")
    if entry.items_at_once is not None:
        message(
            f"{entry.step}: --max-memory has room for {counted(entry.items_at_once, 'item')} at a time,"
            " fewer than a chunk has: photos are read again for the others"
        )
