"""Names of runs: given, or two words and a number."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_LENGTH = 200
_KINDS = (
    "airy amber bold brisk bronze calm clear copper cosy crimson curved dusty early even fair folded gentle"
    " glossy golden green hollow indigo ivory lofty lucid mellow mild narrow neat olive pale patient plain"
    " polished quiet round sandy silent silver simple slender smooth snug soft solid steady stout sunny swift"
    " tidy upright velvet violet warm woven"
)
_THINGS = (
    "alcove armchair attic balcony basket beam bench blanket bookcase bowl cabinet candle carpet ceiling"
    " chair chest clock cupboard curtain cushion desk door drawer easel fireplace frame hallway hearth jug"
    " kettle ladder lamp lantern ledge mantel mirror nook oven parlour pillow plant porch rug shelf shutter"
    " sofa staircase stool stove table teapot tile tray vase wardrobe window"
)
_NUMBERS = 99


def propose_name(taken: Collection[str] = ()) -> str:
    """Return a name that is none of `taken`, such as ``quiet-lamp-17``; no seed of a run decides on it."""
    kinds, things, numbers = _KINDS.split(), _THINGS.split(), _NUMBERS
    while True:
        name = f"{secrets.choice(kinds)}-{secrets.choice(things)}-{secrets.randbelow(numbers) + 1}"
        if name not in taken:
            return name
        numbers *= 2  # however many runs there are, an end is near


def check_run_name(name: str) -> str:
    """Return `name` if a run can be called so, else raise UserError.

    A colon stands between a run and its predictions; a slash would make its folder of checkpoints two.
    """
    too_long = len(os.fsencode(name)) > MAX_LENGTH  # with a date behind it, it names a folder
    if not name.strip() or not name.isprintable() or too_long or set(name) & set(":/\\"):
        raise UserError(
            f"a run cannot be called {name[:MAX_LENGTH]!r}: 1 to {MAX_LENGTH} letters, fewer where some are"
            " not of ASCII, no colon, no slash"
        )
    if name in (".", "..") or name.startswith("-") or name != name.strip():
        raise UserError(f"a run cannot be called {name!r}: no dash or dot alone, no space, at its ends")
    return name
