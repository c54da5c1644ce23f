"""What waits in the queue: a step with its options, on one scan or a chunk of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

TASK = "open3dsg.item"  # procrastinate's name of what we put into its tables
MAX_ATTEMPTS = 3

# Our word -> procrastinate's; it has two more for jobs that end early.
STATUSES: Mapping[str, str] = {
    "waiting": "todo",
    "running": "doing",
    "done": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}


@dataclass(frozen=True)
class Item:
    """One piece of work; `arguments` are those of `open3dsg.steps.catalogue`.

    Items of one `submission` share what is slow to open: a process keeps the reader for all of them.
    """

    step: str
    arguments: Mapping[str, Any]
    scan: str
    chunk: int | None
    submission: str
    max_attempts: int = MAX_ATTEMPTS

    @property
    def label(self) -> str:
        """Return how the item is called in what people read."""
        return f"{self.step} {self.scan}" + ("" if self.chunk is None else f" chunk {self.chunk}")

    @property
    def lock(self) -> str:
        """Return a text that two items share where they are the same work."""
        work = [self.step, self.arguments, self.scan, self.chunk]
        digest = hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()[:16]
        return f"{self.label} {digest}"

    def as_json(self) -> dict[str, Any]:
        """Return what the queue keeps of the item."""
        return asdict(self)


def item_of(kept: Mapping[str, Any]) -> Item:
    """Return the item that the queue kept; UserError where another version put it there."""
    try:
        return Item(**kept)
    except TypeError as error:
        raise UserError(f"the item was queued by another version of open3dsg: {error}") from error


def shown_item(kept: Mapping[str, Any]) -> Item:
    """Return the item that the queue kept, to be listed and cancelled: as much of it as can be read."""
    try:
        return item_of(kept)
    except UserError:
        arguments = kept.get("arguments")
        known = arguments if isinstance(arguments, dict) else {}
        return Item(str(kept.get("step", "?")), known, str(kept.get("scan", "?")), None, "")
