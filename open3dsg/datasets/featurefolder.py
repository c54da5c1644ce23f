"""The feature files of Open3DSG (Koch et al., CVPR 2024): a folder a kind, a file a subgraph.

    FEATURES/
      export_obj_clip_emb_clip_MODEL_Topk_K_scales_S_vis_crit_V_vis_crit_mask_M/SCAN-H.pt
      export_obj_clip_valids/SCAN-H.pt
      export_rel_clip_emb_clip_MODEL_Topk_K_scales_S_vis_crit_V/SCAN-H.pt

The loader of Open3DSG takes the first, second and third of the sorted names for these three, and asserts that
there are no others. A file holds one tensor: object features (n objects, d), NaN where there is none; whether
there is one, (n objects,) bool; relation features (n pairs, d) or, as tokens, (n pairs, tokens, d). Rows are
in the order of `open3dsg.datasets.graphfolder`. Some copies have names that end after MODEL.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

OBJECTS = "export_obj_clip_emb_clip_"
VALIDS = "export_obj_clip_valids"
RELATIONS = "export_rel_clip_emb_clip_"

_LARGE_BYTES = 2**30
_NAME = re.compile(
    r"(?P<model>.+?)(?:_Topk_(?P<top_k_frames>\d+)_scales_(?P<scales>\d+)"
    r"_vis_crit_(?P<vis_crit>[0-9.]+)(?:_vis_crit_mask_(?P<vis_crit_mask>[0-9.]+))?)?"
)


@dataclass(frozen=True)
class Settings:
    """What the name of a folder says: the model, and how it was shown what; None: not told."""

    model: str
    top_k_frames: int | None = None
    scales: int | None = None
    vis_crit: float | None = None
    vis_crit_mask: float | None = None

    def folder(self, kind: str) -> str:
        """Return the name of the folder of `kind`, `OBJECTS` or `RELATIONS`."""
        name = f"{kind}{self.model.replace('/', '-')}"
        if self.top_k_frames is None or self.scales is None or self.vis_crit is None:
            return name
        name += f"_Topk_{self.top_k_frames}_scales_{self.scales}_vis_crit_{self.vis_crit}"
        return name if kind == RELATIONS else f"{name}_vis_crit_mask_{self.vis_crit_mask}"

    def as_json(self) -> dict[str, Any]:
        """Return what is told."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class FeatureFolder:
    """The folders of objects and of relations, each None where there is none."""

    path: Path
    objects: Path | None
    valids: Path | None
    relations: Path | None

    def settings(self, kind: str) -> Settings:
        """Return what the name of the folder of `kind`, `OBJECTS` or `RELATIONS`, says; it must be there."""
        folder = self.objects if kind == OBJECTS else self.relations
        if folder is None:
            raise ValueError(f"{self.path} has no folder {kind}")
        return _settings(folder.name.removeprefix(kind))


def find_features(path: Path) -> FeatureFolder:
    """Look for the folders in `path`; UserError where there are none, or two of one kind."""
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; it is the one that holds {OBJECTS}... of Open3DSG")
    objects, relations = (_only(path, kind) for kind in (OBJECTS, RELATIONS))
    valids = path / VALIDS
    if objects is None and relations is None:
        raise UserError(f"{path}: holds neither {OBJECTS}... nor {RELATIONS}..., the folders of Open3DSG")
    return FeatureFolder(path, objects, valids if valids.is_dir() else None, relations)


def names_in(folder: Path) -> Sequence[str]:
    """Return the subgraphs, `SCAN-H`, that a folder has files of, ascending."""
    return sorted(file.stem for file in folder.glob("*.pt"))


def read_tensor(path: Path) -> torch.Tensor:
    """Return the tensor in a file, detached; beyond 1 GiB its rows are read as they are used.

    Raises BadFileError for a file that cannot be read, is damaged, holds something else than a tensor, or
    asks to run code, which is not done.
    """
    import torch

    try:
        held = _load(path)
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror}): copy it or make it again") from error
    except pickle.UnpicklingError as error:
        raise BadFileError(f"{path}: {_asked(str(error))}") from error
    except Exception as error:  # damage shows as whatever the bytes led to
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadFileError(f"{path}: is no whole .pt file ({reason}): copy it or make it again") from error
    if not isinstance(held, torch.Tensor):
        raise BadFileError(f"{path}: holds a {type(held).__name__}, not a tensor")
    return held.detach()


def _load(path: Path) -> Any:
    import torch

    # Where the disk of a mapped file fails, the process is killed without a word: only for want of memory.
    large = path.stat().st_size > _LARGE_BYTES and zipfile.is_zipfile(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=large)


def _asked(told: str) -> str:
    """Say what a file asked for, of the many lines that torch has to say."""
    named = re.search(r"(?:GLOBAL|class|Unsupported \w+) ([\w.]+\.[\w.]+)", told)
    if named is None:
        return "is no whole .pt file: copy it or make it again"
    return f"would run {named[1]}, which is refused: only tensors are read"


def _only(path: Path, kind: str) -> Path | None:
    found = sorted(folder for folder in path.glob(f"{kind}*") if folder.is_dir())
    if len(found) > 1:
        several = " and ".join(folder.name for folder in found)
        raise UserError(f"{path}: holds {several}: put each set of features into a folder of its own")
    return found[0] if found else None


def _settings(text: str) -> Settings:
    named = _NAME.fullmatch(text)
    if named is None:
        return Settings(text)
    told: Mapping[str, str | None] = named.groupdict()
    numbers: dict[str, Any] = {
        name: int(value) if name in ("top_k_frames", "scales") else float(value)
        for name, value in told.items()
        if name != "model" and value is not None
    }
    return Settings(str(told["model"]), **numbers)
