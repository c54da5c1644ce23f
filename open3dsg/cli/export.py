"""`open3dsg export`: what the store holds, as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from open3dsg.cli.export_graph import graph
from open3dsg.cli.output import counted, json_option, print_json
from open3dsg.cli.session import open_for_work
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from open3dsg.export.clouds import Colours


@click.group()
def export() -> None:
    """Write what the store holds to files that other programs read."""


export.add_command(graph)


@export.command(epilog="Example: open3dsg export cloud --scan 7272e16c-a01b-20f6-8961-a0927b4a7629 room.ply")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--scan", required=True, help="The scan: its name, or DATASET/NAME.")
@click.option("--instances-only", is_flag=True, help="Leave out the points that belong to no instance.")
@click.option(
    "--instance",
    "instances",
    metavar="NUMBER",
    type=int,
    multiple=True,
    help="Only the points of this instance; repeatable.",
)
@click.option(
    "--colours",
    type=click.Choice(["photo", "instance", "label"]),
    default="photo",
    show_default=True,
    help="Those of the scan, or one for each instance or label, with the background grey.",
)
@click.option(
    "--boxes", is_flag=True, help="Write the boxes of instances, to a .glb file: of scans without points too."
)
@json_option
def cloud(
    out: Path,
    scan: str,
    instances_only: bool,
    instances: tuple[int, ...],
    colours: Colours,
    boxes: bool,
    as_json: bool,
) -> None:
    """Write the points of a scan to OUT: a .ply or .glb file for viewers, or an .npz file for numpy.

    Each point has its place in metres (z up), its normal where the scan has normals, its colour and the
    number of its instance, -1 for background. The labels of the instances are in the file, too. In a .glb
    file each instance is an object of its own, by its label and number.
    """
    from open3dsg.export.clouds import check_cloud_file, read_labelled_cloud, write_cloud_file
    from open3dsg.store.scans import find_scan

    check_cloud_file(out)
    if boxes:
        if instances_only:
            raise UserError("--boxes are those of instances: leave out --instances-only")
        _write_boxes(out, scan, instances, colours, as_json=as_json)
        return
    with open_for_work() as store:
        found = find_scan(store.connection, scan)
        points = read_labelled_cloud(
            store.connection, found, instances=instances, instances_only=instances_only, colours=colours
        )
    write_cloud_file(out, points)
    written = {
        "file": out,
        "scan": found.key,
        "points": len(points.cloud.xyz_m),
        "instances": len(points.labels),
        "normals": points.cloud.normals is not None and out.suffix.lower() != ".glb",
        "bytes": out.stat().st_size,
    }
    if as_json:
        print_json(written)
        return
    click.echo(
        f"{out}: {counted(len(points.cloud.xyz_m), 'point')} of {counted(len(points.labels), 'instance')},"
        f" {'with' if written['normals'] else 'without'} normals, {written['bytes']:,} bytes"
    )


def _write_boxes(
    out: Path, scan: str, instances: tuple[int, ...], colours: Colours, *, as_json: bool
) -> None:
    """Write the boxes of a scan, or of some of its instances, and say so."""
    from open3dsg.export.clouds import instance_colours
    from open3dsg.export.glb import write_glb_boxes
    from open3dsg.query.graph import read_graph
    from open3dsg.store.instances import check_instances
    from open3dsg.store.scans import find_scan

    if out.suffix.lower() != ".glb":
        raise UserError(f"{out}: boxes are written to .glb files alone: name it so")
    with open_for_work() as store:
        found = find_scan(store.connection, scan)
        nodes = read_graph(store.connection, found.key).nodes
    labels = {node.instance: node.label for node in nodes}
    check_instances(found, labels, instances)
    chosen = [node for node in nodes if not instances or node.instance in instances]
    without = write_glb_boxes(out, chosen, instance_colours(labels, colours))
    if as_json:
        told = {"file": out, "scan": found.key, "boxes": len(chosen) - without, "without_box": without}
        print_json({**told, "bytes": out.stat().st_size})
        return
    lacking = f", {counted(without, 'instance')} without one" if without else ""
    click.echo(f"{out}: {len(chosen) - without:,} boxes{lacking}, {out.stat().st_size:,} bytes")
