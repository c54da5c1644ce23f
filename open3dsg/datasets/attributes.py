"""What 3DSSG (Wald et al., CVPR 2020) says of objects beside their labels: colours, materials, shapes, uses.

    objects.json    {"scans": [{"scan": name,
                                "objects": [{"id": "1", "label": "floor", ...,
                                             "attributes": {"color": ["brown"], "material": ["wooden"], ...},
                                             "affordances": ["walking on", ...]}, ...]}, ...]}

The file comes in 3DSSG.zip, not in 3DSSG_subset.zip; its numbers are the instances of semseg.v2.json. A kind
is called as the file calls it (color, material, shape, size, state, texture, lexical, ...); affordances are
one more. The label and other members are not read: other files have them. A word that is empty is left out
and reported (`attribute_empty`); a word that comes again is one.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from open3dsg.datasets.jsonfile import member, read_json, typed
from open3dsg.datasets.paths import check_scan_name
from open3dsg.datasets.scan import Problem
from open3dsg.errors import BadFileError

OBJECTS = "objects.json"
AFFORDANCES = "affordances"
_LONGEST = 500  # of a word, in characters
_LONGEST_KIND = 100


@dataclass(frozen=True)
class ScanAttributes:
    """The attributes of one scan: (instance number, kind, word), ascending, each once; and what was wrong."""

    rows: tuple[tuple[int, str, str], ...]
    problems: tuple[Problem, ...] = ()

    @cached_property
    def hash(self) -> str:
        """A hash of the attributes, 16 hex digits."""
        return hashlib.sha256(repr(self.rows).encode()).hexdigest()[:16]


def find_objects(folders: Iterable[Path]) -> Path | None:
    """Return the first `objects.json` of `folders`, or None where none has one."""
    return next((folder / OBJECTS for folder in folders if (folder / OBJECTS).is_file()), None)


def read_attributes(path: Path) -> Mapping[str, ScanAttributes]:
    """Read the file `path`; return scan name -> its attributes.

    Raises BadFileError, with the place in the file, for what is not as the module tells.
    """
    rows: dict[str, set[tuple[int, str, str]]] = {}
    problems: dict[str, list[Problem]] = {}
    for index, record in enumerate(member(read_json(path, dict), "scans", list, str(path))):
        where = f"{path}: scans[{index}]"
        name = check_scan_name(member(record, "scan", str, where), where)
        found = rows.setdefault(name, set())
        for place, thing in enumerate(member(record, "objects", list, where)):
            number, words = _read_object(thing, f"{where}: objects[{place}]")
            found.update((number, kind, word) for kind, word in words if word)
            empty = [kind for kind, word in words if not word]
            problems.setdefault(name, []).extend(
                Problem("attribute_empty", f"{name}: instance {number}: {kind}: left out") for kind in empty
            )
    return {name: ScanAttributes(tuple(sorted(rows[name])), tuple(problems.get(name, ()))) for name in rows}


def _read_object(record: Any, where: str) -> tuple[int, list[tuple[str, str]]]:
    """Return the number of an object and its words, each with its kind."""
    number = _number(member(record, "id", str, where), where)
    attributes = member(record, "attributes", dict, where) if "attributes" in record else {}
    kinds = {**attributes, **({AFFORDANCES: record[AFFORDANCES]} if AFFORDANCES in record else {})}
    return number, [pair for kind, words in kinds.items() for pair in _words(kind, words, where)]


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < 2**31):
        raise BadFileError(f"{where}: 'id' {text[:100]!r} is no number from 0 to 2^31 - 1")
    return int(text)


def _words(kind: str, words: Any, where: str) -> Iterator[tuple[str, str]]:
    place = f"{where}: {kind[:_LONGEST_KIND]!r}"
    if not kind.strip() or len(kind) > _LONGEST_KIND or not kind.isprintable():
        raise BadFileError(f"{place}: a kind of attribute has 1 to {_LONGEST_KIND} characters")
    for word in typed(words, list, place):
        text = typed(word, str, place).strip()
        if len(text) > _LONGEST or not text.isprintable():
            raise BadFileError(
                f"{place}: {text[:_LONGEST_KIND]!r} is no word of at most {_LONGEST} characters"
            )
        yield sys.intern(kind), sys.intern(text)
