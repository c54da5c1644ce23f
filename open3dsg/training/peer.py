"""A process that trains beside the one that started it: ``python -m open3dsg.training.peer``.

It is told what to do by a line of JSON on standard input, and ends when that is closed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from open3dsg.errors import UserError

_GRACE_S = 3.0


def main() -> None:
    """Train until the run ends; what its user has to know, the first process says."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_first, daemon=True).start()
    from open3dsg.training.loop import follow

    try:
        follow(order)
    except UserError:
        sys.exit(2)
    except Exception:
        time.sleep(_GRACE_S)  # where the first process ended, this one does too, and has nothing to say
        raise


def _end_with_first() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
