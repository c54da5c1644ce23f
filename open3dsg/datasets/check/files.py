"""Single files: readable, whole, and of the kind their name promises, by their first and last bytes."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from open3dsg.datasets.check.sniff import describe
from open3dsg.datasets.images import DAMAGED_ZIP
from open3dsg.datasets.ply import check_ply
from open3dsg.errors import BadFileError

_HEAD_BYTES, _TAIL_BYTES = 4_096, 1_024
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")
_UNFINISHED = (".part", ".partial", ".crdownload", ".aria2", ".filepart")
_JPEG_BEGINS, _JPEG_ENDS = b"\xff\xd8\xff", b"\xff\xd9"
_PNG_BEGINS, _PNG_ENDS = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


class Damage(NamedTuple):
    """What is wrong with a file: the kind of the finding, and in words."""

    kind: str
    what: str


@dataclass(frozen=True)
class Listing:
    """What lies in a folder: files with their bytes, folders, and links that lead nowhere; no litter."""

    files: Mapping[str, int]
    folders: frozenset[str]
    broken: frozenset[str]

    @property
    def others(self) -> list[str]:
        """The folders and the links that lead nowhere, ascending."""
        return sorted(self.folders | self.broken)

    @property
    def unfinished(self) -> list[str]:
        """The files that a download left behind, ascending."""
        return sorted(name for name in self.files if name.endswith(_UNFINISHED))


def list_folder(folder: Path) -> Listing:
    """List `folder`; raises OSError where that cannot be done."""
    files: dict[str, int] = {}
    folders, broken = set(), set()
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_litter(entry.name):
                continue
            if entry.is_dir():
                folders.add(entry.name)
                continue
            try:
                files[entry.name] = entry.stat().st_size
            except OSError:
                broken.add(entry.name)
    return Listing(files, frozenset(folders), frozenset(broken))


def is_litter(name: str) -> bool:
    """Tell whether a file or folder is one that file managers leave behind."""
    return name.startswith(".") or name in _LITTER


def damage_of(path: Path, kind: str) -> Damage | None:
    """Return what is wrong with the file `path`, of a `kind` such as ply or json; None where all is well."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
    except PermissionError:
        return Damage("no_permission", "your user may not read it")
    except OSError as error:
        return Damage("damaged", f"cannot be read: {error.strerror}")
    return damage_of_bytes(head, tail, kind) or _WHOLE.get(kind, _nothing)(path)


def damage_of_bytes(head: bytes, tail: bytes, kind: str) -> Damage | None:
    """Return what the first and the last bytes tell of a file's damage; one array may be both."""
    if not head:
        return Damage("empty", "0 bytes")
    if not _begins(head, kind):
        name = describe(head)
        return Damage("wrong_kind", f"it is {name}" if name else f"it is no {_NAMES[kind]}")
    if not _ends(tail, kind):
        return Damage("cut_off", f"the end of the {_NAMES[kind]} is missing")
    return None


_NAMES: Mapping[str, str] = {
    "ply": "PLY file",
    "obj": "OBJ mesh",
    "json": "JSON file",
    "jpg": "JPEG picture",
    "png": "PNG picture",
    "pgm": "PGM picture",
    "zip": "zip archive",
    "text": "text",
    "sens": ".sens file",
}


_BEGINNINGS: Mapping[str, tuple[bytes, ...]] = {
    "ply": (b"ply", b"PLY"),
    "jpg": (_JPEG_BEGINS,),
    "png": (_PNG_BEGINS,),
    "pgm": (b"P5",),
    "zip": (b"PK",),
    "json": (b"{", b"["),
}


def _begins(head: bytes, kind: str) -> bool:
    if kind in _BEGINNINGS:
        start = head.lstrip(b"\xef\xbb\xbf \t\r\n") if kind == "json" else head
        return start.startswith(_BEGINNINGS[kind])
    is_text = kind in ("obj", "text")
    return describe(head) is None and not (is_text and b"\0" in head)


def _ends(last: bytes, kind: str) -> bool:
    tail = last.rstrip(b"\0 \t\r\n")
    match kind:
        case "jpg":
            return _JPEG_ENDS in tail
        case "png":
            return _PNG_ENDS in tail
        case "json":
            return tail[-1:] in (b"}", b"]")
        case "obj":  # whole lines; faces, or the groups and materials of faces, come last
            last_word = tail.rpartition(b"\n")[2].split(maxsplit=1)[:1]
            return last.endswith((b"\n", b"\r")) and last_word not in ([b"v"], [b"vt"], [b"vn"])
    return True


def _damage_of_ply(path: Path) -> Damage | None:
    try:
        check_ply(path)
    except BadFileError as error:
        return told_by_reader(error, path)
    return None


def _damage_of_zip(path: Path) -> Damage | None:
    try:
        with zipfile.ZipFile(path):
            return None
    except DAMAGED_ZIP:
        return Damage("cut_off", "its directory, which comes last, is missing or damaged")


def _nothing(_path: Path) -> Damage | None:
    return None


_WHOLE: Mapping[str, Callable[[Path], Damage | None]] = {"ply": _damage_of_ply, "zip": _damage_of_zip}


def told_by_reader(error: Exception, *names: Path | str) -> Damage:
    """Turn a reader's message on a file, as which `names` are known, into damage.

    What a finding says anyway is left out: the file, the zip file it is in, and that it is to be fetched.
    """
    what = re.sub("[;:] fetch (?:it|the file) again$", "", str(error))
    for name in map(str, names):
        what = what.removeprefix(f"{name}: ").removeprefix(f"{name.partition('!')[0]}: ")
    cut_off = "truncated" in what or "cut off" in what
    return Damage("cut_off" if cut_off else "damaged", what)
