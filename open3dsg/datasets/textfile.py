"""Text files that people write: UTF-8, with or without the mark that some editors put at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from open3dsg.datasets.files import read_bytes
from open3dsg.errors import BadFileError

if TYPE_CHECKING:
    from pathlib import Path


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, its lines ended by ``\\n`` however the file ends them.

    Raises BadFileError for a file that cannot be read or is not UTF-8 text, with the line.
    """
    content = read_bytes(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadFileError(f"{path}: line {line} is not UTF-8 text; save the file as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
