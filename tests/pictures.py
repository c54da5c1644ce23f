"""What `open3dsg show` wrote, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def index(folder: Path, name: str) -> list[dict[str, Any]]:
    """The list of pictures that lies beside them."""
    records: list[dict[str, Any]] = json.loads((folder / name).read_text(encoding="utf-8"))
    return records


def read(path: Path) -> NDArray[np.uint8]:
    """The pixels of a picture, (height, width, 3)."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
