"""The folders that datasets are in: whether they are there, how they are read, and moving them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from psycopg.types.json import Jsonb

from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.layouts import open_reader
from open3dsg.datasets.paths import split_uri
from open3dsg.datasets.sens import SENS_SUFFIX, SensFile
from open3dsg.db.queries import execute
from open3dsg.errors import BadFileError, UserError
from open3dsg.store.scans import check_dataset

if TYPE_CHECKING:
    from psycopg import Connection

    from open3dsg.datasets.layouts import Reader
    from open3dsg.store.scans import StoredScan

Check = Literal["sample", "all", "none"]
_SAMPLE = 20  # scans of which the first and the last frame are looked for


@dataclass(frozen=True)
class DatasetRoot:
    """A dataset and its folder, None where only annotations are known.

    `arguments` are those that its reader was last opened with beside the root; None: an earlier version of
    the package read it, which kept none.
    """

    dataset: str
    layout: str
    root: str | None
    arguments: Mapping[str, Any] | None
    scans: int
    is_there: bool


@dataclass(frozen=True)
class Move:
    """What was found of a dataset in its new folder."""

    dataset: str
    old: str
    new: str
    arguments: Mapping[str, Any] | None
    scans: int = 0  # with geometry, looked for
    missing: Sequence[str] = ()  # scans that the new folder lacks
    pictures: int = 0  # looked for
    pictures_missing: Sequence[str] = ()  # URIs
    annotations_differ: Sequence[str] = ()  # scans that `ingest` will annotate anew


def dataset_roots(connection: Connection[Any], dataset: str | None = None) -> list[DatasetRoot]:
    """Return the datasets of the store, by name, or one of them; UserError where it is not there."""
    if dataset is not None:
        check_dataset(connection, dataset)
    return [
        DatasetRoot(name, layout, root, arguments, scans, root is not None and Path(root).is_dir())
        for name, layout, root, arguments, scans in execute(connection, "dataset_roots", {"name": dataset})
    ]


def open_as_read(connection: Connection[Any], scan: StoredScan) -> Reader:
    """Open a reader that reads a scan as it was read before.

    The dataset remembers how it was last opened; the scans of one dataset can have been read with other
    arguments, and the ledger has each scan's own.
    """
    row = execute(connection, "scan_source", {"scan_id": scan.scan_id}).fetchone()
    if row is None:
        raise UserError(f"scan {scan.key} was deleted meanwhile")
    arguments, options = row[0] or {}, row[1] or {}
    reader = open_reader(scan.layout, scan.root, arguments)
    present = reader.ledger_options
    own = {name: value for name, value in options.items() if name in present and present[name] != value}
    if not own:
        return reader
    # The ledger has folders relative to the root, which readers take as they are.
    return open_reader(scan.layout, scan.root, {**arguments, **own})


def find_move(connection: Connection[Any], dataset: str, new_root: Path, check: Check) -> Move:
    """Look for a dataset's scans and pictures in the folder that it was moved to; changes nothing.

    `sample` looks for every scan, and for the first and last pictures of some; `all` for every picture;
    `none` believes it, as for a folder that only other machines see. Raises UserError where the dataset has
    no folder yet, and where nothing that was looked for is there.
    """
    (known,) = dataset_roots(connection, dataset)
    if known.root is None:
        raise UserError(
            f"dataset {dataset} has no folder yet: run `open3dsg ingest {known.layout} {new_root}`"
            f" --dataset {dataset}"
        )
    new = str(new_root.resolve())
    arguments = None if known.arguments is None else _moved(known.arguments, known.root, new)
    move = Move(dataset, known.root, new, arguments)
    if check == "none":
        return move
    if not Path(new).is_dir():
        raise UserError(f"{new}: no such folder; `--check none` is for one that this machine cannot see")
    names = [name for (name,) in execute(connection, "scans_with_geometry", {"dataset": dataset})]
    move = _look_for_scans(connection, move, names, open_reader(known.layout, Path(new), arguments or {}))
    move = _look_for_pictures(connection, move, names, every=check == "all")
    _check_match(move)
    return move


def relocate(connection: Connection[Any], move: Move) -> None:
    """Let the store look for the dataset in its new folder."""
    arguments = None if move.arguments is None else Jsonb(dict(move.arguments))
    execute(connection, "dataset_move", {"name": move.dataset, "root": move.new, "arguments": arguments})


def _moved(arguments: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """Return the arguments with folders below the old root below the new one."""
    return {
        name: str(Path(new) / Path(value).relative_to(old))
        if isinstance(value, str) and Path(value).is_absolute() and Path(value).is_relative_to(old)
        else value
        for name, value in arguments.items()
    }


def _look_for_scans(connection: Connection[Any], move: Move, names: Sequence[str], reader: Reader) -> Move:
    there = set(reader.scan_names(None))
    hashes = execute(connection, "annotation_hashes", {"dataset": move.dataset}).fetchall()
    differ = [name for name, kept in hashes if reader.annotation_hash(name) not in (None, kept)]
    missing = [name for name in names if name not in there]
    return replace(move, scans=len(names), missing=missing, annotations_differ=differ)


def _look_for_pictures(connection: Connection[Any], move: Move, names: Sequence[str], *, every: bool) -> Move:
    missing = set(move.missing)
    found = [name for name in names if name not in missing]
    step = 1 if every else max(1, len(found) // _SAMPLE)
    wanted = {"dataset": move.dataset, "scans": found[::step], "every": every}
    uris = [
        uri
        for _scan, image, depth in execute(connection, "frame_uris", wanted)
        for uri in (image, depth)
        if uri is not None
    ]
    lacking = [uri for uri in uris if not _is_there(Path(move.new), uri)]
    return replace(move, pictures=len(uris), pictures_missing=lacking)


def _check_match(move: Move) -> None:
    if move.scans and len(move.missing) == move.scans:
        raise UserError(
            f"{move.new}: none of the {move.scans} scans of dataset {move.dataset} is here,"
            f" such as {move.missing[0]}: NEW_ROOT is the folder that holds them"
        )
    if move.pictures and len(move.pictures_missing) == move.pictures:
        raise UserError(
            f"{move.new}: its scans are here, but none of the {move.pictures} pictures looked for,"
            f" such as {move.pictures_missing[0]}"
        )


def _is_there(root: Path, uri: str) -> bool:
    path, member = split_uri(root, uri)
    if member is None:
        return os.path.isfile(path)
    if path.suffix != SENS_SUFFIX:
        return member in _members(path)
    try:
        with SensFile(path) as file:
            return file.holds(member)
    except BadFileError:
        return False


@cache
def _members(path: Path) -> frozenset[str]:
    """Return what a zip file holds; nothing where it is not there or none."""
    try:
        with ImageReader(path.parent) as reader:
            return frozenset(reader.zip_members(path.name))
    except BadFileError:
        return frozenset()
