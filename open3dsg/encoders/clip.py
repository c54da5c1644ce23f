"""CLIP (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021).

The four Vision Transformers ViT-B/32, B/16, L/14 and L/14@336px, or any other of that architecture, from a
Hugging Face folder or from the file that OpenAI published; which one it is the weights tell. A crop is seen
as Open3DSG (Koch et al., CVPR 2024) shows it: fitted into a square, proportions kept, on black.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from open3dsg.encoders.clip_models import HuggingFaceClip, OpenAiClip
from open3dsg.encoders.support import (
    check_options,
    check_picture,
    fit_square,
    need_checkpoint,
    revision_of,
    torch_device,
    torch_dtype,
    unit_rows,
)
from open3dsg.errors import BadFileError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from open3dsg.encoders.contract import Choices

BATCH = 64  # texts
BLACK = 0
# Of the pictures that CLIP was trained with, red, green and blue: all its weights were published with these.
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class Clip:
    """Crops and words to (n, d) unit rows of CLIP's space: d is 512 for ViT-B, 768 for ViT-L."""

    views: Literal["crops"] = "crops"
    WANTS = (
        "a CLIP at {path}: the folder of openai/clip-vit-large-patch14-336 (or -base-patch32, ...) from"
        " huggingface.co, or ViT-L-14-336px.pt (ViT-B-32.pt, ...) as github.com/openai/CLIP links it"
    )

    def __init__(self, choices: Choices) -> None:
        """Take what was chosen; nothing is read yet."""
        self.name = choices.name
        self._choices = choices
        # Which of the two forms lies there says what it imports.
        form = OpenAiClip if openai_file(choices.checkpoint) else HuggingFaceClip
        self.NEEDS, self.INSTALL = form.NEEDS, form.INSTALL

    @classmethod
    def from_choices(cls, choices: Choices) -> Clip:
        """Make it; UserError for options, which it has none of."""
        check_options(choices, {})
        return cls(choices)

    @cached_property
    def dimension(self) -> int:
        """Numbers a row, as the weights tell; of a Hugging Face folder only the configuration is read."""
        return self._files.dimension

    @cached_property
    def revision(self) -> str:
        """Hash (16 hex digits) of the weights, the vocabulary and how a crop is shown."""
        shown = {"resize": "bicubic, padded", "fill": BLACK, "mean": MEAN, "deviation": DEVIATION}
        return revision_of(shown, self._files.files)

    @property
    def options(self) -> Mapping[str, Any]:
        """What it is, for people to read."""
        return {"architecture": self._files.architecture, "side_px": self._files.side_px}

    @cached_property
    def device(self) -> str:
        """Where it works, as torch names it."""
        return torch_device(self._choices)

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed `texts` as (n, d) float32 unit rows; a text is cut at 77 tokens, without a word about it."""
        import numpy as np
        import torch

        rows = [np.zeros((0, self.dimension), np.float32)]
        for start in range(0, len(texts), BATCH):
            with torch.inference_mode():
                rows.append(self._model.texts(list(texts[start : start + BATCH])).float().cpu().numpy())
        return unit_rows(np.concatenate(rows))

    def encode_crops(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed RGB pictures, each (height, width, 3) uint8, as (n, d) float32 unit rows, in one batch.

        Raises ValueError, naming its place in `crops`, for what is no picture.
        """
        import numpy as np
        import torch

        for place, crop in enumerate(crops):
            check_picture(crop, f"crop {place}")
        if not crops:
            return np.zeros((0, self.dimension), np.float32)
        seen = to_input(crops, self._files.side_px).to(self.device, self._dtype)
        with torch.inference_mode():
            rows: NDArray[np.float32] = self._model.pictures(seen).float().cpu().numpy()
        return unit_rows(rows)

    @cached_property
    def _dtype(self) -> torch.dtype:
        return torch_dtype(self._choices)

    @cached_property
    def _files(self) -> HuggingFaceClip | OpenAiClip:
        found = find_checkpoint(need_checkpoint(self._choices, self.WANTS), self.name, self.WANTS)
        return HuggingFaceClip(found, self.name) if found.is_dir() else OpenAiClip(found, self.name)

    @cached_property
    def _model(self) -> Any:
        return self._files.load(self.device, self._dtype)


def openai_file(path: Path) -> Path | None:
    """Return the file of OpenAI that `path` is, or holds as the only one and beside no config.json."""
    if path.is_file():
        return path
    files = [] if (path / "config.json").is_file() else list(path.glob("*.pt"))
    return files[0] if len(files) == 1 else None


def find_checkpoint(path: Path, name: str, wants: str) -> Path:
    """Return the file of OpenAI that `path` is or holds, or `path` where it is a Hugging Face folder.

    Raises BadFileError, naming the encoder `name`, for a folder of another kind.
    """
    if (path / "config.json").is_file():
        return path
    file = openai_file(path)
    if file is not None:
        return file
    files = list(path.glob("*.pt"))
    told = (
        f"{len(files)} files *.pt in it: say which by `path`" if files else "no config.json and no *.pt in it"
    )
    raise BadFileError(f"{path}: {told}. The encoder {name} wants {wants.format(path=path)}")


def to_input(crops: Sequence[NDArray[np.uint8]], side_px: int) -> torch.Tensor:
    """Turn crops into (n, 3, side_px, side_px) float32 as CLIP was trained on them, padded with black."""
    import numpy as np
    import torch

    squares = np.stack([fit_square(crop, side_px, BLACK) for crop in crops]).astype(np.float32) / 255
    scaled = (squares - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous()
