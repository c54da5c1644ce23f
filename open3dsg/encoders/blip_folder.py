"""What the JSON files of a BLIP-2 or InstructBLIP folder say of its sight, read without transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open3dsg.errors import BadFileError

# What transformers assumes where a configuration leaves it out: the measures of ViT-g/14.
TOWER = {
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
}
# Of the preparation of a picture, what transformers' BlipImageProcessor knows; `size` has no default of use.
PICTURE = {
    "do_convert_rgb": True,
    "do_resize": True,
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


@dataclass(frozen=True)
class Eyes:
    """A vision tower's configuration, and what is done to a picture before it; keys are transformers'."""

    tower: Mapping[str, Any]
    picture: Mapping[str, Any]
    preparation: Path  # the file that tells `picture`

    @property
    def tokens(self) -> int:
        """One for the whole picture and one a patch."""
        side: int = self.tower["image_size"] // self.tower["patch_size"]
        return 1 + side * side

    @property
    def dimension(self) -> int:
        """Numbers a token."""
        dimension: int = self.tower["hidden_size"]
        return dimension

    @property
    def options(self) -> dict[str, Any]:
        """All of it that changes tokens, as JSON."""
        return {"tower": dict(self.tower), "picture": dict(self.picture)}


def read_eyes(folder: Path) -> Eyes:
    """Read ``vision_config`` of config.json and the image processor's settings.

    Those lie in preprocessor_config.json, or, as newer releases of transformers write them, in
    processor_config.json. Raises BadFileError where a file is missing or damaged, a measure is no whole
    number above zero, or pictures are prepared at another size than the tower's.
    """
    config = folder / "config.json"
    tower = _known(TOWER, _read(config).get("vision_config") or {}, config)
    for key in ("hidden_size", "image_size", "patch_size"):
        if not isinstance(tower[key], int) or isinstance(tower[key], bool) or tower[key] < 1:
            raise BadFileError(
                f"{config}: vision_config.{key}: expected a whole number above 0, got {tower[key]!r}"
            )
    preparation, told = _preparation(folder)
    side = tower["image_size"]
    size = told.get("size", {"height": side, "width": side})
    if size not in ({"height": side, "width": side}, side):
        raise BadFileError(
            f"{preparation}: pictures of size {size}; the model of {config} sees {side} x {side} pixels"
        )
    picture = {**_known(PICTURE, told, preparation), "size": {"height": side, "width": side}}
    return Eyes(tower, picture, preparation)


def _preparation(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    older, newer = folder / "preprocessor_config.json", folder / "processor_config.json"
    if older.is_file() or not newer.is_file():
        return older, _read(older)
    told = _read(newer).get("image_processor")
    if not isinstance(told, dict):
        raise BadFileError(f"{newer}: says nothing of an image_processor, and there is no {older.name}")
    return newer, told


def _known(defaults: Mapping[str, Any], told: object, path: Path) -> dict[str, Any]:
    """Return the defaults, with what is told in their place; other keys do not matter here."""
    if not isinstance(told, dict):
        raise BadFileError(f"{path}: expected a table of settings, got {told!r:.60}")
    return {key: told.get(key, value) for key, value in defaults.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadFileError(f"{path}: not JSON: {error}") from error
    if not isinstance(told, dict):
        raise BadFileError(f"{path}: expected a table of settings, got {told!r:.60}")
    return told
