"""Renderings of the synthetic rooms into the MiniLM text space: a small dense encoder trained for them.

Photographs are not its trade (that is `conse`, or an encoder with a checkpoint): it has seen nothing but
the rooms of `open3dsg.datasets.synth`, and lets the demo and the tests ask real questions with right
answers. Like OpenSeg (Ghiasi et al., ECCV 2022) it gives every pixel a vector in a text space, and an
instance the average over its pixels. That average is compared with the names of the categories it was
trained on, and the embedding is the mean of their texts, weighted by their probabilities, as in ConSE
(Norouzi et al., ICLR 2014); a category's text is its name together with its use, from `rooms_words`. So a
question finds a thing as near as the language model holds the two. `scripts/train_rooms_encoder` makes the
weights, and its docstring says on which rooms; the held-out figures are in docs/encoders.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from open3dsg.encoders.minilm import DIMENSION, minilm
from open3dsg.encoders.rooms_words import USES
from open3dsg.encoders.support import check_picture, load_package, revision_of, unit_rows
from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from open3dsg.encoders.rooms_net import RoomsNet

SIDE_PX = 160
CODE = 64
WIDTHS = (32, 48, 96, 144, 192)
TEMPERATURE = 0.04  # of the scores that the weights were trained with
INSTALL = "pip install 'open3dsg[conse]'"


class Rooms:
    """The encoder of the synthetic rooms: pixel sets and words to (n, 384) unit rows of the MiniLM space."""

    name = "rooms"
    dimension = DIMENSION
    views: Literal["pixels"] = "pixels"

    def __init__(self, weights: Path | None = None) -> None:
        """Take the package's own weights, or those of the file `weights`; nothing is read yet."""
        self.weights = weights or Path(__file__).parent / "weights" / "rooms.safetensors"

    @cached_property
    def revision(self) -> str:
        """Hash (16 hex digits) of the weights, the options and the text side."""
        self._check_weights()
        options = {
            "side_px": SIDE_PX,
            "code": CODE,
            "widths": WIDTHS,
            "temperature": TEMPERATURE,
            "uses": dict(USES),
            "text": minilm().revision,
        }
        return revision_of(options, [self.weights])

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed `texts` with MiniLM as (n, 384) float32 unit rows; it cuts a text at 256 tokens."""
        return minilm().encode(texts)

    def encode_pixels(
        self, image: NDArray[np.uint8], pixels: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        """Embed pixel sets of one upright (height, width, 3) uint8 picture as (n, 384) float32 unit rows.

        Each set is (m, 2) int64, (row, column); a pixel named twice counts twice. The picture is seen with
        a short side of 160 px and has a vector for every 4th pixel of that; a pixel takes the nearest.
        Raises ValueError for a picture of another shape, and for a set that is empty or leaves the picture.
        """
        import numpy as np
        import torch

        check_picture(image, "image")
        if not pixels:
            return np.zeros((0, DIMENSION), np.float32)
        net = self._net
        with torch.inference_mode():
            codes = net(to_input(image)[None])[0]  # (CODE, rows, columns)
            _, rows, columns = codes.shape
            shares = np.stack(
                [
                    cell_shares(each, f"pixel set {place}", image.shape[:2], (rows, columns))
                    for place, each in enumerate(pixels)
                ]
            )
            averages = torch.from_numpy(shares) @ codes.reshape(CODE, -1).T
            lifted: NDArray[np.float32] = net.lift(averages).numpy()
        names, texts = self._texts
        scores = unit_rows(lifted) @ names.T / TEMPERATURE
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return unit_rows(weights @ texts)

    @cached_property
    def _texts(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeddings of the K categories, (K, 384) each: of their names, and of names together with uses."""
        open_file = load_package("safetensors", self.name, INSTALL).safe_open
        with open_file(self.weights, "np") as file:
            categories = file.metadata()["categories"].split(", ")
        names = minilm().encode(categories)
        uses = minilm().encode([USES.get(category, category) for category in categories])
        return names, unit_rows(names + uses)

    @cached_property
    def _net(self) -> RoomsNet:
        self._check_weights()
        safetensors = load_package("safetensors", self.name, INSTALL)
        load_file = load_package("safetensors.torch", self.name, INSTALL).load_file

        from open3dsg.encoders.rooms_net import RoomsNet

        net = RoomsNet(CODE, DIMENSION, WIDTHS)
        try:
            net.load_state_dict(load_file(self.weights))
        except (safetensors.SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise BadFileError(f"{self.weights}: not the weights of the rooms encoder: {reason}") from error
        return net.eval()

    def _check_weights(self) -> None:
        if not self.weights.is_file():
            raise UserError(
                f"the rooms encoder's weights are missing: {self.weights}; install open3dsg again"
            )


def fitted(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize a picture (height, width, 3): short side 160 px, long side the nearest multiple of 32."""
    import numpy as np
    from PIL import Image

    from open3dsg.encoders.rooms_net import MULTIPLE

    height, width = image.shape[:2]
    scale = SIDE_PX / min(height, width)
    rows, columns = (max(1, round(side * scale / MULTIPLE)) * MULTIPLE for side in (height, width))
    return np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))


def to_input(image: NDArray[np.uint8]) -> torch.Tensor:
    """Turn a picture (height, width, 3) into (3, h, w) float32 in [-1, 1], sized as `fitted` does."""
    import numpy as np
    import torch

    scaled = fitted(image).astype(np.float32) / 127.5 - 1.0
    return torch.from_numpy(scaled).permute(2, 0, 1)


def cell_shares(
    pixels: NDArray[np.int64], called: str, size: tuple[int, ...], grid: tuple[int, int]
) -> NDArray[np.float32]:
    """Return which share of `pixels` (m, 2) of a picture of `size` falls into each cell of `grid`."""
    import numpy as np

    if pixels.ndim != 2 or pixels.shape[1] != 2 or len(pixels) == 0:
        raise ValueError(f"{called} is {pixels.shape}, expected (m, 2) rows and columns, at least one")
    if pixels.min() < 0 or np.any(pixels >= size):
        raise ValueError(f"{called} leaves the picture of {size[0]} x {size[1]} pixels")
    cells = pixels * np.array(grid) // np.array(size)
    counts = np.bincount(np.ravel_multi_index((cells[:, 0], cells[:, 1]), grid), minlength=grid[0] * grid[1])
    return (counts / len(pixels)).astype(np.float32)
