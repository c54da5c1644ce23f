"""BLIP-2's vision tokens through LAVIS, the package it was published with (Li et al., BLIP-2, ICML 2023).

EVA-CLIP's ViT-g (Fang et al., EVA, CVPR 2023) without its last block, then BLIP-2's layer norm: 257 tokens of
1,408 numbers. LAVIS keeps them in two files: ``eva_vit_g.pth``, the frozen vision model, and
``blip2_pretrained*.pth`` with the layer norm; checkpoints fine-tuned on captions hold both. It wants an
environment of its own, which `scripts/lavis_environment` makes; nothing else imports it. Its own constructors
would ask a hub for language models, so only the vision model is made, as large as the weights are.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from open3dsg.encoders.checkpoint import fill, load_state
from open3dsg.encoders.contract import Choices
from open3dsg.encoders.support import (
    check_options,
    check_picture,
    load_package,
    need_checkpoint,
    revision_of,
    torch_device,
    torch_dtype,
)
from open3dsg.encoders.torchvision_loading import allow_torchvision
from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Tensors = Mapping[str, torch.Tensor]

FROZEN = "eva_vit_g.pth"
MAX_BLOCKS = 39  # LAVIS leaves out the last of EVA's 40
HEAD = 88  # numbers of an attention head: no tensor's shape tells
PREFIX = "visual_encoder."


@dataclass(frozen=True)
class Shape:
    """How large the vision model of a checkpoint is."""

    width: int
    blocks: int
    hidden: int  # of the perceptrons
    patch_px: int
    grid: int  # patches a side

    @property
    def side_px(self) -> int:
        """Of the pictures it sees."""
        return self.grid * self.patch_px


class Lavis:
    """Crops to (n, tokens, d) float32 tokens: one for the whole picture, then the grid, row by row."""

    views: Literal["tokens"] = "tokens"
    WANTS = (
        "BLIP-2's weights of LAVIS at {path}: a folder with eva_vit_g.pth and blip2_pretrained.pth, from"
        " https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2/, or a file that"
        " holds both, such as blip2_caption_opt2.7b.pth"
    )
    NEEDS = ("lavis",)
    INSTALL = "run scripts/lavis_environment, then .venv-lavis/bin/open3dsg in place of open3dsg"

    def __init__(self, choices: Choices) -> None:
        """Take what was chosen; nothing is read yet."""
        self.name = choices.name
        self.text = choices.text
        self._choices = choices

    @classmethod
    def from_choices(cls, choices: Choices) -> Lavis:
        """Make the encoder. Raises UserError for options that it does not have."""
        check_options(choices, {"text": str})
        return cls(choices)

    @property
    def dimension(self) -> int:
        """Numbers a token: 1,408 in the published weights."""
        return self._shape.width

    @property
    def tokens(self) -> int:
        """Tokens a picture: 257 at 224 px, 677 where the weights were fine-tuned at 364 px."""
        return self._shape.grid**2 + 1

    @cached_property
    def revision(self) -> str:
        """Hash (16 hex digits) of the files and of how pictures are made to fit.

        Raises UserError where LAVIS is not installed: a worker without it leaves the work to one that has it.
        """
        if find_spec("lavis") is None:
            raise UserError(f"the {self.name} encoder needs the package lavis: {self.INSTALL}")
        return revision_of({"resize": "bicubic, stretched", "max_blocks": MAX_BLOCKS}, self._files)

    @property
    def options(self) -> Mapping[str, Any]:
        """What the store keeps for people to read."""
        return {"files": [path.name for path in self._files], "side_px": self._shape.side_px}

    def encode_tokens(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Turn RGB pictures, each (height, width, 3) uint8, into (n, tokens, dimension) float32.

        Each is stretched to the model's square by LAVIS's own processor; all go through the model at once.
        Raises ValueError for what is no picture.
        """
        import numpy as np
        import torch
        from PIL import Image

        for place, crop in enumerate(crops):
            check_picture(crop, f"crop {place}")
        if not crops:
            return np.zeros((0, self.tokens, self.dimension), np.float32)
        vision, norm = self._model
        pictures = torch.stack([self._processor(Image.fromarray(crop)) for crop in crops])
        with torch.inference_mode():
            seen = vision(pictures.to(self.device, self._dtype))
            tokens: NDArray[np.float32] = norm(seen.float()).cpu().numpy()
        return tokens

    @cached_property
    def device(self) -> str:
        """Where the model works, as torch names it."""
        return torch_device(self._choices)

    @cached_property
    def _dtype(self) -> torch.dtype:
        return torch_dtype(self._choices)

    @cached_property
    def _files(self) -> Sequence[Path]:
        """The checkpoint, after the frozen vision model where that is a file of its own."""
        found = need_checkpoint(self._choices, self.WANTS)
        if not found.is_dir():
            return [found]
        frozen = found / FROZEN
        others = sorted(path for path in found.glob("*.pth") if path != frozen)
        if len(others) != 1:
            names = ", ".join(path.name for path in others) or "none"
            raise BadFileError(
                f"{found}: expected one file of BLIP-2 weights (.pth) beside {FROZEN}, found {names}"
            )
        return [frozen, *others] if frozen.exists() else others

    def _read(self) -> Tensors:
        """Map the tensors of all files, under the names of LAVIS's model; BLIP-2's own win, as there."""
        *frozen, blip = (load_state(path, self.name, self.INSTALL, mapped=True) for path in self._files)
        under_prefix = {PREFIX + name: tensor for state in frozen for name, tensor in state.items()}
        return under_prefix | {
            name: tensor for name, tensor in blip.items() if name.startswith((PREFIX, "ln_vision."))
        }

    @cached_property
    def _shape(self) -> Shape:
        return _shape_of(self._read(), self._choices.checkpoint)

    @cached_property
    def _model(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        """LAVIS's vision model, and the layer norm after it, which LAVIS reckons in full precision."""
        import torch

        import_lavis()
        shape, weights = self._shape, self._read()
        parts = (
            (_vision_model(shape), PREFIX),
            (torch.nn.LayerNorm(shape.width), "ln_vision."),
        )
        for part, prefix in parts:
            # Tensors that the model does not have are left out, as by LAVIS: a head, blocks after the 39th.
            state = {name: weights[prefix + name] for name in part.state_dict() if prefix + name in weights}
            fill(part, state, self._choices.checkpoint, self.name)
        (vision, _), (norm, _) = parts
        return vision.eval().to(self.device, self._dtype), norm.eval().to(self.device)

    @cached_property
    def _processor(self) -> Any:
        import_lavis()
        module = import_module("lavis.processors.blip_processors")
        return module.BlipImageEvalProcessor(image_size=self._shape.side_px)


def import_lavis() -> None:
    """Import LAVIS, which takes seconds. Raises UserError, with what to run, where it cannot be."""
    with warnings.catch_warnings(action="ignore"):  # it was written for the Python of 2022
        load_package("torch", "lavis", Lavis.INSTALL)
        allow_torchvision()
        try:
            load_package("lavis.models.eva_vit", "lavis", Lavis.INSTALL)
        except ImportError as error:
            raise UserError(f"LAVIS cannot be imported here ({error}): {Lavis.INSTALL}") from error


def _vision_model(shape: Shape) -> torch.nn.Module:
    """Make LAVIS's EVA ViT as large as the weights, not filled."""
    import torch

    model: torch.nn.Module = import_module("lavis.models.eva_vit").VisionTransformer(
        img_size=shape.side_px,
        patch_size=shape.patch_px,
        embed_dim=shape.width,
        depth=shape.blocks,
        num_heads=shape.width // HEAD,
        mlp_ratio=(shape.hidden + 0.5) / shape.width,  # it rounds the product down
        qkv_bias=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )
    return model


def _shape_of(weights: Tensors, path: Path) -> Shape:
    """Read the sizes off the tensors. Raises BadFileError where they are no EVA ViT of LAVIS."""
    try:
        width, _, patch_px, _ = weights[f"{PREFIX}patch_embed.proj.weight"].shape
        _, places, _ = weights[f"{PREFIX}pos_embed"].shape
        hidden, _ = weights[f"{PREFIX}blocks.0.mlp.fc1.weight"].shape
    except KeyError as error:
        raise BadFileError(
            f"{path}: no BLIP-2 weights of LAVIS with EVA's ViT: {error.args[0]} is missing; those that were"
            f" trained beside a frozen vision model want {FROZEN} in the same folder, and `path` to name that"
        ) from error
    except ValueError as error:
        raise BadFileError(f"{path}: no BLIP-2 weights of LAVIS: tensors of other shapes") from error
    numbers = {name.split(".")[2] for name in weights if name.startswith(f"{PREFIX}blocks.")}
    grid = round((places - 1) ** 0.5)
    if width % HEAD or grid**2 + 1 != places:
        raise BadFileError(
            f"{path}: no EVA ViT of LAVIS: {places} tokens of {width} numbers, expected 1 + a square and a"
            f" multiple of {HEAD}"
        )
    return Shape(width, min(len(numbers), MAX_BLOCKS), hidden, patch_px, grid)
