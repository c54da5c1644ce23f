"""`python -m tests.clip_openai JOB.json`: CLIP from OpenAI's files, where the package clip is on the path.

A process of its own: clip wants torchvision, and one that was not made for this torch keeps transformers from
loading. Given are checkpoints, crops and texts; told is what our encoder makes of them, and what the package
does by itself.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from open3dsg.encoders.clip import Clip
from open3dsg.encoders.contract import Choices, Precision
from open3dsg.errors import UserError


def define_operators() -> Any:
    """Declare what this torchvision expects of a torch that was made with it; nothing here calls them.

    They are there as long as what is returned.
    """
    import torch

    library: Any = vars(torch.library)["Library"]("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    return library


def ours(file: str, crops: list[NDArray[np.uint8]], texts: list[str]) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for precision in get_args(Precision):
        encoder = Clip.from_choices(Choices("clip", Path(file), device="cpu", precision=precision))
        found[f"crops {precision}"] = encoder.encode_crops(crops)
        found[f"texts {precision}"] = encoder.encode_text(texts)
        assert (encoder.dimension, encoder.device) == (found[f"crops {precision}"].shape[1], "cpu")
    return found | {"revision": np.array(encoder.revision), "options": np.array(json.dumps(encoder.options))}


def theirs(file: str, crops: list[NDArray[np.uint8]], texts: list[str]) -> dict[str, NDArray[Any]]:
    """Use the package as its README does; the crops must be squares, since it cuts the middle out."""
    import torch
    from PIL import Image

    with warnings.catch_warnings(action="ignore"):
        clip = importlib.import_module("clip")
        model, preprocess = clip.load(file, device="cpu")
    with torch.no_grad():
        seen = model.encode_image(torch.stack([preprocess(Image.fromarray(crop)) for crop in crops]))
        said = model.encode_text(clip.tokenize(texts, truncate=True))
    rows = {"their crops": seen, "their texts": said}
    return {name: (each / each.norm(dim=-1, keepdim=True)).numpy() for name, each in rows.items()}


def refusal(file: str) -> str:
    try:
        Clip.from_choices(Choices("clip", Path(file), device="cpu")).encode_text(["chair"])
    except UserError as error:
        return str(error)
    return "loaded"


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    operators = define_operators()
    with np.load(job["crops"]) as held:
        crops = [held[f"crop {place}"] for place in range(len(held))]
    for file, out in job["files"].items():
        found = ours(file, crops, job["texts"]) | theirs(file, crops, job["texts"])
        np.savez(out, **found)  # type: ignore[arg-type]
    sys.stdout.write(json.dumps({file: refusal(file) for file in job["broken"]}))
    del operators


if __name__ == "__main__":
    main()
