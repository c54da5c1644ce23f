"""Lists of words in files: one a line, or a column of a table.

    bed                       a line is a word or phrase; what surrounds it is cut off
    # bedroom things          a comment, where the line begins with #
                              empty lines do not count
    night stand

A table (``.csv``, ``.tsv``) has a header, and its words are the cells of one column.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from open3dsg.datasets.textfile import read_text
from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Words:
    """The words of a file in its order, each once, and what was passed over."""

    words: Sequence[str]
    duplicates: Sequence[str]  # each as often as it came again
    empty: int  # lines, or cells of a column
    comments: int


def read_words(path: Path, column: str | None, longest: int) -> Words:
    """Read the lines of a file, or the cells below the header `column` of a table.

    `longest` is how many characters a word may have. Raises BadFileError, with the line, for a longer one and
    for what is no UTF-8 text; UserError where the table has no such column, or a table is read as lines.
    """
    text = read_text(path)
    rows = _lines(path, text) if column is None else _cells(path, text, column)
    words: dict[str, None] = {}
    duplicates: list[str] = []
    empty = comments = 0
    for line, raw in rows:
        word = raw.strip()
        if not word:
            empty += 1
        elif column is None and word.startswith("#"):
            comments += 1
        elif len(word) > longest:
            raise BadFileError(
                f"{path}: line {line} has {len(word)} characters; a word or phrase has at most {longest}"
            )
        elif not word.isprintable():
            raise BadFileError(f"{path}: line {line} holds a character that cannot be shown: {word!r}")
        elif word in words:
            duplicates.append(word)
        else:
            words[word] = None
    if not words:
        raise BadFileError(f"{path}: holds no words")
    return Words(list(words), duplicates, empty, comments)


def _lines(path: Path, text: str) -> Iterator[tuple[int, str]]:
    lines = text.removesuffix("\n").split("\n")
    separator = _SEPARATORS.get(path.suffix.lower())
    if separator is not None and separator in lines[0]:
        columns = ", ".join(name.strip() for name in lines[0].split(separator))
        raise UserError(f"{path}: is a table: say which --column holds the words; it has {columns}")
    return enumerate(lines, 1)


def _cells(path: Path, text: str, column: str) -> Iterator[tuple[int, str]]:
    separator = _SEPARATORS.get(path.suffix.lower(), "\t" if "\t" in text.partition("\n")[0] else ",")
    reader = csv.DictReader(io.StringIO(text), delimiter=separator)
    try:
        columns = list(reader.fieldnames or ())
        if column not in columns:
            raise UserError(f"{path}: has no column {column!r}; it has {', '.join(columns) or 'none'}")
        if columns.count(column) > 1:
            raise UserError(f"{path}: has several columns {column!r}: rename all but one of them")
        for row in reader:
            yield reader.line_num, row[column] or ""
    except csv.Error as error:
        raise BadFileError(f"{path}: line {reader.line_num or 1}: {error}") from error
