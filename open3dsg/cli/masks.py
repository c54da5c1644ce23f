"""`open3dsg masks`: instances of scans from masks of their frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from open3dsg.cli.output import json_option
from open3dsg.cli.session import check_force, open_for_work, run_and_report, step_options
from open3dsg.errors import UserError
from open3dsg.geometry.mask_thresholds import MergeThresholds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DEFAULTS = MergeThresholds()
_THRESHOLDS = {
    "depth_tolerance_m": (
        "--depth-tolerance",
        "Metres between the depth of a point and that measured at its pixel, at most.",
    ),
    "min_mask_points": ("--min-mask-points", "Points that a mask must have."),
    "visible": ("--visible", "Share of a mask on masks of a frame that makes it visible there."),
    "contained": ("--contained", "Share of that on one mask which makes it part of that one."),
    "undersegmented": (
        "--undersegmented",
        "Share of frames that divide a mask, above which it covers several things and is left out.",
    ),
    "consensus": ("--consensus", "Share of frames seeing two clusters that must hold them for one thing."),
    "detected": ("--detected", "A point is in more than this share of its frames on masks of its cluster."),
    "overlap": ("--overlap", "A cluster that shares more than this with a larger one goes."),
    "min_masks": ("--min-masks", "Masks that an instance must have."),
    "min_points": ("--min-points", "Points that an instance must have."),
    "split_distance_m": ("--split-distance", "Metres that divide parts of an instance; 0: never."),
    "fill_distance_m": (
        "--fill-distance",
        "Metres from which points that no frame sees take the instance of their surface; 0: none.",
    ),
}


@click.group()
def masks() -> None:
    """Make instances of scans from masks of their frames."""


def _thresholds(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option a threshold, with its default."""
    for name, (option, text) in reversed(_THRESHOLDS.items()):
        default = getattr(_DEFAULTS, name)
        command = click.option(option, name, default=default, show_default=True, help=text)(command)
    return command


@masks.command(epilog="Example: open3dsg masks merge --scan SCAN --masks rooms/masks")
@click.option(
    "--masks",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of one scan's masks, a PNG a frame, or of a folder a scan.",
)
@step_options
@click.option("--every", default=1, show_default=True, help="Use every n-th frame, by frame number.")
@_thresholds
@json_option
def merge(
    folder: Path,
    dataset: str | None,
    split: str | None,
    scans: tuple[str, ...],
    jobs: int,
    force: bool,
    replace: bool,
    every: int,
    as_json: bool,
    **thresholds: Any,
) -> None:
    """Merge instance masks of frames into instances of the scan.

    Masks are grey PNG files whose pixels are ids, 0 for none; a thing has other ids in other frames. They are
    lifted onto the points and merged where frames agree (MaskClustering, Yan et al., CVPR 2024). Instances
    are labelled `object`. See docs/masks.md.
    """
    from open3dsg.steps.masks import MaskOptions, MergeMasks
    from open3dsg.store.scans import select_scans

    check_force(force, scans)
    options = MaskOptions(every, MergeThresholds(**thresholds))
    with open_for_work() as store:
        keys = select_scans(store.connection, dataset=dataset, split=split, scans=scans)
        chosen, by_scan = _with_masks(folder, keys, named=bool(scans))
        work = MergeMasks(folder.absolute(), by_scan, options, force, replace)
        run_and_report("masks", work, chosen, store=store, jobs=jobs, as_json=as_json)


def _with_masks(folder: Path, keys: Sequence[str], *, named: bool) -> tuple[Sequence[str], bool]:
    """Return the scans to work on, and whether each has a folder of its own in `folder`.

    Scans that are not `named` are left out where they have none.
    """
    own = [key for key in keys if (folder / key.partition("/")[2]).is_dir()]
    if not own and not (named and len(keys) == 1):
        raise UserError(
            f"{folder}: holds no folder called like a scan of the store:"
            " where it holds the masks of one scan, name that with --scan"
        )
    return (keys, bool(own)) if named else (own, True)
