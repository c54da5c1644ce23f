"""What a checkpoint holds, and how far a run is: tensors and plain values, so that no file runs code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from open3dsg.errors import BadFileError
from open3dsg.training.batch import Cursor
from open3dsg.training.schedule import Plateau

if TYPE_CHECKING:
    from open3dsg.training.options import TargetShape

FORMAT = "open3dsg checkpoint 1"


@dataclass
class Sums:
    """Losses of units, summed; `means` are what is told of them."""

    units: int = 0
    total: float = 0.0
    nodes: float = 0.0
    relations: float = 0.0
    transforms: float = 0.0

    def add(self, other: Sums) -> None:
        """Add those of more units."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    def means(self) -> dict[str, float]:
        """Return the means over the units by the names of metrics; nothing where there are no units."""
        names = {"loss": "total", "node_loss": "nodes", "relation_loss": "relations"}
        return {name: getattr(self, field_) / self.units for name, field_ in names.items() if self.units}


@dataclass
class Progress:
    """How far a run is. What it draws at random follows from these numbers and its seed, not from a state."""

    step: int = 0  # optimizer steps
    epoch: int = 0  # whole epochs, each with its validation
    position: int = 0  # units of the present epoch that were trained on, over all processes
    sums: Sums = field(default_factory=Sums)  # over the present epoch so far
    train_loss: float | None = None  # of the last whole epoch
    val_loss: float | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    epochs_since_best: int = 0
    plateau: Plateau = field(default_factory=Plateau)

    @property
    def cursor(self) -> Cursor:
        """Return where the stream goes on."""
        return Cursor(self.epoch, self.position)

    def close_epoch(self, val_loss: float) -> None:
        """Note that an epoch and its validation are done."""
        self.train_loss, self.val_loss = self.sums.means().get("loss"), val_loss
        self.epoch, self.position, self.sums = self.epoch + 1, 0, Sums()
        self.plateau.note(val_loss)
        self.epochs_since_best += 1
        if self.best_val_loss is None or val_loss < self.best_val_loss:
            self.best_val_loss, self.best_step, self.epochs_since_best = val_loss, self.step, 0


def progress_from(kept: Mapping[str, Any]) -> Progress:
    """Return what `dataclasses.asdict` made of a `Progress`."""
    return Progress(**{**kept, "sums": Sums(**kept["sums"]), "plateau": Plateau(**kept["plateau"])})


def shape_as_json(shape: TargetShape) -> dict[str, Any]:
    """Return the shape of a network's targets as plain values."""
    return {**asdict(shape), "classes": list(shape.classes)}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint file on to the CPU; BadFileError where it is damaged or of another program.

    Its keys: format, network and optimizer and scaler (states), progress, options (of the network), shape.
    """
    held = read_file(path)
    if held.get("format") != FORMAT:
        raise BadFileError(f"{path}: not a checkpoint of this open3dsg")
    return held


def read_file(path: Path) -> dict[str, Any]:
    """Read what torch saved, tensors and plain values only; BadFileError for anything else."""
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BadFileError(f"{path}: no such checkpoint") from None
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        gist = (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise BadFileError(f"{path}: cannot be read as a checkpoint: {gist}") from error
    if not isinstance(held, dict):
        raise BadFileError(f"{path}: not a checkpoint")
    return held
