"""A small true encoder for tests: colours as an embedding, found through a real entry point.

Words are colour names; a picture is the mean of its colours. Both are unit vectors over red, green, blue
and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "white": (1, 1, 1)}


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def embed_colours(rgb: NDArray[np.float64]) -> NDArray[np.float32]:
    """(n, 3) colours in 0..1 -> (n, 4) unit rows."""
    return _unit(np.hstack([rgb, np.ones((len(rgb), 1))]))


class Toy:
    """Sees crops."""

    name = "toy"
    dimension = 4
    views: Literal["crops"] = "crops"
    revision = "0123456789abcdef"

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return embed_colours(np.array([COLOURS.get(text, (0.5, 0.5, 0.5)) for text in texts], float))

    def encode_crops(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return embed_colours(
            np.array([crop.reshape(-1, 3).mean(axis=0) / 255 for crop in crops]).reshape(-1, 3)
        )


class ToyPixels:
    """Sees pixel sets."""

    name = "toypixels"
    dimension = 4
    views: Literal["pixels"] = "pixels"
    revision = "fedcba9876543210"

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return Toy().encode_text(texts)

    def encode_pixels(
        self, image: NDArray[np.uint8], pixels: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        means = [image[rows, columns].mean(axis=0) / 255 for rows, columns in (p.T for p in pixels)]
        return embed_colours(np.array(means).reshape(-1, 3))


def install(folder: Path) -> None:
    """Write the metadata of a distribution that declares both, for a folder on the module search path."""
    info = folder / "toy_encoder-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-encoder\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[open3dsg.encoders]\ntoy = tests.toy_encoder:Toy\ntoypixels = tests.toy_encoder:ToyPixels\n"
    )
