"""The order of an epoch: each unit once, whoever takes it and wherever it is gone on from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.training.order import batches, epoch_order

COUNTS = st.integers(0, 60)
FEW = st.integers(1, 5)


def taken(count: int, batch_size: int, world: int, start: int = 0) -> list[list[list[int]]]:
    """What each process takes of each batch, of the units 0 to count - 1 in the order of a seed."""
    order = epoch_order(count, 7, 3)
    shares = [
        list(batches(order, batch_size=batch_size, rank=rank, world=world, start=start))
        for rank in range(world)
    ]
    assert len({tuple((total, place) for _, total, place in of_rank) for of_rank in shares}) == 1
    return [[part.tolist() for part, _, _ in of_rank] for of_rank in shares]


@given(count=COUNTS, batch_size=FEW, world=FEW)
def test_each_unit_is_taken_once(count: int, batch_size: int, world: int) -> None:
    assert sorted(flat(taken(count, batch_size, world))) == list(range(count))


@given(count=COUNTS, batch_size=FEW, world=FEW)
def test_processes_take_as_many_batches_of_sizes_that_differ_by_one_at_most(
    count: int, batch_size: int, world: int
) -> None:
    shares = taken(count, batch_size, world)
    assert {len(of_rank) for of_rank in shares} == {-(-count // (batch_size * world))}
    for parts in zip(*shares, strict=True):
        sizes = {len(part) for part in parts}
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1


@given(count=COUNTS, first=st.tuples(FEW, FEW), then=st.tuples(FEW, FEW), steps=st.integers(0, 20))
def test_who_goes_on_with_other_processes_sees_what_is_left(
    count: int, first: tuple[int, int], then: tuple[int, int], steps: int
) -> None:
    seen = flat(of_rank[:steps] for of_rank in taken(count, *first))
    begun = batches(epoch_order(count, 7, 3), batch_size=first[0], rank=0, world=first[1])
    places = [place for _, _, place in begun][:steps]
    left = flat(taken(count, *then, start=places[-1] if places else 0))
    assert sorted(seen + left) == list(range(count))


def flat(shares: Iterable[list[list[int]]]) -> list[int]:
    return [unit for of_rank in shares for part in of_rank for unit in part]


def test_the_place_says_how_many_are_done() -> None:
    order = np.arange(10)
    parts = batches(order, batch_size=2, rank=1, world=2)
    found = [(part.tolist(), total, place) for part, total, place in parts]
    assert found == [([2, 3], 4, 4), ([6, 7], 4, 8), ([9], 2, 10)]


def test_a_process_may_have_none_of_the_last_batch() -> None:
    [(part, total, place)] = batches(np.arange(1), batch_size=2, rank=1, world=3)
    assert (part.tolist(), total, place) == ([], 1, 1)


@given(count=st.integers(0, 200), seed=st.integers(0, 2**32), epoch=st.integers(0, 1000))
def test_an_order_is_a_permutation_that_its_seed_and_epoch_tell(count: int, seed: int, epoch: int) -> None:
    order = epoch_order(count, seed, epoch)
    assert sorted(order.tolist()) == list(range(count))
    assert order.tolist() == epoch_order(count, seed, epoch).tolist()


def test_seeds_and_epochs_give_other_orders() -> None:
    orders = [tuple(epoch_order(50, seed, epoch)) for seed in (1, 2) for epoch in (0, 1)]
    assert len(set(orders)) == 4
