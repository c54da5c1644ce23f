"""CLIP in both of its formats, small and with random weights: they agree, and equal their libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.encoders import clip as module
from open3dsg.encoders.clip import Clip, to_input
from open3dsg.encoders.clip_models import PUBLISHED, OpenAiClip, Shape, load_clip
from open3dsg.encoders.contract import Choices, Precision
from open3dsg.errors import BadFileError, UserError
from tests.clip_miniature import (
    PACKAGE,
    Size,
    openai_names,
    published_merges,
    write_hf_clip,
    write_openai_clip,
)

TEXTS = [
    "chair",
    "a Photo of a table, it's 2 m",
    "Waschbecken über der Kommode",
    "",
    "long " * 200,
    "🪑 <b>",
]
CHECKOUT = Path(__file__).parents[2]


def crop(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Smooth coloured waves, so that resizing has something to keep."""
    random = np.random.default_rng(seed)
    row, column = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(random.uniform(3, 20) * row + random.uniform(3, 20) * column) for _ in range(3)]
    return (np.stack(waves, axis=-1) * 100 + 128).astype(np.uint8)


SQUARES = [crop(side, side, seed=side) for side in (224, 100, 301, 7)]


@dataclass(frozen=True)
class Both:
    """The same weights as a Hugging Face folder and as OpenAI's files, and what was made of the files."""

    folder: Path
    dictionary: Path
    archive: Path
    found: Mapping[Path, Mapping[str, NDArray[Any]]]
    refusals: Mapping[str, str]

    def encoder(self, precision: Precision = "fp32") -> Clip:
        return Clip.from_choices(Choices("clip", self.folder, device="cpu", precision=precision))


def run_openai(job: Mapping[str, Any], folder: Path) -> str:
    """Run `tests.clip_openai` with the package clip on its path."""
    (folder / "job.json").write_text(json.dumps(job))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE), str(CHECKOUT)])}
    done = subprocess.run(
        [sys.executable, "-m", "tests.clip_openai", folder / "job.json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    import torch

    if not PACKAGE.is_dir():
        pytest.skip(f"OPENAI CLIP NOT TESTED: {PACKAGE} is missing; scripts/test makes it")
    root = tmp_path_factory.mktemp("clip")
    folder, dictionary, archive = root / "hf", root / "state.pt", root / "archive.pt"
    weights = write_hf_clip(folder, merges=published_merges())
    write_openai_clip(dictionary, jit=False, weights=weights)
    write_openai_clip(archive, jit=True, weights=weights)
    names = openai_names(weights)
    broken = {
        "resnet.pt": {name: value for name, value in names.items() if name != "visual.proj"},
        "shape.pt": {**names, "ln_final.weight": torch.ones(65)},
        "lacking.pt": {
            name: value for name, value in names.items() if name != "transformer.resblocks.1.ln_2.bias"
        },
    }
    for name, state in broken.items():
        torch.save(state, root / name)
    (root / "cut.pt").write_bytes(archive.read_bytes()[:5000])
    np.savez(root / "crops.npz", **{f"crop {place}": each for place, each in enumerate(SQUARES)})  # type: ignore[arg-type]
    files = {str(file): str(file.with_suffix(".npz")) for file in (dictionary, archive)}
    job = {
        "crops": str(root / "crops.npz"),
        "texts": TEXTS,
        "files": files,
        "broken": [str(root / name) for name in (*broken, "cut.pt")],
    }
    told = json.loads(run_openai(job, root))
    found = {Path(file): dict(np.load(out)) for file, out in files.items()}
    return Both(folder, dictionary, archive, found, {Path(file).name: text for file, text in told.items()})


def test_both_formats_agree(both: Both) -> None:
    encoder = both.encoder()
    crops, texts = encoder.encode_crops(SQUARES), encoder.encode_text(TEXTS)
    assert crops.shape == (len(SQUARES), 32)
    assert crops.dtype == texts.dtype == np.float32
    assert np.abs(crops @ crops.T - np.eye(len(crops))).max() > 1e-2  # else agreeing means nothing
    assert len({round(float(text @ crops[0]), 4) for text in texts}) == len(TEXTS)
    for found in both.found.values():
        np.testing.assert_allclose(found["crops fp32"], crops, atol=1e-5)
        np.testing.assert_allclose(found["texts fp32"], texts, atol=1e-5)


def test_openai_files_give_what_the_package_clip_gives(both: Both) -> None:
    for found in both.found.values():
        np.testing.assert_allclose(found["crops fp32"], found["their crops"], atol=1e-3)
        np.testing.assert_allclose(found["texts fp32"], found["their texts"], atol=1e-3)


def test_a_folder_gives_what_transformers_gives(both: Both) -> None:
    """Its processor cuts the middle out, so each crop is padded to a square before."""
    import torch
    from PIL import Image, ImageOps
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    crops = [*SQUARES, crop(50, 100, seed=1), crop(320, 80, seed=2)]
    pads = [
        ImageOps.pad(Image.fromarray(each), (224, 224), Image.Resampling.BICUBIC, (0, 0, 0)) for each in crops
    ]
    model: Any = CLIPModel.from_pretrained(both.folder)
    tokens = CLIPTokenizer.from_pretrained(both.folder)(
        TEXTS, padding=True, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        seen = model.get_image_features(**CLIPImageProcessor()(pads, return_tensors="pt")).pooler_output
        said = model.get_text_features(**tokens).pooler_output
    encoder = both.encoder()
    for found, expected in ((encoder.encode_crops(crops), seen), (encoder.encode_text(TEXTS), said)):
        unit = (expected / expected.norm(dim=-1, keepdim=True)).numpy()
        np.testing.assert_allclose(found, unit, atol=1e-3)


@pytest.mark.parametrize(
    ("height", "width", "top", "left", "rows", "columns"),
    [
        (100, 50, 0, 56, 224, 112),
        (50, 99, 55, 0, 113, 224),
        (224, 224, 0, 0, 224, 224),
        (1, 900, 111, 0, 1, 224),
    ],
)
def test_a_crop_is_fitted_into_a_black_square(
    height: int, width: int, top: int, left: int, rows: int, columns: int
) -> None:
    from PIL import Image

    picture = crop(height, width, seed=3)
    expected = np.zeros((224, 224, 3))
    resized = Image.fromarray(picture).resize((columns, rows), Image.Resampling.BICUBIC)
    expected[top : top + rows, left : left + columns] = np.asarray(resized)
    mean, deviation = np.array([0.48145466, 0.4578275, 0.40821073]), [0.26862954, 0.26130258, 0.27577711]
    found = to_input([picture], 224).numpy()
    assert found.shape == (1, 3, 224, 224)
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), (expected / 255 - mean) / deviation, atol=1e-5)


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.9999), ("bf16", 0.999)])
def test_precision_holds_for_pictures_and_leaves_words_alone(
    both: Both, precision: Precision, least: float
) -> None:
    whole, half = both.encoder(), both.encoder(precision)
    crops, texts = whole.encode_crops(SQUARES), whole.encode_text(TEXTS)
    found = half.encode_crops(SQUARES)
    assert found.dtype == np.float32
    assert not np.array_equal(found, crops)
    for each in (found, *(made[f"crops {precision}"] for made in both.found.values())):
        assert (each * crops).sum(axis=1).min() > least
    np.testing.assert_array_equal(half.encode_text(TEXTS), texts)
    for made in both.found.values():
        np.testing.assert_array_equal(made[f"texts {precision}"], made["texts fp32"])


def test_rows_are_unit_and_do_not_depend_on_the_batch(both: Both) -> None:
    encoder = both.encoder()
    found = encoder.encode_crops(SQUARES)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found[2], encoder.encode_crops(SQUARES[2:3])[0], atol=1e-5)
    texts = [f"chair number {number}" for number in range(module.BATCH + 2)]
    np.testing.assert_allclose(encoder.encode_text(texts)[-1], encoder.encode_text(texts[-1:])[0], atol=1e-5)


def test_nothing_gives_no_rows_and_a_bad_crop_is_named(both: Both) -> None:
    encoder = both.encoder()
    assert encoder.encode_crops([]).shape == encoder.encode_text([]).shape == (0, 32)
    with pytest.raises(ValueError, match=r"crop 1 is \(0, 5, 3\) uint8"):
        encoder.encode_crops([SQUARES[0], np.zeros((0, 5, 3), np.uint8)])


def test_the_weights_tell_what_they_are(both: Both) -> None:
    told = {"architecture": "ViT of 2 x 64, 224 / 32 px", "side_px": 224}
    assert both.encoder().options == told
    assert all(json.loads(str(found["options"])) == told for found in both.found.values())


@pytest.mark.parametrize(("shape", "name"), PUBLISHED.items())
def test_published_sizes_are_known_by_their_weights(
    shape: Shape, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    places = (shape.side_px // shape.patch_px) ** 2 + 1
    state = {
        "visual.conv1.weight": torch.empty(shape.width, 3, shape.patch_px, shape.patch_px, device="meta"),
        "visual.positional_embedding": torch.empty(places, shape.width, device="meta"),
        "text_projection": torch.empty(512, 768, device="meta"),
    }
    state |= {
        f"visual.transformer.resblocks.{layer}.ln_1.bias": state["text_projection"]
        for layer in range(shape.layers)
    }
    files = OpenAiClip(Path("x.pt"), "clip")
    monkeypatch.setitem(files.__dict__, "_state", state)
    assert (files.architecture, files.side_px, files.dimension) == (name, shape.side_px, 768)


def test_a_folder_of_another_size_is_seen_at_that_size(tmp_path: Path) -> None:
    write_hf_clip(tmp_path, Size(width=128, layers=1, patch=16, side=64, dimension=8))
    encoder = Clip.from_choices(Choices("clip", tmp_path, device="cpu"))
    assert encoder.options == {"architecture": "ViT of 1 x 128, 64 / 16 px", "side_px": 64}
    assert encoder.encode_crops(SQUARES[:1]).shape == encoder.encode_text(["a"]).shape == (1, 8)


def test_the_revision_follows_weights_words_and_what_is_shown(
    both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = both.encoder().revision
    assert first == both.encoder("bf16").revision
    assert len({first, *(str(found["revision"]) for found in both.found.values())}) == 3
    write_hf_clip(tmp_path / "a", seed=1)
    write_hf_clip(tmp_path / "b", seed=1)
    revisions = [Clip(Choices("clip", tmp_path / name)).revision for name in "ab"]
    assert revisions[0] == revisions[1]
    with (tmp_path / "b" / "merges.txt").open("a") as file:
        file.write("c h\n")
    module_digests().cache_clear()
    assert Clip(Choices("clip", tmp_path / "b")).revision != revisions[0]
    monkeypatch.setattr(module, "BLACK", 127)
    assert both.encoder().revision != first


def module_digests() -> Any:
    from open3dsg.encoders.digests import file_digest

    return file_digest


def test_files_that_are_no_such_clip_are_refused_in_one_line(both: Both) -> None:
    told = both.refusals
    assert all("\n" not in text for text in told.values())
    assert (
        "a CLIP Vision Transformer as OpenAI has them: there is no visual.proj among its" in told["resnet.pt"]
    )
    assert "shape.pt: not the weights of the clip encoder" in told["shape.pt"]
    assert "lacking.pt: not the weights of the clip encoder" in told["lacking.pt"]
    assert "cut.pt: not the weights of the clip encoder, or damaged: " in told["cut.pt"]


class Trap:
    """Unpickled, it leaves a file behind: weights that run code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


def test_a_file_that_wants_to_run_code_is_not_opened(tmp_path: Path) -> None:
    import torch

    file, mark = tmp_path / "ViT-B-32.pt", tmp_path / "it ran"
    torch.save({"visual.proj": Trap(mark)}, file)
    with pytest.raises(
        BadFileError, match=r"ViT-B-32\.pt: not opened: its pickle wants to run posix\.system"
    ):
        _ = Clip.from_choices(Choices("clip", file)).dimension
    assert not mark.exists()


def test_weights_out_of_a_folder_of_hugging_face_want_the_folder(tmp_path: Path) -> None:
    write_hf_clip(tmp_path)
    encoder = Clip.from_choices(Choices("clip", tmp_path / "model.safetensors"))
    with pytest.raises(BadFileError, match=r"they are Hugging Face's, whose whole folder `path` should name"):
        _ = encoder.dimension


def test_a_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(
        BadFileError, match=r"config\.json: the model is of type 'bert'; the clip encoder wants clip"
    ):
        _ = Clip.from_choices(Choices("clip", tmp_path)).dimension


def test_the_package_clip_is_asked_for_by_its_right_name(
    both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Clip.from_choices(Choices("clip", both.dictionary, device="cpu"))
    assert encoder.dimension == 32  # this much without the package
    monkeypatch.setitem(sys.modules, "clip", None)
    with pytest.raises(
        UserError, match=r"needs the package clip: pip install 'open3dsg\[clip\]' \(the package"
    ):
        encoder.encode_text(["chair"])
    monkeypatch.delitem(sys.modules, "clip")
    (tmp_path / "clip.py").write_text("def copy(text): ...\n")  # a clipboard tool has the name
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        UserError, match=r"the package clip in .*clip\.py is not OpenAI's: pip uninstall clip"
    ):
        load_clip("clip")
    monkeypatch.delitem(sys.modules, "clip")
    (tmp_path / "clip.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    with pytest.raises(UserError, match=r"torchvision::nms does not exist; install the torchvision that was"):
        load_clip("clip")
