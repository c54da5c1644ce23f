"""A small true encoder for tests: colours as an embedding, found through a real entry point.

Words are colour names; a picture is the mean of its colours. Both are unit vectors over red, green, blue
and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
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


class ToyHeavy(Toy):
    """Takes memory as large encoders do: `WEIGHTS` bytes for good, and `ACTIVATIONS` a crop meanwhile."""

    name = "toyheavy"
    WEIGHTS, ACTIVATIONS = 80_000_000, 10_000_000

    @cached_property
    def _weights(self) -> NDArray[np.uint8]:
        return np.ones(self.WEIGHTS, np.uint8)

    def encode_crops(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        assert self._weights.any()
        assert np.ones((len(crops), self.ACTIVATIONS), np.uint8).any()
        return super().encode_crops(crops)


class ToyPixels:
    """Sees pixel sets, and of whole pictures every other row and column."""

    name = "toypixels"
    dimension = 4
    views: Literal["pixels"] = "pixels"
    revision = "fedcba9876543210"
    image_revision = "fedcba9876543210"

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return Toy().encode_text(texts)

    def encode_pixels(
        self, image: NDArray[np.uint8], pixels: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        means = [image[rows, columns].mean(axis=0) / 255 for rows, columns in (p.T for p in pixels)]
        return embed_colours(np.array(means).reshape(-1, 3))

    def encode_image(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        cells = image[::2, ::2]
        return embed_colours(cells.reshape(-1, 3) / 255).reshape(*cells.shape[:2], 4)

    def cells_of(self, pixels: int, cells: int) -> NDArray[np.int64]:
        return np.arange(pixels) // 2


class ToyTokens:
    """Sees crops as tokens: the mean colour of the whole, then of each part of 4 x 4; where it is; and 1."""

    name = "toytokens"
    dimension = 6
    views: Literal["tokens"] = "tokens"
    revision = "00112233aabbccdd"
    tokens = 17
    text = "toy"

    def encode_tokens(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.array([self._tokens(crop) for crop in crops], np.float32).reshape(-1, 17, 6)

    def _tokens(self, crop: NDArray[np.uint8]) -> NDArray[np.float64]:
        tokens = [[*crop.reshape(-1, 3).mean(axis=0) / 255, 0.5, 0.5, 1.0]]
        for row in range(4):
            for column in range(4):
                ys, xs = (
                    slice(place * side // 4, max(place * side // 4 + 1, (place + 1) * side // 4))
                    for place, side in zip((row, column), crop.shape[:2], strict=True)
                )
                tokens.append([*crop[ys, xs].reshape(-1, 3).mean(axis=0) / 255, column / 3, row / 3, 1.0])
        return np.array(tokens)


class ToyCaptions(ToyTokens):
    """Says by the strongest colour of the whole picture how two things relate; of a picture nothing."""

    name = "toycaptions"
    revision = "8899aabbccddeeff"
    phrases = ("hanging on", "Standing  on", "close by")  # red, green, blue

    def caption(
        self, tokens: NDArray[np.float32], subjects: Sequence[str], objects: Sequence[str], beams: int
    ) -> list[str]:
        assert tokens.shape == (len(subjects), self.tokens, self.dimension)
        assert len(subjects) == len(objects)
        said = [self.phrases[colour] for colour in tokens[:, 0, :3].argmax(axis=1)]
        return [
            f"the {subject}" if subject == "picture" else f"the {subject} {phrase} the {object_}"
            for subject, phrase, object_ in zip(subjects, said, objects, strict=True)
        ]


class ToyWords:
    """Embeds only words: each as a direction of its own."""

    name = "toywords"
    dimension = 8
    views: Literal["text"] = "text"
    revision = "ffeeddccbbaa9988"

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        made = [np.random.default_rng(list(text.encode())).normal(size=8) for text in texts]
        return _unit(np.array(made).reshape(-1, 8))


def install(folder: Path) -> None:
    """Write the metadata of a distribution that declares them, for a folder on the module search path."""
    info = folder / "toy_encoder-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-encoder\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[open3dsg.encoders]\ntoy = tests.toy_encoder:Toy\ntoypixels = tests.toy_encoder:ToyPixels\n"
        "toyheavy = tests.toy_encoder:ToyHeavy\n"
        "toytokens = tests.toy_encoder:ToyTokens\ntoycaptions = tests.toy_encoder:ToyCaptions\n"
        "toywords = tests.toy_encoder:ToyWords\n"
    )
