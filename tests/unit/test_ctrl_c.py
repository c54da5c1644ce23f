"""Ctrl-C while processes start: it waits, whichever thread of ours the system hands it to."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from open3dsg.steps.runner import ctrl_c_held_back


def test_ctrl_c_that_another_thread_takes_waits_for_the_end_of_the_block() -> None:
    go, sent = threading.Event(), threading.Event()

    def press() -> None:
        go.wait()
        os.kill(os.getpid(), signal.SIGINT)  # this thread alone does not block it
        sent.set()

    thread = threading.Thread(target=press)
    thread.start()
    handler = signal.getsignal(signal.SIGINT)
    reached: list[bool] = []

    def hold() -> None:
        with ctrl_c_held_back():
            go.set()
            sent.wait()
            time.sleep(0.05)  # Python would raise between any two of these lines
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        hold()
    thread.join()
    assert reached
    assert signal.getsignal(signal.SIGINT) is handler


def test_without_ctrl_c_nothing_happens() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with ctrl_c_held_back():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.getsignal(signal.SIGINT) is handler


def test_other_threads_start_processes_too() -> None:
    held = []

    def hold() -> None:
        with ctrl_c_held_back():
            held.append(True)

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert held
