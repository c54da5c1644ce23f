"""Ctrl-C while training: the batch is finished and a checkpoint kept; a second one stops at once.

SIGTERM is the wish alone, however often it comes: batch systems and torchrun may both send it.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType


class StopSwitch:
    """Turns on where the process is told to stop, by Ctrl-C or, as batch systems do, by SIGTERM."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell` is called with what the user should know."""
        self.is_on = False
        self._tell = tell
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSwitch:
        """Listen, where this is the main thread: no other can. What is ignored, as nohup does, stays so."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._turn_on)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _turn_on(self, number: int, _frame: FrameType | None) -> None:
        if self.is_on:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.is_on = True
        self._tell("stopping after this batch, with a checkpoint; Ctrl-C once more: at once, without")
