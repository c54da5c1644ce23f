"""JSON files of a dataset: read whole, typed where they are touched, told of in one line where wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from open3dsg.datasets.files import read_bytes
from open3dsg.errors import BadFileError

_T = TypeVar("_T")
_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
}


def read_json(path: Path, kind: type[_T]) -> _T:
    """Return the content of the UTF-8 JSON file `path`, whose outermost value is a `kind` (dict or list).

    Raises BadFileError, with the line and column where reading stopped, for a file that is missing, cut
    off, not JSON or of another kind.
    """
    data = read_bytes(path)
    try:
        content = json.loads(data)
    except json.JSONDecodeError as error:
        raise BadFileError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}; "
            "the file may be cut off, fetch it again"
        ) from error
    except UnicodeDecodeError as error:
        raise BadFileError(f"{path}: not UTF-8 text at byte {error.start}; fetch it again") from error
    except ValueError as error:  # a number of thousands of digits
        raise BadFileError(f"{path}: no dataset file: {str(error).partition(';')[0]}") from error
    except RecursionError as error:
        raise BadFileError(f"{path}: nested too deeply to be a dataset file") from error
    if not isinstance(content, kind):
        raise BadFileError(
            f"{path}: {_NAMES[kind]} was expected at the top, found {_name_of(content)}: another file?"
        )
    return content


def member(record: Any, key: str, kind: type[_T], where: str) -> _T:
    """Return `record[key]`, which must be a `kind`; `where` names the file and the place in it.

    Raises BadFileError where `record` is no object, lacks `key` or holds something else there.
    """
    if not isinstance(record, dict):
        raise BadFileError(f"{where}: an object was expected, found {_name_of(record)}")
    if key not in record:
        raise BadFileError(f"{where}: {key!r} is missing")
    return typed(record[key], kind, f"{where}: {key!r}")


def typed(value: Any, kind: type[_T], where: str) -> _T:
    """Return `value` if it is a `kind`, else raise BadFileError; true and false are not numbers."""
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    raise BadFileError(f"{where}: {_NAMES[kind]} was expected, found {_name_of(value)}")


def _name_of(value: object) -> str:
    return _NAMES.get(type(value), repr(value))
