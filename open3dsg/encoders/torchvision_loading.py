"""torchvision beside a torch without CUDA: LAVIS imports it, and needs only its resizing."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

OPERATORS = ("nms", "qnms")  # what `import torchvision` takes for granted


@cache
def allow_torchvision() -> object:
    """Let `import torchvision` succeed where its compiled half was made for another build of torch.

    The wheels of PyPI want CUDA; beside a CPU torch their operators are missing, and the import fails over
    them. They are declared without being defined: calling one is an error, as it would be anyway. Returns
    what keeps the declarations alive; None where none are needed.
    """
    import torch

    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return None
    for compiled in Path(found.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(compiled)  # type: ignore[no-untyped-call]
        except OSError:  # the libraries of CUDA that it is linked with
            return _declare()
    return None


def _declare() -> object:
    import torch

    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
