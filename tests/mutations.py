"""Ways in which a file on a disk goes wrong: cut off, flipped, filled with other numbers, of another kind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_ODD_NUMBERS = (
    b"-1", b"0", b"1", b"65536", b"2147483648", b"99999999999", b"18446744073709551616",
    b"1e308", b"1e999", b"nan", b"-inf", b"0x10", b"1.5", b"",
)  # fmt: skip
_ODD_VALUES: tuple[Any, ...] = (
    None, [], {}, "", "x" * 600, "\0", "\ud800",
    -1, 0, 2**31, 2**63, 10**400, 1.5, True, [[[[]]]], float("nan"),
)  # fmt: skip
_OTHER_KINDS = (
    b"", b"\0" * 1000, b"PK\x03\x04" + b"\0" * 200, b"<!DOCTYPE html><html>404</html>", b"\x80\x02}q\0.",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", b"\xff\xfe\x00\x00", b"\n" * 5000,
    b"[" * 100_000, b"ply\n", b"P5\n",
    b"P5\n4000000000 4000000000\n65535\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0",
)  # fmt: skip

Mutation = Callable[[bytes], bytes]


def mutations() -> st.SearchStrategy[list[Mutation]]:
    """One to three mutations, to be applied one after the other."""
    place = st.floats(0, 1, exclude_max=True)
    few = st.integers(1, 200)
    return st.lists(
        st.one_of(
            st.builds(_Cut, place),
            st.builds(_Flip, place, st.integers(1, 255)),
            st.builds(_Drop, place, few),
            st.builds(_Insert, place, st.binary(min_size=1, max_size=40)),
            st.builds(_Repeat, place, few, st.integers(2, 50)),
            st.builds(_Number, place, st.sampled_from(_ODD_NUMBERS)),
            st.builds(_Value, place, st.sampled_from(_ODD_VALUES)),
            st.builds(_DropLine, place),
            st.builds(_Other, st.sampled_from(_OTHER_KINDS)),
        ),
        min_size=1,
        max_size=3,
    )


class _Told:
    """A mutation that hypothesis can print."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __call__(self, data: bytes) -> bytes:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}{self.arguments}"


class _Cut(_Told):
    def __call__(self, data: bytes) -> bytes:
        return data[: int(self.arguments[0] * len(data))]


class _Flip(_Told):
    def __call__(self, data: bytes) -> bytes:
        at = int(self.arguments[0] * len(data))
        return data[:at] + bytes(byte ^ self.arguments[1] for byte in data[at : at + 1]) + data[at + 1 :]


class _Drop(_Told):
    def __call__(self, data: bytes) -> bytes:
        at = int(self.arguments[0] * len(data))
        return data[:at] + data[at + self.arguments[1] :]


class _Insert(_Told):
    def __call__(self, data: bytes) -> bytes:
        at = int(self.arguments[0] * len(data))
        return b"".join((data[:at], self.arguments[1], data[at:]))


class _Repeat(_Told):
    def __call__(self, data: bytes) -> bytes:
        place, length, times = self.arguments
        at = int(place * len(data))
        return b"".join((data[:at], data[at : at + length] * times, data[at + length :]))


class _Number(_Told):
    """Another number in place of one that stands there as text."""

    def __call__(self, data: bytes) -> bytes:
        found = list(_NUMBER.finditer(data))
        if not found:
            return data
        match = found[int(self.arguments[0] * len(found))]
        return b"".join((data[: match.start()], self.arguments[1], data[match.end() :]))


class _DropLine(_Told):
    def __call__(self, data: bytes) -> bytes:
        lines = data.splitlines(keepends=True)
        at = int(self.arguments[0] * len(lines))
        return b"".join(lines[:at] + lines[at + 1 :])


class _Value(_Told):
    """Another value at some place of a JSON document; other files stay as they are."""

    def __call__(self, data: bytes) -> bytes:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return data
        places = list(_places(document))
        if not places:
            return data
        holder, key = places[int(self.arguments[0] * len(places))]
        holder[key] = self.arguments[1]
        return json.dumps(document).encode()


def _places(document: Any) -> Any:
    """Every (holder, key) in a document, long lists by their first entries."""
    if isinstance(document, dict):
        children: Any = document.items()
    elif isinstance(document, list):
        children = enumerate(document[:50])
    else:
        return
    for key, value in list(children):
        yield document, key
        yield from _places(value)


class _Other(_Told):
    def __call__(self, _data: bytes) -> bytes:
        other: bytes = self.arguments[0]
        return other
