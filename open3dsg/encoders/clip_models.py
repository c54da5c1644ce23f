"""The two ways in which CLIP's weights come: a Hugging Face folder, and the file that OpenAI published.

Both say from the weights what they are, and load into the libraries' own models, the vision side in the
precision that was asked for, the text side always in float32: a question must not depend on it. Their
tokenizers agree but for HTML: the package clip reads "&amp;" as "&".
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from open3dsg.encoders.checkpoint import (
    check_model_type,
    fill,
    load_pretrained,
    load_state,
    reading,
    transformers_class,
    weight_files,
)
from open3dsg.encoders.support import load_package
from open3dsg.encoders.torchscript import is_archive, read_archive
from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")
INSTALL_TRANSFORMERS = "pip install 'open3dsg[conse]'"
# What the weights must have at the least; a ResNet, or another model altogether, lacks some.
NEEDED = {
    "ln_final.weight",
    "positional_embedding",
    "text_projection",
    "token_embedding.weight",
    "visual.conv1.weight",
    "visual.positional_embedding",
    "visual.proj",
}
NO_WEIGHTS = {"attn_mask", "input_resolution", "context_length", "vocab_size"}
INSTALL_CLIP = "pip install 'open3dsg[clip]' (the package called clip on PyPI is another thing)"


class Shape(NamedTuple):
    """What tells one CLIP Vision Transformer from another."""

    width: int
    layers: int
    patch_px: int
    side_px: int

    @property
    def name(self) -> str:
        """As it was published, or its numbers where it was not."""
        return PUBLISHED.get(
            self, f"ViT of {self.layers} x {self.width}, {self.side_px} / {self.patch_px} px"
        )


PUBLISHED = {
    Shape(768, 12, 32, 224): "ViT-B/32",
    Shape(768, 12, 16, 224): "ViT-B/16",
    Shape(1024, 24, 14, 224): "ViT-L/14",
    Shape(1024, 24, 14, 336): "ViT-L/14@336px",
}


class HuggingFaceClip:
    """A folder with config.json, weights and a tokenizer, as transformers reads it."""

    NEEDS: tuple[str, ...] = ("torch", "transformers")
    INSTALL = INSTALL_TRANSFORMERS

    def __init__(self, folder: Path, encoder: str) -> None:
        """Take the folder; nothing is read yet."""
        self.folder, self.encoder = folder, encoder

    @property
    def dimension(self) -> int:
        """Numbers a row."""
        return int(self._read[0])

    @property
    def side_px(self) -> int:
        """Side of the square that it sees."""
        return self._read[1].side_px

    @property
    def architecture(self) -> str:
        """Its name, such as ViT-B/32."""
        return self._read[1].name

    @property
    def files(self) -> list[Path]:
        """The files that make its embeddings what they are."""
        vocabulary = [self.folder / name for name in TOKENIZER_FILES]
        return [*weight_files(self.folder), self.folder / "config.json", *filter(Path.is_file, vocabulary)]

    @cached_property
    def _read(self) -> tuple[int, Shape]:
        check_model_type(self.folder, self.encoder, ("clip",))
        config = self.folder / "config.json"
        read = transformers_class("CLIPConfig", self.encoder, INSTALL_TRANSFORMERS)
        with reading(config, self.encoder):  # it knows what the file leaves to defaults
            told = read.from_dict(json.loads(config.read_text(encoding="utf-8")))
        seen = told.vision_config
        shape = Shape(seen.hidden_size, seen.num_hidden_layers, seen.patch_size, seen.image_size)
        return told.projection_dim, shape

    def load(self, device: str, dtype: torch.dtype) -> LoadedHuggingFace:
        """Load the model and its tokenizer. Raises BadFileError where that fails."""
        model = load_pretrained("CLIPModel", self.folder, self.encoder, INSTALL_TRANSFORMERS, ("clip",))
        tokenizer = transformers_class("AutoTokenizer", self.encoder, INSTALL_TRANSFORMERS)
        with reading(self.folder, self.encoder):
            tokens = tokenizer.from_pretrained(self.folder, local_files_only=True)
        model = model.float().to(device)
        model.vision_model.to(dtype)
        model.visual_projection.to(dtype)
        return LoadedHuggingFace(model, tokens, device)


class LoadedHuggingFace(NamedTuple):
    """transformers' CLIPModel and its tokenizer."""

    model: Any
    tokenizer: Any
    device: str

    def pictures(self, seen: Tensor) -> Tensor:
        """Embed (n, 3, side, side) as (n, d), of any length."""
        pooled = self.model.vision_model(pixel_values=seen).pooler_output
        embedded: Tensor = self.model.visual_projection(pooled)
        return embedded

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as (n, d), of any length."""
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=longest, return_tensors="pt"
        ).to(self.device)
        pooled = self.model.text_model(**tokens).pooler_output
        embedded: Tensor = self.model.text_projection(pooled)
        return embedded


class OpenAiClip:
    """A file as OpenAI published it, a JIT archive, or the state dict of one; run by the package `clip`."""

    NEEDS: tuple[str, ...] = ("torch", "clip")
    INSTALL = INSTALL_CLIP

    def __init__(self, file: Path, encoder: str) -> None:
        """Take the file; nothing is read yet."""
        self.file, self.encoder = file, encoder

    @cached_property
    def dimension(self) -> int:
        """Numbers a row."""
        return int(self._state["text_projection"].shape[1])

    @property
    def side_px(self) -> int:
        """Side of the square that it sees."""
        return self._shape.side_px

    @property
    def architecture(self) -> str:
        """Its name, such as ViT-B/32."""
        return self._shape.name

    @property
    def files(self) -> list[Path]:
        """The files that make its embeddings what they are; the vocabulary is the package's."""
        return [self.file]

    @cached_property
    def _shape(self) -> Shape:
        state = self._state
        width, _, patch, _ = state["visual.conv1.weight"].shape
        grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        layers = {name.split(".")[3] for name in state if name.startswith("visual.transformer.resblocks.")}
        return Shape(width, len(layers), patch, patch * grid)

    @cached_property
    def _state(self) -> dict[str, Tensor]:
        read = read_archive if is_archive(self.file) else load_state
        state = read(self.file, self.encoder, INSTALL_CLIP)
        # Archives hold more: masks, and three numbers that say what the shapes say, too.
        state = {name: value for name, value in state.items() if name.rsplit(".", 1)[-1] not in NO_WEIGHTS}
        lacking = sorted(NEEDED - state.keys())
        if lacking:
            is_folders = any(name.startswith("vision_model.") for name in state)
            hint = "; they are Hugging Face's, whose whole folder `path` should name" if is_folders else ""
            raise BadFileError(
                f"{self.file}: not the weights of a CLIP Vision Transformer as OpenAI has them: there is no"
                f" {lacking[0]} among its {len(state)} tensors{hint}"
            )
        return state

    def load(self, device: str, dtype: torch.dtype) -> LoadedOpenAi:
        """Build the package's model. Raises BadFileError where the weights do not fit it."""
        import torch

        package = load_clip(self.encoder)
        state = self._state
        with reading(self.file, self.encoder):
            model = package.model.build_model(dict(state)).float()
        fill(model, state, self.file, self.encoder)  # once more: build_model has rounded them to float16
        del self._state
        model.to(device)
        # It reckons texts in the numbers of its vision side: in its place goes one of float32.
        vision, model.visual = model.visual, torch.nn.ModuleDict({"conv1": torch.nn.Conv2d(1, 1, 1)})
        vision.to(dtype)
        for module in vision.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.float()  # its own kind of it always works in float32
        return LoadedOpenAi(model, vision, package.tokenize, device)


class LoadedOpenAi(NamedTuple):
    """The package's model, its vision side by itself, and its tokenizer."""

    model: Any
    vision: Any
    tokenize: Any
    device: str

    def pictures(self, seen: Tensor) -> Tensor:
        """Embed (n, 3, side, side) as (n, d), of any length."""
        embedded: Tensor = self.vision(seen)
        return embedded

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as (n, d), of any length."""
        tokens = self.tokenize(texts, self.model.context_length, truncate=True)
        embedded: Tensor = self.model.encode_text(tokens.to(self.device))
        return embedded


def load_clip(encoder: str) -> Any:
    """Import OpenAI's package `clip`. Raises UserError where it, or what it needs, is missing or another."""
    try:
        with warnings.catch_warnings(action="ignore"):  # that setuptools will drop pkg_resources
            package = load_package("clip", encoder, INSTALL_CLIP)
    except (RuntimeError, AttributeError) as error:  # of a torchvision that was built for another torch
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the {encoder} encoder: the package clip cannot be imported: {reason};"
            " install the torchvision that was made for this torch"
        ) from error
    if not hasattr(package, "tokenize"):
        raise UserError(
            f"the {encoder} encoder: the package clip in {package.__file__} is not OpenAI's:"
            f" pip uninstall clip, then {INSTALL_CLIP}"
        )
    return package
