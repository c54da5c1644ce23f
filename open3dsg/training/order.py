"""In which order units are seen, and which of them each process takes.

An epoch is a permutation of the units that follows from the seed and the epoch alone. A batch of all
processes together is the next part of it, so that a place in the epoch is one number, whatever the number of
processes, of their workers and of units a batch: whoever goes on from there, with others of these, sees what
is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return a permutation of `count` things, (count,) int64, the same for the same `seed` and `epoch`."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def batches(
    order: NDArray[np.int64], *, batch_size: int, rank: int, world: int, start: int = 0
) -> Iterator[tuple[NDArray[np.int64], int, int]]:
    """Yield what process `rank` of `world` takes of each batch, from place `start` of `order` on.

    With each part come how many things the batch has over all processes, and the place behind it. A batch
    has `batch_size` things a process. The last one may have fewer, which are shared out evenly: a process may
    have none of it, and gets an empty part, so that all take as many steps.
    """
    together = batch_size * world
    for at in range(start, len(order), together):
        batch = order[at : at + together]
        yield np.array_split(batch, world)[rank], len(batch), at + len(batch)
