"""Captions of pairs from their vision tokens, by the language model of InstructBLIP or BLIP-2.

As Open3DSG generates them (Koch et al., CVPR 2024; `sgpn.py`, `blip_predict_relationship`): the Q-Former's
few tokens of the picture, then the prompt, then 15 to 20 tokens by beam search.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open3dsg.encoders.checkpoint import (
    load_pretrained,
    quiet_transformers,
    reading,
    transformers_class,
    weight_files,
)
from open3dsg.encoders.phrases import full_caption, relation_prompt
from open3dsg.encoders.support import load_package, torch_device, torch_dtype

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from open3dsg.encoders.contract import Choices

# The published `max_length` and `min_length` count what is generated and not the prompt: transformers of that
# time had no ids of a prompt given as embeddings.
GENERATION: Mapping[str, Any] = {
    "do_sample": False,
    "max_new_tokens": 20,
    "min_new_tokens": 15,
    "repetition_penalty": 1.5,
}
LENGTH_PENALTY = 0.7  # of beams: with one there is nothing to compare


@dataclass(frozen=True)
class Speaker:
    """Q-Former, language model and their tokenizers; the Q-Former of BLIP-2 reads no words and has none."""

    model: Any
    tokenizer: Any
    qformer_tokenizer: Any | None

    def caption(
        self, tokens: NDArray[np.float32], subjects: Sequence[str], objects: Sequence[str], beams: int
    ) -> list[str]:
        """Say how each subject relates to its object; `tokens`: (n, tokens, dimension) float32, n > 0."""
        generation = {**GENERATION, "num_beams": beams}
        if beams > 1:
            generation["length_penalty"] = LENGTH_PENALTY
        prompts = [relation_prompt(*pair) for pair in zip(subjects, objects, strict=True)]
        written = self.write(tokens, prompts, generation)
        return [full_caption(*pair) for pair in zip(subjects, written, strict=True)]

    def write(
        self, tokens: NDArray[np.float32], prompts: Sequence[str], generation: Mapping[str, Any]
    ) -> list[str]:
        """Continue each prompt; `generation` goes to transformers' ``generate``."""
        import torch

        with torch.inference_mode(), warnings.catch_warnings():
            # As published, only what is generated is penalised: the prompt's names are to be said again.
            warnings.filterwarnings("ignore", message="Passing `repetition_penalty` with `inputs_embeds`")
            embeddings, mask = self._inputs(torch.tensor(tokens), list(prompts))
            written = self.model.language_model.generate(
                inputs_embeds=embeddings,
                attention_mask=mask,
                # Behind captions that end early; config.json of instructblip-vicuna-7b has -1, no token.
                pad_token_id=self.tokenizer.pad_token_id,
                **generation,
            )
        texts: list[str] = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return texts

    def _inputs(self, tokens: torch.Tensor, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the language model's inputs (n, m, d), picture before words, and their mask (n, m)."""
        import torch

        model = self.model
        picture = self._ask_qformer(tokens.to(model.device), prompts)
        side = "left" if model.config.use_decoder_only_language_model else "right"
        words = self.tokenizer(prompts, padding=True, padding_side=side, return_tensors="pt").to(model.device)
        embedded = model.get_input_embeddings()(words["input_ids"])
        embeddings = torch.cat([picture.to(embedded.dtype), embedded], dim=1)
        ones = torch.ones(picture.shape[:2], dtype=torch.long, device=model.device)
        return embeddings, torch.cat([ones, words["attention_mask"]], dim=1)

    def _ask_qformer(self, tokens: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        """Return the picture in the language model's space, (n, query tokens, d)."""
        import torch

        model = self.model
        count, queries = len(prompts), model.query_tokens.shape[1]
        dtype = next(model.qformer.parameters()).dtype
        asked: dict[str, torch.Tensor] = {}
        if self.qformer_tokenizer is not None:
            # On the right, whatever transformers' processor does (5.23: as the language model wants it): its
            # words have absolute positions, and those before padding would depend on the rest of the batch.
            words = self.qformer_tokenizer(
                prompts,
                padding=True,
                padding_side="right",
                truncation=True,  # names of hundreds of words
                max_length=model.config.qformer_config.max_position_embeddings,
                return_tensors="pt",
            ).to(model.device)
            ones = torch.ones((count, queries), dtype=torch.long, device=model.device)
            asked["input_ids"] = words["input_ids"]
            asked["attention_mask"] = torch.cat([ones, words["attention_mask"]], dim=1)
        states = model.qformer(
            query_embeds=model.query_tokens.expand(count, -1, -1).to(dtype),
            encoder_hidden_states=tokens.to(dtype),
            encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.long, device=model.device),
            **asked,
        ).last_hidden_state[:, :queries]
        projected: torch.Tensor = model.language_projection(states.to(model.language_projection.weight.dtype))
        return projected


def load_speaker(folder: Path, classes: str, choices: Choices, install: str) -> Speaker:
    """Load a folder, and let go of its vision tower, which captions of tokens have no need of.

    `classes`: how the names of its classes in transformers begin. Raises BadFileError where weights or
    tokenizers are missing or damaged.
    """
    name = choices.name
    load_package("torch", name, install)
    weight_files(folder)  # names a missing shard, as transformers does not
    processor_class = transformers_class(f"{classes}Processor", name, install)
    with reading(folder, name), quiet_transformers():
        processor = processor_class.from_pretrained(folder, local_files_only=True)
    kind = f"{classes}ForConditionalGeneration"
    model = load_pretrained(kind, folder, name, install, dtype=torch_dtype(choices))
    model.vision_model = None
    return Speaker(
        model.to(torch_device(choices)), processor.tokenizer, getattr(processor, "qformer_tokenizer", None)
    )
