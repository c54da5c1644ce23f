"""Scene graphs of random numbers, as small as a test likes."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import torch

from open3dsg.training.batch import SceneGraph, join
from open3dsg.training.options import TargetShape

POOLED = TargetShape(node_dimension=6, targets="pooled", relation_dimension=5)
TOKENS = TargetShape(node_dimension=6, targets="tokens", relation_dimension=8, tokens=3)
CLASSES = TargetShape(node_dimension=6, targets="classes", classes=("none", "left", "right", "on"))


def made_graph(
    seed: int, shape: TargetShape = POOLED, *, instances: int = 4, points: int = 12, channels: int = 6
) -> SceneGraph:
    """A unit of instances that are all related, both ways; a third of the rows have no target."""
    made = np.random.default_rng(seed)
    pairs = instances * (instances - 1) // 2
    edges = np.array(list(permutations(range(instances), 2)), dtype=np.int64).reshape(-1, 2)
    pair_of = {pair: place for place, pair in enumerate(sorted({tuple(sorted(e)) for e in edges.tolist()}))}
    edge_pair = [pair_of[min(a, b), max(a, b)] for a, b in edges.tolist()]
    middle, centre = made.normal(0, 2, (2, instances, 3))
    boxes = np.column_stack([middle, made.uniform(0.1, 2, (instances, 3)), made.uniform(0, 3, instances)])
    graph = SceneGraph(
        instance_points=_points(made, instances, points, channels),
        instance_box=_float(boxes),
        instance_centre=_float(centre),
        pair_points=_points(made, pairs, points, channels),
        pair_owner=torch.from_numpy(made.integers(0, 3, (pairs, points)).astype(np.uint8)),
        edge_index=torch.from_numpy(edges.T.copy()),
        edge_pair=torch.tensor(edge_pair, dtype=torch.int64),
        edge_turned=torch.from_numpy(edges[:, 0] > edges[:, 1]),
        edge_offset=_float(centre[edges[:, 0]] - centre[edges[:, 1]]),
        edge_graph=torch.zeros(len(edges), dtype=torch.int64),
        node_target=_unit_rows(made, instances, shape.node_dimension),
        node_valid=torch.from_numpy(made.random(instances) > 0.3),
        graphs=1,
        instances=instances,
        pairs=pairs,
        rows=len(edges),
        num_nodes=instances,
    )
    if shape.targets == "classes":
        classes = made.integers(0, 2, (len(edges), len(shape.classes)))
        graph.relation_classes = _float(classes)
        return graph
    tokens = shape.tokens or 1
    target = _unit_rows(made, len(edges), tokens * shape.relation_dimension)
    if shape.targets == "tokens":
        target = target.view(len(edges), tokens, shape.relation_dimension).half()
    graph.relation_target = target
    graph.relation_row = torch.from_numpy(made.permutation(len(edges)))
    graph.relation_valid = torch.from_numpy(made.random(len(edges)) > 0.3)
    return graph


def joined(*graphs: SceneGraph) -> SceneGraph:
    """Join units as a stream does."""
    return join(graphs)


def _points(made: np.random.Generator, clouds: int, points: int, channels: int) -> torch.Tensor:
    cloud = made.normal(0, 1, (clouds, points, 3))
    cloud /= np.linalg.norm(cloud, axis=2, keepdims=True).max(axis=1, keepdims=True, initial=1e-9)
    colour = made.random((clouds, points, channels - 3))
    return _float(np.concatenate([cloud, colour], axis=2))


def _unit_rows(made: np.random.Generator, rows: int, dimension: int) -> torch.Tensor:
    numbers = made.normal(0, 1, (rows, dimension))
    return _float(numbers / np.linalg.norm(numbers, axis=1, keepdims=True))


def _float(numbers: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> torch.Tensor:
    return torch.from_numpy(numbers.astype(np.float32))
