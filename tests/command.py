"""The installed command `open3dsg` in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import toy_encoder

PROGRAM = Path(sys.executable).parent / "open3dsg"
CHECKOUT = Path(__file__).parents[1]

# Steps as the miniature, which has few points and four frames, needs them.
OBSERVE = ("observe", "--every", 1, "--min-points", 3, "--min-ratio", 0.1, "--enough-points", 5)
GRAPH = ("graph", "build", "--instance-points", 20, "--pair-points", 50)
DUMP = ("features", "dump", "--nodes", "--encoder", "toy")


@dataclass(frozen=True)
class Done:
    """What a command left: its exit status and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def errors(self) -> list[str]:
        """The lines that tell of an error; there is never a traceback."""
        assert "Traceback" not in self.err, self.err
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


def environment(folder: Path, database_url: str) -> dict[str, str]:
    """Return the variables of a command: a database, an empty home in `folder`, the toy encoders."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPEN3DSG_", "XDG_", "PG", "PYTHON"))}
    encoders, home = folder / "encoders", folder / "home"
    encoders.mkdir()
    home.mkdir()
    toy_encoder.install(encoders)
    return kept | {
        "HOME": str(home),
        "OPEN3DSG_HOME": str(home / "store"),
        "OPEN3DSG_DATABASE_URL": database_url,
        "PYTHONPATH": f"{encoders}{os.pathsep}{CHECKOUT}",
    }


def call(variables: Mapping[str, str], *arguments: object) -> Done:
    """Run `open3dsg` with `arguments` to its end, its standard input closed."""
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env=variables,
        timeout=120,
    )
    return Done(done.returncode, done.stdout, done.stderr)
