"""What the measuring of memory sees, on arrays of known size."""

from __future__ import annotations

import builtins
import importlib
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import numpy as np
import pytest

from open3dsg.encoders import memory

SIZE = 100_000_000


@pytest.mark.parametrize("counted", [True, False])
def test_peak_and_what_stays(counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both where the system counts the peak and where it must be watched."""
    if not counted:
        monkeypatch.setattr(memory, "_peak_resident", memory._watched)
    meter = memory.Meter("cpu")
    held: list[object] = []
    freed = meter.measure("freed", lambda: np.ones(SIZE, np.uint8).sum())
    stays = meter.measure("stays", lambda: held.append(np.ones(SIZE, np.uint8)))
    assert freed.peak == pytest.approx(SIZE, rel=0.1)
    assert freed.kept < SIZE / 10
    assert stays.kept == pytest.approx(SIZE, rel=0.1)
    assert (freed.gpu_kept, stays.gpu_peak) == (None, None)
    assert meter.resident_peak >= meter.at_start + SIZE * 0.9


class Counts:
    """Counts as torch and TensorFlow do of a GPU, where there is none.

    What it protects is that each part is counted anew, on the GPU that was asked for, and that both
    frameworks are asked. Whether they count right only a GPU can tell, in the test after.
    """

    now = most = 0

    def __init__(self, device: str) -> None:
        self.device = device

    def take(self, *counts: int) -> None:
        for count in counts:
            self.now += count
            self.most = max(self.most, self.now)

    def reset(self, device: str) -> None:
        assert device == self.device
        self.most = self.now

    def tell(self, device: str) -> dict[str, int]:
        assert device == self.device
        return {"current": self.now, "peak": self.most}


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_each_part_is_counted_anew_on_its_gpu(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts("cuda:1" if framework == "torch" else "GPU:1")
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        memory_allocated=lambda device: counts.tell(device)["current"],
        max_memory_allocated=lambda device: counts.tell(device)["peak"],
        reset_peak_memory_stats=counts.reset,
    )
    config = SimpleNamespace(
        list_logical_devices=lambda kind: [kind],
        experimental=SimpleNamespace(get_memory_info=counts.tell, reset_memory_stats=counts.reset),
    )
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    module = SimpleNamespace(cuda=cuda, config=config)
    monkeypatch.setitem(sys.modules, framework, cast(ModuleType, module))
    meter = memory.Meter("cuda:1")
    weights = meter.measure("weights", partial(counts.take, 7000, -6500))
    batch = meter.measure("batch", partial(counts.take, 3000, -3000))
    assert (weights.gpu_kept, weights.gpu_peak) == (500, 7000)
    assert (batch.gpu_kept, batch.gpu_peak) == (0, 3000)


def test_what_torch_holds_of_a_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("GPU MEMORY NOT TESTED: torch has no GPU here")
    held: list[object] = []
    here = partial(torch.empty, SIZE, dtype=torch.uint8, device="cuda:0")
    meter = memory.Meter("cuda:0")
    stays = meter.measure("stays", lambda: held.append(here()))
    freed = meter.measure("freed", lambda: here().sum())
    assert (stays.gpu_kept, stays.gpu_peak) == pytest.approx((SIZE, SIZE), rel=0.1)
    assert (freed.gpu_kept, freed.gpu_peak) == pytest.approx((0, SIZE), rel=0.1, abs=SIZE / 10)
    assert memory.gpu_reserved("cuda:0") > 1.9 * SIZE


def test_full_memories_are_known_by_their_errors() -> None:
    import torch

    for full in (lambda: np.empty(2**59, np.uint8), lambda: torch.empty(2**59, dtype=torch.uint8)):
        with pytest.raises((MemoryError, RuntimeError)) as caught:
            full()
        assert memory.is_out_of_memory(caught.value)
    assert not memory.is_out_of_memory(RuntimeError("shapes do not match"))
    assert not memory.is_out_of_memory(ValueError("out of memory"))


def test_what_modules_take_is_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_module.py").write_text(f"import numpy\nHELD = numpy.ones({SIZE}, 'u1')\n")
    (tmp_path / "its_package.py").write_text("import heavy_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    meter = memory.Meter("cpu")
    original = builtins.__import__

    def work() -> None:
        import its_package  # type: ignore[import-not-found] # noqa: F401

    part = meter.measure("weights", work)
    assert meter.imported == pytest.approx(SIZE, rel=0.1)
    assert part.peak < SIZE / 10
    assert builtins.__import__ is original
    for name in ("heavy_module", "its_package"):
        del sys.modules[name]
    again = meter.measure("again", lambda: importlib.import_module("its_package"))
    assert meter.imported == pytest.approx(2 * SIZE, rel=0.1)
    assert again.kept < SIZE / 10
