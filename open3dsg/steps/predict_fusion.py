"""What points say and what pictures say, into one: arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from open3dsg.store.predictions import Source

_IN_MEMORY = 256 * 2**20  # bytes of sums; more of them lie in a file without a name

Key = TypeVar("Key")


@dataclass(frozen=True)
class Fusion:
    """How student and teacher are joined, where both say something; else the one that does counts alone."""

    weight_2d: float  # share of the teacher, 0 to 1
    as_learnt: bool = False  # grids are joined whatever their length, as published

    def vectors(
        self, student: NDArray[np.float32] | None, teacher: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], Source] | None:
        """Join two (d,) vectors as directions: of unit length, whatever theirs. None: neither is there.

        Opposite ones of equal weight, which have no direction between them, leave the student's.
        """
        if student is None or teacher is None:
            alone = _alone(student, teacher)
            return None if alone is None else (unit(alone[0]), alone[1])
        joined = self._join(unit(student), unit(teacher))
        if np.linalg.norm(joined) < np.finfo(np.float32).eps:
            return unit(student), "student"
        return unit(joined), "fused"

    def tokens(
        self, student: NDArray[np.float32] | None, teacher: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], Source] | None:
        """Join two (T, d) grids; None: neither is there.

        Of a grid the student learnt the direction as a whole: it is brought to the length of the teacher's,
        unless grids are joined as learnt.
        """
        if student is None or teacher is None:
            return _alone(student, teacher)
        if not self.as_learnt:
            student = as_long(student, float(np.linalg.norm(teacher)))
        return self._join(student, teacher), "fused"

    def _join(self, student: NDArray[np.float32], teacher: NDArray[np.float32]) -> NDArray[np.float32]:
        joined = self.weight_2d * teacher + (1 - self.weight_2d) * student
        return np.asarray(joined, np.float32)


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows (..., d) of unit length; those of length zero stay."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)


def as_long(array: NDArray[np.float32], length: float) -> NDArray[np.float32]:
    """Return an array whose numbers, as one vector, have that length; one of zeros stays."""
    own = float(np.linalg.norm(array))
    return array * np.float32(length / own) if own > 0 else array


def _alone(
    student: NDArray[np.float32] | None, teacher: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], Source] | None:
    if student is not None:
        return student, "student"
    return None if teacher is None else (teacher, "teacher")


class Means(Generic[Key]):
    """The means of arrays of one shape by key, such as what several units say of one pair.

    Their sums lie in a file where they would take much memory, as those of tokens do.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        """Take the keys that there can be, each once."""
        self._places = {key: place for place, key in enumerate(keys)}
        self._counts = np.zeros(len(self._places), np.int64)
        self._sums: NDArray[np.float32] | None = None

    def add(self, keys: Iterable[Key], rows: NDArray[np.float32]) -> None:
        """Add a row (n, ...) to each of n keys, all of which differ."""
        if self._sums is None:
            self._sums = _zeros((len(self._places), *rows.shape[1:]))
        places = [self._places[key] for key in keys]
        self._sums[places] += rows
        self._counts[places] += 1

    def get(self, key: Key) -> NDArray[np.float32] | None:
        """Return the mean of what was added to a key; None for nothing."""
        place = self._places.get(key)
        if self._sums is None or place is None or not self._counts[place]:
            return None
        mean: NDArray[np.float32] = self._sums[place] / np.float32(self._counts[place])
        return mean


def _zeros(shape: tuple[int, ...]) -> NDArray[np.float32]:
    if np.prod(shape) * 4 <= _IN_MEMORY:
        return np.zeros(shape, np.float32)
    with TemporaryFile(prefix="open3dsg-") as file:
        return np.memmap(file, np.float32, "w+", shape=shape)
