"""Scans as GLB, binary glTF 2.0, which Blender and others open: an object an instance, by its name.

glTF's y axis points up: a node above all others turns z up into that, as other programs turn it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.scan import BACKGROUND
from open3dsg.errors import UserError
from open3dsg.export.files import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from open3dsg.datasets.scan import Cloud
    from open3dsg.query.graph import GraphNode

_Y_UP = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)
_TOP = "scan"


def trimesh_package() -> Any:
    """Return the package trimesh; UserError, naming the extra, where it is missing."""
    try:
        import trimesh
    except ImportError as error:
        raise UserError("GLB needs trimesh: pip install 'open3dsg[glb]'") from error
    return trimesh


def write_glb_points(path: Path, cloud: Cloud, labels: Mapping[int, str]) -> None:
    """Write the points of each instance as an object called `LABEL NUMBER`, and `background`.

    Raises UserError where trimesh is missing or the file cannot be written.
    """
    points = trimesh_package().PointCloud
    order = np.argsort(cloud.instance, kind="stable")
    numbers, starts = np.unique(cloud.instance[order], return_index=True)
    parts = zip(numbers.tolist(), np.split(order, starts[1:]), strict=True) if len(order) else ()
    _write(
        path,
        (
            (_name(number, labels), points(cloud.xyz_m[rows], colors=cloud.rgb[rows]))
            for number, rows in parts
        ),
    )


def write_glb_boxes(
    path: Path, nodes: Sequence[GraphNode], colours: Mapping[int, tuple[int, int, int]]
) -> int:
    """Write the box of each node that has one as an object called `LABEL NUMBER`; return how many have none.

    The oriented box where there is one, else the axis-aligned one, in the colour of its instance. Raises
    UserError where no node has a box, trimesh is missing or the file cannot be written.
    """
    package = trimesh_package()
    places = {node.instance: found for node in nodes if (found := _place(node)) is not None}
    if not places:
        raise UserError(f"{path}: no instance has points or a box to write")
    labels = {node.instance: node.label for node in nodes}
    parts = []
    for number, (T_world_box, lengths) in places.items():
        box = package.creation.box(extents=lengths, transform=T_world_box)
        box.visual.face_colors = (*colours[number], 255)
        parts.append((_name(number, labels), box))
    _write(path, parts)
    return len(nodes) - len(places)


def _write(path: Path, parts: Iterable[tuple[str, Any]]) -> None:
    scene = trimesh_package().Scene()
    scene.graph.update(frame_from=scene.graph.base_frame, frame_to=_TOP, matrix=_Y_UP)
    for name, geometry in parts:
        scene.add_geometry(geometry, node_name=name, geom_name=name, parent_node_name=_TOP)
    content = scene.export(file_type="glb")
    with whole_file(path) as file:
        file.write(content)


def _name(number: int, labels: Mapping[int, str]) -> str:
    """Return what an object is called: the number makes it the only one."""
    return "background" if number == BACKGROUND else f"{labels[number]} {number}"


def _place(node: GraphNode) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return a box as its pose (4, 4) in the world and its lengths (3,), or None where there is none."""
    T_world_box = np.eye(4)
    if node.obb_centre_m is not None and node.obb_axes is not None and node.obb_lengths_m is not None:
        T_world_box[:3, :3] = np.array(node.obb_axes, float).reshape(3, 3).T
        T_world_box[:3, 3] = node.obb_centre_m
        return T_world_box, np.array(node.obb_lengths_m, float)
    if node.aabb_min_m is not None and node.aabb_max_m is not None:
        low, high = np.array(node.aabb_min_m, float), np.array(node.aabb_max_m, float)
        T_world_box[:3, 3] = (low + high) / 2
        return T_world_box, high - low
    return None
