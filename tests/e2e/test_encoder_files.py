"""Files of weights as strangers may leave them: damaged, of another kind, or out to run code."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from open3dsg.encoders.checkpoint import fill, load_pretrained, load_state, weight_files
from open3dsg.encoders.contract import Choices, Precision
from open3dsg.encoders.support import torch_device, torch_dtype
from open3dsg.errors import BadFileError, UserError
from tests.clip_miniature import write_hf_clip

TENSORS = {"a": torch.arange(1000.0), "b.c": torch.ones(2, 3)}
NOT_OURS = "not the weights of the x encoder, or damaged"


class Trap:
    """Unpickled, it leaves a file behind: weights that run code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


def save(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


def load(path: Path) -> dict[str, torch.Tensor]:
    return load_state(path, "x", "install it")


def refused(path: Path) -> str:
    with pytest.raises(BadFileError) as error:
        load(path)
    told = str(error.value)
    assert told.startswith(f"{path}: ")
    assert "\n" not in told
    return told.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.safetensors"])
def test_every_format_gives_its_tensors(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(TENSORS, path)
    else:
        save(path, TENSORS)
    found = load(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[key], value) for key, value in TENSORS.items())


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_state_dict_inside_is_found(key: str, tmp_path: Path) -> None:
    path = save(tmp_path / "w.pt", {key: TENSORS, "epoch": 3})
    assert load(path).keys() == TENSORS.keys()


@pytest.mark.parametrize(
    ("value", "how"),
    [
        (lambda mark: {"a": Trap(mark)}, {}),
        (lambda mark: {"a": Trap(mark)}, {"_use_new_zipfile_serialization": False}),
        (lambda _: torch.nn.Linear(2, 2), {}),
    ],
)
def test_a_pickle_that_wants_to_run_code_is_not_opened(
    value: Callable[[Path], object], how: dict[str, bool], tmp_path: Path
) -> None:
    mark, path = tmp_path / "it ran", tmp_path / "w.pt"
    torch.save(value(mark), path, **how)
    assert "not opened: its pickle wants to run " in refused(path)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_nor_is_a_plain_pickle(protocol: int, tmp_path: Path) -> None:
    mark, path = tmp_path / "it ran", tmp_path / "w.bin"
    path.write_bytes(pickle.dumps({"a": Trap(mark)}, protocol=protocol))
    refused(path)
    assert not mark.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", ["w.pt", "old.pt", "w.safetensors"])
def test_a_truncated_file_is_told(name: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "w.safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=name == "w.pt")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert refused(path).startswith(NOT_OURS)


def test_what_is_no_state_dict_is_told(tmp_path: Path) -> None:
    for place, value in enumerate(([1, 2], {}, {"a": 1}, {1: torch.ones(1)}, torch.ones(3))):
        told = refused(save(tmp_path / f"{place}.pt", value))
        assert told == "not the weights of the x encoder: no state dict of tensors"
    page = tmp_path / "page.pt"
    page.write_text("<html>404 Not Found</html>")
    assert refused(page).startswith(NOT_OURS)
    assert refused(tmp_path / "absent.pt") == "no such file: the x encoder looks for its weights there"
    assert refused(tmp_path) == "no such file: the x encoder looks for its weights there"


def test_weights_of_another_model_are_told(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 3)
    fill(model, {"weight": torch.ones(3, 2), "bias": torch.ones(3)}, tmp_path, "x")
    for state in ({"weight": torch.ones(3, 2)}, {"weight": torch.ones(2, 2), "bias": torch.ones(3)}, TENSORS):
        with pytest.raises(BadFileError, match=f"^{tmp_path}: not the weights of the x encoder: .*") as error:
            fill(model, state, tmp_path, "x")
        assert "\n" not in str(error.value)
        assert "Error(s)" not in str(error.value)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf")
    write_hf_clip(folder)
    return folder


@pytest.fixture
def folder(small: Path, tmp_path: Path) -> Path:
    """A Hugging Face folder, to be spoiled."""
    return Path(shutil.copytree(small, tmp_path / "hf"))


def from_folder(folder: Path, *types: str) -> Any:
    return load_pretrained("CLIPModel", folder, "x", "install it", types)


def wrong(folder: Path, *types: str) -> str:
    with pytest.raises(UserError) as error:
        from_folder(folder, *types)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_whole_folder_loads_and_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = from_folder(folder, "clip")
    assert not model.training
    assert capfd.readouterr() == ("", "")


def test_weights_that_transformers_would_make_up_are_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load(file)
    last = sorted(tensors)[-1]
    save_file({key: value for key, value in tensors.items() if key != last}, file, {"format": "pt"})
    assert (
        wrong(folder) == f"{folder}: not the weights of the x encoder: 1 tensors are missing, such as {last}"
    )


def test_weights_of_other_shapes_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["projection_dim"] = 7
    (folder / "config.json").write_text(json.dumps(config))
    assert str(folder) in wrong(folder)


def test_a_folder_of_another_model_is_refused(folder: Path) -> None:
    told = f"{folder}/config.json: the model is of type 'clip'; the x encoder wants blip-2 or instructblip"
    assert wrong(folder, "blip-2", "instructblip") == told


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model_type": "no such model"}'])
def test_a_broken_configuration_is_told(content: str, folder: Path) -> None:
    (folder / "config.json").write_text(content)
    assert f"{folder}/config.json: " in wrong(folder, "clip")


def test_a_folder_without_configuration_or_weights_is_told(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert f"{folder}: " in wrong(folder)
    with pytest.raises(BadFileError, match=r"no weights in it: neither model\.safetensors nor"):
        weight_files(folder)
    (folder / "config.json").unlink()
    assert f"{folder}/config.json: cannot be read (No such file or directory)" in wrong(folder)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_weights_of_a_folder_are_told(share: float, folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    assert wrong(folder).startswith(f"{folder}: {NOT_OURS}")


def test_a_folder_whose_pickle_wants_to_run_code_is_not_opened(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    (folder / "model.safetensors").unlink()
    save(folder / "pytorch_model.bin", {"a": Trap(mark)})
    assert f"{folder}: not opened: its pickle wants to run posix.system" in wrong(folder)
    assert not mark.exists()


def test_a_pickle_of_weights_alone_loads(folder: Path) -> None:
    tensors = load(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save(folder / "pytorch_model.bin", tensors)
    assert weight_files(folder) == [folder / "pytorch_model.bin"]
    name, value = next(iter(from_folder(folder).state_dict().items()))
    assert torch.equal(value, tensors[name])


def test_shards_are_found_by_their_index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index.write_text(json.dumps({"weight_map": {"a": shards[1], "b": shards[0], "c": shards[0]}}))
    with pytest.raises(BadFileError, match=r"00002-of-00002.safetensors: missing, though model\.safe"):
        weight_files(folder)
    (folder / shards[1]).touch()
    assert weight_files(folder) == [folder / name for name in shards]
    index.write_text("[]")
    with pytest.raises(BadFileError, match=r"index\.json: not an index of weights"):
        weight_files(folder)


def test_a_transformers_that_is_broken_is_not_blamed_on_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    class Broken:
        __version__ = transformers.__version__

        def __getattr__(self, name: str) -> object:
            if name.startswith("__"):  # what importing asks for
                raise AttributeError(name)
            raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setitem(sys.modules, "transformers", Broken())
    assert "operator torchvision::nms does not exist; where torchvision is at fault" in wrong(folder)


def choices(device: str | None, precision: Precision = "fp32") -> Choices:
    return Choices("x", Path(), device=device, precision=precision)


def test_the_device_is_the_chosen_one_or_the_best_there_is() -> None:
    assert torch_device(choices(None)) == ("cuda" if torch.cuda.is_available() else "cpu")
    assert torch_device(choices("cpu")) == "cpu"


@pytest.mark.parametrize("device", ["cuda:99", "banana", "meta", "xpu", "hpu", ""])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(UserError, match=f"^--device {device}: torch .* has no such device here, but cpu"):
        torch_device(choices(device))


def test_precisions_are_those_of_torch() -> None:
    found = [torch_dtype(choices("cpu", precision)) for precision in ("fp32", "fp16", "bf16")]
    assert found == [torch.float32, torch.float16, torch.bfloat16]


def test_a_precision_that_the_device_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(*_: object) -> None:
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")

    monkeypatch.setattr(torch.nn.functional, "conv2d", lacks)
    with pytest.raises(
        UserError, match=r"--precision fp16: torch .* cannot reckon in it on cpu: take another"
    ):
        torch_dtype(choices("cpu", "fp16"))
