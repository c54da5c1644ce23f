"""The tensors of a TorchScript archive, without the program that lies beside them.

``torch.jit.load`` runs what the archive's classes do when they are loaded, which may be to write files. Here
its ``data.pkl`` is read by an unpickler that makes tensors and inert objects, and nothing else.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from open3dsg.encoders.checkpoint import reading
from open3dsg.encoders.support import load_package
from open3dsg.errors import BadFileError

if TYPE_CHECKING:
    from torch import Tensor

# Kinds of numbers by the names that archives have for their storages.
STORAGES = {
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
}


def is_archive(file: Path) -> bool:
    """Tell a TorchScript archive from what `torch.save` writes; both are zip files."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def read_archive(file: Path, encoder: str, install: str) -> dict[str, Tensor]:
    """Read all tensors of a TorchScript archive on to the CPU, under the names they have in its modules.

    Those that are no weights, such as masks, are among them. Raises BadFileError, naming `encoder`, for what
    is damaged or wants more than tensors; UserError with `install` where torch is missing.
    """
    load_package("torch", encoder, install)
    with reading(file, encoder), zipfile.ZipFile(file) as archive:
        (entry,) = (
            name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")
        )
        with archive.open(entry) as program:
            root = _Unpickler(program, archive, entry.removesuffix("data.pkl"), file).load()
        return dict(_tensors(root, ""))


class _Module:
    """Stands for a module of any class: what it holds, by name."""

    held: Mapping[str, object] = MappingProxyType({})

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a module of it is put together by a program of its own")
        self.held = state


class _Unpickler(pickle.Unpickler):
    def __init__(self, program: Any, archive: zipfile.ZipFile, root: str, file: Path) -> None:
        super().__init__(program)
        self._archive, self._root, self._file = archive, root, file
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return type("Module", (_Module,), {})  # its own each time: a file can change none that others use
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda flat, offset, size, stride, *_: flat.as_strided(size, stride, offset)
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":  # lists and dictionaries, with the types of what they hold
            return lambda value, *_: value
        raise BadFileError(
            f"{self._file}: not opened: its pickle wants to run {module}.{name}, and weights have no need to"
        )

    def persistent_load(self, pid: Any) -> Tensor:
        """Return a storage as a flat tensor; `pid` is ("storage", kind, key, device, length)."""
        import torch

        _, kind, key, _, _ = pid
        if key not in self._storages:
            content = bytearray(self._archive.read(f"{self._root}data/{key}"))
            dtype = getattr(torch, kind)
            self._storages[key] = (
                torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            )
        return self._storages[key]


def _tensors(module: object, prefix: str) -> Iterator[tuple[str, Tensor]]:
    import torch

    if not isinstance(module, _Module):
        raise pickle.UnpicklingError("no module in it")
    for name, value in module.held.items():
        if isinstance(value, torch.Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
