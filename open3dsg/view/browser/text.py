"""Text of the page. What comes from the store never becomes markup: it is escaped on its way in."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 60  # letters of a label on a button or in the room


@dataclass(frozen=True)
class Html:
    """Markup that `html` made; no text, so that neither is taken for the other."""

    markup: str


def html(template: LiteralString, *values: object) -> Html:
    """Fill `template`, written by us, as `str.format` does; every value that is no `Html` is escaped."""
    return Html(template.format(*(_safe(value) for value in values)))


def joined(parts: Iterable[Html]) -> Html:
    """Put parts one after the other."""
    return Html("".join(part.markup for part in parts))


def plain(value: object) -> str:
    """Return text in one line; what cannot be seen, or would turn its direction, is replaced."""
    text = " ".join(str(value).split())
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def short(value: object, longest: int = _LONGEST) -> str:
    """Return `plain` text, cut where it is long."""
    text = plain(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _safe(value: object) -> str:
    return value.markup if isinstance(value, Html) else escape(plain(value), quote=True)
