"""`open3dsg ingest rgbd`: one's own posed RGB-D recordings, fused and read into the database."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from open3dsg.cli.ingest_folder import FOLDER, Chosen, choosing, ingest_folder
from open3dsg.cli.output import json_option

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_OPTIONS = (
    click.option("--colour", metavar="NAME", help="Folder of the photographs, else color, rgb, images, ..."),
    click.option("--depth", metavar="NAME", help="Folder of the depth pictures, else depth."),
    click.option("--poses", metavar="NAME", help="File or folder of the poses, else pose, poses.txt, ..."),
    click.option(
        "--intrinsics", metavar="FX,FY,CX,CY", help="In pixels, in place of K.txt, camera.json, ..."
    ),
    click.option(
        "--pose-rows",
        metavar="order|number|N",
        help="Whose the rows of a file of poses are: the pictures in order, the row of each picture's number,"
        " or of every N-th row one.",
    ),
    click.option(
        "--poses-map",
        type=click.Choice(["camera-to-world", "world-to-camera"]),
        show_default="camera-to-world",
        help="What a pose maps.",
    ),
    click.option(
        "--camera-axes",
        type=click.Choice(["y-down", "y-up"]),
        show_default="y-down",
        help="The camera of the poses: OpenCV's or OpenGL's.",
    ),
    click.option(
        "--world-up",
        type=click.Choice(["x", "y", "z", "-x", "-y", "-z"]),
        show_default="z",
        help="The axis of the poses' world that points up; it is turned to z.",
    ),
    click.option(
        "--depth-scale",
        "depth_scale",
        type=float,
        metavar="UNITS",
        show_default="1000",
        help="Units of the depth pictures a metre.",
    ),
    click.option(
        "--max-depth",
        "max_depth_m",
        default=5.0,
        show_default=True,
        help="Depth beyond is not fused, metres.",
    ),
    click.option("--voxel", "voxel_m", default=0.02, show_default=True, help="Cell of the grid, metres."),
    click.option("--every", default=1, show_default=True, help="Take every n-th frame of a recording."),
)


def _reading(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how a recording is read; the command gets them by name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("rgbd", epilog="Example: open3dsg ingest rgbd ~/recordings/kitchen --world-up y")
@click.argument("folder", metavar="DIR", type=FOLDER)
@_reading
@choosing("rgbd")
@json_option
def ingest_rgbd(folder: Path, chosen: Chosen, as_json: bool, **reading: Any) -> None:
    """Fuse posed RGB-D recordings into point clouds, and read them.

    DIR is one recording (photographs, depth pictures, poses, intrinsics) or a folder of recordings; each is a
    scan by its folder's name. docs/rgbd.md says which files are understood.
    """
    from open3dsg.datasets.rgbd_files import find_recordings
    from open3dsg.datasets.rgbd_options import RgbdOptions

    root, name = find_recordings(folder, RgbdOptions(**reading).places)
    if name is not None and not chosen.scans:
        chosen = replace(chosen, scans=(name,))
    ingest_folder("rgbd", root, reading, chosen, as_json=as_json)
