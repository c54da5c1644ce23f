"""Pickles of arrays and containers: read as pickle reads them, and never run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.datasets.pickles import read_pickle
from open3dsg.errors import BadFileError
from tests.open3dsg_files import by_numpy_1

VALUES: dict[str, Any] = {
    "contiguous": np.arange(6.0).reshape(2, 3),
    "by columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "strided": np.arange(6.0).reshape(2, 3)[:, 1],
    "big-endian": np.arange(3, dtype=">i4"),
    "bool": np.array([True, False]),
    "text": np.array(["abc", "d"]),
    "empty": np.zeros((0, 2)),
    "objects": np.array([[1], [2, 3]], dtype=object),
    "scalars": [np.float64(0.5), np.int64(-3), np.uint8(7), np.bool_(True)],
    "containers": (1, {2}, frozenset([3]), [None, True, 1.5, "x", b"y", 2 + 1j], {(1, 2): bytearray(b"z")}),
    "ordered": OrderedDict(a=1),
    "large": 2**70,
}


def same(a: Any, b: Any) -> bool:
    if isinstance(b, np.ndarray):
        return bool(a.shape == b.shape and a.dtype == b.dtype and a.tolist() == b.tolist())
    if isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in b)
    return type(a) is type(b) and bool(a == b)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_are_read_as_pickle_reads_them(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(VALUES, protocol))
    assert same(read_pickle(path), pickle.loads(path.read_bytes()))


def test_numpy_1_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(by_numpy_1(pickle.dumps(VALUES)))
    assert b"numpy.core" in path.read_bytes()
    assert b"numpy._core" not in path.read_bytes()
    assert same(read_pickle(path), pickle.loads(pickle.dumps(VALUES)))


class Runs:
    """Makes the folder `done` when it is unpickled."""

    def __init__(self, done: Path) -> None:
        self.done = done

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.done),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_tries_to_run_code_is_refused_with_the_name_of_it(
    protocol: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.pkl"
    for value in (Runs(tmp_path / "done"), {"a": [np.array([Runs(tmp_path / "done")], dtype=object)]}):
        path.write_bytes(pickle.dumps(value, protocol))
        with pytest.raises(
            BadFileError, match=r"a\.pkl: would run (posix|nt)\.mkdir, which is refused"
        ) as error:
            read_pickle(path)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"cbuiltins\neval\n(V1\ntR.",
        b"cbuiltins\ngetattr\n.",
        b"c__builtin__\nexec\n.",
        b"cnumpy\nload\n.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"copen3dsg.datasets.pickles\nread_pickle\n.",
        b"cnumpy\nrecord\n.",
        b"ccollections\nOrderedDict.__init__\n.",
    ],
)
def test_names_that_are_not_known_are_refused(pickled: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickled)
    with pytest.raises(BadFileError, match=r"would run .* which is refused"):
        read_pickle(path)


def test_a_name_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    name = "\x1b[2J\nerror: " + "x" * 200
    path.write_bytes(b"\x80\x04\x8c\x02os\x8c" + bytes([len(name)]) + name.encode() + b"\x93.")
    with pytest.raises(BadFileError, match=r"would run os\.\\x1b\[2J\\nerror: x+, which is refused") as error:
        read_pickle(path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300 + len(str(path))


class Pointers:
    """dtype('O') that says of itself that it holds no pointers."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


class FromBytes:
    """An array of such objects, their pointers given as bytes."""

    def __reduce__(self) -> tuple[Any, ...]:
        reconstruct = np.zeros(1).__reduce__()[0]
        return reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), Pointers(), False, b"A" * 8)


def test_pointers_are_never_taken_from_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(FromBytes()))
    with pytest.raises(BadFileError, match=r"is no whole pickle \(object pickle not returning list\)"):
        read_pickle(path)


def test_records_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(np.zeros(2, dtype=[("a", "f4")])))
    with pytest.raises(BadFileError, match="only numbers and text are read"):
        read_pickle(path)


@given(st.data())
def test_damage_is_told_as_such_or_does_no_harm(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    pickled = bytearray(pickle.dumps(VALUES))
    place = data.draw(st.integers(0, len(pickled) - 1))
    if data.draw(st.booleans()):
        del pickled[place:]
    else:
        pickled[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(pickled)
    with suppress(BadFileError):
        read_pickle(path)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"a\.pkl: cannot be read: No such file"):
        read_pickle(tmp_path / "a.pkl")
