"""Tiny InstructBLIP and BLIP-2 models as Hugging Face folders in the true format, made without a network.

The vision tower has 17 tokens (1 + 4 x 4) of 24 numbers; the language models are Llama, as in InstructBLIP of
Vicuna, and OPT or T5, as in BLIP-2. Weights are random, the same at each call, and large enough that what is
written depends on the picture: transformers would start query tokens at zero and the vision tower near it.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from open3dsg.encoders.checkpoint import quiet_transformers

if TYPE_CHECKING:
    import torch

TOKENS = 17
DIMENSION = 24
QUERIES = 16
SIDE_PX = 28

# How the weights lie: a safetensors file, safetensors in shards, a file of torch, files of torch in shards.
Weights: TypeAlias = Literal["safetensors", "safetensors-shards", "bin", "bin-shards"]

# What the vocabularies are made of. It has no full stop, with which half of the random captions would begin.
SENTENCES = [
    "Describe the relationship between the chair and the other table",
    "Start the response with the lamp is standing on the floor next to a bed",
    "hanging on lying on left of right of in front of behind close to attached to",
]


def write_instructblip(folder: Path, weights: Weights = "safetensors") -> Path:
    """Write an InstructBLIP of a Llama; return `folder`."""
    transformers = _transformers()
    config = transformers.InstructBlipConfig(
        vision_config=_VISION,
        qformer_config={**_QFORMER, "vocab_size": len(_words()), "max_position_embeddings": 64},
        text_config={**_TEXT, "model_type": "llama", "num_key_value_heads": 2},
        num_query_tokens=QUERIES,
    )
    processor = transformers.InstructBlipProcessor(
        _image_processor(), _tokenizer(), _qformer_tokenizer(), num_query_tokens=QUERIES
    )
    return _write(transformers.InstructBlipForConditionalGeneration, config, processor, folder, weights)


def write_blip2(folder: Path, weights: Weights = "safetensors", language: str = "opt") -> Path:
    """Write a BLIP-2 of an OPT, or of a "t5"; return `folder`."""
    transformers = _transformers()
    config = transformers.Blip2Config(
        vision_config=_VISION,
        qformer_config=_QFORMER,
        text_config=_OPT if language == "opt" else _T5,
        num_query_tokens=QUERIES,
    )
    processor = transformers.Blip2Processor(_image_processor(), _tokenizer(), num_query_tokens=QUERIES)
    return _write(transformers.Blip2ForConditionalGeneration, config, processor, folder, weights)


_VISION = {
    "hidden_size": DIMENSION,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE_PX,
    "patch_size": 7,
    "initializer_range": 0.02,
}
_QFORMER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "encoder_hidden_size": DIMENSION,
    "cross_attention_frequency": 1,
}
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


_OPT = {**_TEXT, "model_type": "opt", "ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.0}
_T5 = {
    "model_type": "t5",
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 2,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
}

# Larger than the others, so that a picture is not lost among words.
_OF_THE_PICTURE = ("patch_embedding", "crossattention", "language_projection", "v_proj", "out_proj", "o_proj")


def _write(kind: Any, config: Any, processor: Any, folder: Path, weights: Weights) -> Path:
    import torch

    # The processor has added the token that stands for the picture to the vocabulary.
    config.text_config.vocab_size = len(processor.tokenizer)
    config.image_token_index = processor.tokenizer.convert_tokens_to_ids("<image>")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config)
        for name, parameter in model.named_parameters():
            torch.nn.init.normal_(
                parameter, std=1.5 if any(part in name for part in _OF_THE_PICTURE) else 0.3
            )
    with quiet_transformers():
        processor.save_pretrained(folder)
        model.save_pretrained(folder, max_shard_size="20KB" if weights == "safetensors-shards" else "1GB")
    _as_published(folder)
    if weights in ("bin", "bin-shards"):
        _as_torch_files(folder, shards=2 if weights == "bin-shards" else 1)
    return folder


def _as_published(folder: Path) -> None:
    """Put what is done to pictures into ``preprocessor_config.json``, where the published folders have it."""
    config = folder / "processor_config.json"
    told = json.loads(config.read_text(encoding="utf-8"))
    pictures = {**told.pop("image_processor"), "processor_class": told["processor_class"]}
    config.write_text(json.dumps(told), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures), encoding="utf-8")


def _as_torch_files(folder: Path, shards: int) -> None:
    """Put files of torch in the place of ``model.safetensors``, named as older checkpoints have them."""
    import torch
    from safetensors.torch import load_file

    whole = folder / "model.safetensors"
    state = load_file(whole)
    whole.unlink()
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin")
        return
    places: dict[str, str] = {}
    for shard in range(shards):
        name = f"pytorch_model-{shard + 1:05}-of-{shards:05}.bin"
        part: dict[str, torch.Tensor] = {key: state[key] for key in sorted(state)[shard::shards]}
        torch.save(part, folder / name)
        places |= dict.fromkeys(part, name)
    index = {"metadata": {}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")


def _image_processor() -> Any:
    return _transformers().BlipImageProcessorPil(size={"height": SIDE_PX, "width": SIDE_PX})


def _tokenizer() -> Any:
    """Return a BPE of pieces of words, as Llama has, that puts <s> before a text and pads on the left."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=list(ascii_lowercase), show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return _transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
    )


def _words() -> list[str]:
    """Return the vocabulary of the Q-Former: whole words of the sentences, then letters."""
    words = sorted({word for text in SENTENCES for word in text.lower().split()})
    letters = [*ascii_lowercase, *(f"##{letter}" for letter in ascii_lowercase)]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters]


def _qformer_tokenizer() -> Any:
    return _transformers().BertTokenizer(vocab={word: number for number, word in enumerate(_words())})


def _transformers() -> Any:
    return importlib.import_module("transformers")  # most of it has no types
