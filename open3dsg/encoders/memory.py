"""How much memory an encoder takes, part by part, measured in a process of its own.

On the processor it is resident memory; on a GPU, what the allocators of torch and TensorFlow count there.
What stays (weights) and what is held only meanwhile (activations) are told apart by looking before, at the
highest point, and after what is no longer needed was given back.
"""

from __future__ import annotations

import builtins
import ctypes
import gc
import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import psutil

from open3dsg.encoders.contract import PairGeometry
from open3dsg.encoders.registry import load_encoder
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from open3dsg.encoders.contract import LoadedEncoder, Precision

_T = TypeVar("_T")

CROP = (240, 320, 3)
PHOTO = (540, 960, 3)  # 3RScan's, upright or not
PIXELS = 1000  # of an instance in a photo
WORDS = 256  # embedded together when class lists are
_OFTEN_S = 0.002
_FULL = ("OutOfMemoryError", "ResourceExhaustedError")  # of torch, of TensorFlow
_FULL_TEXTS = ("out of memory", "can't allocate")


@dataclass(frozen=True)
class Part:
    """What one part takes, in bytes beyond what was held before it; None for the GPU where there is none."""

    name: str
    kept: int
    peak: int
    gpu_kept: int | None
    gpu_peak: int | None


@dataclass(frozen=True)
class MemoryProfile:
    """What an encoder takes on one device, in bytes."""

    encoder: str
    device: str
    precision: str
    batch: int
    parts: Sequence[Part]
    resident_peak: int  # of the process, the interpreter included
    imports_share: float  # of resident_peak: what the frameworks take by being imported
    an_item: int | None  # what each further item adds to the peak, on the device; a batch of one cannot tell
    gpu_reserved: int | None  # torch's allocator keeps more than is in use


def chosen_devices(gpus: int | None, gpu_ids: Sequence[int]) -> list[str]:
    """Return the devices to measure on: the first `gpus`, those of `gpu_ids`, else the first GPU or the CPU.

    Raises UserError for GPUs that torch does not have here.
    """
    if gpus is not None and gpu_ids:
        raise UserError("--gpus takes the first ones, --gpu-ids names them: say one of the two")
    here = 0 if gpus == 0 else _gpus_here()
    asked = f"--gpus {gpus}" if gpus else f"--gpu-ids {','.join(map(str, gpu_ids))}"
    numbers = list(gpu_ids) or list(range(min(1, here) if gpus is None else gpus))
    if numbers and max(numbers) >= here:
        names = ", ".join(map(str, range(here))) or "none"
        raise UserError(
            f"{asked}: torch has no such GPU here; there are {names}. --gpus 0 measures on the CPU"
        )
    return [f"cuda:{number}" for number in numbers] or ["cpu"]


def measure_memory(name: str, device: str, precision: Precision, batch: int) -> MemoryProfile:
    """Make the encoder `name`, have it encode `batch` items as a dump does, and say what each part took.

    It runs in a fresh process, whose memory nothing else has touched. Raises UserError where the encoder
    cannot be made, or the memory does not suffice.
    """
    return in_fresh_process(partial(_measure, name, device, precision, batch), name, device, batch)


def in_fresh_process(measure: Callable[[], _T], what: str, device: str, batch: int) -> _T:
    """Return what `measure`, which travels by pickle, measures of `what` in a process of its own.

    Raises UserError where the memory does not suffice.
    """
    hint = f"take less than --batch {batch}" if batch > 1 else "it does not hold even one"
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            return pool.submit(measure).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"the process that measured {what} was ended, as happens when the machine is out of memory:"
                f" {hint}"
            ) from error
        except Exception as error:
            if is_out_of_memory(error):
                raise UserError(f"{what} is out of memory on {device}: {hint}") from error
            raise


def is_out_of_memory(error: Exception) -> bool:
    """Return whether torch, TensorFlow or numpy, none of them imported here, say that memory is full."""
    if isinstance(error, MemoryError) or type(error).__name__ in _FULL:
        return True
    told = str(error).lower()
    return isinstance(error, RuntimeError) and any(text in told for text in _FULL_TEXTS)


def empty_gpu_cache() -> None:
    """Give back what torch's allocator keeps of GPUs without using it, where torch was at work on one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _gpus_here() -> int:
    try:
        import torch
    except ModuleNotFoundError:
        return 0
    return torch.cuda.device_count()


def _measure(name: str, device: str, precision: Precision, batch: int) -> MemoryProfile:
    """Measure in this process; nothing of the encoder has been imported in it."""
    meter = Meter(device)
    encoder = load_encoder(name, device, precision)
    meter.measure("weights", _work(encoder, 1))
    if encoder.views in ("crops", "pixels"):
        meter.measure("text side", partial(encoder.encode_text, [f"a word {n}" for n in range(WORDS)]))
    one = meter.measure("one item", _work(encoder, 1))
    whole = meter.measure("batch", _work(encoder, batch))
    on_gpu = meter.gpu is not None
    first, last = ((part.gpu_peak if on_gpu else part.peak) or 0 for part in (one, whole))
    return MemoryProfile(
        encoder=name,
        device=device,
        precision=precision,
        batch=batch,
        parts=meter.all_parts(),
        resident_peak=meter.resident_peak,
        imports_share=meter.imported / meter.resident_peak,
        an_item=max(0, last - first) // (batch - 1) if batch > 1 else None,
        gpu_reserved=gpu_reserved(device) if on_gpu else None,
    )


def _work(encoder: LoadedEncoder, count: int) -> Callable[[], object]:
    """Return the call that encodes `count` items, on pictures of noise; what it is given is made here."""
    random = np.random.default_rng(0)
    if encoder.views == "pixels":
        photo = random.integers(0, 256, PHOTO, dtype=np.uint8)
        sets = [random.integers(0, PHOTO[:2], (PIXELS, 2)) for _ in range(count)]
        return partial(encoder.encode_pixels, photo, sets)
    if encoder.views == "text":
        return partial(encoder.encode_text, [f"a word {number}" for number in range(count)])
    if encoder.views == "boxes":
        low, high = np.zeros((count, 3)), np.ones((count, 3))
        nowhere = np.full((count, 4, 4), np.nan)
        return partial(encoder.relate, PairGeometry(low, high, low + 2, high + 2, low[:, 0] + 1, nowhere))
    crops = list(random.integers(0, 256, (count, *CROP), dtype=np.uint8))
    return partial(encoder.encode_crops if encoder.views == "crops" else encoder.encode_tokens, crops)


class Meter:
    """Measures calls one after the other, in this process and on its GPU."""

    def __init__(self, device: str) -> None:
        """Begin: what is held now is the interpreter's."""
        self.gpu = device if device.startswith("cuda") else None
        _give_back()  # what others freed, lest it come off the first part
        self.at_start = self.resident_peak = _resident()
        self.imported = 0
        self.parts: list[Part] = []

    def measure(self, name: str, work: Callable[[], object]) -> Part:
        """Call `work` and say what it took; what it imported is counted apart."""
        _give_back()
        before = _resident()
        gpu_before = _gpu_count_anew(self.gpu)
        with _imports_weighed() as imported, _peak_resident() as peak:
            work()
            highest, (_, gpu_highest) = peak(), _gpu_count(self.gpu)
        _give_back()
        of_imports = imported()
        kept = max(0, _resident() - before - of_imports)
        part = Part(
            name,
            kept,
            max(kept, highest - before - of_imports),
            None if self.gpu is None else _gpu_count(self.gpu)[0] - gpu_before,
            None if self.gpu is None else gpu_highest - gpu_before,
        )
        self.imported += of_imports
        self.resident_peak = max(self.resident_peak, highest)
        self.parts.append(part)
        return part

    def all_parts(self) -> list[Part]:
        """Return the interpreter, what was imported, and what was measured."""
        gpu = None if self.gpu is None else 0
        before = {"interpreter": self.at_start, "imports": self.imported}
        return [*(Part(name, held, held, gpu, gpu) for name, held in before.items()), *self.parts]


def _gpu_count(device: str | None) -> tuple[int, int]:
    """Return the bytes of a GPU in use now, and at most since `_gpu_count_anew`; 0 where none is.

    An encoder may use torch and TensorFlow both: the most of each is added up.
    """
    now = most = 0
    if device and (torch := _torch_on_gpu()):
        now += torch.cuda.memory_allocated(device)
        most += torch.cuda.max_memory_allocated(device)
    if device and (tensorflow := _tensorflow_on_gpu()):
        count = tensorflow.config.experimental.get_memory_info(device.replace("cuda", "GPU"))
        now += count["current"]
        most += count["peak"]
    return now, most


def _gpu_count_anew(device: str | None) -> int:
    """Let what is in use now be the most for the time being, and return it."""
    if device and (torch := _torch_on_gpu()):
        torch.cuda.reset_peak_memory_stats(device)
    if device and (tensorflow := _tensorflow_on_gpu()):
        tensorflow.config.experimental.reset_memory_stats(device.replace("cuda", "GPU"))
    return _gpu_count(device)[0]


def gpu_reserved(device: str) -> int:
    """Return the most that torch's allocator held of the GPU, in use or not; TensorFlow's does not tell."""
    torch = _torch_on_gpu()
    return torch.cuda.max_memory_reserved(device) if torch else 0


def _torch_on_gpu() -> Any:
    """Return torch where it was imported and has used a GPU, else None."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


def _tensorflow_on_gpu() -> Any:
    """Return TensorFlow where it was imported and may use a GPU, else None."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow if tensorflow is not None and tensorflow.config.list_logical_devices("GPU") else None


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _give_back() -> None:
    """Return to the system what is no longer used, so that what stays can be seen."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
        if trim is not None:
            trim(0)


@contextmanager
def _peak_resident() -> Iterator[Callable[[], int]]:
    """Give a function that returns the most bytes that were resident since the block began."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: count the peak anew
    except OSError:
        with _watched() as peak:
            yield peak
    else:
        yield _high_water_mark


def _high_water_mark() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024


@contextmanager
def _watched() -> Iterator[Callable[[], int]]:
    """Look at it every few milliseconds, for systems that keep no such count; short peaks are missed."""
    highest, ended = _resident(), threading.Event()

    def look() -> int:
        nonlocal highest
        highest = max(highest, _resident())
        return highest

    def watch() -> None:
        while not ended.wait(_OFTEN_S):
            look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield look
    finally:
        ended.set()
        watcher.join()


@contextmanager
def _imports_weighed() -> Iterator[Callable[[], int]]:
    """Give a function that returns by how many bytes the process grew while it imported modules.

    Encoders import what they need in the midst of loading, and so do their packages.
    """
    grown = depth = 0
    ways: Sequence[tuple[Any, str]] = ((builtins, "__import__"), (importlib, "import_module"))
    originals = [getattr(module, name) for module, name in ways]

    def weighed(original: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        nonlocal grown, depth
        before = _resident() if depth == 0 else 0
        depth += 1
        try:
            return original(*arguments, **named)
        finally:
            depth -= 1
            if depth == 0:
                grown += _resident() - before

    for (module, name), original in zip(ways, originals, strict=True):
        setattr(module, name, partial(weighed, original))
    try:
        yield lambda: grown
    finally:
        for (module, name), original in zip(ways, originals, strict=True):
            setattr(module, name, original)
