"""Labels of somebody's own: a file that says which instance of which scan is what.

CSV    dataset,scan,instance,label      a header, then a row an instance; `dataset` may be absent or empty
JSON   {"SCAN": {"NUMBER": "LABEL", ...}, ...}      SCAN is a name or DATASET/NAME
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from open3dsg.datasets.jsonfile import read_json, typed
from open3dsg.datasets.textfile import read_text
from open3dsg.errors import BadFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read_labels(path: Path) -> dict[str, dict[int, str]]:
    """Return scan, as a name or dataset/name -> instance number -> label; JSON where the file is ``.json``.

    Raises BadFileError, with the line or key, for anything not as the module shows and for an instance that
    is named twice.
    """
    labels: dict[str, dict[int, str]] = {}
    for where, scan, number, label in _json_rows(path) if path.suffix == ".json" else _csv_rows(path):
        if not (number.isascii() and number.isdecimal() and len(number) < 20 and int(number) < 2**31):
            raise BadFileError(f"{where}: instance {number[:100]!r} is no number from 0 to 2^31 - 1")
        if not label.strip():
            raise BadFileError(f"{where}: the label of instance {number} is empty")
        of_scan = labels.setdefault(scan, {})
        if int(number) in of_scan:
            raise BadFileError(f"{where}: instance {number} of scan {scan} is named twice")
        of_scan[int(number)] = label
    if not labels:
        raise BadFileError(f"{path}: names no instance")
    return labels


def _json_rows(path: Path) -> Iterator[tuple[str, str, str, str]]:
    for scan, numbers in read_json(path, dict).items():
        where = f"{path}: {scan!r}"
        of_scan: dict[str, Any] = typed(numbers, dict, where)
        for number, label in of_scan.items():
            yield where, scan, number, typed(label, str, f"{where}: {number!r}")


def _csv_rows(path: Path) -> Iterator[tuple[str, str, str, str]]:
    reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
    try:
        lacking = {"scan", "instance", "label"} - set(reader.fieldnames or ())
        if lacking:
            raise BadFileError(
                f"{path}: the first line must name the columns dataset,scan,instance,label;"
                f" {', '.join(sorted(lacking))} is missing"
            )
        for row in reader:
            where = f"{path}: line {reader.line_num}"
            scan, number, label = row["scan"], row["instance"], row["label"]
            if scan is None or number is None or label is None or None in row:
                raise BadFileError(f"{where}: {len(reader.fieldnames or ())} columns are needed")
            dataset = row.get("dataset")
            yield where, f"{dataset}/{scan}" if dataset else scan, number, label
    except csv.Error as error:
        raise BadFileError(f"{path}: line {reader.line_num or 1}: {error}") from error
