"""Colours of points: by photograph, instance, label, or similarity to a question."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BACKGROUND = (150, 150, 150)
SELECTED = (255, 140, 0)

_GOLDEN = 0.618033988749895  # steps of the golden angle never come back to a hue
# Anchors of a scale from dark to light that reads in grey too, after matplotlib's viridis (CC0).
_SCALE = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float64)


def instance_colours(numbers: Sequence[int]) -> NDArray[np.uint8]:
    """Return (M, 3): a colour an instance, far from those of its neighbours in number."""
    numbers_ = np.asarray(numbers, np.float64)
    return _from_hues(numbers_ * _GOLDEN % 1, 0.55 + 0.3 * (numbers_ % 2), 0.95 - 0.2 * (numbers_ % 3) / 2)


def label_colours(labels: Sequence[str]) -> NDArray[np.uint8]:
    """Return (M, 3): a colour a label, the same in every scan, whatever its case."""
    sums = np.array([zlib.crc32(label.casefold().encode()) for label in labels], np.float64)
    return _from_hues(sums / 2**32, 0.5 + 0.35 * (sums % 2), 0.95 - 0.3 * (sums % 3) / 2)


def similarity_colours(similarities: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return (M, 3): dark for the least, yellow for the greatest; NaN, of which nothing is known, is grey."""
    known = np.isfinite(similarities)
    if not known.any():
        return np.full((len(similarities), 3), BACKGROUND, np.uint8)
    low, high = similarities[known].min(), similarities[known].max()
    place = np.where(known, (similarities - low) / ((high - low) or 1.0), 0.0) * (len(_SCALE) - 1)
    channels = [np.interp(place, np.arange(len(_SCALE)), channel) for channel in _SCALE.T]
    colours = np.stack(channels, axis=1).round().astype(np.uint8)
    colours[~known] = BACKGROUND
    return colours


def paint(
    rgb: NDArray[np.uint8],
    instance: NDArray[np.int32],
    numbers: NDArray[np.int32],
    colours: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """Return (N, 3) uint8: each point in the colour of its instance, as light or dark as its photograph.

    `rgb`: (N, 3) uint8, `instance`: (N,) int32; `numbers`: (M,) int32 ascending, of which `colours` (M, 3)
    are. Points of other instances, and background, are grey.
    """
    table = np.vstack([colours, BACKGROUND]).astype(np.float32)
    place = np.searchsorted(numbers, instance)
    is_known = place < len(numbers)
    is_known[is_known] = numbers[place[is_known]] == instance[is_known]
    place[~is_known] = len(numbers)
    # A little of the photograph's light keeps the shape of things readable.
    light = 0.6 + rgb.mean(axis=1, dtype=np.float32, keepdims=True) * (0.5 / 255)
    painted: NDArray[np.uint8] = np.minimum(table[place] * light, 255).astype(np.uint8)
    return painted


def _from_hues(
    hue: NDArray[np.float64], saturation: NDArray[np.float64], value: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Turn HSV, each (M,) in 0 to 1, into (M, 3) RGB (Smith, SIGGRAPH 1978, in its closed form)."""
    steps = (np.array([5.0, 3.0, 1.0]) + hue[:, None] * 6) % 6
    fall = np.clip(np.minimum(steps, 4 - steps), 0, 1)
    rgb: NDArray[np.uint8] = (255 * (value * (1 - saturation * fall.T)).T).round().astype(np.uint8)
    return rgb
