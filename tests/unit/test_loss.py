"""The losses, against numpy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.training.batch import Outputs, SceneGraph
from open3dsg.training.loss import distillation_loss
from open3dsg.training.options import LearningOptions, TargetShape
from tests.made_graphs import CLASSES, POOLED, TOKENS, joined, made_graph

WEIGHTS = LearningOptions(w_obj=2.0, w_rel=3.0, w_transform=0.5)


def made_outputs(graph: SceneGraph, shape: TargetShape, edges: torch.Tensor) -> Outputs:
    count, tokens = len(edges), (shape.tokens,) if shape.tokens else ()
    nodes = torch.randn(len(graph.instance_box), shape.node_dimension, requires_grad=True)
    transforms = (torch.rand(len(nodes)), torch.rand(graph.edge_index.shape[1]))
    if shape.targets == "classes":
        return Outputs(nodes, edges, None, torch.randn(count, len(shape.classes)), transforms)
    relations = torch.randn(count, *tokens, shape.relation_dimension, requires_grad=True)
    return Outputs(nodes, edges, relations, None, transforms)


def turn(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(1 - a @ b / np.sqrt((a @ a) * (b @ b)))


def plain_relation(graph: SceneGraph, outputs: Outputs, row: int, edge: int) -> float | None:
    if outputs.classes is not None:
        logits = outputs.classes[row].detach().numpy().astype(np.float64)
        chance = 1 / (1 + np.exp(-logits))
        wanted = graph.relation_classes[edge].numpy()
        return float(-np.log(np.where(wanted == 1, chance, 1 - chance)).mean())
    if not graph.relation_valid[edge]:
        return None
    assert outputs.relations is not None
    target = graph.relation_target[graph.relation_row[edge]]
    return turn(outputs.relations[row].detach().numpy(), target.numpy())


def plain(graph: SceneGraph, outputs: Outputs) -> tuple[float, float, float]:
    """Unit by unit and row by row."""
    nodes = relations = transforms = 0.0
    for unit in range(graph.graphs):
        members = [n for n in range(len(outputs.nodes)) if graph.batch[n] == unit]
        edges = [e for e in range(len(graph.edge_graph)) if graph.edge_graph[e] == unit]
        told = [
            turn(outputs.nodes[n].detach().numpy(), graph.node_target[n].numpy())
            for n in members
            if graph.node_valid[n]
        ]
        said = [
            plain_relation(graph, outputs, row, edge)
            for row, edge in enumerate(outputs.edges.tolist())
            if edge in edges
        ]
        kept = [value for value in said if value is not None]
        nodes += float(np.mean(told)) if told else 0.0
        relations += float(np.mean(kept)) if kept else 0.0
        for skews, rows in zip(outputs.transforms, (members, edges), strict=True):
            transforms += float(skews[rows].mean()) if rows else 0.0
    return nodes, relations, transforms


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1000),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from([POOLED, TOKENS, CLASSES]),
)
def test_losses_are_the_plain_ones(seed: int, sizes: list[int], shape: TargetShape) -> None:
    torch.manual_seed(seed)
    graphs = [made_graph(seed + n, shape, instances=size, points=2) for n, size in enumerate(sizes)]
    graph = joined(*graphs)
    count = graph.edge_index.shape[1]
    outputs = made_outputs(graph, shape, torch.randperm(count)[: max(1, count // 2) if count else 0])
    losses = distillation_loss(outputs, graph, WEIGHTS)
    nodes, relations, transforms = plain(graph, outputs)
    assert losses.graphs == len(sizes)
    assert float(losses.nodes.detach()) == pytest.approx(nodes, abs=1e-5)
    assert float(losses.relations.detach()) == pytest.approx(relations, abs=1e-3 if shape is TOKENS else 1e-5)
    assert float(losses.transforms) == pytest.approx(transforms, rel=1e-5, abs=1e-6)
    weighed = 2 * losses.nodes + 3 * losses.relations + 0.5 * losses.transforms
    assert torch.equal(losses.total, weighed)


@pytest.mark.parametrize("shape", [POOLED, TOKENS])
def test_no_valid_row_is_no_loss_but_a_gradient(shape: TargetShape) -> None:
    graph = joined(made_graph(0, shape), made_graph(1, shape))
    graph.node_valid[:] = False
    graph.relation_valid[:] = False
    graph.node_target[:] = torch.nan  # as rows without features may hold anything
    outputs = made_outputs(graph, shape, torch.arange(24))
    losses = distillation_loss(outputs, graph, LearningOptions(w_transform=0))
    assert float(losses.total.detach()) == 0
    torch.autograd.backward(losses.total)
    assert outputs.relations is not None
    for made in (outputs.nodes, outputs.relations):
        assert made.grad is not None
        assert not made.grad.any()


def test_a_graph_without_targets_leaves_the_other_alone() -> None:
    empty, full = made_graph(0), made_graph(1)
    empty.node_valid[:] = False
    empty.relation_valid[:] = False
    outputs = made_outputs(joined(empty, full), POOLED, torch.arange(24))
    assert outputs.relations is not None
    half = Outputs(outputs.nodes[4:], torch.arange(12), outputs.relations[12:], None, ())
    both = distillation_loss(outputs, joined(empty, full), LearningOptions(w_transform=0))
    alone = distillation_loss(half, joined(full), LearningOptions(w_transform=0))
    torch.testing.assert_close(both.total, alone.total)


def test_the_right_answer_costs_nothing() -> None:
    graph = made_graph(0)
    graph.node_valid[:] = True
    edges = graph.relation_valid.nonzero()[:, 0]
    relations = 5 * graph.relation_target[graph.relation_row[edges]]
    losses = distillation_loss(Outputs(graph.node_target * 3, edges, relations, None, ()), graph, WEIGHTS)
    assert float(losses.total) == pytest.approx(0, abs=1e-5)


def test_the_wrong_way_round_costs_two() -> None:
    graph = made_graph(0)
    graph.node_valid[:] = True
    edges = torch.arange(12)
    graph.relation_valid[:] = True
    relations = -graph.relation_target[graph.relation_row]
    losses = distillation_loss(Outputs(-graph.node_target, edges, relations, None, ()), graph, WEIGHTS)
    assert float(losses.nodes) == pytest.approx(2)
    assert float(losses.total) == pytest.approx(10)


def test_outputs_of_nothing_are_refused() -> None:
    graph = made_graph(0)
    outputs = Outputs(graph.node_target, torch.arange(12), None, None, ())
    with pytest.raises(ValueError, match="neither embeddings"):
        distillation_loss(outputs, graph, WEIGHTS)


def test_half_precision_of_the_network_is_not_the_losses() -> None:
    graph = joined(made_graph(0))
    outputs = made_outputs(graph, POOLED, torch.arange(12))
    exact = distillation_loss(outputs, graph, WEIGHTS).total
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distillation_loss(outputs, graph, WEIGHTS).total, exact)
