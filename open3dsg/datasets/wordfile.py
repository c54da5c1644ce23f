"""Lists of words in files: one a line, or a column of a table.

    bed                       a line is a word or phrase; what surrounds it is cut off
    # bedroom things          a comment, where the line begins with #
                              empty lines do not count
    night stand
    cot = bed                 another wording: where it is the nearest, `bed` is meant

A table (``.csv``, ``.tsv``) has a header, and its words are the cells of one column; what they stand for are
those of another, empty for words that stand for themselves. What is stood for is a word of the same list, on
whatever line, and stands for itself.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from open3dsg.datasets.textfile import read_text
from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_STANDS_FOR = re.compile(r"(?:^|\s+)=(?:\s+|$)")  # a sign that is part of a word has no space around it


@dataclass(frozen=True)
class Words:
    """The words of a file in its order, each once, and what was passed over."""

    words: Sequence[str]
    duplicates: Sequence[str]  # each as often as it came again
    empty: int  # lines, or cells of a column
    comments: int
    stands_for: Mapping[str, str] = field(default_factory=dict)  # wording -> the word that is meant by it


class _Row(NamedTuple):
    """A line of a file, or a row of a table: its word, and what that stands for; empty: itself."""

    line: int
    word: str
    meant: str


def read_words(path: Path, column: str | None, longest: int, meaning: str | None = None) -> Words:
    """Read the lines of a file, or the cells below the header `column` of a table.

    `longest` is how many characters a word may have; `meaning` is the header of what the words of a table
    stand for. Raises BadFileError, with the line, for a longer word, for one that stands for what is not in
    the list or stands for something itself, and for what is no UTF-8 text; UserError where the table has no
    such column, or a table is read as lines.
    """
    text = read_text(path)
    rows = _lines(path, text) if column is None else _cells(path, text, column, meaning)
    words: dict[str, _Row] = {}
    duplicates: list[str] = []
    empty = comments = 0
    for row in rows:
        if not row.word and not row.meant:
            empty += 1
        elif column is None and row.word.startswith("#"):
            comments += 1
        else:
            _check_row(path, row, longest)
            if row.word in words:
                _check_same_meaning(path, words[row.word], row)
                duplicates.append(row.word)
            words.setdefault(row.word, row)
    if not words:
        raise BadFileError(f"{path}: holds no words")
    return Words(list(words), duplicates, empty, comments, _meanings(path, words))


def _check_row(path: Path, row: _Row, longest: int) -> None:
    if not row.word:
        raise BadFileError(f"{path}: line {row.line} lacks the wording that stands for {row.meant!r}")
    for word in (row.word, row.meant):
        if len(word) > longest:
            raise BadFileError(
                f"{path}: line {row.line} has {len(word)} characters; a word or phrase has at most {longest}"
            )
        if not word.isprintable():
            raise BadFileError(f"{path}: line {row.line} holds a character that cannot be shown: {word!r}")


def _check_same_meaning(path: Path, first: _Row, again: _Row) -> None:
    if first.meant != again.meant:
        raise BadFileError(
            f"{path}: line {again.line}: {again.word!r} stands for {again.meant or again.word!r}, and for"
            f" {first.meant or first.word!r} on line {first.line}: leave one of the two"
        )


def _meanings(path: Path, words: Mapping[str, _Row]) -> dict[str, str]:
    """Return what each wording stands for: a word that is there, and no wording of another."""
    wordings = {word: row for word, row in words.items() if row.meant}
    for word, row in wordings.items():
        told = f"{path}: line {row.line}: {word!r} stands for {row.meant!r}"
        if row.meant == word:
            raise BadFileError(f"{told}, itself: write the word alone")
        if row.meant not in words:
            raise BadFileError(f"{told}, which is not in the list: give that word a line of its own")
        if row.meant in wordings:
            further = wordings[row.meant]
            raise BadFileError(
                f"{told}, which stands for {further.meant!r} (line {further.line}): name {further.meant!r}"
            )
    return {word: row.meant for word, row in wordings.items()}


def _lines(path: Path, text: str) -> Iterator[_Row]:
    lines = text.removesuffix("\n").split("\n")
    separator = _SEPARATORS.get(path.suffix.lower())
    if separator is not None and separator in lines[0]:
        columns = ", ".join(name.strip() for name in lines[0].split(separator))
        raise UserError(f"{path}: is a table: say which --column holds the words; it has {columns}")
    for number, line in enumerate(lines, 1):
        yield _split(path, number, line.strip())


def _split(path: Path, number: int, line: str) -> _Row:
    """Split a line at its sign of equality."""
    if line.startswith("#"):
        return _Row(number, line, "")
    word, *meant = _STANDS_FOR.split(line)
    if len(meant) > 1 or meant == [""]:
        raise BadFileError(f"{path}: line {number} is {line!r}: write it as WORDING = WORD")
    return _Row(number, word, "".join(meant))


def _cells(path: Path, text: str, column: str, meaning: str | None) -> Iterator[_Row]:
    separator = _SEPARATORS.get(path.suffix.lower(), "\t" if "\t" in text.partition("\n")[0] else ",")
    reader = csv.DictReader(io.StringIO(text), delimiter=separator)
    try:
        columns = list(reader.fieldnames or ())
        for name in (column, *([] if meaning is None else [meaning])):
            if name not in columns:
                raise UserError(f"{path}: has no column {name!r}; it has {', '.join(columns) or 'none'}")
            if columns.count(name) > 1:
                raise UserError(f"{path}: has several columns {name!r}: rename all but one of them")
        for row in reader:
            meant = "" if meaning is None else row[meaning] or ""
            yield _Row(reader.line_num, (row[column] or "").strip(), meant.strip())
    except csv.Error as error:
        raise BadFileError(f"{path}: line {reader.line_num or 1}: {error}") from error
