"""Folders of InstructBLIP and BLIP-2 that are missing, damaged, of another model or out to do harm."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open3dsg.errors import BadFileError
from tests.blip_checks import CROPS, KINDS, WRITE, Evil, cut, edit, made, one_thread
from tests.blip_miniature import DIMENSION, TOKENS, Weights, write_blip2, write_instructblip

quick = pytest.fixture(scope="module", autouse=True)(one_thread)


def spoil_config(key: str, value: Any) -> Callable[[Path], object]:
    return lambda folder: edit(
        folder / "config.json", lambda told: told["vision_config"].update({key: value})
    )


SPOILT: Mapping[str, tuple[Weights, Callable[[Path], object], str]] = {
    "another model": (
        "safetensors",
        lambda folder: edit(folder / "config.json", lambda told: told.update(model_type="clip")),
        r"config.json: the model is of type 'clip'; the instructblip encoder wants instructblip",
    ),
    "no config": (
        "safetensors",
        lambda folder: (folder / "config.json").unlink(),
        "config.json: cannot be read",
    ),
    "config cut": ("safetensors", lambda folder: cut(folder / "config.json"), "config.json: not the config"),
    "no weights": ("safetensors", lambda folder: (folder / "model.safetensors").unlink(), "no weights in it"),
    "weights cut": ("safetensors", lambda folder: cut(folder / "model.safetensors"), "model.safetensors: "),
    "weights empty": (
        "safetensors",
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        "model.safetensors: ",
    ),
    "a shard missing": (
        "safetensors-shards",
        lambda folder: (folder / "model-00002-of-00013.safetensors").unlink(),
        "model-00002-of-00013.safetensors: ",
    ),
    "a shard cut": (
        "safetensors-shards",
        lambda folder: cut(folder / "model-00012-of-00013.safetensors"),
        "model-00012-of-00013.safetensors: ",
    ),
    "index cut": (
        "safetensors-shards",
        lambda folder: cut(folder / "model.safetensors.index.json"),
        "model.safetensors.index.json: ",
    ),
    "torch file cut": ("bin", lambda folder: cut(folder / "pytorch_model.bin"), "pytorch_model.bin: "),
    "a wider tower": ("safetensors", spoil_config("hidden_size", 32), "size mismatch|not the weights"),
    "a deeper tower": ("safetensors", spoil_config("num_hidden_layers", 3), "Missing key"),
    "a shallower tower": ("safetensors", spoil_config("num_hidden_layers", 1), "Unexpected key"),
    "finer patches": ("safetensors", spoil_config("patch_size", 4), "size mismatch"),
    "no such heads": ("safetensors", spoil_config("num_attention_heads", 5), "config.json: "),
    "a measure in words": (
        "safetensors",
        spoil_config("patch_size", "seven"),
        "vision_config.patch_size: expected a whole number above 0, got 'seven'",
    ),
    "other pictures": (
        "safetensors",
        lambda folder: edit(
            folder / "preprocessor_config.json",
            lambda told: told.update(size={"height": 384, "width": 384}),
        ),
        "preprocessor_config.json: pictures of size .*384.* sees 28 x 28 pixels",
    ),
    "two colours": (
        "safetensors",
        lambda folder: edit(folder / "preprocessor_config.json", lambda told: told.update(image_mean=[0, 0])),
        "preprocessor_config.json: .*mean must have 3 elements",
    ),
    "division by zero": (
        "safetensors",
        lambda folder: edit(folder / "preprocessor_config.json", lambda told: told.update(image_std=[0] * 3)),
        "preprocessor_config.json: .*divide by zero",
    ),
    "pictures left as they are": (
        "safetensors",
        lambda folder: edit(folder / "preprocessor_config.json", lambda told: told.update(do_resize=False)),
        "preprocessor_config.json: ",
    ),
    "no picture settings": (
        "safetensors",
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        "processor_config.json: says nothing of an image_processor",
    ),
}


# Captions have no need of a tower, nor of pictures.
SIGHT_ALONE = {
    *("a wider tower", "a shallower tower", "finer patches"),
    *("two colours", "division by zero", "pictures left as they are"),
}


@pytest.mark.filterwarnings("ignore:divide by zero")  # as it is where warnings are no errors
@pytest.mark.parametrize("fault", SPOILT)
def test_a_spoilt_folder_is_told_in_one_line(fault: str, tmp_path: Path) -> None:
    weights, spoil, message = SPOILT[fault]
    folder = write_instructblip(tmp_path / "spoilt", weights)
    spoil(folder)
    with pytest.raises(BadFileError, match=message) as caught:
        made("instructblip", folder).encode_tokens(CROPS[:1])
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    tokens = np.zeros((1, TOKENS, DIMENSION), np.float32)
    if fault not in SIGHT_ALONE:
        with pytest.raises(BadFileError, match=re.escape(str(folder))):
            made("instructblip", folder).caption(tokens, ["a"], ["b"], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_no_folder_says_what_to_put_where(tmp_path: Path, kind: str) -> None:
    with pytest.raises(BadFileError, match=r"missing\. It wants the folder of Salesforce/.*blip") as caught:
        _ = made(kind, tmp_path / "none").revision
    assert str(caught.value).count(str(tmp_path / "none")) == 2


def test_a_folder_of_the_other_model_is_refused(tmp_path: Path) -> None:
    write_blip2(tmp_path)
    with pytest.raises(BadFileError, match="of type 'blip-2'; the instructblip encoder wants instructblip"):
        _ = made("instructblip", tmp_path).tokens


@pytest.mark.parametrize("modern", [True, False])
def test_a_pickle_that_runs_code_is_not_opened(tmp_path: Path, modern: bool) -> None:
    import torch

    folder = write_instructblip(tmp_path / "evil", "bin")
    held = {"vision_model.x": Evil(tmp_path / "done")}
    if modern:
        torch.save(held, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(held))
    evil = made("instructblip", folder)
    with pytest.raises(BadFileError, match=r"pytorch_model\.bin: "):
        evil.encode_tokens(CROPS[:1])
    with pytest.raises(BadFileError):
        evil.caption(np.zeros((1, TOKENS, DIMENSION), np.float32), ["a"], ["b"], 1)
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_without_words_sees_and_says_nothing(tmp_path: Path, kind: str) -> None:
    """Neither weights that are missing in part nor tokenizers that are missing pass for random ones."""
    from safetensors.torch import load_file, save_file

    tokens = np.zeros((1, TOKENS, DIMENSION), np.float32)
    folder = WRITE[kind](tmp_path / "weights")
    state = load_file(folder / "model.safetensors")
    lost = "language_projection.bias"
    save_file({name: tensor for name, tensor in state.items() if name != lost}, folder / "model.safetensors")
    assert made(kind, folder).encode_tokens(CROPS[:1]).shape == (1, TOKENS, DIMENSION)
    with pytest.raises(BadFileError, match=f"1 tensors are missing, such as {lost}"):
        made(kind, folder).caption(tokens, ["a"], ["b"], 1)
    folder = WRITE[kind](tmp_path / "tokenizer")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BadFileError, match=re.escape(str(folder))) as caught:
        made(kind, folder).caption(tokens, ["a"], ["b"], 1)
    assert "\n" not in str(caught.value)
