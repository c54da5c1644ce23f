"""Instance masks for tests: written, spoiled as segmenters spoil them, and what merging them recovered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment


def write_mask(path: Path, mask: NDArray[Any], *, kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path, format=kind)
    return path


def spoiled(mask: NDArray[Any], rng: np.random.Generator, share: float = 0.1) -> NDArray[np.uint16]:
    """Give every mask of a picture another id, drop `share / 2` of them and cut as many in two."""
    out = np.zeros(mask.shape, np.uint16)
    ids = np.unique(mask[mask > 0])
    new = (1 + rng.permutation(4 * len(ids) + 2)).astype(np.uint16)
    for place, number in enumerate(ids):
        row, column = np.nonzero(mask == number)
        fate = rng.random()
        if fate < share / 2:
            continue
        angle = rng.uniform(0, np.pi)
        along = np.cos(angle) * row + np.sin(angle) * column
        beyond = (along > np.median(along)) & (fate < share)
        out[row, column] = np.where(beyond, new[2 * place], new[2 * place + 1])
    return out


def best_overlaps(true: NDArray[np.int32], found: NDArray[np.int32]) -> dict[int, float]:
    """Return true instance -> IoU with the found one it is paired with; no found one is used twice."""
    numbers = np.unique(true[true >= 0])
    others = np.unique(found[found >= 0])
    shared = np.array([[((true == a) & (found == b)).sum() for b in others] for a in numbers], float)
    sizes = (true[:, None] == numbers).sum(axis=0)[:, None] + (found[:, None] == others).sum(axis=0)
    overlap = shared / (sizes - shared)
    rows, columns = linear_sum_assignment(-overlap)
    best = dict.fromkeys(numbers.tolist(), 0.0)
    return best | {int(numbers[a]): float(overlap[a, b]) for a, b in zip(rows, columns, strict=True)}
