"""InstructBLIP and BLIP-2 on tiny folders in the true format, against transformers' own pipeline.

Their real weights (15 to 31 GB) are not at hand where these tests run.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from open3dsg.encoders.blip import Blip2, InstructBlip
from open3dsg.encoders.blip_captions import GENERATION, LENGTH_PENALTY
from open3dsg.encoders.blip_folder import PICTURE, TOWER
from open3dsg.encoders.contract import Choices
from open3dsg.encoders.phrases import full_caption, relation_prompt
from open3dsg.encoders.registry import load_encoder, load_node_encoder
from open3dsg.errors import UserError
from tests.blip_checks import CLASSES, CROPS, KINDS, WRITE, Blip, copied, crop, edit, made, one_thread
from tests.blip_miniature import DIMENSION, TOKENS, Weights, write_blip2

SUBJECTS = ["chair", "lamp", "table", "bed", "chair"]
OBJECTS = ["table", "floor", "chair of the other table", "lamp", "chair"]


quick = pytest.fixture(scope="module", autouse=True)(one_thread)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("blip")
    return {kind: WRITE[kind](root / kind) for kind in KINDS}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def encoder(kind: str, folders: dict[str, Path]) -> Blip:
    return made(kind, folders[kind])


@pytest.fixture(scope="module")
def library(kind: str, folders: dict[str, Path]) -> tuple[Any, Any]:
    """Give transformers' whole model and its processor."""
    transformers = importlib.import_module("transformers")
    name = CLASSES[kind][1]
    model = getattr(transformers, f"{name}ForConditionalGeneration").from_pretrained(folders[kind])
    return model.eval(), getattr(transformers, f"{name}Processor").from_pretrained(folders[kind])


# Tokens


def test_tokens_equal_the_librarys_pipeline(encoder: Blip, library: tuple[Any, Any]) -> None:
    import torch

    model, processor = library
    pixels = processor(images=[Image.fromarray(one) for one in CROPS], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model.vision_model(pixels).last_hidden_state.numpy()
    found = encoder.encode_tokens(CROPS)
    assert found.dtype == np.float32
    assert found.shape == (len(CROPS), TOKENS, DIMENSION) == (len(CROPS), encoder.tokens, encoder.dimension)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_tokens_follow_the_picture_and_not_the_batch(encoder: Blip) -> None:
    pictures = [crop(20 + seed, 30, seed) for seed in range(6)]
    found = encoder.encode_tokens(pictures)
    np.testing.assert_allclose(found[3], encoder.encode_tokens(pictures[3:4])[0], atol=1e-5)
    spread = np.linalg.norm((found - found.mean(axis=0)).reshape(len(found), -1), axis=1)
    assert (spread > 0.01 * np.linalg.norm(found[0])).all()


def test_no_crops_no_tokens_and_a_bad_one_is_named(encoder: Blip) -> None:
    assert encoder.encode_tokens([]).shape == (0, TOKENS, DIMENSION)
    with pytest.raises(ValueError, match=r"crop 1 is \(0, 5, 3\) uint8"):
        encoder.encode_tokens([CROPS[0], np.zeros((0, 5, 3), np.uint8)])


@pytest.mark.parametrize("weights", ["safetensors-shards", "bin", "bin-shards"])
def test_however_the_weights_lie_the_tokens_are_the_same(
    weights: Weights, encoder: Blip, kind: str, tmp_path: Path
) -> None:
    other = made(kind, WRITE[kind](tmp_path / weights, weights))
    np.testing.assert_array_equal(other.encode_tokens(CROPS), encoder.encode_tokens(CROPS))


@pytest.mark.parametrize(("precision", "error"), [("fp16", 5e-3), ("bf16", 4e-2)])
def test_lower_precision_is_close(encoder: Blip, kind: str, precision: Any, error: float) -> None:
    other = made(kind, encoder._folder, precision=precision)
    found, expected = other.encode_tokens(CROPS), encoder.encode_tokens(CROPS)
    assert found.dtype == np.float32
    assert 0 < np.linalg.norm(found - expected) < error * np.linalg.norm(expected)
    assert other.revision == encoder.revision


def test_only_the_tower_is_loaded_for_tokens(encoder: Blip, kind: str, tmp_path: Path) -> None:
    """A file of torch without the tensors of the language model is enough."""
    import torch

    folder = WRITE[kind](tmp_path / "bin", "bin")
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    tower = {name: tensor for name, tensor in state.items() if name.startswith("vision_model.")}
    torch.save(tower, folder / "pytorch_model.bin")
    np.testing.assert_array_equal(
        made(kind, folder).encode_tokens(CROPS[:1]), encoder.encode_tokens(CROPS[:1])
    )


def test_the_newer_place_of_the_picture_settings(encoder: Blip, kind: str, tmp_path: Path) -> None:
    folder = copied(encoder._folder, tmp_path / "newer")
    told = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    edit(folder / "processor_config.json", lambda config: config.update(image_processor=told))
    other = made(kind, folder)
    assert other.revision == encoder.revision
    np.testing.assert_array_equal(other.encode_tokens(CROPS), encoder.encode_tokens(CROPS))


# Captions


def by_the_library(library: tuple[Any, Any], picture: NDArray[np.uint8], prompt: str, beams: int) -> str:
    """Let the whole model of the library see one picture and go on with the prompt."""
    transformers = importlib.import_module("transformers")
    model, processor = library
    inputs = processor(images=Image.fromarray(picture), text=prompt, return_tensors="pt")
    length = inputs["input_ids"].shape[1]
    # transformers of today would penalise the prompt's words, too; that of the published code did not.
    penalty = transformers.RepetitionPenaltyLogitsProcessor(1.5, prompt_ignore_length=length)
    written = model.generate(
        **inputs,
        do_sample=False,
        num_beams=beams,
        max_new_tokens=20,
        min_new_tokens=15,
        logits_processor=[penalty],
        **({"length_penalty": 0.7} if beams > 1 else {}),
    )
    text: str = processor.batch_decode(written[:, length:], skip_special_tokens=True)[0]
    return text.partition(".")[0].partition("\n")[0]


@pytest.mark.parametrize("beams", [1, 5])
def test_captions_equal_the_librarys_generation(
    encoder: Blip, kind: str, library: tuple[Any, Any], beams: int
) -> None:
    found = encoder.caption(encoder.encode_tokens(CROPS), SUBJECTS, OBJECTS, beams)
    for picture, subject, other, caption in zip(CROPS, SUBJECTS, OBJECTS, found, strict=True):
        text = by_the_library(library, picture, relation_prompt(subject, other), beams)
        assert caption == " ".join(f"the {subject} {text}".split())
    assert len(set(found)) > 1


def test_captions_of_a_language_model_with_an_encoder(tmp_path: Path) -> None:
    """T5 reads the prompt and writes elsewhere: what it writes has no prompt in it, and padding is behind."""
    transformers = importlib.import_module("transformers")
    folder = write_blip2(tmp_path / "t5", language="t5")
    model = transformers.Blip2ForConditionalGeneration.from_pretrained(folder).eval()
    processor = transformers.Blip2Processor.from_pretrained(folder)
    speaks = made("blip2", folder)
    found = speaks.caption(speaks.encode_tokens(CROPS), SUBJECTS, OBJECTS, 5)
    for picture, subject, other, caption in zip(CROPS, SUBJECTS, OBJECTS, found, strict=True):
        prompt = relation_prompt(subject, other)
        inputs = processor(images=Image.fromarray(picture), text=prompt, return_tensors="pt")
        written = model.generate(**inputs, **GENERATION, num_beams=5, length_penalty=0.7)
        text = processor.batch_decode(written, skip_special_tokens=True)[0]
        assert caption == full_caption(subject, text)


def test_captions_follow_the_picture_and_the_names_and_not_the_batch(encoder: Blip) -> None:
    count = 10
    tokens = encoder.encode_tokens([crop(40, 40, seed) for seed in range(count)])
    tokens[1] = tokens[0]
    subjects, objects = ["lamp"] * count, ["floor", "chair of the other table"] * (count // 2)
    found = encoder.caption(tokens, subjects, objects, 3)
    assert found[0] != found[1]
    assert len(set(found[::2])) > 2
    for number in (0, 1, 8):
        assert encoder.caption(tokens[[number]], ["lamp"], [objects[number]], 3) == [found[number]]


def test_what_the_language_model_is_shown_does_not_depend_on_the_batch(encoder: Blip) -> None:
    import torch

    tokens = torch.tensor(encoder.encode_tokens(CROPS))
    prompts = [relation_prompt(*pair) for pair in zip(SUBJECTS, OBJECTS, strict=True)]
    with torch.inference_mode():
        together = encoder._speaker._ask_qformer(tokens, prompts)
        alone = [encoder._speaker._ask_qformer(tokens[[n]], prompts[n : n + 1])[0] for n in range(len(CROPS))]
    np.testing.assert_allclose(together.numpy(), torch.stack(alone).numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_that_end_early_where_the_published_model_pads_with_no_token(
    folders: dict[str, Path], tmp_path: Path, beams: int
) -> None:
    """config.json of instructblip-vicuna-7b gives the language model -1 for the padding."""
    odd = copied(folders["instructblip"], tmp_path / "odd")
    edit(odd / "config.json", lambda told: told["text_config"].update(pad_token_id=-1))
    enders = {**GENERATION, "num_beams": beams, "min_new_tokens": 1, "eos_token_id": list(range(3, 30))}
    tokens = made("instructblip", odd).encode_tokens(CROPS)
    prompts = [relation_prompt(*pair) for pair in zip(SUBJECTS, OBJECTS, strict=True)]
    found, expected = (
        made("instructblip", folder)._speaker.write(tokens, prompts, enders)
        for folder in (odd, folders["instructblip"])
    )
    assert found == expected
    assert len({len(text) for text in found}) > 1


def test_a_name_of_hundreds_of_words_is_no_more_than_long(folders: dict[str, Path]) -> None:
    """The Q-Former's words have places, 512 in the published model and here 64; it does without the rest."""
    long = "chair " * 70
    tokens = np.ones((1, TOKENS, DIMENSION), np.float32)
    assert (
        made("instructblip", folders["instructblip"])
        .caption(tokens, [long], ["bed"], 1)[0]
        .startswith(f"the {long}")
    )


def test_the_generation_is_the_published() -> None:
    """Lengths and the penalty of repetition are tried above; beams of one length do not try the other."""
    assert (GENERATION["repetition_penalty"], LENGTH_PENALTY) == (1.5, 0.7)


def test_captions_of_nothing_and_of_tokens_that_do_not_fit(encoder: Blip) -> None:
    tokens = np.zeros((2, TOKENS, DIMENSION), np.float32)
    assert encoder.caption(tokens[:0], [], [], 5) == []
    for wrong in (tokens[:1], tokens[:, 1:], tokens[:, :, 1:]):
        with pytest.raises(ValueError, match=r"expected \(2, 17, 24\)"):
            encoder.caption(wrong, ["a", "b"], ["c", "d"], 5)
    with pytest.raises(ValueError, match="of 1 objects"):
        encoder.caption(tokens, ["a", "b"], ["c"], 5)


def test_captions_do_not_load_the_tower(kind: str, folders: dict[str, Path]) -> None:
    speaks = made(kind, folders[kind], precision="bf16")
    said = speaks.caption(np.ones((1, TOKENS, DIMENSION), np.float32), ["chair"], ["bed"], 2)
    assert said[0].startswith("the chair ")
    assert "_tower" not in vars(speaks)
    assert not any(name.startswith("vision_model") for name in speaks._speaker.model.state_dict())


# What is told without weights


def test_measures_and_revision_need_no_torch(encoder: Blip, kind: str) -> None:
    program = (
        "import sys; from pathlib import Path; from open3dsg.encoders.blip import InstructBlip, Blip2;"
        "from open3dsg.encoders.contract import Choices;"
        f"made = {type(encoder).__name__}.from_choices(Choices('x', Path({str(encoder._folder)!r})));"
        "print(made.tokens, made.dimension, made.revision);"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert told.split() == [str(TOKENS), str(DIMENSION), encoder.revision]


def test_the_measures_of_the_published_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "instructblip", "vision_config": {}}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 224, "width": 224}}))
    published = made("instructblip", tmp_path)
    assert (published.tokens, published.dimension) == (257, 1408)


def test_what_a_folder_leaves_out_is_as_transformers_has_it() -> None:
    transformers = importlib.import_module("transformers")
    for name in ("InstructBlip", "Blip2"):
        config = getattr(transformers, f"{name}VisionConfig")()
        assert {key: getattr(config, key) for key in TOWER} == TOWER
    prepare = transformers.BlipImageProcessorPil()
    told = {key: getattr(prepare, key) for key in PICTURE}
    assert told == {**PICTURE, "image_mean": told["image_mean"], "image_std": told["image_std"]}
    assert list(told["image_mean"]) == PICTURE["image_mean"]
    assert list(told["image_std"]) == PICTURE["image_std"]


def test_revision_follows_weights_and_picture_settings(encoder: Blip, kind: str, tmp_path: Path) -> None:
    assert made(kind, copied(encoder._folder, tmp_path / "same")).revision == encoder.revision
    other = copied(encoder._folder, tmp_path / "other")
    edit(other / "preprocessor_config.json", lambda told: told.update(image_mean=[0.5, 0.5, 0.5]))
    assert made(kind, other).revision != encoder.revision
    changed = copied(encoder._folder, tmp_path / "changed")
    weights = bytearray((changed / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (changed / "model.safetensors").write_bytes(weights)
    assert made(kind, changed).revision != encoder.revision


def test_found_by_name_and_by_a_name_of_ones_own(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "OPEN3DSG_ENCODERS",
        f'mine = {{encoder = "blip2", path = "{folders["blip2"]}", text = "jina"}}\n'
        f'instructblip = {{path = "{folders["instructblip"]}"}}\n'
        'odd = {encoder = "blip2", beams = 5}',
    )
    mine, plain = load_encoder("mine"), load_encoder("instructblip")
    assert isinstance(mine, Blip2)
    assert isinstance(plain, InstructBlip)
    assert (mine.name, mine.text, mine.tokens) == ("mine", "jina", TOKENS)
    assert plain.text == "minilm"
    assert mine.revision != plain.revision
    with pytest.raises(UserError, match=r"\[encoders.odd\] in the settings: unknown key 'beams'"):
        load_encoder("odd")
    with pytest.raises(UserError, match="does not embed instances"):
        load_node_encoder("mine")


def test_choices_are_kept(folders: dict[str, Path]) -> None:
    choices = Choices("mine", folders["blip2"], text="jina", device="cpu")
    assert Blip2.from_choices(choices).text == "jina"
    assert Blip2.from_choices(choices).device == "cpu"
    assert Blip2.from_choices(replace(choices, text="minilm")).text == "minilm"
