"""Point encoders: what they may not notice, and PointNet++ against its plain formulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.training.network.network import edge_clouds
from open3dsg.training.network.norm import make_norm
from open3dsg.training.network.pointnet import PointNet, TransformNet, skew
from open3dsg.training.network.pointnet2 import PointNet2, ball_members, farthest_points
from open3dsg.training.options import Norm
from tests.made_graphs import made_graph

WIDTHS = (8, 8, 16)
NORMS: tuple[Norm, ...] = ("batch", "group", "frozen")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("transforms", [True, False])
def test_pointnet_ignores_order_and_repetition(norm: Norm, transforms: bool) -> None:
    torch.manual_seed(0)
    encoder = PointNet(6, WIDTHS, norm, transforms=transforms).eval()
    clouds = torch.randn(3, 10, 6)
    repeated = clouds[:, torch.tensor([3, 3, 0, 1, 2, 4, 5, 9, 9, 9, 8, 7, 6])]
    for before, after in zip(encoder(clouds), encoder(repeated), strict=True):
        torch.testing.assert_close(before, after)
    assert (encoder(clouds)[1] is None) != transforms


def test_pointnet_turns_nothing_but_places() -> None:
    torch.manual_seed(0)
    encoder = PointNet(6, WIDTHS, "group", transforms=True)
    assert encoder.of_points is not None
    seen: list[torch.Tensor] = []
    encoder.first.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    clouds = torch.randn(2, 5, 6)
    encoder(clouds)
    turned = torch.einsum("npi,nij->npj", clouds[..., :3], encoder.of_points(clouds))
    torch.testing.assert_close(seen[0], torch.cat([turned, clouds[..., 3:]], dim=-1))


def test_skew_is_how_far_a_matrix_is_from_orthogonal() -> None:
    matrices = torch.randn(4, 3, 3)
    plain = [np.linalg.norm(matrix @ matrix.T - np.eye(3)) for matrix in matrices.double().numpy()]
    torch.testing.assert_close(skew(matrices), torch.tensor(plain, dtype=torch.float32))
    torch.testing.assert_close(skew(torch.linalg.qr(matrices).Q), torch.zeros(4), rtol=0, atol=1e-5)


def test_transforms_keep_what_halves_would_round_off() -> None:
    net = TransformNet(3, 3, WIDTHS, "group")
    torch.nn.init.zeros_(net.matrix.weight)
    torch.nn.init.constant_(net.matrix.bias, 0.001)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(torch.randn(2, 5, 3))
    torch.testing.assert_close(found, (torch.eye(3) + 0.001).expand(2, 3, 3), rtol=0, atol=1e-5)


def test_the_owner_of_points_is_told_from_the_side_of_the_subject() -> None:
    graph = made_graph(1, instances=4)
    clouds = edge_clouds(graph, slice(2, 9), 3)
    for row, edge in enumerate(range(2, 9)):
        subject, other = graph.edge_index[:, edge].tolist()
        owner = graph.pair_owner[graph.edge_pair[edge]].numpy()
        first, second = min(subject, other), max(subject, other)
        expected = np.select([owner == 1, owner == 2], [first, second], -1)
        told = np.select([expected == subject, expected == other], [1, 2], 0)
        np.testing.assert_array_equal(clouds[row, :, 3].numpy(), told)
        torch.testing.assert_close(clouds[row, :, :3], graph.pair_points[graph.edge_pair[edge], :, :3])


def plain_farthest(points: NDArray[np.float32], count: int) -> list[int]:
    chosen = [0]
    while len(chosen) < count:
        nearest = [min(((point - points[place]) ** 2).sum() for place in chosen) for point in points]
        chosen.append(int(np.argmax(nearest)))
    return chosen


def plain_ball(
    points: NDArray[np.float32], centre: NDArray[np.float32], radius: float, count: int
) -> list[int]:
    within = [n for n, point in enumerate(points) if np.linalg.norm(point - centre) <= radius][:count]
    return within + within[:1] * (count - len(within))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 6), st.sampled_from([0.3, 0.61, 5.0]))
def test_sampling_and_grouping(seed: int, many: int, count: int, radius: float) -> None:
    made = np.random.default_rng(seed)
    # A coarse grid, so that points coincide, and no distance is near a radius.
    points = (made.integers(-3, 4, (2, many, 3)) / 4).astype(np.float32)
    clouds = torch.from_numpy(points)
    chosen = farthest_points(clouds, min(count, many))
    members = ball_members(clouds, clouds[torch.arange(2)[:, None], chosen], radius, count)
    for cloud in range(2):
        assert chosen[cloud].tolist() == plain_farthest(points[cloud], min(count, many))
        for row, place in enumerate(chosen[cloud].tolist()):
            expected = plain_ball(points[cloud], points[cloud, place], radius, count)
            assert members[cloud, row].tolist() == expected


def test_pointnet2_takes_any_channels_and_few_points() -> None:
    for channels, points in ((3, 1), (4, 9), (7, 600)):
        encoder = PointNet2(channels, WIDTHS, "group").eval()
        embedded, transforms = encoder(torch.rand(2, points, channels) - 0.5)
        assert embedded.shape == (2, encoder.dimension)
        assert transforms is None
    assert PointNet2(3, (64, 128, 1024), "batch").dimension == 256


def test_pointnet2_drops_only_in_training() -> None:
    torch.manual_seed(0)
    encoder, cloud = PointNet2(3, (8, 8, 64), "group"), torch.rand(1, 20, 3)
    assert not torch.equal(encoder(cloud)[0], encoder(cloud)[0])
    encoder.eval()
    assert torch.equal(encoder(cloud)[0], encoder(cloud)[0])


@pytest.mark.parametrize("norm", NORMS)
def test_norms_work_on_rows(norm: Norm) -> None:
    rows = torch.randn(4, 5, 6)
    layer = make_norm(norm, 6)
    made = layer(rows).detach().numpy()
    plain = rows.numpy()
    axes = {"batch": (0, 1), "group": (2,)}.get(norm)
    if axes:
        spread = plain.std(axis=axes, keepdims=True)
        plain = (plain - plain.mean(axis=axes, keepdims=True)) / spread
    np.testing.assert_allclose(made, plain, atol=1e-4)


def test_batch_statistics_outside_training_are_running_ones() -> None:
    layer = make_norm("batch", 3)
    layer(torch.randn(50, 3) * 2 + 5)
    state = layer.state_dict()
    rows = torch.randn(1, 3)
    expected = (rows - state["rows.running_mean"]) / (state["rows.running_var"] + 1e-5).sqrt()
    torch.testing.assert_close(layer(rows), expected)  # one row has no variance, in training either
    assert layer(rows[:0]).shape == (0, 3)
    torch.testing.assert_close(layer.eval()(rows), expected)


def test_frozen_statistics_stay() -> None:
    layer = make_norm("frozen", 3)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.train()(torch.randn(50, 3) + 5)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
