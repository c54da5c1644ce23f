"""The units of noise that `open3dsg profile memory --train` measures training on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from open3dsg.training.batch import join
from open3dsg.training.memory import INSTANCES, made_unit
from open3dsg.training.module import Student
from open3dsg.training.network.network import SceneGraphNetwork
from open3dsg.training.options import Targets, TargetShape, preset

SMALL = preset("small")
NETWORK = replace(SMALL.network, gconv_dim=32, hidden_dim=32, projector_dim=32, adapter_dim=32)
STREAM = replace(SMALL.stream, instance_points=8, pair_points=4)
SHAPES: dict[Targets, TargetShape] = {
    "pooled": TargetShape(12, "pooled", relation_dimension=20),
    "tokens": TargetShape(12, "tokens", relation_dimension=32, tokens=3),
    "captions": TargetShape(12, "captions", relation_dimension=20),
    "classes": TargetShape(12, "classes", classes=("on", "left")),
}


@pytest.mark.parametrize("targets", SHAPES)
def test_the_network_learns_from_all_of_a_unit_of_noise(targets: Targets) -> None:
    shape = SHAPES[targets]
    units = [made_unit(seed, shape, STREAM) for seed in range(2)]
    assert not torch.equal(units[0].instance_points, units[1].instance_points)
    graph = join(units)
    instances, edges, pairs = (
        2 * count for count in (INSTANCES, INSTANCES * (INSTANCES - 1), INSTANCES * (INSTANCES - 1) // 2)
    )
    assert graph.instance_points.shape == (instances, 8, 6)
    assert graph.pair_points.shape == (pairs, 4, 6)
    assert graph.edge_index.shape == (2, edges)
    ends = graph.edge_index.sort(dim=0).values.T
    assert torch.equal(ends[graph.edge_pair == 40], ends[graph.edge_pair == 40][:1].expand(2, 2))
    assert bool((graph.edge_turned == (graph.edge_index[0] > graph.edge_index[1])).all())
    student = Student(SceneGraphNetwork(NETWORK, shape), SMALL.learning)
    total, _ = student(graph, 0.5)
    total.backward()
    assert 0 < float(total.detach()) < 4
    learnt = [weight.grad is not None and bool(weight.grad.any()) for weight in student.parameters()]
    assert sum(learnt) > 0.9 * len(learnt)
