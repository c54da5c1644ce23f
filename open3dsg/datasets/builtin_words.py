"""Lists of words that come with the package, as text files in `words/` in the form of `wordfile`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from open3dsg.datasets.wordfile import read_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from open3dsg.datasets.wordfile import Words

_FOLDER = Path(__file__).with_name("words")
_LONGEST = 100

# Name -> what its words are; the file has the name and the ending .txt.
BUILTIN: Mapping[str, Literal["class", "predicate"]] = {
    "materials": "class",
    "colours": "class",
    "3dssg-wordings": "predicate",
}


def builtin_words(name: str) -> Words:
    """Return the words of the list `name`, one of `BUILTIN`; its comments are ours, and are not counted."""
    return replace(read_words(_FOLDER / f"{name}.txt", None, _LONGEST), comments=0)
