"""What is asked of a training run: what it is to learn from, and where and how it works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from open3dsg.training.options import RunOptions, Targets

LoggerName: TypeAlias = Literal["tensorboard", "mlflow"]
LOGGERS: tuple[LoggerName, ...] = get_args(LoggerName)


@dataclass(frozen=True)
class Conduct:
    """Where and how a run works, which may be chosen anew when it goes on: nothing of it is learnt."""

    gpus: int | None = None  # -1: all, 0: the CPU; None: all there are, as `devices` says otherwise
    devices: tuple[str, ...] = ()  # as torch names them, one a process; cpu may stand there several times
    logger: LoggerName | None = None
    logs_in: Path | None = None  # folder of a logger's files; None: below the data folder
    checkpoints_in: Path | None = None  # None: their bytes go into the database
    every_steps: int | None = None  # checkpoints between validations; None: none

    def as_json(self) -> dict[str, Any]:
        """Return what `run.options` keeps of it, under ``conduct``."""
        kept = asdict(self)
        return {**kept, **{name: str(kept[name]) for name in ("logs_in", "checkpoints_in") if kept[name]}}


def conduct_from(kept: Mapping[str, Any]) -> Conduct:
    """Return what `Conduct.as_json` wrote, through JSON or not."""
    paths = {name: Path(kept[name]) for name in ("logs_in", "checkpoints_in") if kept[name]}
    return Conduct(**{**kept, **paths, "devices": tuple(kept["devices"])})


@dataclass(frozen=True)
class TrainRequest:
    """A run to be: encoders are `name` or `name@revision`, None: the only one that has features."""

    dataset: str
    encoder: str | None = None
    pair_encoder: str | None = None
    targets: Targets | None = None  # None: as the pair encoder allows, see `find_targets`
    train_split: str | None = "train"  # None: all scans
    validation_split: str | None = "validation"
    mini: bool = False  # ten units, trained and validated on alike
    options: RunOptions = field(default_factory=RunOptions)
    conduct: Conduct = field(default_factory=Conduct)
    name: str | None = None  # None: two words and a number
    checkpoint: str | None = None  # weights to start from: RUN, RUN:best, RUN:last, RUN:STEP, or a file
    point_weights: Path | None = None  # of published point encoders


@dataclass(frozen=True)
class TrainSummary:
    """How a run ended, or where it stands."""

    run: str
    status: str  # finished or stopped
    message: str | None  # why it ended before its last epoch
    step: int  # optimizer steps
    epoch: int  # whole epochs
    train_loss: float | None  # mean over the last whole epoch
    val_loss: float | None  # after it
    best_val_loss: float | None
    best_step: int | None
    units: Mapping[str, int]  # of each part
    left_out: int  # units of scans without features
    seconds: float  # since it was started or resumed
    waited_s: float  # of them, for batches

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**asdict(self), "units": dict(self.units)}
