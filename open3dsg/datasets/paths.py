"""Names and URIs that come out of files: kept inside the dataset's root."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from open3dsg.errors import UserError

_MEMBER = re.compile(r"(.*?)(\.zip|\.sens)!(.*)", re.DOTALL)


def check_scan_name(name: str, source: str) -> str:
    """Return `name` if it can be the name of one folder, else raise UserError naming its `source`."""
    if name in ("", ".", "..") or any(character in name for character in "/\\\0"):
        raise UserError(
            f"{source}: {name[:100]!r} is no scan name: a scan is one folder directly under the root"
        )
    return name


def split_uri(root: Path, uri: str) -> tuple[Path, str | None]:
    """Return the file that `uri` names under `root`, and the member where that is a zip or a `.sens` file.

    Raises UserError for a URI that is absolute or climbs out of `root` with ``..``.
    """
    matched = _MEMBER.fullmatch(uri)
    file, suffix, member = matched.groups() if matched else (uri, "", None)
    relative = PurePosixPath(file + suffix)
    if not file or relative.is_absolute() or ".." in relative.parts:
        raise UserError(f"{uri!r}: a file of a dataset is named relative to its root {root}, without '..'")
    return root / relative, member
