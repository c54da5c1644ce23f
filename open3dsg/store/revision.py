"""Which code made a row."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import open3dsg

_CODE = ("open3dsg", "sql", "migrations")  # what a commit of the checkout stands for


@cache
def code_revision() -> str:
    """Return the package's version, and in a git checkout of it the commit: ``0.1.0 1a2b3c4d5e6f+changes``.

    ``+changes`` where files of the code are not as that commit has them.
    """
    return describe_code(Path(open3dsg.__file__).parent)


def describe_code(package: Path) -> str:
    """Return the revision of the package that lies in the folder `package`."""
    version = open3dsg.__version__
    # A virtual environment may lie in the checkout of something else: that commit would say nothing of us.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return version
    commit = _git(package, "rev-parse", "--short=12", "HEAD")
    if commit is None:
        return version
    code = [str(package.parent / name) for name in _CODE]
    return f"{version} {commit}{'+changes' if _git(package, 'status', '--porcelain', '--', *code) else ''}"


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints; None where there is no git, or it knows nothing of the folder."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", folder, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
