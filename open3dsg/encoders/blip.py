"""Pairs as vision tokens of InstructBLIP and BLIP-2, and captions of them, from a Hugging Face folder.

InstructBLIP (Dai et al., NeurIPS 2023), which Open3DSG uses (Koch et al., CVPR 2024), and BLIP-2 (Li et al.,
ICML 2023) see a picture through the same kind of tower, EVA-CLIP ViT-g/14 (Fang et al., CVPR 2023): 257
tokens of 1,408 numbers, one of the whole picture and 16 x 16 of its parts. A Q-Former turns them into a few
that a language model reads. Tokens need the tower alone, some 2 GB in fp16 of a folder of up to 31 GB, and
no more is loaded for them; captions need the rest and not the tower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from open3dsg.encoders.blip_folder import Eyes, read_eyes
from open3dsg.encoders.checkpoint import (
    check_model_type,
    fill,
    quiet_transformers,
    reading,
    transformers_class,
    weight_files,
)
from open3dsg.encoders.parts import load_part
from open3dsg.encoders.support import (
    check_options,
    check_picture,
    load_package,
    need_checkpoint,
    revision_of,
    torch_device,
    torch_dtype,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from open3dsg.encoders.blip_captions import Speaker
    from open3dsg.encoders.contract import Choices

TOWER = "vision_model."  # how the names of its tensors begin


class _Blip:
    """What both have in common: crops to (n, tokens, dimension) float32, and captions of these."""

    views: Literal["tokens"] = "tokens"
    NEEDS: tuple[str, ...] = ("torch", "transformers", "safetensors")
    INSTALL = "pip install 'open3dsg[blip]'"
    WANTS: ClassVar[str]
    model_type: ClassVar[str]  # in config.json
    classes: ClassVar[str]  # how the names of its classes in transformers begin

    def __init__(self, choices: Choices) -> None:
        check_options(choices, {"text": str})
        self._choices = choices

    @classmethod
    def from_choices(cls, choices: Choices) -> Self:
        """Make it of a folder `choices.checkpoint`, of which nothing is read yet."""
        return cls(choices)

    @property
    def name(self) -> str:
        """What the store calls it."""
        return self._choices.name

    @property
    def text(self) -> str:
        """Name of the sentence encoder that embeds captions."""
        return self._choices.text

    @property
    def tokens(self) -> int:
        """Tokens a picture: one for the whole, then a square grid, row by row."""
        return self._eyes.tokens

    @property
    def dimension(self) -> int:
        """Numbers a token."""
        return self._eyes.dimension

    @cached_property
    def device(self) -> str:
        """Where it works, as torch names it."""
        return torch_device(self._choices)

    @property
    def options(self) -> Mapping[str, Any]:
        """The tower's measures, and what is done to a picture first, as the folder's JSON files have them."""
        return self._eyes.options

    @cached_property
    def revision(self) -> str:
        """Hash (16 hex digits) of all weights of the folder and of `options`.

        Of the language model's, too, though the tokens do not depend on them: captions are stored under the
        same revision.
        """
        return revision_of(self.options, weight_files(self._folder))

    def encode_tokens(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Turn RGB pictures, each (height, width, 3) uint8, into (n, tokens, dimension) float32.

        They are the tower's last hidden state after its final layer norm. Each picture is stretched to a
        square, as in training; all go through the tower at once. Raises ValueError for what is no picture.
        """
        import numpy as np

        for place, crop in enumerate(crops):
            check_picture(crop, f"crop {place}")
        return self._see(crops) if len(crops) else np.zeros((0, self.tokens, self.dimension), np.float32)

    def caption(
        self, tokens: NDArray[np.float32], subjects: Sequence[str], objects: Sequence[str], beams: int
    ) -> list[str]:
        """Say how the n-th subject relates to the n-th object, by beam search as Open3DSG does.

        `tokens`: (n, tokens, dimension) float32, as `encode_tokens` gives them or stored; all are one batch.
        Returns n sentences that begin with "the {subject}". Raises ValueError for tokens of another shape.
        """
        expected = (len(subjects), self.tokens, self.dimension)
        if tokens.shape != expected or len(objects) != len(subjects):
            raise ValueError(f"tokens are {tokens.shape}, of {len(objects)} objects; expected {expected}")
        return self._speaker.caption(tokens, subjects, objects, beams) if len(subjects) else []

    def _see(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        torch = load_package("torch", self.name, self.INSTALL)
        from PIL import Image

        with torch.inference_mode():
            # Of an array 3 pixels high transformers could take the rows for the colours.
            pictures = [Image.fromarray(crop) for crop in crops]
            pixels = self._prepare(pictures, return_tensors="pt")["pixel_values"]
            states = self._tower(pixels.to(self.device)).last_hidden_state
            rows: NDArray[np.float32] = states.float().cpu().numpy()
        return rows

    @cached_property
    def _folder(self) -> Path:
        folder = need_checkpoint(self._choices, self.WANTS)
        check_model_type(folder, self.name, (self.model_type,))
        return folder

    @cached_property
    def _eyes(self) -> Eyes:
        return read_eyes(self._folder)

    @cached_property
    def _prepare(self) -> Any:
        """Return the image processor: that of Pillow and numpy, whether there is torchvision or not.

        The two do not agree to the last bit, and a revision has one meaning on all machines.
        """
        transformers = load_package("transformers", self.name, self.INSTALL)
        # Before transformers 5 the plain name meant that of Pillow.
        plain = not hasattr(transformers, "BlipImageProcessorPil")
        kind = "BlipImageProcessor" if plain else "BlipImageProcessorPil"
        processor_class = transformers_class(kind, self.name, self.INSTALL)
        import numpy as np
        from PIL import Image

        # Settings that suit no pictures are the file's fault.
        with reading(self._eyes.preparation, self.name), np.errstate(divide="raise", invalid="raise"):
            prepare = processor_class(**self._eyes.picture)
            prepare([Image.new("RGB", (1, rows)) for rows in (1, 2)], return_tensors="np")
        return prepare

    @cached_property
    def _tower(self) -> torch.nn.Module:
        """Load the vision tower, alone."""
        config_class, model_class = (
            transformers_class(f"{self.classes}{kind}", self.name, self.INSTALL)
            for kind in ("VisionConfig", "VisionModel")
        )
        import torch

        with reading(self._folder / "config.json", self.name), quiet_transformers():
            config = config_class(**self._eyes.tower)
            with torch.device("meta"):  # no numbers yet: not a billion random ones to be overwritten
                tower: torch.nn.Module = model_class(config)
        state = load_part(self._folder, TOWER, torch_dtype(self._choices), self.name, self.INSTALL)
        fill(tower, state, self._folder, self.name, assign=True)
        return tower.to(self.device).eval()

    @cached_property
    def _speaker(self) -> Speaker:
        from open3dsg.encoders.blip_captions import load_speaker

        return load_speaker(self._folder, self.classes, self._choices, self.INSTALL)


class InstructBlip(_Blip):
    """InstructBLIP: its Q-Former reads the question, too."""

    WANTS = "the folder of Salesforce/instructblip-vicuna-7b from huggingface.co at {path}"
    model_type = "instructblip"
    classes = "InstructBlip"


class Blip2(_Blip):
    """BLIP-2."""

    WANTS = "the folder of Salesforce/blip2-opt-2.7b from huggingface.co at {path}"
    model_type = "blip-2"
    classes = "Blip2"
