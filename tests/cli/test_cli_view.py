"""`open3dsg view`: what it refuses before it serves. tests/e2e/test_view.py looks at the pages."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping

from tests.command import PROGRAM

Refused = Callable[..., str]


def test_there_must_be_something_to_show(refused: Refused) -> None:
    assert "the store has no scan to show" in refused("view", "--port", "0")


def test_names_and_ports_are_checked_first(full_database_url: str, refused: Refused) -> None:
    full = {"OPEN3DSG_DATABASE_URL": full_database_url}
    assert "no scan 'nowhere' in the store" in refused("view", "--port", "0", "--scan", "nowhere", **full)
    assert "no prediction 'nobody' in the store" in refused("view", "--port", "0", "--run", "nobody", **full)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"cannot listen at 127.0.0.1:{port}: Address already in use" in refused("view", "--port", port)
    assert "cannot listen at 192.0.2.1" in refused("view", "--host", "192.0.2.1")


def test_others_are_let_in_with_a_warning_and_ctrl_c_ends_it(
    full_database_url: str, variables: Mapping[str, str]
) -> None:
    environment = {**variables, "OPEN3DSG_DATABASE_URL": full_database_url}
    command = [str(PROGRAM), "view", "--host", "0.0.0.0", "--port", "0", "--read-only"]
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    warning, address = process.stderr.readline(), process.stderr.readline()
    os.kill(process.pid, signal.SIGINT)
    rest = process.communicate(timeout=60)
    assert re.fullmatch(r"warning: whoever reaches 0\.0\.0\.0:\d+ may see the store; nobody .*\n", warning)
    assert re.fullmatch(r"the viewer is at http://0\.0\.0\.0:\d+ until Ctrl-C\n", address)
    assert (process.returncode, *rest) == (0, "", "")
