"""Work done ahead of its use in a thread: pictures are decoded while the encoder is at work on others."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


class Sized(Protocol):
    """Something that holds memory."""

    @property
    def nbytes(self) -> int:
        """How many bytes."""


_Thing = TypeVar("_Thing", bound=Sized)


class Ahead(Generic[_Thing]):
    """Runs an iterator in a thread of its own, at most `limit` bytes ahead of who takes its things.

    Use it as a context manager, and iterate over it once. One thing larger than `limit` is let through when
    nothing else waits. What the iterator raises is raised to who takes the next thing. Leaving the block ends
    the thread after the thing that it is at.
    """

    def __init__(self, things: Iterator[_Thing], limit: int) -> None:
        """Take the iterator, of which nothing is run yet."""
        self.peak = 0  # the most bytes that ever waited
        self._things = things
        self._limit = limit
        self._ready: deque[_Thing] = deque()
        self._held = 0
        self._is_over = self._is_stopped = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the thread, whatever is left."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._thread.join()

    def __iter__(self) -> Iterator[_Thing]:
        """Give the things in their order."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._is_over)
                if not self._ready:
                    break
                thing = self._ready.popleft()
                self._held -= thing.nbytes
                self._changed.notify_all()
            yield thing
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            for thing in self._things:
                if not self._put(thing):
                    break
        except BaseException as error:
            self._error = error
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _put(self, thing: _Thing) -> bool:
        """Wait for room; False where nobody will take it."""
        size = thing.nbytes
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_stopped or not self._held or self._held + size <= self._limit
            )
            self._ready.append(thing)
            self._held += size
            self.peak = max(self.peak, self._held)
            self._changed.notify_all()
            return not self._is_stopped
