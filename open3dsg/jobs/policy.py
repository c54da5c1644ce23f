"""What becomes of an item once an attempt at it has ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["done", "refused", "broken", "killed", "lost", "away", "stopped", "disconnected"]

# These may go better the next time, but not for ever.
COUNTED: frozenset[Kind] = frozenset({"broken", "killed", "lost"})
LONGEST_WAIT_S = 600.0
AWAY_AT_MOST_S = 24 * 3600.0


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    done: well. refused: with a UserError, which the next attempt would meet again. broken: with any other
    exception. killed: its process died. lost: its worker fell silent. away: this machine lacks the dataset's
    folder, or the encoder. stopped: the worker's user gave it up. disconnected: the database went away.
    """

    kind: Kind
    reason: str | None = None
    trace: str | None = None
    skipped: bool = False  # all of it had been done before
    counts: Mapping[str, int] = field(default_factory=dict)
    problems: int = 0
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """Where the item goes: `done` and `failed` are ends; `waiting` is again in `delay_s`."""

    status: Literal["done", "failed", "waiting"]
    delay_s: float = 0.0


@dataclass(frozen=True)
class History:
    """What came before: attempts that count, this one included, and for how long it was away."""

    counted: int
    away_for_s: float = 0.0


def decide(kind: Kind, history: History, max_attempts: int, backoff_s: float) -> Decision:
    """Say what becomes of an item; after the n-th attempt that counts it waits `backoff_s` times 2^(n-1)."""
    if kind == "done":
        return Decision("done")
    spent = kind in COUNTED and history.counted >= max_attempts
    given_up = kind == "away" and history.away_for_s > AWAY_AT_MOST_S
    if kind == "refused" or spent or given_up:
        return Decision("failed")
    if kind in ("broken", "killed"):
        return Decision("waiting", min(backoff_s * 2 ** (history.counted - 1), LONGEST_WAIT_S))
    # An item of a lost worker has waited already, for that one to fall silent.
    return Decision("waiting", 0.0 if kind in ("lost", "stopped") else backoff_s)
