"""What may stand at a place of a triplet: words, an annotated label, an instance, a picture, or anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from open3dsg.db.terms import check_term
from open3dsg.errors import UserError

SlotKind = Literal["any", "text", "label", "instance", "like", "image"]
Place = Literal["subject", "predicate", "object"]

_KINDS = ("text", "label", "instance", "like", "image")
_INSTANCE = re.compile(r"(?P<scan>.+)/(?P<number>\d{1,9})")


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

    def __str__(self) -> str:
        """Return it as `parse_slot` reads it."""
        if self.kind == "any":
            return "*"
        if self.kind == "text" and self.value != "*" and self.value.partition(":")[0] not in _KINDS:
            return self.value
        return f"{self.kind}:{self.value}"


ANY = Slot("any")


def parse_slot(text: str, place: Place) -> Slot:
    """Read what a person types at a place: words, `*`, or `label:`, `instance:`, `like:`, `image:` and more.

    `text:` before words that begin like one of these keeps them words. Raises UserError, naming the place,
    for an empty value, for what no instance can be called, and for a predicate by example: a relation has no
    picture of its own.
    """
    if text.strip() == "*":
        return ANY
    prefix, colon, value = text.partition(":")
    if not colon or prefix not in _KINDS:
        return Slot("text", check_term(text.strip(), f"the {place}"))
    if place == "predicate" and prefix in ("instance", "like", "image"):
        raise UserError(f"the predicate is {text!r}: give words, label:PREDICATE or *")
    value = check_term(value.strip(), f"the {place} {prefix}:")
    if prefix in ("instance", "like"):
        split_instance(value)
    return Slot(cast("SlotKind", prefix), value)


def split_instance(text: str) -> tuple[str, int]:
    """Return scan (`NAME` or `DATASET/NAME`) and number of `SCAN/NUMBER`; UserError where it is none."""
    found = _INSTANCE.fullmatch(text)
    if found is None:
        raise UserError(f"{text!r} names no instance: give SCAN/NUMBER, such as scene0000_00/12")
    return found["scan"], int(found["number"])
