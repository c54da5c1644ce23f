"""The position embedding of Open3DSG's relation projector, as torch saves it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from open3dsg.encoders.blip_positions import load_position_embedding, position_embedding_path
from open3dsg.errors import BadFileError
from tests.blip_checks import Evil

TENSOR = torch.linspace(-2, 2, 17 * 6).reshape(1, 17, 6)


@pytest.mark.parametrize("held", [TENSOR, torch.nn.Parameter(TENSOR), TENSOR.double()])
def test_the_tensor_comes_back(held: torch.Tensor, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "position.pt")
    found = load_position_embedding(tmp_path / "position.pt", 17, 6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, TENSOR[0].numpy())


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    torch.save(TENSOR.bfloat16(), tmp_path / "position.pt")
    found = load_position_embedding(tmp_path / "position.pt", 17, 6)
    np.testing.assert_array_equal(found, TENSOR.bfloat16().float()[0].numpy())


def test_it_lies_among_the_checkpoints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPEN3DSG_CHECKPOINTS", str(tmp_path))
    assert position_embedding_path() == tmp_path / "blip2_positional_embedding.pt"


def cut(path: Path) -> None:
    torch.save(TENSOR, path)
    path.write_bytes(path.read_bytes()[:500])


BAD: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda _path: None, "no such file: the position embedding .* is looked for there"),
    "cut": (cut, "damaged"),
    "empty": (lambda path: path.write_bytes(b""), "damaged"),
    "words": (lambda path: path.write_text("not a tensor"), "damaged"),
    "code": (lambda path: torch.save(Evil(path.parent / "done"), path), "wants to run .*mkdir"),
    "bare pickle": (lambda path: path.write_bytes(pickle.dumps(Evil(path.parent / "done"))), "wants|damaged"),
    "other grid": (
        lambda path: torch.save(torch.zeros(1, 10, 6), path),
        "the tensor is 1 x 10 x 6; expected a tensor 1 x 17 x 6",
    ),
    "other width": (lambda path: torch.save(torch.zeros(1, 17, 7), path), "the tensor is 1 x 17 x 7"),
    "two": (lambda path: torch.save(torch.zeros(2, 17, 6), path), "the tensor is 2 x 17 x 6"),
    "flat": (lambda path: torch.save(torch.zeros(17, 6), path), "the tensor is 17 x 6"),
    "one number": (lambda path: torch.save(torch.tensor(1.0), path), "the tensor is one number"),
    "whole numbers": (lambda path: torch.save(TENSOR.long(), path), r"holds torch\.int64"),
    "a state dict": (lambda path: torch.save({"position": TENSOR}, path), "holds dict"),
    "infinite": (lambda path: torch.save(TENSOR / 0, path), "infinite or none"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_is_told_in_one_line(fault: str, tmp_path: Path) -> None:
    write, message = BAD[fault]
    path = tmp_path / "position.pt"
    write(path)
    with pytest.raises(BadFileError, match=message) as caught:
        load_position_embedding(path, 17, 6)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "done").exists()
