"""ScanNet's words: `scannetv2-labels.combined.tsv`, and the classes of ScanNet200.

    scannetv2-labels.combined.tsv   a line a raw category, as annotators wrote it, and what it maps to:
                                    id, raw_category, category, ..., nyu40id, ..., nyu40class, ...
    scannet200_classes.txt          the 200 classes (Rozenberszki et al., ECCV 2022), one a line

The columns are separated by tabs and found by their names; lines may end in any way (the published table's
end in two returns and a newline). A raw category that stands twice ('object') counts as it stands first.
`id` is the same for all raw categories of one category ('book', 'books'), and a class of ScanNet200 is the
raw category of its name with all others of its id: the ids found so are those of ScanNet's own benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from open3dsg.datasets.layouts import WordList
from open3dsg.datasets.textfile import read_text
from open3dsg.errors import BadFileError, UserError

TABLE = "scannetv2-labels.combined.tsv"
SCANNET200 = "scannet200_classes.txt"

LabelSet = Literal["raw", "nyu40", "scannet200"]
LABEL_SETS: tuple[LabelSet, ...] = ("raw", "nyu40", "scannet200")

_COLUMNS = ("id", "raw_category", "nyu40id", "nyu40class")


class Category(NamedTuple):
    """A raw category: ScanNet's id of it, and its class of NYU40."""

    label_id: int
    nyu40_id: int
    nyu40: str


@dataclass(frozen=True)
class LabelTable:
    """What raw categories map to. `scannet200` maps a label id to its class; empty where no list is there."""

    path: Path
    categories: Mapping[str, Category]
    scannet200: Mapping[int, str]

    def nyu40_id(self, raw: str) -> int:
        """Return the number of the class of NYU40, 0 where the table lacks the raw category."""
        category = self.categories.get(raw)
        return category.nyu40_id if category else 0

    def class_of(self, raw: str, labels: LabelSet) -> str | None:
        """Return the class of a raw category in one of the label sets, or None where it has none there."""
        category = self.categories.get(raw)
        if category is None:
            return None
        if labels == "nyu40":
            return category.nyu40
        return raw if labels == "raw" else self.scannet200.get(category.label_id)

    def word_lists(self) -> Sequence[WordList]:
        """Return `nyu40` in the order of its numbers, `scannet200` by label id, and `raw` as in the table."""
        nyu40 = {category.nyu40_id: category.nyu40 for category in self.categories.values()}
        lists = {
            "nyu40": [nyu40[number] for number in sorted(nyu40)],
            "scannet200": [self.scannet200[number] for number in sorted(self.scannet200)],
            "raw": list(self.categories),
        }
        return [WordList(name, "class", words) for name, words in lists.items() if words]


def read_label_table(path: Path, classes: Path | None) -> LabelTable:
    """Read the table, and the list of ScanNet200's classes where there is one.

    Raises BadFileError for a file that is not as the module says, UserError for a class that the table lacks.
    """
    categories: dict[str, Category] = {}
    rows = _rows(path)
    for number, row in enumerate(rows[1:], start=2):
        raw, category = _category(dict(zip(rows[0], row, strict=False)), f"{path}: line {number}")
        categories.setdefault(raw, category)
    scannet200: dict[int, str] = {}
    for word in [] if classes is None else _lines(classes):
        if word not in categories:
            raise UserError(
                f"{classes}: {word[:100]!r} is no raw category of {path.name}: take the list that fits it"
            )
        scannet200[categories[word].label_id] = word
    return LabelTable(path, categories, scannet200)


def _rows(path: Path) -> list[list[str]]:
    rows = [line.split("\t") for line in _lines(path)]
    missing = [name for name in _COLUMNS if not rows or name not in rows[0]]
    if missing:
        raise BadFileError(
            f"{path}: its first line names no column {missing[0]!r}: is it the table of ScanNet v2?"
        )
    return rows


def _category(row: Mapping[str, str], where: str) -> tuple[str, Category]:
    label_id, raw, nyu40_id, nyu40 = (row.get(name, "") for name in _COLUMNS)
    if not (raw and nyu40 and _is_number(label_id) and _is_number(nyu40_id)):
        raise BadFileError(f"{where} lacks one of {', '.join(_COLUMNS)}: fetch the table again")
    return raw, Category(int(label_id), int(nyu40_id), nyu40)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _lines(path: Path) -> list[str]:
    """Return the lines that are not empty, without the space around them."""
    text = read_text(path)
    if "\0" in text:
        raise BadFileError(f"{path}: no text file, or damaged; fetch it again")
    return [line for line in (line.strip(" ") for line in text.split("\n")) if line]
