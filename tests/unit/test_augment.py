"""Changes of what a network is shown: as large as they should be, on what they should, and the same again."""

from __future__ import annotations

from collections import Counter

import torch

from open3dsg.training.augment import augment, unit_generator
from open3dsg.training.batch import SceneGraph

POINTS = 100


def made(seed: int = 0) -> SceneGraph:
    drawn = torch.Generator().manual_seed(seed)
    return SceneGraph(
        num_nodes=3,
        instance_points=torch.rand((3, POINTS, 6), generator=drawn),
        pair_points=torch.rand((4, POINTS, 6), generator=drawn),
        instance_box=torch.rand((3, 7), generator=drawn),
        edge_offset=torch.rand((4, 3), generator=drawn),
    )


def changes(unit: int) -> tuple[SceneGraph, tuple[str, ...]]:
    """The changed unit, and which changes it shows, told by what each leaves as it is."""
    before, after = made(), made()
    augment(after, unit_generator(42, 1, unit))
    assert torch.equal(before.instance_box, after.instance_box)
    assert torch.equal(before.edge_offset, after.edge_offset)
    found = []
    tint = after.instance_points[..., 3:] - before.instance_points[..., 3:]
    if tint.any():
        assert 0.019 < tint.abs().max() <= 0.0201
        found.append("tint")
    ratio = after.pair_points[..., :3].norm(dim=2) / before.pair_points[..., :3].norm(dim=2)
    middle = ratio.median(dim=1).values  # of each cloud, whatever noise it has
    if (middle - 1).abs().max() > 0.005:
        assert (middle - 1).abs().max() < 0.105
        found.append("scale")
    noise = after.pair_points[..., :3] / middle[:, None, None] - before.pair_points[..., :3]
    if noise.std() > 1e-3:
        assert 0.008 < noise.std() < 0.014
        found.append("jitter")
    flat = after.instance_points[..., :2] - before.instance_points[..., :2]
    if flat.abs().max() > 0.3:
        found.append("turn")
    return after, tuple(found)


def test_each_change_comes_a_quarter_of_the_time_and_with_any_other() -> None:
    seen = [changes(unit)[1] for unit in range(400)]
    counts = Counter(change for found in seen for change in found)
    assert set(counts) == {"tint", "scale", "jitter", "turn"}
    for count in counts.values():
        assert 70 <= count <= 130  # 100 expected, standard deviation 8.7
    assert 90 <= sum(found == () for found in seen) <= 165  # 127 expected
    assert len(set(seen)) >= 14


def test_a_turn_is_about_z_and_the_same_for_all_instances_and_of_no_pair() -> None:
    turned = next(graph for graph, found in map(changes, range(400)) if found == ("turn",))
    before = made()
    assert torch.equal(turned.pair_points, before.pair_points)
    torch.testing.assert_close(turned.instance_points[..., 2], before.instance_points[..., 2])
    was, now = (flat_points(graph) for graph in (before, turned))
    turn = now / was  # of complex numbers: a turn and no stretch
    torch.testing.assert_close(turn, turn[0, 0].expand_as(turn))
    torch.testing.assert_close(turn.abs(), torch.ones(turn.shape))


def flat_points(graph: SceneGraph) -> torch.Tensor:
    """Seen from above, as x + iy."""
    return torch.view_as_complex(graph.instance_points[..., :2].contiguous())


def test_a_unit_is_changed_alike_again_and_otherwise_in_another_epoch() -> None:
    one, again = changes(3)[0], changes(3)[0]
    assert torch.equal(one.instance_points, again.instance_points)
    assert torch.equal(one.pair_points, again.pair_points)
    states = {
        tuple(unit_generator(*key).get_state().tolist())
        for key in ((42, 1, 3), (42, 2, 3), (43, 1, 3), (42, 1, 4))
    }
    assert len(states) == 4


def test_points_without_colours_are_changed_too() -> None:
    for unit in range(20):
        graph = made()
        graph.instance_points = graph.instance_points[..., :3].clone()
        graph.pair_points = graph.pair_points[..., :3].clone()
        augment(graph, unit_generator(0, 0, unit))
        assert graph.instance_points.isfinite().all()
