"""Any sentence model of a local folder: Hugging Face's or sentence-transformers' (Reimers and Gurevych 2019).

The text side of whoever speaks through one, by ``text = "sentence"``. What the folder says of itself holds:
``modules.json`` and ``1_Pooling/config.json`` how token vectors become one, ``sentence_bert_config.json`` how
many tokens a text may have. The options of ``[encoders.sentence]`` come before: `pooling` (mean, cls or max),
`max_tokens`, `prefix` (put before each text, as some models want), `trust_remote_code` (run the Python code
that lies in the folder, as jina-embeddings-v2-base-en wants).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from open3dsg.encoders.checkpoint import load_pretrained, reading, transformers_class, weight_files
from open3dsg.encoders.support import check_options, need_checkpoint, revision_of, torch_device, unit_rows
from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from open3dsg.encoders.contract import Choices

BATCH = 64
POOLINGS = ("mean", "cls", "max")
MODULES = ("Transformer", "Pooling", "Normalize")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model")
INSTALL = "pip install 'open3dsg[conse]'"
UNLIMITED = 10**6  # tokenizers say 10^30 where their folder sets no limit


@dataclass(frozen=True)
class Recipe:
    """How texts become vectors, weights aside."""

    pooling: str
    max_tokens: int | None  # None: as many as the model has places for
    prefix: str = ""
    lower_case: bool = False


class Sentence:
    """Sentences to (n, d) float32 unit rows by the model of a folder."""

    views: Literal["text"] = "text"
    WANTS = (
        "a sentence model's folder (config.json, model.safetensors, tokenizer.json) at {path}, such as"
        " jinaai/jina-embeddings-v2-base-en or sentence-transformers/all-mpnet-base-v2 from huggingface.co"
    )
    NEEDS = ("torch", "transformers")
    INSTALL = INSTALL

    def __init__(self, choices: Choices) -> None:
        """Take what was chosen; nothing is read yet."""
        self.name = choices.name
        self._choices = choices

    @classmethod
    def from_choices(cls, choices: Choices) -> Sentence:
        """Make it; UserError for options it does not know."""
        check_options(choices, {"pooling": str, "max_tokens": int, "prefix": str, "trust_remote_code": bool})
        told = f"[encoders.{choices.name}] in the settings"
        pooling, limit = choices.options.get("pooling"), choices.options.get("max_tokens")
        if pooling is not None and pooling not in POOLINGS:
            raise UserError(f"{told}: pooling: expected one of {', '.join(POOLINGS)}, got {pooling!r}")
        if limit is not None and limit < 1:
            raise UserError(f"{told}: max_tokens: expected at least 1, got {limit}")
        return cls(choices)

    @cached_property
    def dimension(self) -> int:
        """Numbers a row. Raises BadFileError where the folder does not say."""
        config = read_json(self._model_folder / "config.json")
        for key in ("hidden_size", "dim", "d_model"):  # BERT; DistilBERT; T5
            if isinstance(config.get(key), int):
                return int(config[key])
        raise BadFileError(f"{self._model_folder / 'config.json'}: says no hidden_size")

    @cached_property
    def revision(self) -> str:
        """Hash (16 hex digits) of weights, vocabulary, the folder's own code if it runs, and the recipe."""
        folder = self._model_folder
        files = [*weight_files(folder), folder / "config.json"]
        files += [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
        if self._runs_code:
            files += sorted(folder.glob("*.py"))
        return revision_of(asdict(self._recipe), files)

    @property
    def options(self) -> Mapping[str, Any]:
        """How texts become vectors, for people to read."""
        return asdict(self._recipe)

    @cached_property
    def device(self) -> str:
        """Where it works, as torch names it."""
        return torch_device(self._choices)

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed `texts` as (n, d) float32 unit rows; a text that is too long is cut, without a word."""
        return self._encoding.encode(texts)

    @property
    def _runs_code(self) -> bool:
        return bool(self._choices.options.get("trust_remote_code", False))

    @cached_property
    def _folder(self) -> Path:
        folder = need_checkpoint(self._choices, self.WANTS)
        if not folder.is_dir():
            raise BadFileError(f"{folder}: not a folder. The encoder {self.name} wants {self._wants}")
        if not any((folder / name).is_file() for name in ("config.json", "modules.json")):
            raise BadFileError(f"{folder}: no config.json in it. The encoder {self.name} wants {self._wants}")
        return folder

    @property
    def _wants(self) -> str:
        return self.WANTS.format(path=self._choices.checkpoint)

    @cached_property
    def _model_folder(self) -> Path:
        """The folder of the model itself: `_folder`, or below it as old sentence-transformers had it."""
        path = next(
            (str(each["path"]) for each in modules(self._folder) if each["type"] == "Transformer"), ""
        )
        return self._folder / path

    @cached_property
    def _recipe(self) -> Recipe:
        return read_recipe(self._folder, self._model_folder, self._choices.options)

    @cached_property
    def _encoding(self) -> Encoding:
        folder = self._model_folder
        if "auto_map" in read_json(folder / "config.json") and not self._runs_code:
            raise UserError(
                f"{folder}: this model runs Python code of its own (auto_map in config.json); where you trust"
                f" it, set trust_remote_code = true in [encoders.{self.name}]"
            )
        return Encoding(folder, self._recipe, self.name, self.device, trust_remote_code=self._runs_code)


class Encoding:
    """A loaded model with its tokenizer, which a recipe uses."""

    def __init__(
        self, folder: Path, recipe: Recipe, encoder: str, device: str, *, trust_remote_code: bool = False
    ) -> None:
        """Load the model of `folder` on to `device`; BadFileError, naming `encoder`, where it cannot."""
        tokenizer = transformers_class("AutoTokenizer", encoder, INSTALL)
        options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
        # Of BERT's own pooler, which many folders are without, nothing is asked.
        model = load_pretrained("AutoModel", folder, encoder, INSTALL, unused=("pooler.",), **options)
        with reading(folder, encoder):
            self._tokenizer = tokenizer.from_pretrained(folder, local_files_only=True, **options)
        self._model = model.float().to(device)
        self._recipe, self._device = recipe, device
        places = getattr(model.config, "max_position_embeddings", None) or UNLIMITED
        self._limit = recipe.max_tokens or min(places, self._tokenizer.model_max_length, UNLIMITED)
        if self._limit > places:
            raise UserError(f"{folder}: max_tokens is {self._limit}, and the model has places for {places}")
        try:
            self.encode([""])
        except Exception as error:  # whatever a model raises that wants more than words, or gives else
            raise BadFileError(
                f"{folder}: no sentence model: given words alone, this {model.config.model_type!r} gives no"
                " vector for each token"
            ) from error

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed `texts` as (n, d) float32 unit rows."""
        import numpy as np

        batches = [self._pool(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        if not batches:
            return np.zeros((0, self._model.config.hidden_size), np.float32)
        return unit_rows(np.concatenate(batches))

    def _pool(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import torch

        said = [self._recipe.prefix + text for text in texts]
        tokens = self._tokenizer(
            [text.lower() for text in said] if self._recipe.lower_case else said,
            padding=True,
            truncation=True,
            max_length=self._limit,
            return_tensors="pt",
        ).to(self._device)
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state
            pooled = pool(states, tokens["attention_mask"].unsqueeze(-1), self._recipe.pooling)
        rows: NDArray[np.float32] = pooled.float().cpu().numpy()
        return rows


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Make one vector a text, (n, d), of its tokens' `states`, (n, t, d), where `mask`, (n, t, 1), is 1."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "max":
        return states.masked_fill(mask == 0, float("-inf")).amax(1)
    weights = mask.to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def read_recipe(folder: Path, model_folder: Path, options: Mapping[str, Any]) -> Recipe:
    """Return what `folder` says of pooling, length and prefix; `options` come before.

    Raises BadFileError for what is damaged, UserError for a pooling that is not one of `POOLINGS`.
    """
    pooling = options.get("pooling") or _pooling(folder)
    if pooling not in POOLINGS:
        raise UserError(f"{folder}: its pooling is {pooling!r}; this encoder knows {', '.join(POOLINGS)}")
    limits = read_json(model_folder / "sentence_bert_config.json", needed=False)
    prompts = read_json(folder / "config_sentence_transformers.json", needed=False)
    default = (prompts.get("prompts") or {}).get(prompts.get("default_prompt_name"), "")
    return Recipe(
        pooling=pooling,
        max_tokens=options.get("max_tokens") or limits.get("max_seq_length"),
        prefix=options.get("prefix", default),
        lower_case=bool(limits.get("do_lower_case", False)),
    )


def _pooling(folder: Path) -> str:
    """Return the pooling that the folder's ``Pooling`` module names; mean where it has none."""
    path = next((str(each["path"]) for each in modules(folder) if each["type"] == "Pooling"), "1_Pooling")
    config = read_json(folder / path / "config.json", needed=False)
    if isinstance(config.get("pooling_mode"), str):  # sentence-transformers 5
        return str(config["pooling_mode"])
    named = [key.removeprefix("pooling_mode_") for key, value in config.items() if value is True]
    chosen = [
        name.removesuffix("_tokens").removesuffix("_token") for name in named if name != "include_prompt"
    ]
    return " and ".join(chosen) or "mean"


def modules(folder: Path) -> list[dict[str, str]]:
    """List the modules of a sentence-transformers folder, none for a plain one, types without their package.

    Raises UserError where a text goes through more than transformer, pooling and normalising.
    """
    file = folder / "modules.json"
    listed = _read(file) if file.is_file() else []
    try:
        found = [{"path": each["path"], "type": each["type"].rsplit(".", 1)[-1]} for each in listed]
    except (TypeError, KeyError, AttributeError) as error:
        raise BadFileError(f"{file}: not the list of a sentence model's modules") from error
    for each in found:
        if each["type"] not in MODULES:
            raise UserError(
                f"{file}: the model has a {each['type']}; this encoder knows {', '.join(MODULES)}"
            )
    return found


def read_json(path: Path, *, needed: bool = True) -> dict[str, Any]:
    """Read a JSON object; an empty one for a file that is missing and not `needed`."""
    if not needed and not path.exists():
        return {}
    value = _read(path)
    if not isinstance(value, dict):
        raise BadFileError(f"{path}: expected a JSON object")
    return value


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadFileError(f"{path}: not valid JSON: {error}") from error
