"""Who asks what is done waits for no compiled loops and no models."""

from __future__ import annotations

import subprocess
import sys

LIGHT = ("open3dsg.steps.status", "open3dsg.query.nodes", "open3dsg.jobs.queue", "open3dsg.cli.view")
HEAVY = ("numba", "scipy", "torch", "transformers", "open3d", "matplotlib", "alembic", "viser")


def test_light_modules_load_nothing_heavy() -> None:
    told = f"import sys, {', '.join(LIGHT)}; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
