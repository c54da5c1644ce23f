"""What boxes say, by hand and against plain arithmetic on two of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from open3dsg.training.network.geometry import (
    EDGE_NUMBERS,
    NODE_NUMBERS,
    edge_numbers,
    node_numbers,
    stretched,
)
from tests.made_graphs import joined, made_graph


def test_a_distance_is_stretched_near_zero() -> None:
    metres = torch.tensor([-0.05, 0.0, 0.05, 1.55])
    np.testing.assert_allclose(stretched(metres), [-math.log(2), 0, math.log(2), math.log(32)], rtol=1e-6)


def test_nodes_know_size_and_height_above_the_lowest_of_their_unit() -> None:
    units = [made_graph(seed, instances=3) for seed in (1, 2)]
    numbers = torch.cat([node_numbers(unit) for unit in units])
    torch.testing.assert_close(node_numbers(joined(*units)), numbers)
    assert numbers.shape == (6, NODE_NUMBERS)
    box = units[0].instance_box.double().numpy()
    floor = (box[:, 2] - box[:, 5] / 2).min()
    x, y, z = box[1, 3:6]
    foot, top = box[1, 2] - z / 2 - floor, box[1, 2] + z / 2 - floor
    logs = [math.log(value) for value in (x, y, z, max(x, y), min(x, y), x * y * z)]
    heights = [math.copysign(math.log1p(abs(value) / 0.05), value) for value in (foot, top, box[1, 2])]
    np.testing.assert_allclose(numbers[1], logs + heights, rtol=1e-5, atol=1e-5)


def test_edges_know_one_box_from_the_other() -> None:
    graph = made_graph(0, instances=2)
    #                        a table, 1 x 2 m, 0.8 m high    a lamp on it, over its edge by a half
    graph.instance_box = torch.tensor([[0, 0, 0.4, 1, 2, 0.8, 0], [0.5, 0, 1.0, 0.2, 0.2, 0.4, 0]])
    lamp_to_table = edge_numbers(graph)[1].double().numpy()
    assert edge_numbers(graph).shape == (2, EDGE_NUMBERS)
    metres = [
        *(0.5, 0, 0.6),  # middles
        *(0.9, 0.9, 0.8),  # lower faces
        *(0.1, -0.9, 0.4),  # upper faces
        *(-1.1, -1.1, -1.2),  # foot of the table from the top of the lamp
        *(-0.1, -1.1, 0.0),  # foot of the lamp from the top of the table
        *(-0.1, -1.1, 0.0),  # gaps
        *(0.0, math.hypot(0.5, 0.6), 0.5),
    ]
    told = [math.copysign(math.log1p(abs(value) / 0.05), value) for value in metres]
    shares = [0.5, 1, 0, 0.5, 0, 0.1, 0.1, 0, 0.01, 0]
    ratios = [math.log(0.2), math.log(0.1), math.log(0.5)]
    np.testing.assert_allclose(lamp_to_table, told + shares + ratios, atol=1e-4)


@pytest.mark.parametrize("numbers", [node_numbers, edge_numbers])
def test_flat_things_give_finite_numbers(numbers: object) -> None:
    graph = made_graph(0)
    graph.instance_box[:, 3:6] = 0
    assert callable(numbers)
    assert torch.isfinite(numbers(graph)).all()
