"""Scene graphs of Spark-DSG, as Hydra (Hughes et al., RSS 2022) and its successors write them.

A file is one graph: `.json` of any version, or `.sparkdsg`. Nodes are in layers, from objects up to
buildings; an edge between two layers says what belongs to what, one within a layer what is connected. What
becomes of them in a scan, which has no points:

*  A node of any layer is an instance, its attribute `layer` the layer's name, its attribute `node` the symbol
   it has in the file, such as ``O(11)``. Its number is that of the symbol, or where a node of a lower layer
   has that already, one above all.
*  Its label is the file's name for its semantic label, else its own name where that says more than the
   symbol, else ``class 5`` of an object and the singular of the layer, such as ``place``, of others.
*  Its centroid is the node's position; boxes are taken as they are.
*  A relation is what an edge of ours says in its metadata. Of other edges: an object is `at` its place, a
   place `in` its room, a room `in` its building; nodes of a layer are `connected to` each other, in both
   directions.

What is left out is reported: the poses of the robot with their edges, once (`robot_left_out`), the mesh
(`mesh_left_out`), edges of a node with itself (`edge_to_self`), relations in our metadata that are not as we
write them (`relation_unclear`), positions that are not finite (`place_not_finite`). An object whose class has
no name is kept, and reported (`class_without_name`).
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from open3dsg.datasets.attributes import ScanAttributes
from open3dsg.datasets.jsonfile import read_json, typed
from open3dsg.datasets.paths import check_scan_name
from open3dsg.datasets.scan import Box, Problem, Scan, Subgraph
from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from open3dsg.datasets.layouts import WordList

LAYER, NODE = "layer", "node"  # kinds of attributes
OURS = "open3dsg"  # key of what we keep in the metadata of nodes and edges
OBJECTS, PLACES, ROOMS, BUILDINGS = "objects", "places", "rooms", "buildings"
LARGEST_NUMBER = 2**31 - 1
_Key: TypeAlias = tuple[int, int]  # of a layer: its number and partition

_SINGULAR = {PLACES: "place", ROOMS: "room", BUILDINGS: "building"}
_ROBOT = "AgentNodeAttributes"
_SYMBOL = re.compile(r".\(\d+\)|.\d+", re.DOTALL)  # O(11) or O11: no name
_FURTHEST_M = float(np.finfo(np.float32).max)  # what is further off overflows wherever it is measured
_LONGEST_KIND = 100  # letters that the store takes
_NO_CLASS = 2**32 - 1  # the semantic label of nodes that have none


def spark_dsg() -> Any:
    """Return the package spark_dsg; UserError, naming the extra, where it is missing."""
    try:
        import spark_dsg as package
    except ImportError as error:
        raise UserError("graphs of Spark-DSG need spark-dsg: pip install 'open3dsg[dsg]'") from error
    return package


def load_dsg(path: Path) -> Any:
    """Load the DynamicSceneGraph in `path`; BadFileError where it is missing or none."""
    package = spark_dsg()
    if not path.is_file():
        raise BadFileError(f"{path}: no such file")
    try:
        with _silent():
            return package.DynamicSceneGraph.load(str(path))
    except (RuntimeError, ValueError, TypeError, IndexError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadFileError(f"{path}: no scene graph of Spark-DSG: {reason}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep off standard output what the package, which is C++, says of old files: answers go there."""
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def read_class_names(path: Path) -> Mapping[int, str]:
    """Read names of classes: a JSON object of number -> name, such as {"5": "chair"}.

    Raises BadFileError for anything else.
    """
    names: dict[int, str] = {}
    for key, value in read_json(path, dict).items():
        if not (key.isascii() and key.isdecimal() and len(key) < 11):
            raise BadFileError(f"{path}: {key[:100]!r} is no number of a class")
        names[int(key)] = typed(value, str, f"{path}: the name of class {key}")
    return names


class DsgReader:
    """Gives the one scan of a file, without points, as a dataset's reader gives scans."""

    def __init__(self, path: Path, name: str, dataset: str, classes: Mapping[int, str] | None = None) -> None:
        """Read the graph in `path` as the scan `name`; `classes`: the file's own names come first.

        Raises BadFileError for a file that is none, UserError for a name that cannot be one.
        """
        check_scan_name(name, "--name")
        self._path, self._name, self._dataset = path, name, dataset
        graph = load_dsg(path)
        self._content = _Translation(graph, name, _class_names(graph, path), dict(classes or {})).content

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Return nothing: the file is all there is."""
        return {}

    @property
    def ledger_options(self) -> Mapping[str, Any]:
        """Return nothing: no argument changes what is read of a scan."""
        return {}

    def annotation_hash(self, name: str) -> str | None:
        """Return a hash of the graph, 16 hex digits; None for another scan."""
        return self._content.hash if name == self._name else None

    def attributes_of(self, name: str) -> ScanAttributes | None:
        """Return layer and symbol of each node; None for another scan."""
        return ScanAttributes(tuple(sorted(self._content.attributes))) if name == self._name else None

    def word_lists(self) -> Sequence[WordList]:
        """Return nothing: the classes of a graph are what is in it."""
        return ()

    def read(self, name: str) -> Scan:
        """Return the scan, with `cloud` None, no frames, and its relations as one subgraph."""
        content = self._content
        return Scan(
            dataset=self._dataset,
            name=name,
            root=self._path.parent,
            cloud=None,
            labels=content.labels,
            subgraphs=(Subgraph(0, content.labels, list(content.relations)),),
            problems=tuple(content.problems),
            boxes=content.boxes,
        )


@dataclass
class _Content:
    """What is read of a graph, by instance number."""

    labels: dict[int, str] = field(default_factory=dict)
    boxes: dict[int, Box] = field(default_factory=dict)
    attributes: set[tuple[int, str, str]] = field(default_factory=set)
    relations: dict[tuple[int, int, str], None] = field(default_factory=dict)  # in order, each once
    problems: list[Problem] = field(default_factory=list)

    @cached_property
    def hash(self) -> str:
        told = (sorted(self.labels.items()), sorted(self.boxes.items()), sorted(self.relations))
        return hashlib.sha256(repr(told).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _class_names(graph: Any, path: Path) -> dict[_Key, Mapping[int, str]]:
    """Return what a file calls the classes of each layer; BadFileError where that is damaged."""
    keys = {(node.layer.layer, node.layer.partition) for node in graph.nodes}
    try:
        return {key: graph.get_labelspace(*key).labels_to_names for key in keys}
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadFileError(f"{path}: its names of classes are damaged: {reason}") from error


class _Translation:
    """Turns a graph into what a scan has; `content` is the outcome."""

    def __init__(
        self, graph: Any, scan: str, named: Mapping[_Key, Mapping[int, str]], classes: Mapping[int, str]
    ) -> None:
        self._scan, self._named, self._classes = scan, named, classes
        self._layers = {
            (key.layer, key.partition): name.lower().replace("_", " ")
            for name, key in sorted(graph.layer_names.items())
            if name != "AGENTS"  # has the number of the objects' layer
        }
        self.content = _Content()
        robot = [node for node in graph.nodes if type(node.attributes).__name__ == _ROBOT]
        kept = [node for node in graph.nodes if type(node.attributes).__name__ != _ROBOT]
        kept.sort(key=lambda node: (node.layer.layer, node.layer.partition, node.id.value))
        self._robot = {node.id.value for node in robot}
        self._numbers = _numbers(node.id for node in kept)
        self._layer_of = {node.id.value: node.layer for node in kept}
        for node in kept:
            self._add_node(node)
        edges = list(graph.edges)
        others = [edge for edge in edges if not self._robot.intersection((edge.source, edge.target))]
        for edge in others:
            self._add_edge(edge)
        if robot:
            told = f"{len(robot):,} poses of the robot with {len(edges) - len(others):,} edges"
            self._leave_out("robot_left_out", told)
        if graph.has_mesh() and graph.mesh.num_vertices():
            self._leave_out("mesh_left_out", f"{graph.mesh.num_vertices():,} vertices of the mesh")

    def _leave_out(self, kind: str, told: str) -> None:
        self.content.problems.append(Problem(kind, f"{self._scan}: {told}: left out"))

    def _add_node(self, node: Any) -> None:
        number, attributes = self._numbers[node.id.value], node.attributes
        ours = _ours(attributes)
        self.content.labels[number] = self._label(node, number)
        position = np.asarray(attributes.position, float)
        if not (np.abs(position) <= _FURTHEST_M).all():
            self._leave_out("place_not_finite", f"the place of {node.id.str(False)}")
        elif ours.get("has_place", True):
            self.content.boxes[number] = Box(position.tolist(), **_boxes(attributes))
        words = {LAYER: [self._layer(node.layer)], NODE: [node.id.str(False)], **_words(ours)}
        self.content.attributes |= {(number, kind, word) for kind, some in words.items() for word in some}

    def _label(self, node: Any, number: int) -> str:
        layer, given = self._layer(node.layer), int(node.attributes.semantic_label)
        names = self._named[node.layer.layer, node.layer.partition]
        named = names.get(given) or (self._classes.get(given) if layer == OBJECTS else None)
        own = str(node.attributes.name)
        if not _SYMBOL.fullmatch(own) and own.strip():
            named = named or own
        if named:
            return str(named)
        if layer != OBJECTS:
            return _SINGULAR.get(layer, layer)
        told = "has no class" if given == _NO_CLASS else f"is of class {given}, which has no name"
        self.content.problems.append(Problem("class_without_name", f"{self._scan}: object {number} {told}"))
        return "object" if given == _NO_CLASS else f"class {given}"

    def _layer(self, key: Any) -> str:
        named: str = self._layers.get((key.layer, key.partition), f"layer {key.layer}.{key.partition}")
        return named

    def _add_edge(self, edge: Any) -> None:
        if edge.source == edge.target:
            self._leave_out("edge_to_self", f"an edge of instance {self._numbers[edge.source]} with itself")
        else:
            self.content.relations |= dict.fromkeys(self._relations(edge))

    def _relations(self, edge: Any) -> Iterator[tuple[int, int, str]]:
        ends = {edge.source: self._numbers[edge.source], edge.target: self._numbers[edge.target]}
        told = _ours(edge.info).get("relations")
        if isinstance(told, list):
            for each in told:
                match each:
                    case {"subject": int(subject), "predicate": str(predicate), "object": int(target)} if {
                        subject,
                        target,
                    } == ends.keys():
                        yield ends[subject], ends[target], predicate
                    case _:
                        self._leave_out("relation_unclear", f"a relation told as {str(each)[:100]}")
            return
        upper, lower = sorted(ends, key=lambda node: self._layer_of[node].layer, reverse=True)
        layer = self._layer_of[upper]
        if layer.layer != self._layer_of[lower].layer:
            yield ends[lower], ends[upper], "at" if self._layer(layer) == PLACES else "in"
            return
        yield ends[upper], ends[lower], "connected to"
        yield ends[lower], ends[upper], "connected to"


def _numbers(symbols: Iterable[Any]) -> dict[int, int]:
    """Return node -> instance number: its symbol's, or above all where that is taken or too large."""
    given = [(symbol.value, symbol.category_id) for symbol in symbols]
    largest = LARGEST_NUMBER - len(given)  # leaves room above
    fitting = [number for _node, number in given if number <= largest]
    fresh = max(fitting, default=-1) + 1
    numbers: dict[int, int] = {}
    taken: set[int] = set()
    for node, wanted in given:
        is_free = wanted not in taken and wanted <= largest
        numbers[node] = wanted if is_free else fresh
        fresh += not is_free
        taken.add(numbers[node])
    return numbers


def _ours(holder: Any) -> dict[str, Any]:
    """Return what we put into the metadata of a node or edge, if we did."""
    try:
        told = holder.metadata.get().get(OURS)
    except (TypeError, AttributeError):  # metadata can be any JSON; ours is a mapping
        return {}
    return told if isinstance(told, dict) else {}


def _words(ours: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the attributes that we wrote of a node, kind -> words; what is none is passed over."""
    given = ours.get("attributes")
    if not isinstance(given, dict):
        return {}
    return {
        kind: [word for word in words if isinstance(word, str) and word.strip()]
        for kind, words in given.items()
        if kind.strip() and kind.isprintable() and len(kind) <= _LONGEST_KIND and isinstance(words, list)
    }


def _boxes(attributes: Any) -> dict[str, list[float]]:
    """Return the boxes of a node as `Box` has them: none, the axis-aligned one, or the oriented one too."""
    box = attributes.bounding_box
    if box.type == spark_dsg().BoundingBoxType.INVALID:  # flat ones count, which `is_valid` denies
        return {}
    corners = np.asarray(box.corners(), float)
    if not np.isfinite(corners).all():
        return {}
    found = {"aabb_min_m": corners.min(axis=0).tolist(), "aabb_max_m": corners.max(axis=0).tolist()}
    if box.has_rotation():
        # Its columns are the axes of the box in the world; rows are, here.
        found["obb_axes"] = np.asarray(box.world_R_center, float).T.ravel().tolist()
        found["obb_centre_m"] = np.asarray(box.world_P_center, float).tolist()
        found["obb_lengths_m"] = np.asarray(box.dimensions, float).tolist()
    return found
