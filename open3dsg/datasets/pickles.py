"""Pickles of arrays and plain containers, read without running what they ask for.

A pickle may name any function and have it called. Here only the names are known that rebuild numpy arrays,
as numpy 1 and 2 write them, and Python's containers. Those of numpy stand for functions of this module, which
look at what they are given: numpy's own take the flags of a type, and pointers with them, on trust.
"""

from __future__ import annotations

import gc
import pickle
import re
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from open3dsg.errors import BadFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_PLAIN_TYPE = re.compile(r"[biufc]\d{1,2}|[SU]\d{1,9}|\?|O\d?")


def read_pickle(path: Path) -> Any:
    """Return what a pickle of arrays, numbers, text and containers holds; arrays are as they were written.

    Raises BadFileError for a file that cannot be read, is damaged, or names anything else.
    """
    try:
        with path.open("rb") as file, _no_collection():
            return _PlainUnpickler(file).load()
    except _RefusedError as error:
        raise BadFileError(f"{path}: {error}") from error
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # damage shows as whatever the bytes led to
        reason = ascii(str(error) or type(error).__name__)[1:-1]
        raise BadFileError(f"{path}: is no whole pickle ({reason:.100}): copy it or make it again") from error


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the search for cycles, which millions of new lists set off again and again: half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _RefusedError(Exception):
    """What the pickle asks for is not done."""


class _PlainUnpickler(pickle.Unpickler):
    """Knows the names in `_KNOWN` only."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for the name; `_RefusedError` for any other."""
        # numpy 2 moved its inner modules and reads the old names; builtins were named otherwise in Python 2.
        known = _KNOWN.get(f"{module.replace('numpy._core', 'numpy.core')}.{name}")
        if known is None:
            asked = ascii(f"{module}.{name}")[1:-1]  # it may be anything that a terminal obeys
            raise _RefusedError(
                f"would run {asked:.100}, which is refused: only arrays, numbers, text and containers are"
                " read"
            )
        return known


class _DType:
    """A type of array elements, from its code and its byte order alone."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:  # noqa: ARG002
        if not isinstance(code, str) or not _PLAIN_TYPE.fullmatch(code):
            raise _RefusedError(f"has an array of {code!r}: only numbers and text are read")
        self._code = code
        self._order: Literal["<", ">", "="] = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self._order = state[1]

    @property
    def numpy(self) -> np.dtype[Any]:
        """Return it as numpy makes it itself."""
        return np.dtype(self._code).newbyteorder(self._order)


class _Array(np.ndarray[Any, Any]):
    """An array that is filled by the pickle's next step."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, dtype, fortran, data = state
        # Elements are bytes of numbers, or a list of objects; numpy holds their count against the shape.
        super().__setstate__((version, shape, dtype.numpy, fortran, data))


def _reconstruct(*_kind: object) -> _Array:
    return _Array((0,))


def _from_buffer(buffer: bytes | bytearray, dtype: _DType, shape: tuple[int, ...], order: str) -> Any:
    return np.frombuffer(buffer, dtype.numpy).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: _DType, value: bytes) -> Any:
    return np.frombuffer(value, dtype.numpy, 1)[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Make bytes of text, as older protocols write them."""
    return text.encode(encoding)


_KNOWN: Mapping[str, Callable[..., Any]] = {
    "numpy.dtype": _DType,
    "numpy.ndarray": _reconstruct,  # what the next is told to make: not called, and harmless if it is
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "_codecs.encode": _encode,
    "collections.OrderedDict": OrderedDict,
    **{
        f"{module}.{kind.__name__}": kind
        for module in ("builtins", "__builtin__")
        for kind in (bytearray, bytes, complex, dict, frozenset, list, set, slice, tuple)
    },
}
