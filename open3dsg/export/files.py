"""Files to write: each appears under its name whole or not at all."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO


def check_folder(path: Path) -> None:
    """Raise UserError where no file `path` can come to be: to be asked before work is done for it."""
    if not path.name:
        raise UserError("the name of a file to write is empty")
    try:
        is_folder, is_other = path.parent.is_dir(), path.exists() and not path.is_file()
    except OSError as error:
        raise _cannot(path, error) from error
    if not is_folder:
        raise UserError(f"{path}: cannot be written: there is no folder {path.parent}: make it first")
    if is_other:  # a device or pipe would be replaced by the file
        raise UserError(f"{path}: cannot be written: it is there already, and is no file")


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON; NaN and infinity are refused, being no JSON."""
    with whole_file(path) as file:
        file.write(f"{json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2)}\n".encode())


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name only when it is complete; UserError where it cannot.

    Where `path` is a symbolic link it stays one: what it leads to is written.
    """
    check_folder(path)
    target = os.path.realpath(path)
    # Short, however long the name of `path`.
    part = Path(target).with_name(f".open3dsg-{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _cannot(path, error) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _cannot(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be written: {error.strerror}")
