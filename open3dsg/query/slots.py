"""What may stand at a place of a triplet: words, an annotated label, an instance, a picture, or anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SlotKind = Literal["any", "text", "label", "instance", "like", "image"]


@dataclass(frozen=True)
class Slot:
    """A place of a triplet, as `parse_slot` reads it.

    `value`: of text the words, of label an annotated label (of a predicate: an annotated predicate), of
    instance and like `[DATASET/]SCAN/NUMBER`, of image a file; of any it is empty. An `instance` is that
    object itself; `like` is whatever looks like it.
    """

    kind: SlotKind
    value: str = ""

    @property
    def is_scored(self) -> bool:
        """Whether hits differ in how well they fit this place."""
        return self.kind in ("text", "like", "image")


ANY = Slot("any")
