"""What the encoders have in common: packages, options, devices, pictures, unit rows, revisions."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open3dsg.encoders.contract import Choices
from open3dsg.encoders.digests import file_digest
from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    import torch
    from numpy.typing import NDArray


def load_package(name: str, encoder: str, install: str) -> ModuleType:
    """Import the module `name`; where it, or a package it needs, is missing, say what to type.

    Raises UserError with `encoder`, the missing package and the `install` line.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        raise UserError(f"the {encoder} encoder needs the package {missing}: {install}") from error


def check_options(choices: Choices, known: Mapping[str, type], *, takes_path: bool = True) -> None:
    """Refuse what the settings say of an encoder that does not know it, or that is of another type.

    `known` gives the type of each option in ``[encoders.NAME]``; whole numbers pass as float. An encoder
    that speaks through the sentence encoder `choices.text` has ``"text": str`` among them; `takes_path` is
    false for one whose weights come with a package. Raises UserError naming the key.
    """
    told = f"[encoders.{choices.name}] in the settings"
    given = dict(choices.options)
    if choices.text != Choices.text:
        given["text"] = choices.text
    if choices.path_given and not takes_path:
        raise UserError(f"{told}: path: the weights of this encoder come with its packages; take it out")
    paths = ["encoder", "path"] if takes_path else ["encoder"]
    for key, value in given.items():
        if key not in known:
            names = ", ".join([*paths, *known])
            raise UserError(f"{told}: unknown key {key!r}; what can be set is {names}")
        wanted = known[key]
        fits = isinstance(value, wanted) or (wanted is float and isinstance(value, int))
        if not fits or (isinstance(value, bool) and wanted is not bool):
            raise UserError(f"{told}: {key}: expected {_TYPES.get(wanted, wanted.__name__)}, got {value!r}")


_TYPES: Mapping[type, str] = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"
}  # fmt: skip


def need_checkpoint(choices: Choices, wants: str) -> Path:
    """Return where the weights are. Raises BadFileError, with the encoder's `WANTS`, where nothing is."""
    if choices.checkpoint.exists():
        return choices.checkpoint
    raise BadFileError(
        f"{choices.checkpoint}: the weights of the encoder {choices.name} are missing. It wants "
        f"{wants.format(path=choices.checkpoint)}; `path` in [encoders.{choices.name}] names another place"
    )


def torch_device(choices: Choices) -> str:
    """Return the device that an encoder works on; UserError as of `find_device`."""
    return find_device(choices.device)


def find_device(device: str | None) -> str:
    """Return the device to work on, as torch names it: the chosen one, else a GPU where there is one.

    Raises UserError, naming --device, for one that this machine or this torch does not have.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:  # torch has one for each way to lack it
        count = torch.cuda.device_count()
        here = ", ".join(["cpu", *(f"cuda:{number}" for number in range(count))])
        raise UserError(
            f"--device {device}: torch {torch.__version__} has no such device here, but {here}"
        ) from error
    return device


def torch_dtype(choices: Choices) -> torch.dtype:
    """Return the numbers that a vision model reckons in: `torch.float32`, `float16` or `bfloat16`.

    Raises UserError, naming --precision, where the chosen device cannot reckon in them.
    """
    import torch
    from torch.nn import functional

    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[choices.precision]
    device = torch_device(choices)
    try:  # what every vision model does; older releases of torch have no fp16 of it on a CPU
        sample = torch.ones(1, 3, 4, 4, dtype=dtype, device=device)
        functional.layer_norm(functional.conv2d(sample, sample), (1,)).softmax(-1)
    except RuntimeError as error:
        raise UserError(
            f"--precision {choices.precision}: torch {torch.__version__} cannot reckon in it on {device}:"
            " take another, or another --device"
        ) from error
    return dtype


def check_picture(picture: NDArray[np.uint8], called: str) -> None:
    """Raise ValueError naming `called` unless it is (height, width, 3) uint8, not empty."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != "uint8" or picture.size == 0:
        shape = f"{picture.shape} {picture.dtype}"
        raise ValueError(f"{called} is {shape}, expected (height, width, 3) uint8 with at least one pixel")


def fit_square(picture: NDArray[np.uint8], side_px: int, fill: int) -> NDArray[np.uint8]:
    """Fit a picture, (height, width, 3), into the middle of a (side_px, side_px, 3) square, proportions kept.

    Resized bicubically; what remains has the value `fill`.
    """
    import numpy as np
    from PIL import Image

    height, width = picture.shape[:2]
    scale = side_px / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    resized = Image.fromarray(picture).resize((columns, rows), Image.Resampling.BICUBIC)
    square = np.full((side_px, side_px, 3), fill, np.uint8)
    top, left = (side_px - rows) // 2, (side_px - columns) // 2
    square[top : top + rows, left : left + columns] = np.asarray(resized)
    return square


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale the rows of (n, d) to length 1. A row of zeros has no direction: it raises ValueError."""
    import numpy as np

    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.all(lengths > 0):
        raise ValueError(f"row {int(np.argmin(lengths > 0))} of the embeddings is zero or not a number")
    unit: NDArray[np.float32] = (rows / lengths).astype(np.float32)
    return unit


def revision_of(options: Mapping[str, Any], files: Sequence[Path]) -> str:
    """Return 16 hex digits that change with any byte of `files` and with any of `options` (JSON values)."""
    parts = [json.dumps(options, sort_keys=True), *(file_digest(path) for path in files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
