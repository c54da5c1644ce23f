"""Memory that workers hand batches over in: whoever keeps a batch, it stays what it was."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from open3dsg.store.unit import UnitKey
from open3dsg.training.batch import Batch, Cursor, SceneGraph
from open3dsg.training.spaces import Spaces

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="made where workers are forked")


def halves(number: int) -> torch.Tensor:
    return torch.full((5, 3), number, dtype=torch.float16)


def hand_over(spaces: Spaces, number: int) -> bytes | None:
    """Hand over a batch of its own numbers, as a worker does; None where no space is free."""
    space = spaces.claim(0)
    if space is None:
        return None
    graph = SceneGraph(
        num_nodes=2,
        graphs=1,
        instance_points=torch.arange(18.0).reshape(2, 3, 3)[:, :, ::2] + number,
        node_valid=torch.tensor([True, False]),
        edge_index=torch.empty((2, 0), dtype=torch.int64),
    )
    space.empty_halves(9, 9)  # of a reading that broke off
    graph.relation_target = space.empty_halves(5, 3)
    graph.relation_target[:] = halves(number)
    rest = Batch(None, (UnitKey("made/room", number),), Cursor(1, number), 7)
    return pickle.dumps(space.hand_over(graph, rest))


def check(batch: Batch, number: int) -> None:
    assert (batch.keys, batch.cursor, batch.total) == ((UnitKey("made/room", number),), Cursor(1, number), 7)
    graph = batch.graph
    assert graph is not None
    assert (graph.num_nodes, graph.graphs) == (2, 1)
    assert torch.equal(graph.instance_points, torch.arange(18.0).reshape(2, 3, 3)[:, :, ::2] + number)
    assert graph.node_valid.tolist() == [True, False]
    assert (graph.edge_index.shape, graph.edge_index.dtype) == ((2, 0), torch.int64)
    assert torch.equal(graph.relation_target, halves(number))


def received(spaces: Spaces, number: int) -> Batch:
    told = hand_over(spaces, number)
    assert told is not None
    batch: Batch = pickle.loads(told)
    return batch


def test_a_space_is_used_again_once_nothing_is_left_of_its_batch() -> None:
    spaces = Spaces(1, 2)
    kept = [received(spaces, number) for number in (1, 2)]
    assert hand_over(spaces, 3) is None
    check(kept[0], 1)
    check(kept.pop(), 2)
    last = received(spaces, 3)
    check(last, 3)
    check(kept[0], 1)


def weighted(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a sum whose gradient by the weights is the sum of the points, and the weights."""
    assert batch.graph is not None
    weights = torch.ones(2, requires_grad=True)
    return (batch.graph.instance_points * weights).sum(), weights


def gradient(kept: tuple[torch.Tensor, torch.Tensor]) -> list[float]:
    total, weights = kept
    total.backward()  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    return list(weights.grad.tolist())


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (lambda batch: batch.graph.relation_target[1:, 0], lambda part: part.tolist() == [1] * 4),
        (lambda batch: batch.graph.relation_target.numpy()[2:], lambda part: part.sum() == 9),
        (lambda batch: batch.to("cpu").graph.instance_points[0], lambda part: part[0].tolist() == [1, 3]),
        (weighted, lambda part: gradient(part) == [45 + 6, 57 + 6]),
    ],
    ids=["view", "numpy", "to", "autograd"],
)
def test_a_view_of_a_tensor_keeps_its_batch(
    part: Callable[[Batch], Any], value: Callable[[Any], bool]
) -> None:
    spaces = Spaces(1, 2)
    kept = part(received(spaces, 1))
    gc.collect()
    for number in range(2, 6):
        check(received(spaces, number), number)
    assert value(kept)


def test_contents_stay_when_the_loader_is_gone_and_when_spaces_grow() -> None:
    spaces = Spaces(1, 2)
    kept = received(spaces, 1)
    space = spaces.claim(0)
    assert space is not None
    large = space.empty_halves(40, 1024, 1024)
    large[-1, -1, -1] = 8
    graph, rest = SceneGraph(num_nodes=1, relation_target=large), Batch(None, (), Cursor(0, 0), 1)
    there: Batch = pickle.loads(pickle.dumps(space.hand_over(graph, rest)))
    del spaces, space, graph, large
    gc.collect()
    check(kept, 1)
    assert there.graph is not None
    assert there.graph.relation_target[-1, -1, -1] == 8


def drop(batches: list[Batch]) -> None:
    batches.clear()
    os._exit(0)


def test_a_fork_that_drops_a_batch_does_not_give_its_space_back() -> None:
    spaces = Spaces(1, 1)
    kept = [received(spaces, 1)]
    fork = multiprocessing.get_context("fork").Process(target=drop, args=(kept,))
    fork.start()
    fork.join()
    assert hand_over(spaces, 2) is None
    check(kept.pop(), 1)
    check(received(spaces, 2), 2)


def test_nothing_stays_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    spaces = Spaces(2, 3)
    check(received(spaces, 1), 1)
    del spaces
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
