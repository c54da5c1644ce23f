"""What an encoder is to the rest of the project: pictures and words into one vector space.

An encoder sees an instance in one of two ways, says which by `views`, and has the one method that goes
with it:

- ``"crops"``, a `CropEncoder`: it is given cut-out pictures of the instance (`encode_crops`);
- ``"pixels"``, a `PixelEncoder`: it is given the whole photograph and the instance's pixels in it
  (`encode_pixels`), as OpenSeg is (Ghiasi et al., ECCV 2022).

These, and `encode_text`, return ``(n, dimension) float32`` rows of unit length; n may be 0. Pictures are
upright: whoever calls turns a photograph of a camera held sideways first. Others add an encoder by an entry
point in the group ``open3dsg.encoders`` that names a class taking no arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TextEncoder(Protocol):
    """What both kinds share; construction is cheap, weights load with the first call that needs them."""

    name: str
    dimension: int

    @property
    def revision(self) -> str:
        """Hash (16 hex digits) of the weights and of the options that change the embeddings."""

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed `texts` as (n, dimension) float32 unit rows."""


class CropEncoder(TextEncoder, Protocol):
    """Sees an instance in cut-out pictures of it."""

    views: Literal["crops"]

    def encode_crops(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed RGB pictures, each (height, width, 3) uint8, as (n, dimension) float32 unit rows.

        Raises ValueError, naming its place in `crops`, for a crop that is no such picture or has no pixel.
        """


class PixelEncoder(TextEncoder, Protocol):
    """Sees an instance as a set of pixels of a whole photograph."""

    views: Literal["pixels"]

    def encode_pixels(
        self, image: NDArray[np.uint8], pixels: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        """Embed pixel sets of one (height, width, 3) uint8 photograph as (n, dimension) float32 unit rows.

        Each set is (m, 2) int64 with m at least 1, (row, column) in the grid of `image`. Raises ValueError
        for a picture of another shape, and, naming its place in `pixels`, for a set that is empty or leaves
        the picture.
        """


# A tagged union: after `encoder.views == "crops"` a type checker knows which of the two it holds.
Encoder: TypeAlias = CropEncoder | PixelEncoder
