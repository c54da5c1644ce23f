"""What the tests of InstructBLIP and BLIP-2 share: crops, encoders of tiny folders, ways to spoil these."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from open3dsg.encoders.blip import Blip2, InstructBlip
from open3dsg.encoders.contract import Choices
from tests.blip_miniature import write_blip2, write_instructblip

Blip: TypeAlias = InstructBlip | Blip2
KINDS = ["instructblip", "blip2"]
WRITE: Mapping[str, Callable[..., Path]] = {"instructblip": write_instructblip, "blip2": write_blip2}
CLASSES: Mapping[str, tuple[type[Blip], str]] = {
    "instructblip": (InstructBlip, "InstructBlip"),
    "blip2": (Blip2, "Blip2"),
}


def crop(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Coloured noise in blocks, so that resizing has something to keep."""
    blocks = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return np.kron(blocks, np.ones((8, 8, 1), np.uint8))[:height, :width]


# Wide, high, tiny, and 3 pixels high, which could pass for three colours.
CROPS = [crop(60, 90, 0), crop(90, 40, 1), crop(1, 1, 2), crop(3, 17, 3), crop(28, 28, 4)]


def one_thread() -> Iterator[None]:
    """Keep the threads of torch from waiting for each other: the models are tiny. A fixture, once wrapped."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(kind: str, folder: Path, **chosen: Any) -> Blip:
    return CLASSES[kind][0].from_choices(Choices(kind, folder, device="cpu", **chosen))


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class Evil:
    """What a pickle may hold that makes a folder when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)
