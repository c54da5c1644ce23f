"""Who asks what is done waits for no compiled loops and no models."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["open3dsg.steps.status", "open3dsg.query.nodes", "open3dsg.jobs.queue"])
def test_light_modules_load_nothing_heavy(module: str) -> None:
    heavy = ("numba", "scipy", "torch", "transformers", "open3d", "matplotlib", "alembic")
    told = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
