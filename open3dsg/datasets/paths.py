"""Names and URIs that come out of files: kept inside the dataset's root."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from open3dsg.errors import UserError

_ZIP_MEMBER = ".zip!"


def check_scan_name(name: str, source: str) -> str:
    """Return `name` if it can be the name of one folder, else raise UserError naming its `source`."""
    if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
        raise UserError(f"{source}: {name!r} is no scan name: a scan is one folder directly under the root")
    return name


def split_uri(root: Path, uri: str) -> tuple[Path, str | None]:
    """Return the file that `uri` names under `root`, and the member where that file is a zip.

    Raises UserError for a URI that is absolute or climbs out of `root` with ``..``.
    """
    file, mark, zip_member = uri.partition(_ZIP_MEMBER)
    relative = PurePosixPath(file + ".zip" if mark else file)
    if not file or relative.is_absolute() or ".." in relative.parts:
        raise UserError(f"{uri!r}: a file of a dataset is named relative to its root {root}, without '..'")
    return root / relative, zip_member if mark else None
