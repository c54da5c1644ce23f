"""The form of every benchmark's result: one JSON object a line on standard output.

name      what was measured, snake_case, stable, so that lines of different days can be compared
unit      of `ours` and `other`
ours      this project's figure
other     the figure it is compared with, measured in the same run on the same machine
other_is  what that is, in words
ratio     how many times better ours is: ours / other where more is better, other / ours where less is
goal      the smallest ratio that is good enough
size      the size of the work, an object of numbers
load      the machine's load average of the last minute, at the end of the measurement
cores     how many processor cores the machine has

Progress and remarks go to standard error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping


def report(
    name: str,
    *,
    unit: str,
    ours: float,
    other: float,
    other_is: str,
    goal: float,
    size: Mapping[str, float],
    less_is_better: bool = False,
) -> None:
    """Print one result."""
    line = {
        "name": name,
        "unit": unit,
        "ours": round(ours, 3),
        "other": round(other, 3),
        "other_is": other_is,
        "ratio": round(other / ours if less_is_better else ours / other, 3),
        "goal": goal,
        "size": dict(size),
        "load": round(os.getloadavg()[0], 2),
        "cores": os.cpu_count(),
    }
    print(json.dumps(line), flush=True)
