"""Scans in the store: finding them by what a person types."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open3dsg.db.queries import execute, fetch_value
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection


@dataclass(frozen=True)
class StoredScan:
    """A scan of the store; `root` is the folder that its URIs are relative to, `layout` its dataset's."""

    scan_id: int
    dataset: str
    name: str
    root: Path
    layout: str

    @property
    def key(self) -> str:
        """Return `dataset/name`, which names one scan in the whole store."""
        return f"{self.dataset}/{self.name}"

    def check_root(self) -> None:
        """Raise UserError where the dataset's folder is away: one error, not one a picture."""
        if not self.root.is_dir():
            raise UserError(
                f"{self.root}: the folder of dataset {self.dataset!r} is not there: mount it, or say where"
                f" it is now with `open3dsg scans relocate {self.dataset} NEW_ROOT`"
            )


def check_name(name: str, what: str) -> str:
    """Return `name` if a dataset or scan can be called so, else raise UserError; `what` says which it is.

    A slash would make `dataset/name` ambiguous; bytes that are no UTF-8 cannot be stored.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} is {name!r}: rename it, it must be UTF-8 text") from error
    if not name.strip() or "/" in name or "\0" in name:
        raise UserError(f"{what} is {name!r}: it must not be empty, nor hold a slash")
    return name


def find_scan(connection: Connection[Any], text: str) -> StoredScan:
    """Find one scan by `name` or `dataset/name`; UserError where none or several match."""
    rows = execute(connection, "scan_by_text", {"text": text}).fetchall()
    if not rows:
        close = [name for (name,) in execute(connection, "scans_like", {"text": text})]
        hint = (
            f"; did you mean {', '.join(close)}?" if close else "; `open3dsg scans list` shows what is there"
        )
        raise UserError(f"no scan {text!r} in the store{hint}")
    if len(rows) > 1:
        raise UserError(
            f"several scans are called {text!r}: say {' or '.join(f'{r[1]}/{r[2]}' for r in rows)}"
        )
    scan_id, dataset, name, root, layout = rows[0]
    return StoredScan(scan_id, dataset, name, Path(root or "."), layout)


def check_dataset(connection: Connection[Any], name: str) -> None:
    """Raise UserError, naming those there are, where the store has no dataset `name`."""
    if not fetch_value(connection, "has_dataset", {"text": name}):
        known = ", ".join(known for (known,) in execute(connection, "dataset_names")) or "none"
        raise UserError(f"no dataset {name!r} in the store; it has {known}")


def select_scans(
    connection: Connection[Any],
    *,
    dataset: str | None,
    split: str | None,
    scans: Sequence[str],
    bare: bool = False,
) -> list[str]:
    """Return the keys of the scans that a command should work on: those with geometry, or `bare` ones too.

    `scans` are looked for in `dataset` where it is given. UserError where the store holds none, or none that
    matches, and for `split` beside `scans`.
    """
    if dataset is not None:
        check_dataset(connection, dataset)
    if scans and split is not None:
        raise UserError("--split chooses scans, --scan names them: give one of the two")
    if scans:
        within = f"{dataset}/" if dataset is not None else ""
        texts = (text if text.startswith(within) else f"{within}{text}" for text in scans)
        return list(dict.fromkeys(find_scan(connection, text).key for text in texts))
    chosen = {"dataset": dataset, "split": split, "bare": bare}
    rows = execute(connection, "scans_matching", chosen).fetchall()
    if not rows:
        which = ", ".join(
            f"{name} {value!r}" for name, value in (("dataset", dataset), ("split", split)) if value
        )
        raise UserError(
            f"no scan{'' if bare else ' with geometry'} in the store{f' for {which}' if which else ''}:"
            " run `open3dsg ingest 3rscan ROOT` first, or see `open3dsg scans list`"
        )
    return [f"{name}/{scan}" for name, scan in rows]
