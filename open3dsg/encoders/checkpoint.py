"""Weights from files of strangers: nothing in them is ever run, and what is wrong is told in one line."""

from __future__ import annotations

import importlib
import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open3dsg.encoders.support import load_package
from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_state(
    path: Path, encoder: str, install: str, *, mapped: bool = False, scores: bool = False
) -> dict[str, Tensor]:
    """Read the tensors of a file on to the CPU: ``.safetensors``, else as torch saves them (.pt, .pth, .bin).

    A state dict that is the value of ``state_dict``, ``model_state_dict`` or ``model`` in the file is taken
    from there; with `scores` numbers of numpy may lie beside it, as training scripts leave them. `install` is
    what to type where torch or safetensors is missing. With `mapped` what torch saved takes memory only as it
    is used. Raises BadFileError where the file is missing, damaged, wants to run code or is no state dict.
    """
    if not path.is_file():
        raise BadFileError(f"{path}: no such file: the {encoder} encoder looks for its weights there")
    if path.suffix == ".safetensors":
        return _load_safetensors(path, encoder, install)
    torch = load_package("torch", encoder, install)
    try:
        # The warnings are torch's, on its own old formats.
        with warnings.catch_warnings(action="ignore"), _scores_allowed(scores):
            mmap = mapped and zipfile.is_zipfile(path)  # torch's format until 1.6 cannot be mapped
            held = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        raise BadFileError(f"{path}: {_reason(error, encoder)}") from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if (
        not isinstance(held, Mapping)
        or not held
        or not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in held.items())
    ):
        raise BadFileError(f"{path}: not the weights of the {encoder} encoder: no state dict of tensors")
    return dict(held)


def fill(
    model: nn.Module, state: Mapping[str, Tensor], path: Path, encoder: str, *, assign: bool = False
) -> None:
    """Load `state`, read from `path`, into `model`; BadFileError unless each tensor fits a place.

    With `assign` the model takes the tensors themselves, as one made on the device "meta" must.
    """
    try:
        model.load_state_dict(state, assign=assign)
    except RuntimeError as error:
        raise BadFileError(f"{path}: not the weights of the {encoder} encoder: {_gist(error)}") from error


def load_pretrained(
    kind: str,
    folder: Path,
    encoder: str,
    install: str,
    model_types: tuple[str, ...] = (),
    unused: tuple[str, ...] = (),
    **options: Any,
) -> Any:
    """Load a Hugging Face folder through transformers' class `kind`, every weight of it from the folder.

    `model_types` are the values of ``model_type`` in its config.json that will do; none: any. Weights whose
    names start with one of `unused` may be missing: none asks for them. `options` go to ``from_pretrained``.
    Nothing is asked of a network; files other than safetensors pass torch's ``weights_only``. The model comes
    back on the CPU, in eval mode. Raises BadFileError where the folder is no such model, or its weights are
    damaged, missing in part or of other shapes.
    """
    check_model_type(folder, encoder, model_types)
    model_class = transformers_class(kind, encoder, install)
    with reading(folder, encoder), quiet_transformers():
        model, told = model_class.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, **options
        )
    for what in ("missing_keys", "mismatched_keys"):  # transformers would fill these at random
        names = sorted(str(name) for name in told[what] if not str(name).startswith(unused))
        if names:
            raise BadFileError(
                f"{folder}: not the weights of the {encoder} encoder: {len(names)} tensors are"
                f" {what.removesuffix('_keys')}, such as {names[0]}"
            )
    return model.eval()


def transformers_class(kind: str, encoder: str, install: str) -> Any:
    """Return a class of transformers by its name; UserError where it cannot be imported."""
    transformers = load_package("transformers", encoder, install)
    try:
        return getattr(transformers, kind)
    except Exception as error:  # it imports what else is installed, torchvision above all, however broken
        raise UserError(
            f"the {encoder} encoder: {kind} of transformers {transformers.__version__} cannot be imported:"
            f" {_gist(error)}; where torchvision is at fault, `pip uninstall torchvision`: it is not needed"
        ) from error


def weight_files(folder: Path) -> list[Path]:
    """List the files that transformers reads the weights of a folder from, its safetensors if there are any.

    Raises BadFileError where there are none, or where an index is damaged or names what is not there.
    """
    for single in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{single}.index.json"
        if (folder / single).is_file():
            return [folder / single]
        if not index.is_file():
            continue
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFileError(f"{index}: not an index of weights") from error
        for name in names:
            if not (folder / name).is_file():
                raise BadFileError(f"{folder / name}: missing, though {index.name} names it")
        return [folder / name for name in names]
    raise BadFileError(f"{folder}: no weights in it: neither model.safetensors nor pytorch_model.bin")


def check_model_type(folder: Path, encoder: str, model_types: tuple[str, ...]) -> str:
    """Return ``model_type`` of a folder's config.json; BadFileError where that is none of `model_types`."""
    config = folder / "config.json"
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
        kind = found["model_type"]
    except OSError as error:
        raise BadFileError(
            f"{config}: cannot be read ({error.strerror}): the {encoder} encoder wants a Hugging Face folder"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadFileError(f"{config}: not the configuration of a Hugging Face model") from error
    if model_types and kind not in model_types:
        raise BadFileError(
            f"{config}: the model is of type {kind!r}; the {encoder} encoder wants {' or '.join(model_types)}"
        )
    return str(kind)


@contextmanager
def reading(path: Path, encoder: str) -> Iterator[None]:
    """Turn whatever a library says of files at `path` into a BadFileError of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # transformers and tokenizers raise a dozen kinds for files that are broken
        raise BadFileError(f"{path}: {_reason(error, encoder)}") from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from drawing bars and warning while it loads; its settings are put back after."""
    logging = importlib.import_module("transformers.utils.logging")

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _scores_allowed(wanted: bool) -> Iterator[None]:
    """Let torch read numbers of numpy, which run no code, under the names of numpy 1 and 2; torch >= 2.6."""
    if not wanted:
        yield
        return
    import numpy as np
    from torch.serialization import safe_globals

    scalar = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64, np.bool_)}
    named: list[Any] = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with safe_globals([*named, np.dtype, *kinds]):
        yield


def _load_safetensors(path: Path, encoder: str, install: str) -> dict[str, Tensor]:
    error_kind = load_package("safetensors", encoder, install).SafetensorError
    load_file = load_package("safetensors.torch", encoder, install).load_file
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (error_kind, OSError) as error:
        raise BadFileError(f"{path}: {_reason(error, encoder)}") from error
    return tensors


def _reason(error: Exception, encoder: str) -> str:
    """Say in one line why a file of weights was not read."""
    told, refused = str(error), f"not the weights of the {encoder} encoder, or damaged"
    if "weights_only" not in told.lower():
        return f"{refused}: {_gist(error)}"
    wanted = re.search(r"(?:GLOBAL|[Cc]lass|function) ([\w.]+\.\w+)", told)
    if wanted:
        return f"not opened: its pickle wants to run {wanted[1]}, and weights have no need to"
    detail = re.search(r"Unsupported op\w+ \d+", told)
    return refused + (f": {detail[0]}" if detail else "")


def _gist(error: Exception) -> str:
    """Return the first sentence that says more than that there is an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("Error(s) in loading")]
    return (telling or lines or [type(error).__name__])[0].split(". ")[0][:300]
