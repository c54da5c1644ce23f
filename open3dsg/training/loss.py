"""What the network learns from: how far its embeddings are from those of the pictures.

As published (Koch et al., CVPR 2024): 1 - cosine, the mean over the rows of a unit that have a target, then
the mean over units; the tokens of a pair are one long vector. Classes are learnt by binary cross entropy.
PointNet's transforms are kept near rotations by the norm of T T^t - I (Qi et al., CVPR 2017), where the
published code has T (T^t - I).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from open3dsg.training.network.geometry import unit_of_nodes

if TYPE_CHECKING:
    from torch import Tensor

    from open3dsg.training.batch import Outputs, SceneGraph
    from open3dsg.training.options import LearningOptions


@dataclass(frozen=True, eq=False)
class Losses:
    """Sums over the graphs of a batch, scalars; divided by `graphs` means. `total` has the weights in it."""

    total: Tensor
    nodes: Tensor
    relations: Tensor
    transforms: Tensor
    graphs: int


def distillation_loss(outputs: Outputs, graph: SceneGraph, options: LearningOptions) -> Losses:
    """Return the losses of a batch: sums over graphs of the means over the valid rows of each.

    A graph without a valid row adds 0. Edges that were not asked of the network, and edges without a target,
    are no rows.
    """
    units = int(graph.graphs)
    unit_of_node = unit_of_nodes(graph)
    nodes = _node_loss(outputs, graph, unit_of_node, units)
    relations = _relation_loss(outputs, graph, units)
    transforms = nodes.new_zeros(())
    if outputs.transforms:
        of_nodes, of_edges = outputs.transforms
        transforms = _sum_of_means(of_nodes, unit_of_node, units)
        transforms = transforms + _sum_of_means(of_edges, graph.edge_graph, units)
    total = options.w_obj * nodes + options.w_rel * relations + options.w_transform * transforms
    return Losses(total, nodes, relations, transforms, units)


def _node_loss(outputs: Outputs, graph: SceneGraph, unit: Tensor, units: int) -> Tensor:
    rows = graph.node_valid.nonzero()[:, 0]
    return _sum_of_means(_turn(outputs.nodes[rows], graph.node_target[rows]), unit[rows], units)


def _relation_loss(outputs: Outputs, graph: SceneGraph, units: int) -> Tensor:
    unit = graph.edge_graph[outputs.edges]
    if outputs.classes is not None:
        wanted = graph.relation_classes[outputs.edges]
        crossed = functional.binary_cross_entropy_with_logits(
            outputs.classes.float(), wanted, reduction="none"
        )
        return _sum_of_means(crossed.mean(dim=-1), unit, units)
    if outputs.relations is None:
        raise ValueError("neither embeddings of relations nor scores of classes to learn from")
    rows = graph.relation_valid[outputs.edges].nonzero()[:, 0]
    target = graph.relation_target[graph.relation_row[outputs.edges[rows]]]
    turned = _turn(outputs.relations[rows].flatten(1), target.flatten(1))
    return _sum_of_means(turned, unit[rows], units)


def _turn(found: Tensor, wanted: Tensor) -> Tensor:
    """1 - cosine of rows, (n, d) each: (n,) float32."""
    return 1 - functional.cosine_similarity(found.float(), wanted.float(), dim=1)


def _sum_of_means(rows: Tensor, unit: Tensor, units: int) -> Tensor:
    """Sum over `units` units of the mean of the `rows`, (n,), of each; a unit without rows adds 0."""
    counts = torch.bincount(unit, minlength=units)
    return (rows / counts[unit]).sum()
