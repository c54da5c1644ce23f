"""Tensors of TorchScript archives: all that torch itself would load, and nothing of their programs is run."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from open3dsg.encoders.torchscript import is_archive, read_archive
from open3dsg.errors import BadFileError

jit: Any = torch.jit  # without types
MARK = "it_ran"  # torch.save within an archive takes no name that is not written in its program


class Inner(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 4).half()
        self.register_buffer("turned", torch.arange(12).reshape(3, 4).T)
        self.register_buffer("empty", torch.empty(0))
        self.register_buffer("flags", torch.tensor([True, False]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Outer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.part = torch.nn.Parameter(torch.randn(10)[3:7])
        self.whole = torch.nn.Parameter(torch.randn(2, 2).bfloat16())
        self.attn_mask = torch.ones(2, 2)
        self.sizes = [1, 2]
        self.names = {"a": 1.5}
        self.nothing = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + len(self.sizes) + self.names["a"] + self.attn_mask.sum()  # type: ignore[no-any-return]


class Runs(torch.nn.Module):
    """Writes a file where it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return (self.weight, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        torch.save(torch.ones(1), "it_ran")
        self.weight = state[0]  # type: ignore[assignment]
        self.training = state[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def save(model: torch.nn.Module, file: Path, how: Callable[[Any], Any]) -> Path:
    with warnings.catch_warnings(action="ignore"):  # torch has plans without it
        how(model).save(str(file))
    return file


def load_with_torch(file: Path) -> Any:
    with warnings.catch_warnings(action="ignore"):
        return jit.load(file)


def read(file: Path) -> dict[str, torch.Tensor]:
    return read_archive(file, "x", "install it")


def refused(file: Path) -> str:
    with pytest.raises(BadFileError) as error:
        read(file)
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{file}: ")


@pytest.mark.parametrize("how", ["script", "trace"])
def test_all_that_torch_loads_is_there(how: str, tmp_path: Path) -> None:
    makers: dict[str, Callable[[Any], Any]] = {
        "script": torch.jit.script,
        "trace": lambda model: jit.trace(model, torch.ones(2)),
    }
    file = save(Outer().eval(), tmp_path / "w.pt", makers[how])
    assert is_archive(file)
    found, expected = read(file), load_with_torch(file).state_dict()
    assert found.keys() - expected.keys() <= {"attn_mask"}
    assert len(expected) == 7
    for name, value in expected.items():
        assert torch.equal(found[name], value)
        assert (found[name].dtype, found[name].stride()) == (value.dtype, value.stride())


def test_the_program_of_an_archive_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = save(Runs(), tmp_path / "w.pt", torch.jit.script)
    assert "or damaged: a module of it is put together by a program of its own" in refused(file)
    assert not Path(MARK).exists()
    load_with_torch(file)
    assert Path(MARK).exists()  # else this test tells nothing


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
    return target


class Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_a_pickle_in_an_archive_that_wants_to_run_code_is_not_opened(tmp_path: Path) -> None:
    file = save(Inner(), tmp_path / "w.pt", torch.jit.script)
    trap = pickle.dumps(Trap(tmp_path / MARK), protocol=2)
    spoiled = rewrite(file, tmp_path / "trap.pt", lambda name, old: trap if name == "data.pkl" else old)
    assert refused(spoiled).startswith("not opened: its pickle wants to run ")
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02N.", b"\x80\x02}.", b"junk", b"\x80\x02X"])
def test_a_damaged_archive_is_told(content: bytes, tmp_path: Path) -> None:
    file = save(Inner(), tmp_path / "w.pt", torch.jit.script)
    spoiled = rewrite(file, tmp_path / "bad.pt", lambda name, old: content if name == "data.pkl" else old)
    assert refused(spoiled).startswith("not the weights of the x encoder, or damaged: ")


def test_numbers_that_are_cut_short_are_told(tmp_path: Path) -> None:
    file = save(Inner(), tmp_path / "w.pt", torch.jit.script)
    spoiled = rewrite(
        file, tmp_path / "cut.pt", lambda name, old: old[:-8] if name.startswith("data/") else old
    )
    assert refused(spoiled).startswith("not the weights of the x encoder, or damaged: ")


def test_what_torch_saves_otherwise_is_no_archive(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pt")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    assert not any(is_archive(tmp_path / name) for name in ("w.pt", "junk.pt", "absent.pt"))
