"""Small CLIPs in both true formats: a Hugging Face folder and the files of OpenAI. Weights are random."""

from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Where scripts/environment.sh puts the package clip, which cannot live beside transformers in .venv.
PACKAGE = Path(__file__).parents[1] / ".venv" / "openai-clip"
START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Size:
    """Of a ViT; heads are 64 wide, as in all that were published."""

    width: int = 64
    layers: int = 2
    patch: int = 32
    side: int = 224
    dimension: int = 32


def write_hf_clip(
    folder: Path, size: Size = Size(), merges: Sequence[str] = (), seed: int = 0
) -> dict[str, torch.Tensor]:
    """Write a folder as `CLIPModel.save_pretrained` does, with its tokenizer; return its weights.

    `merges` are the lines of its vocabulary's merges; without any it knows single letters only.
    """
    import torch
    from transformers import CLIPModel

    vocabulary = _vocabulary(merges)
    torch.manual_seed(seed)
    model = CLIPModel(_config(size, vocabulary))
    with torch.no_grad():  # as wide apart as a trained one's: the initial ones hardly look at the picture
        for name, value in model.named_parameters():
            if value.ndim > 1:
                value.copy_(
                    torch.randn_like(value) * (0.5 if "embedding" in name else value.shape[-1] ** -0.5)
                )
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    told: dict[str, object] = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    told |= {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    return dict(model.state_dict())


def write_openai_clip(file: Path, jit: bool, size: Size = Size(), weights: Any = None) -> None:
    """Write `weights` of a Hugging Face CLIP, or random ones, as OpenAI: a state dict or an archive."""
    import torch

    state = openai_names(weights) if weights is not None else _random_state(size)
    if not jit:
        torch.save(state, file)
        return
    with warnings.catch_warnings(action="ignore"):  # torch has plans without it
        archive: Any = torch.jit.script(_tree(state))
        archive.save(str(file))


def openai_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the weights of a Hugging Face CLIP as OpenAI calls them, query, key and value joined."""
    import torch

    state = {}
    for name, value in weights.items():
        if "k_proj" in name or "v_proj" in name or name.endswith("position_ids"):
            continue
        if "q_proj" in name:
            parts = [weights[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            state[_renamed(name.replace("q_proj.", "in_proj_"))] = torch.cat(parts)
        elif name.endswith("projection.weight"):
            state[_renamed(name)] = value.T.contiguous()
        else:
            state[_renamed(name)] = value
    return state


_NAMES = (
    ("text_projection.weight", "text_projection"),
    ("visual_projection.weight", "visual.proj"),
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding", "visual.conv1"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("text_model.embeddings.token_embedding", "token_embedding"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("vision_model.pre_layrnorm", "visual.ln_pre"),
    ("vision_model.post_layernorm", "visual.ln_post"),
    ("text_model.final_layer_norm", "ln_final"),
    ("vision_model.encoder.layers", "visual.transformer.resblocks"),
    ("text_model.encoder.layers", "transformer.resblocks"),
    ("self_attn", "attn"),
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
)


def _renamed(name: str) -> str:
    for theirs, openai in _NAMES:
        name = name.replace(theirs, openai)
    return name


def published_merges() -> list[str]:
    """Return the 48,894 merges of CLIP's vocabulary, from the package clip."""
    with gzip.open(PACKAGE / "clip" / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    return lines[1 : 49152 - 256 - 2 + 1]


def _vocabulary(merges: Sequence[str]) -> dict[str, int]:
    """Number the letters that stand for bytes, the same at a word's end, what merges make, start and end."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable]
    letters += [chr(256 + place) for place in range(256 - len(printable))]
    joined = ["".join(merge.split()) for merge in merges]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *joined, START, END]
    return {word: number for number, word in enumerate(words)}


def _config(size: Size, vocabulary: dict[str, int]) -> Any:
    from transformers import CLIPConfig

    text = {
        "vocab_size": len(vocabulary),
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "projection_dim": size.dimension,
        "bos_token_id": vocabulary[START],
        "eos_token_id": vocabulary[END],
        "pad_token_id": vocabulary[END],
    }
    vision = {
        "hidden_size": size.width,
        "intermediate_size": 4 * size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.width // 64,
        "image_size": size.side,
        "patch_size": size.patch,
        "projection_dim": size.dimension,
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=size.dimension)


def _random_state(size: Size) -> dict[str, torch.Tensor]:
    from transformers import CLIPModel

    return openai_names(dict(CLIPModel(_config(size, _vocabulary(published_merges()))).state_dict()))


def _tree(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Hang tensors into modules, so that the archive's state dict has their names."""
    import torch

    root = torch.nn.Module()
    for name, value in state.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, torch.nn.Module())
            child = module._modules[part]
            assert child is not None
            module = child
        module.register_buffer(last, value.clone())
    # As in the published archives.
    root.register_buffer("input_resolution", torch.tensor(224))
    root.register_buffer("context_length", torch.tensor(77))
    root.register_buffer("vocab_size", torch.tensor(len(state["token_embedding.weight"])))
    return root
