"""BLIP-2 checkpoints as LAVIS publishes them, small: the same names, nesting and number of blocks."""

from __future__ import annotations

from pathlib import Path

import torch

WIDTH, HEADS, HIDDEN, PATCH, GRID = 176, 2, 192, 14, 3  # 88 numbers a head, as in the published ones
SIDE = PATCH * GRID
TOKENS = GRID**2 + 1
BLOCKS = 40  # EVA's, of which LAVIS takes 39


def frozen(seed: int = 0, blocks: int = BLOCKS) -> dict[str, torch.Tensor]:
    """eva_vit_g.pth: EVA-CLIP's vision model in half precision, with what LAVIS has no use for."""
    random = torch.Generator().manual_seed(seed)

    def some(*shape: int, scale: float = 0.05) -> torch.Tensor:
        return (torch.randn(*shape, generator=random) * scale).half()

    state = {
        "cls_token": some(1, 1, WIDTH, scale=1),
        "pos_embed": some(1, TOKENS, WIDTH, scale=1),
        "patch_embed.proj.weight": some(WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": some(WIDTH),
        "norm.weight": some(WIDTH),
        "norm.bias": some(WIDTH),
        "head.weight": some(8, WIDTH),
    }
    for number in range(blocks):
        of_block = {
            "norm1.weight": 1 + some(WIDTH),
            "norm1.bias": some(WIDTH),
            "attn.q_bias": some(WIDTH),
            "attn.v_bias": some(WIDTH),
            "attn.qkv.weight": some(3 * WIDTH, WIDTH),
            "attn.proj.weight": some(WIDTH, WIDTH),
            "attn.proj.bias": some(WIDTH),
            "norm2.weight": 1 + some(WIDTH),
            "norm2.bias": some(WIDTH),
            "mlp.fc1.weight": some(HIDDEN, WIDTH),
            "mlp.fc1.bias": some(HIDDEN),
            "mlp.fc2.weight": some(WIDTH, HIDDEN),
            "mlp.fc2.bias": some(WIDTH),
        }
        state |= {f"blocks.{number}.{name}": tensor for name, tensor in of_block.items()}
    return state


def pretrained(seed: int = 1) -> dict[str, torch.Tensor]:
    """The model of blip2_pretrained.pth: the layer norm and the Q-former, not the frozen vision model."""
    random = torch.Generator().manual_seed(seed)
    return {
        "ln_vision.weight": 1 + 0.1 * torch.randn(WIDTH, generator=random),
        "ln_vision.bias": 0.1 * torch.randn(WIDTH, generator=random),
        "query_tokens": torch.randn(1, 32, 16, generator=random),
        "Qformer.bert.embeddings.LayerNorm.weight": torch.ones(16),
    }


def write_pair(folder: Path, blocks: int = BLOCKS) -> Path:
    """Write both files; the folder is what the encoder wants."""
    folder.mkdir(parents=True)
    torch.save(frozen(blocks=blocks), folder / "eva_vit_g.pth")
    _save(pretrained(), folder / "blip2_pretrained.pth")
    return folder


def write_finetuned(file: Path) -> Path:
    """Write a checkpoint that holds both, as those fine-tuned on captions do: 39 blocks, full precision."""
    vision = {
        f"visual_encoder.{name}": tensor.float()
        for name, tensor in frozen(seed=2).items()
        if not name.startswith(("norm.", "head.", f"blocks.{BLOCKS - 1}."))
    }
    _save(vision | pretrained(seed=3), file)
    return file


def _save(model: dict[str, torch.Tensor], file: Path) -> None:
    torch.save({"model": model, "config": {"run": {"lr_sched": "linear_warmup_cosine_lr"}}, "epoch": 5}, file)
