"""The whole network: gradients under every switch, and graphs that know nothing of each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from open3dsg.errors import UserError
from open3dsg.training.batch import Outputs, SceneGraph
from open3dsg.training.loss import distillation_loss
from open3dsg.training.network import SceneGraphNetwork
from open3dsg.training.network import network as network_module
from open3dsg.training.network.projectors import TokenLayer
from open3dsg.training.options import LearningOptions, NetworkOptions, TargetShape, preset
from tests.made_graphs import CLASSES, POOLED, TOKENS, joined, made_graph

TINY = NetworkOptions(
    use_rgb=True,
    point_widths=(8, 8, 16),
    adapter_dim=16,
    gnn_layers=2,
    gconv_dim=8,
    hidden_dim=16,
    heads=2,
    attention_dim=12,
    projector_dim=16,
    blip_layers=2,
    norm="group",
    dropout=0.0,
)
SWITCHES: dict[str, dict[str, Any]] = {
    "default": {},
    "pointnet2": {"point_encoder": "pointnet2"},
    "xyz": {"use_rgb": False},
    "no transforms": {"transforms": False},
    "centre": {"centre": True},
    "geometry": {"geometry": True},
    "no messages": {"gnn_layers": 0},
    "attention": {"backbone": "attention"},
    "transformer": {"backbone": "transformer"},
    "mlp": {"backbone": "mlp"},
    "batch": {"norm": "batch"},
    "frozen": {"norm": "frozen"},
    "dropout": {"backbone": "transformer", "point_encoder": "pointnet2", "dropout": 1.0},
}
# Those that differ in how things and units could get mixed up, or in their arithmetic.
MIXING = {
    name: SWITCHES[name]
    for name in ("default", "pointnet2", "geometry", "attention", "transformer", "mlp", "batch", "frozen")
}
SHAPES = {"pooled": POOLED, "tokens": TOKENS, "classes": CLASSES}
LEARNT = {
    **{name: (switches, TOKENS) for name, switches in SWITCHES.items()},
    **{name: ({}, shape) for name, shape in SHAPES.items() if shape is not TOKENS},
}
LEARNING = LearningOptions()


def made_network(shape: TargetShape = POOLED, **switches: Any) -> SceneGraphNetwork:
    torch.manual_seed(7)
    return SceneGraphNetwork(replace(TINY, **switches), shape)


def embedded(outputs: Outputs) -> torch.Tensor:
    found = outputs.relations if outputs.relations is not None else outputs.classes
    assert found is not None
    return found


@pytest.mark.parametrize(("switches", "shape"), LEARNT.values(), ids=LEARNT)
def test_gradient_reaches_each_parameter(switches: dict[str, Any], shape: TargetShape) -> None:
    network = made_network(shape, **switches)
    graph = joined(*(made_graph(seed, shape) for seed in range(3)))
    torch.autograd.backward(distillation_loss(network(graph), graph, LEARNING).total)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # Batch statistics take away the bias before them.
        if switches.get("norm") != "batch" or not name.endswith("bias"):
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("switches", MIXING.values(), ids=MIXING)
def test_a_batch_is_its_graphs_alone(switches: dict[str, Any]) -> None:
    network = made_network(TOKENS, **switches).eval()
    graphs = [made_graph(0, TOKENS), made_graph(1, TOKENS, instances=2), made_graph(2, TOKENS, instances=6)]
    together, alone = network(joined(*graphs)), [network(graph) for graph in graphs]
    torch.testing.assert_close(together.nodes, torch.cat([one.nodes for one in alone]))
    torch.testing.assert_close(together.relations, torch.cat([embedded(one) for one in alone]))


@pytest.mark.parametrize(
    ("backbone", "norm"),
    [("message", "group"), ("attention", "group"), ("transformer", "frozen"), ("mlp", "frozen")],
)
def test_gradients_of_a_batch_are_the_sum_over_its_parts(backbone: str, norm: str) -> None:
    network = made_network(TOKENS, backbone=backbone, norm=norm, geometry=True)
    graphs = [made_graph(seed, TOKENS, instances=seed + 2) for seed in range(4)]

    def gradients(*batches: SceneGraph) -> torch.Tensor:
        network.zero_grad()
        for batch in batches:
            torch.autograd.backward(distillation_loss(network(batch), batch, LEARNING).total)
        return torch.cat([part.grad.flatten() for part in network.parameters() if part.grad is not None])

    whole = gradients(joined(*graphs))
    parts = gradients(joined(graphs[0], graphs[3]), joined(graphs[1]), graphs[2])
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("switches", MIXING.values(), ids=MIXING)
def test_nodes_and_edges_follow_their_order(switches: dict[str, Any]) -> None:
    network = made_network(POOLED, **switches).eval()
    graph = made_graph(3, instances=5)
    nodes, edges = torch.randperm(5), torch.randperm(graph.edge_index.shape[1])
    turned = graph.clone()
    for name in ("instance_points", "instance_box", "instance_centre"):
        turned[name] = graph[name][nodes]
    turned.edge_index = nodes.argsort()[graph.edge_index][:, edges]
    for name in ("edge_pair", "edge_turned", "edge_offset", "edge_graph"):
        turned[name] = graph[name][edges]
    before, after = network(graph), network(turned)
    torch.testing.assert_close(after.nodes, before.nodes[nodes])
    torch.testing.assert_close(after.relations, embedded(before)[edges])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_only_edges_that_are_asked_for_are_projected(shape: TargetShape) -> None:
    network = made_network(shape).eval()
    graph = made_graph(0, shape)
    asked = torch.tensor([7, 2, 2])
    some = network(graph, asked)
    assert torch.equal(some.edges, asked)
    torch.testing.assert_close(embedded(some), embedded(network(graph))[asked])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_no_edge_may_be_asked_for(shape: TargetShape) -> None:
    network, graph = made_network(shape), made_graph(0, shape)
    graph.node_valid[:] = True
    losses = distillation_loss(network(graph, torch.zeros(0, dtype=torch.int64)), graph, LEARNING)
    torch.autograd.backward(losses.total)
    assert float(losses.relations.detach()) == 0
    assert float(losses.nodes.detach()) > 0
    assert all(part.grad is None or torch.isfinite(part.grad).all() for part in network.parameters())


@pytest.mark.parametrize("switches", MIXING.values(), ids=MIXING)
def test_things_of_one_point_teach_finite_numbers(switches: dict[str, Any]) -> None:
    network, graph = made_network(**switches), joined(made_graph(0), made_graph(1, instances=2))
    for name in ("instance_points", "pair_points", "instance_box", "instance_centre", "edge_offset"):
        graph[name].zero_()
    torch.autograd.backward(distillation_loss(network(graph), graph, LEARNING).total)
    assert all(part.grad is not None and torch.isfinite(part.grad).all() for part in network.parameters())


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("switches", MIXING.values(), ids=MIXING)
def test_a_unit_may_be_one_thing_or_two(switches: dict[str, Any], instances: int) -> None:
    network = made_network(**switches)
    graph = joined(made_graph(0, instances=instances))
    outputs = network(graph)
    losses = distillation_loss(outputs, graph, LEARNING)
    torch.autograd.backward(losses.total)
    assert outputs.nodes.shape == (instances, 6)
    assert embedded(outputs).shape == (instances * (instances - 1), 5)
    assert torch.isfinite(losses.total)


@pytest.mark.parametrize("switches", MIXING.values(), ids=MIXING)
def test_half_precision_is_nearly_the_same(switches: dict[str, Any]) -> None:
    network = made_network(TOKENS, **switches).eval()
    graph = joined(made_graph(0, TOKENS), made_graph(1, TOKENS))
    with torch.autocast("cpu", torch.bfloat16):
        losses = distillation_loss(network(graph), graph, LEARNING)
    torch.autograd.backward(losses.total)
    exact = distillation_loss(network(graph), graph, LEARNING).total
    assert float(losses.total.detach()) == pytest.approx(float(exact.detach()), rel=0.03)


def test_outside_training_a_few_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    network, graph = made_network(TOKENS).eval(), made_graph(0, TOKENS, instances=6)
    whole = network(graph)
    seen: list[int] = []
    assert network.token_projector is not None
    network.token_projector.register_forward_hook(lambda _, rows, __: seen.append(len(rows[0])))
    network.pair_points.register_forward_hook(lambda _, rows, __: seen.append(len(rows[0])))
    monkeypatch.setattr(network_module, "_CLOUDS_AT_ONCE", 12)
    monkeypatch.setattr(network_module, "EDGES_AT_ONCE", 8)
    with torch.no_grad():
        parts = network(graph)
    assert seen == [12, 12, 6, 8, 8, 8, 6]
    torch.testing.assert_close(parts.nodes, whole.nodes)
    torch.testing.assert_close(parts.relations, whole.relations)
    for found, expected in zip(parts.transforms, whole.transforms, strict=True):
        torch.testing.assert_close(found, expected)


def test_published_sizes() -> None:
    shape = TargetShape(768, "tokens", 1408, tokens=257)
    with torch.device("meta"):
        network = SceneGraphNetwork(preset("published").network, shape)
    sizes = {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}
    assert sizes["pair_points.first.0.weight"] == (64, 4)
    assert sizes["object_points.third.0.weight"] == (1024, 128)
    assert sizes["adapter.0.weight"] == (512, 1024 + 64)
    assert sizes["backbone.layers.3.triplet.0.weight"] == (1024, 3 * 512)
    assert sizes["object_projector.4.weight"] == (768, 1024)
    assert sizes["relation_projector.4.weight"] == (1408, 1024)
    assert sizes["token_projector.layers.2.mlp.0.weight"] == (6144, 1408)
    with torch.device("meta"):
        assert TokenLayer(1408).heads == 16


def test_positions_are_kept_or_learnt() -> None:
    given = torch.arange(24.0).view(3, 8)
    kept = SceneGraphNetwork(TINY, TOKENS, given).token_projector
    learnt = made_network(TOKENS).token_projector
    assert kept is not None
    assert learnt is not None
    assert torch.equal(kept.positions, given)
    assert "positions" not in dict(kept.named_parameters())
    assert "positions" in dict(learnt.named_parameters())
    assert set(kept.state_dict()) == set(learnt.state_dict())
    with pytest.raises(ValueError, match=r"\(2, 8\)"):
        SceneGraphNetwork(TINY, TOKENS, given[:2])


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(UserError, match=r"attention_dim is 12: the attention backbone .* 8 heads"):
        made_network(backbone="attention", heads=8)
    with pytest.raises(UserError, match="needs colours"):
        made_network()(made_graph(0, channels=3))
