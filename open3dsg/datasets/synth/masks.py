"""True instance masks of the photographs of a room, as a segmenter that knows no names would give them.

    OUT/masks/SCAN/STEM.png    16 bits, the size of the photograph; STEM is that of its name

Each picture numbers what it shows from 1, in an order of its own; 0 is where nothing was hit.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.formats import grey_png

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

MASKS = "masks"


class MaskFolder:
    """The masks of one scan, written one by one."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Write into `folder`, which is there when the first mask comes; one `seed` gives the same ids."""
        self.folder = folder
        self._seed = seed

    def add(self, stem: str, instance: NDArray[np.int32]) -> None:
        """Write the mask of a photograph from its instance numbers, (H, W) int32, negative ones for none."""
        rng = np.random.default_rng([0x3A5C, self._seed, zlib.crc32(stem.encode())])
        numbers, place = np.unique(instance, return_inverse=True)
        ids = (1 + rng.permutation(len(numbers))).astype(np.uint16)
        ids[numbers < 0] = 0
        (self.folder / f"{stem}.png").write_bytes(grey_png(ids[place.reshape(instance.shape)]))
