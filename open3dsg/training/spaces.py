"""Memory in which workers hand batches over, used again once the main process has done with what lay there.

PyTorch hands each tensor over in shared memory of its own. At the 100 MB of a batch of tokens the kernel
takes longer to clear, map and give back these pages than all that fills them. Here both sides keep the
memory, and what goes from one to the other is where in it the tensors of a batch lie.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from open3dsg.training.batch import Batch, SceneGraph

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

_ALIGNED = 64  # bytes: where a tensor may begin
_STEP = 2**26  # bytes by which a space grows; pages that nothing was written to take no memory

_numbers = count()
_spaces: weakref.WeakValueDictionary[int, Spaces] = (
    weakref.WeakValueDictionary()
)  # by number, in each process


class Spaces:
    """The memory that a main process has in common with workers it forks afterwards, some for each worker.

    It has no name in the file system: it is gone with the last process that has it, however that ends, and is
    no part of ``/dev/shm``, which containers keep small.
    """

    def __init__(self, workers: int, each: int) -> None:
        """Make `each` spaces for every worker, empty ones."""
        self.number = next(_numbers)
        self._each = each
        self._files = [os.memfd_create("open3dsg-batch") for _ in range(workers * each)]
        self._taken = mmap.mmap(
            -1, len(self._files)
        )  # a byte each: set by a worker, unset by the main process
        self._seen: dict[int, NDArray[np.uint8]] = {}  # as this process sees them
        _spaces[self.number] = self
        weakref.finalize(self, _close, self._files)

    def claim(self, worker: int) -> Space | None:
        """Return a space of a worker that nothing lies in; None where the main process still has all of them.

        The first that is free: later ones take no memory unless they are needed.
        """
        for place in range(worker * self._each, (worker + 1) * self._each):
            if not self._taken[place]:
                self._taken[place] = 1
                return Space(self, place)
        return None

    def give_back(self, place: int, process: int) -> None:
        """Let a worker use a space again, if this is `process`: a fork of it has no say."""
        if os.getpid() == process:
            self._taken[place] = 0

    def memory(self, place: int, size: int) -> NDArray[np.uint8]:
        """Return a new array over the memory of a space, of at least `size` bytes."""
        if len(self._seen.get(place, ())) < size:
            file = self._files[place]
            if os.fstat(file).st_size < size:
                os.ftruncate(file, -(-size // _STEP) * _STEP)
            self._seen[place] = np.frombuffer(mmap.mmap(file, 0), np.uint8)
        return self._seen[place][:]


@dataclass(frozen=True)
class _Part:
    """A tensor in a space."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def stop(self) -> int:
        return self.start + self.dtype.itemsize * math.prod(self.shape)

    def of(self, memory: NDArray[np.uint8]) -> torch.Tensor:
        """Return the tensor; as long as there is one, so is the array `memory`."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        whole = torch.frombuffer(memory, dtype=self.dtype, count=math.prod(self.shape), offset=self.start)
        return whole.view(self.shape)


class Space:
    """A space in the hands of a worker, for one batch."""

    def __init__(self, spaces: Spaces, place: int) -> None:
        """Take the place of one that is claimed."""
        self._spaces = spaces
        self._place = place
        self._front: torch.Tensor | None = None

    def empty_halves(self, *shape: int) -> torch.Tensor:
        """Return a float16 tensor at the front, to be filled in place; asked again, another one there."""
        part = _Part(0, shape, torch.float16)
        self._front = part.of(self._spaces.memory(self._place, part.stop))
        return self._front

    def hand_over(self, graph: SceneGraph, rest: Batch) -> HandedOver:
        """Put all tensors of a graph into the space; return what is `rest` with it in the main process."""
        fields: Mapping[str, Any] = graph.to_dict()
        others = {
            name: value
            for name, value in fields.items()
            if isinstance(value, torch.Tensor) and value is not self._front
        }
        parts = dict(zip(others, _behind(self._front, others.values()), strict=True))
        size = max((part.stop for part in parts.values()), default=0)
        memory = self._spaces.memory(self._place, size)
        for name, part in parts.items():
            part.of(memory).copy_(others[name])
        if self._front is not None:
            parts |= {name: _part(0, value) for name, value in fields.items() if value is self._front}
        return HandedOver(self._spaces.number, self._place, size, dict(fields) | parts, rest)


@dataclass(frozen=True, eq=False)
class HandedOver:
    """A batch whose tensors lie in a space: where it is unpickled, it is that `Batch`."""

    spaces: int
    place: int
    size: int
    fields: Mapping[str, Any]  # of the graph, tensors as parts
    rest: Batch  # without a graph

    def __reduce__(self) -> tuple[Any, ...]:
        """Be unpickled by `_open`."""
        return _open, (self.spaces, self.place, self.size, self.fields, self.rest)


def _open(number: int, place: int, size: int, fields: Mapping[str, Any], rest: Batch) -> Batch:
    """Return the batch. Its space is given back with the last of its tensors, and of views of them."""
    spaces = _spaces[number]
    memory = spaces.memory(place, size)
    weakref.finalize(memory, spaces.give_back, place, os.getpid()).atexit = False
    tensors = {
        name: value.of(memory) if isinstance(value, _Part) else value for name, value in fields.items()
    }
    return replace(rest, graph=SceneGraph(**tensors))


def empty_halves(*shape: int) -> torch.Tensor:
    """Return a float16 tensor; in a worker in shared memory, where the main process finds it uncopied.

    For a batch that no space is free for, and for workers that were not forked.
    """
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.float16)
    size = torch.float16.itemsize * math.prod(shape)
    # Private, but it is what the collation of torch and of torch_geometric is made of.
    storage: torch.UntypedStorage = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.float16).set_(storage).view(shape)


def _part(start: int, tensor: torch.Tensor) -> _Part:
    return _Part(start, tuple(tensor.shape), tensor.dtype)


def _behind(front: torch.Tensor | None, tensors: Iterable[torch.Tensor]) -> list[_Part]:
    """Return where tensors lie one behind the other, and all behind the front."""
    stop = 0 if front is None else front.nbytes
    parts = []
    for tensor in tensors:
        parts.append(_part(-(-stop // _ALIGNED) * _ALIGNED, tensor))
        stop = parts[-1].stop
    return parts


def _close(files: Iterable[int]) -> None:
    for file in files:
        os.close(file)
