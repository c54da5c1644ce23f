"""One part of a large model, read from its Hugging Face folder without the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from open3dsg.encoders.checkpoint import load_state, reading, weight_files
from open3dsg.encoders.support import load_package
from open3dsg.errors import BadFileError

if TYPE_CHECKING:
    import torch


def load_part(
    folder: Path, prefix: str, dtype: torch.dtype, encoder: str, install: str
) -> dict[str, torch.Tensor]:
    """Read the tensors of a folder whose names begin with `prefix`, and name them without it.

    They are on the CPU and in `dtype`. The others are not read, or only mapped: of a folder of 31 GB no more
    than the part takes memory. Raises BadFileError as `weight_files` does, where a file is damaged or wants
    to run code, and where nothing has the prefix.
    """
    part: dict[str, torch.Tensor] = {}
    for path in weight_files(folder):
        read = _safetensors if path.suffix == ".safetensors" else _torch_file
        for name, tensor in read(path, prefix, encoder, install):
            part[name.removeprefix(prefix)] = tensor.to(dtype)
    if not part:
        raise BadFileError(f"{folder}: not the weights of the {encoder} encoder: none is called {prefix}*")
    return part


def _safetensors(path: Path, prefix: str, encoder: str, install: str) -> Iterator[tuple[str, torch.Tensor]]:
    safetensors = load_package("safetensors", encoder, install)
    with reading(path, encoder), safetensors.safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - the file is no mapping
            if name.startswith(prefix):
                yield name, file.get_tensor(name)


def _torch_file(path: Path, prefix: str, encoder: str, install: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in load_state(path, encoder, install, mapped=True).items():
        if name.startswith(prefix):
            yield name, tensor
