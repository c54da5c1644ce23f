"""Calls of an encoder that outlive a full memory: a batch that does not fit is halved, and it goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from open3dsg.encoders.memory import empty_gpu_cache, is_out_of_memory
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from open3dsg.encoders.contract import Encoder, PairEncoder, PixelEncoder

_Thing = TypeVar("_Thing")

_UNUSABLE = "its activations are NaN or infinite"


class Encoded(NamedTuple):
    """A row of an encoder a thing, float32 of one shape, and of those that cannot be used why, by place."""

    rows: Sequence[NDArray[np.float32]]
    refused: Mapping[int, str]


class Caller(Generic[_Thing]):
    """Has an encoder encode any number of things, such as crops, at most `batch` at once.

    `seconds` is what was spent inside the encoder, `done` the things that it was given. Where a batch does
    not fit its memory, `batch` is halved for good, and `halved` says so.
    """

    def __init__(self, encode: Callable[[Sequence[_Thing]], NDArray[np.float32]], batch: int) -> None:
        """Take the encoder's method and the size of the first batch."""
        self.batch = batch
        self.seconds = 0.0
        self.done = 0
        self.halved: str | None = None
        self._encode = encode

    def __call__(self, things: Sequence[_Thing]) -> Encoded:
        """Encode `things`, at least one.

        What the encoder refuses with a ValueError is tried thing by thing, so that one cannot take others
        with it; it is told as refused. Raises UserError where a single thing does not fit the memory.
        """
        rows: list[NDArray[np.float32]] = []
        refused: dict[int, str] = {}
        while len(rows) < len(things):
            part = things[len(rows) : len(rows) + self.batch]
            encoded = self._rows(part)
            if encoded is None:
                self._halve(len(part))
                continue
            refused.update({len(rows) + place: why for place, why in encoded.refused.items()})
            rows.extend(encoded.rows)
        self.done += len(things)
        return Encoded(rows, refused)

    def _rows(self, part: Sequence[_Thing]) -> Encoded | None:
        """Encode one batch; None where it does not fit the memory."""
        started = time.monotonic()
        try:
            rows = self._encode(part)
        except ValueError as error:
            if len(part) == 1:
                return Encoded([np.empty(0, np.float32)], {0: " ".join(str(error).split())})
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return None
        else:
            bad = np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1))
            return Encoded(list(rows), dict.fromkeys(bad.tolist(), _UNUSABLE))
        finally:
            self.seconds += time.monotonic() - started
        return self._one_by_one(part)

    def _one_by_one(self, part: Sequence[_Thing]) -> Encoded | None:
        rows: list[NDArray[np.float32]] = []
        refused: dict[int, str] = {}
        for place, thing in enumerate(part):
            single = self._rows([thing])
            if single is None:
                return None
            rows.extend(single.rows)
            if single.refused:
                refused[place] = single.refused[0]
        return Encoded(rows, refused)

    def _halve(self, size: int) -> None:
        """Take half the batch from now on, what the encoder left behind given back first."""
        empty_gpu_cache()
        if size == 1:
            raise UserError(
                "the encoder is out of memory with a single picture: let other programs on the device end, or"
                " take another --device, a lower --precision or a smaller encoder"
            )
        self.batch = size // 2
        self.halved = f"out of memory with {size} at once: went on with {self.batch} (--batch)"


def caller_of(encoder: Encoder | PairEncoder, batch: int) -> Caller[Any]:
    """Return what encodes crops, or pairs of a photograph and the pixels of an item in it.

    Of a photograph all items go together, whatever `batch` is: the encoder looks at it once.
    """
    if encoder.views == "pixels":
        return Caller(_PixelCall(encoder), 2**31)
    encode = encoder.encode_crops if encoder.views == "crops" else encoder.encode_tokens
    return Caller(encode, batch)


class _PixelCall:
    """Takes the items of one photograph."""

    def __init__(self, encoder: PixelEncoder) -> None:
        self._encoder = encoder

    def __call__(self, things: Sequence[tuple[NDArray[np.uint8], NDArray[np.int64]]]) -> NDArray[np.float32]:
        return self._encoder.encode_pixels(things[0][0], [pixels for _photo, pixels in things])
