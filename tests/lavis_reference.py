"""Tokens by LAVIS's own classes, loading and processor, and by the encoder: run in LAVIS's environment.

python -m tests.lavis_reference CHECKPOINT PICTURES.npz TOKENS.npz
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from open3dsg.encoders.contract import Choices
from open3dsg.encoders.lavis import Lavis, import_lavis
from tests import lavis_miniature as mini


def by_lavis(frozen: Path | None, blip: Path, pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """As LAVIS's BLIP-2 models start: the frozen vision model, BLIP-2's weights over it, ln_vision."""
    import_lavis()
    eva, blip2 = import_module("lavis.models.eva_vit"), import_module("lavis.models.blip2_models.blip2")
    model: Any = blip2.Blip2Base()
    model.visual_encoder = eva.VisionTransformer(
        img_size=mini.SIDE, patch_size=mini.PATCH, use_mean_pooling=False, embed_dim=mini.WIDTH, depth=39,
        num_heads=mini.HEADS, mlp_ratio=mini.HIDDEN / mini.WIDTH, qkv_bias=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    model.ln_vision = blip2.LayerNorm(model.visual_encoder.num_features)
    if frozen is not None:
        model.visual_encoder.load_state_dict(torch.load(frozen), strict=False)
    model.load_from_pretrained(str(blip))
    model.eval()
    config = import_module("omegaconf").OmegaConf.create({"image_size": mini.SIDE})
    processor = import_module("lavis.processors").load_processor("blip_image_eval", config)
    with torch.no_grad():
        images = torch.stack([processor(Image.fromarray(picture)) for picture in pictures])
        tokens: NDArray[np.float32] = model.ln_vision(model.visual_encoder(images)).numpy()
    return tokens


def main(checkpoint: Path, given: Path, written: Path) -> None:
    with np.load(given) as file:
        pictures = [file[name] for name in file.files]
    frozen = checkpoint / "eva_vit_g.pth" if checkpoint.is_dir() else None
    blip = checkpoint / "blip2_pretrained.pth" if checkpoint.is_dir() else checkpoint
    encoder = Lavis.from_choices(Choices("lavis", checkpoint, device="cpu"))
    np.savez(
        written, expected=by_lavis(frozen, blip, pictures), found=encoder.encode_tokens(pictures),
        none=encoder.encode_tokens([]),
    )  # fmt: skip


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
