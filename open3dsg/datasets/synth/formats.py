"""What the files of every layout are made of."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def write_json(path: Path, content: Any) -> None:
    """JSON on one line."""
    path.write_bytes(json.dumps(content).encode())


def millimetres(depth_m: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Depth (H, W) in whole millimetres, 0 where nothing was met."""
    return np.rint(np.clip(depth_m * 1000, 0, 65535)).astype(np.uint16)


def grey_png(values: NDArray[np.uint16]) -> bytes:
    """16-bit PNG of (H, W) uint16."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="PNG")
    return buffer.getvalue()


def colour_jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """JPEG of (H, W, 3) uint8."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="JPEG", quality=92)
    return buffer.getvalue()
