"""`open3dsg encoders list` and `check`, by the installed command; no database is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clip_miniature import write_hf_clip
from tests.command import Done, call, environment


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path, "postgresql:///nowhere?host=/nowhere")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A small CLIP in a folder with a name that needs care."""
    folder = tmp_path / "CLIP klein 'b'"
    write_hf_clip(folder)
    return folder


def refused(done: Done) -> str:
    assert done.code == 2, done
    assert done.out == ""
    (line,) = done.err.splitlines()
    return line.removeprefix("error: ")


def test_list_tells_what_is_there_and_what_is_missing(variables: dict[str, str], clip: Path) -> None:
    variables["OPEN3DSG_ENCODERS"] = f'small.encoder = "clip"\nsmall.path = "{clip}"\n'
    done = call(variables, "encoders", "list")
    assert done.code == 0, done
    lines = {line.split()[0]: line for line in done.out.splitlines()}
    assert lines["encoder"].split() == ["encoder", "sees", "dimension", "weights", "missing"]
    assert lines["conse"].split() == ["conse", "crops", "384", "-", "-"]
    assert lines["small"].split(maxsplit=3)[:3] == ["small", "crops", "-"]
    assert f"  {clip}  " in lines["small"]
    assert lines["small"].endswith("  -")
    assert lines["clip"].split() == ["clip", "crops", "-", "checkpoints/clip", "weights"]
    where, how = done.err.splitlines()
    assert where == f"checkpoints/ is {variables['OPEN3DSG_HOME']}/checkpoints"
    assert "`open3dsg encoders check NAME` says where to get what is missing" in how


def test_the_list_fits_on_a_screen(variables: dict[str, str]) -> None:
    lines = call(variables, "encoders", "list").out.splitlines()
    assert len(lines) >= 11
    assert max(map(len, lines)) <= 100


def test_list_as_json(variables: dict[str, str]) -> None:
    rows = {row["name"]: row for row in call(variables, "encoders", "list", "--json").json}
    assert {"clip", "conse", "minilm", "rooms", "sentence", "toy"} <= rows.keys()
    assert rows["minilm"] == {
        "name": "minilm",
        "encoder": "minilm",
        "views": "text",
        "dimension": 384,
        "checkpoint": None,
        "missing": [],
        "way_out": None,
        "ready": True,
    }
    assert (rows["clip"]["ready"], rows["clip"]["dimension"]) == (False, None)
    place = f"{variables['OPEN3DSG_HOME']}/checkpoints/clip"
    assert rows["clip"]["missing"] == ["weights"]
    assert rows["clip"]["way_out"].startswith(f"it wants a CLIP at {place}: the folder of openai/clip-vit-")


def test_check_loads_the_weights_and_tells_the_revision(variables: dict[str, str], clip: Path) -> None:
    variables["OPEN3DSG_ENCODERS"] = f'small.encoder = "clip"\nsmall.path = "{clip}"\n'
    done = call(variables, "encoders", "check", "small", "--device", "cpu", "--precision", "bf16")
    assert done.code == 0, done
    told = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    found = call(variables, "encoders", "check", "small", "--device", "cpu", "--json").json
    assert found.pop("seconds") >= 0
    assert found == {
        "name": "small",
        "views": "crops",
        "revision": told["revision"],
        "dimension": 32,
        "device": "cpu",
    }
    assert len(told["revision"]) == 16


@pytest.mark.parametrize("name", ["toy", "toypixels", "toytokens"])
def test_check_uses_every_kind(name: str, variables: dict[str, str]) -> None:
    done = call(variables, "encoders", "check", name, "--json")
    assert done.json["name"] == name


def test_check_says_in_one_line_what_is_missing(variables: dict[str, str]) -> None:
    line = refused(call(variables, "encoders", "check", "clip"))
    place = f"{variables['OPEN3DSG_HOME']}/checkpoints/clip"
    assert line.startswith(
        f"{place}: the weights of the encoder clip are missing. It wants a CLIP at {place}: "
    )
    assert "huggingface.co" in line
    assert line.endswith("`path` in [encoders.clip] names another place")


def test_check_refuses_what_does_not_work(variables: dict[str, str], clip: Path) -> None:
    assert "no encoder is called 'clop'; known: " in refused(call(variables, "encoders", "check", "clop"))
    line = refused(call(variables, "encoders", "check", "conse", "--device", "cuda:99"))
    assert line.startswith("--device cuda:99: torch ")
    weights = clip / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    variables["OPEN3DSG_ENCODERS"] = f'small.encoder = "clip"\nsmall.path = "{clip}"\n'
    line = refused(call(variables, "encoders", "check", "small"))
    assert line.startswith(f"{clip}: not the weights of the small encoder, or damaged: ")
    variables["OPEN3DSG_ENCODERS"] = "small.encoder = 5"
    assert "small.encoder: expected text, got 5" in refused(call(variables, "encoders", "list"))
