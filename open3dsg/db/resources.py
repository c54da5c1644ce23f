"""Where the `sql/` and `migrations/` folders are: inside the wheel, or at the top of a checkout."""

from __future__ import annotations

from pathlib import Path

import open3dsg


def _folder(name: str) -> Path:
    package = Path(open3dsg.__file__).parent
    installed = package / f"_{name}"
    return installed if installed.is_dir() else package.parent / name


def sql_folder() -> Path:
    """Return the folder of numbered SQL files and of ``queries/``."""
    return _folder("sql")


def migrations_folder() -> Path:
    """Return alembic's script folder."""
    return _folder("migrations")
