"""Backbones against plain loops over edges."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from open3dsg.training.network.backbones import (
    Alone,
    FeatureAttention,
    GraphTransformer,
    Layers,
    TripletConvolution,
)
from open3dsg.training.options import BACKBONES, Backbone, NetworkOptions

WIDTH, HIDDEN = 8, 6
ENDS = torch.tensor([[0, 1, 2, 2, 0], [1, 0, 1, 0, 2]])  # subject, object; 3 is of no edge


def made_rows() -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return torch.randn(4, WIDTH), torch.randn(5, WIDTH)


def largest(told: list[list[Tensor]], width: int) -> Tensor:
    return torch.stack([torch.stack(heard).amax(0) if heard else torch.zeros(width) for heard in told])


def test_triplet_convolution() -> None:
    nodes, edges = made_rows()
    layer = TripletConvolution(WIDTH, HIDDEN, "group")
    told: list[list[Tensor]] = [[] for _ in nodes]
    new = []
    for (subject, other), edge in zip(ENDS.T.tolist(), edges, strict=True):
        made = layer.triplet(torch.cat([nodes[other], edge, nodes[subject]]))
        told[other].append(made[:HIDDEN] + made[-HIDDEN:])
        new.append(made[HIDDEN:-HIDDEN])
    found = layer(nodes, edges, ENDS)
    torch.testing.assert_close(found[0], nodes + layer.node(largest(told, HIDDEN)))
    torch.testing.assert_close(found[1], torch.stack(new))


def test_feature_attention() -> None:
    nodes, edges = made_rows()
    heads, attention = 2, 12
    layer = FeatureAttention(WIDTH, attention, heads, "group", dropout=0.0)
    told: list[list[Tensor]] = [[] for _ in nodes]
    new = []
    for (subject, other), edge in zip(ENDS.T.tolist(), edges, strict=True):
        query, key, value = layer.query(nodes[subject]), layer.key(edge), layer.value(nodes[other])
        heard = []
        for head in range(heads):
            own, values = slice(4 * head, 4 * head + 4), slice(6 * head, 6 * head + 6)
            weights = layer.weigh(torch.cat([query[own], key[own]])) / 2  # the root of the 4 of a head
            heard.append(weights.softmax(dim=0) * value[values])
        told[subject].append(torch.cat(heard))
        new.append(layer.edge(torch.cat([nodes[subject], edge, nodes[other]])))
    found = layer(nodes, edges, ENDS)
    torch.testing.assert_close(found[0], layer.node(torch.cat([nodes, largest(told, attention)], dim=1)))
    torch.testing.assert_close(found[1], torch.stack(new))


def test_graph_transformer() -> None:
    nodes, edges = made_rows()
    layer = GraphTransformer(WIDTH, HIDDEN, heads=2, dropout=0.0)
    attend = layer.attend
    normed, told = layer.norm_nodes(nodes), layer.norm_edges(edges)
    heard = attend.lin_skip(normed)
    for node in range(len(nodes)):
        coming = (ENDS[1] == node).nonzero()[:, 0]
        subjects, by_edge = normed[ENDS[0, coming]], attend.lin_edge(told[coming])
        query = attend.lin_query(normed[node]).view(2, 4)
        keys = (attend.lin_key(subjects) + by_edge).view(-1, 2, 4)
        values = (attend.lin_value(subjects) + by_edge).view(-1, 2, 4)
        weights = ((keys * query).sum(dim=2) / 2).softmax(dim=0)
        heard[node] += (weights[..., None] * values).sum(dim=0).flatten()
    expected = nodes + heard
    expected = expected + layer.node(layer.norm_heard(expected))
    ends = torch.cat([expected[ENDS[0]], told, expected[ENDS[1]]], dim=1)
    found = layer(nodes, edges, ENDS)
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1], edges + layer.edge(ends))


def test_alone_nobody_hears_of_another() -> None:
    nodes, edges = made_rows()
    layer = Alone(WIDTH, HIDDEN, "group")
    before = layer(nodes, edges, ENDS)
    nodes[1], edges[2] = 0, 0
    after = layer(nodes, edges, ENDS)
    assert (before[0] != after[0]).any(dim=1).tolist() == [False, True, False, False]
    assert (before[1] != after[1]).any(dim=1).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "mlp"])
def test_two_layers_bring_news_from_two_edges_away(backbone: Backbone) -> None:
    torch.manual_seed(0)
    small = NetworkOptions(
        gnn_layers=2, gconv_dim=WIDTH, hidden_dim=16, heads=2, attention_dim=8, norm="group"
    )
    options = replace(small, backbone=backbone)
    layers = Layers(options).eval()
    chain = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    nodes, edges = torch.randn(3, WIDTH), torch.randn(4, WIDTH)
    before = layers(nodes, edges, chain)[0]
    nodes[2] *= -1
    assert not torch.allclose(before[0], layers(nodes, edges, chain)[0][0])
