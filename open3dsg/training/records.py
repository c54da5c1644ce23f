"""What a run leaves behind while it goes on: figures, checkpoints, its own row, and a logger's files."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import TYPE_CHECKING, Any

import psycopg
import torch

from open3dsg.db.queries import execute
from open3dsg.errors import UserError
from open3dsg.store.checkpoint_files import run_folder, unfinished
from open3dsg.store.checkpoints import save_checkpoint
from open3dsg.store.runs import add_metrics, set_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from psycopg import Connection

    from open3dsg.store.runs import StoredRun
    from open3dsg.training.link import Link
    from open3dsg.training.request import Conduct
    from open3dsg.training.state import Progress

_FLUSH_EVERY_S = 2.0
_INSTALL = {"tensorboard": "pip install tensorboard", "mlflow": "pip install mlflow-skinny"}


class Records:
    """Writes for one run, from its first process alone. Figures go out every few seconds."""

    def __init__(self, link: Link, run: StoredRun, conduct: Conduct, keep: int, start: Progress) -> None:
        """Begin where `start` is: figures of later steps, which a killed process left, go away."""
        self._link, self._run_id, self._keep = link, run.run_id, keep
        self._folder = conduct.checkpoints_in
        self._home = self._folder and run_folder(self._folder, run.name, run.started_at)
        self._logger = _make_logger(conduct, run.name)
        self._waiting: list[tuple[str, int, int, float]] = []
        self._flushed = time.monotonic()
        self.saved = start.step, start.epoch  # of the last checkpoint
        after = {"run_id": run.run_id, "step": start.step}
        link.do(lambda connection: execute(connection, "run_metrics_drop_after", after))
        self.note("running")

    def add(self, values: Mapping[str, float], progress: Progress) -> None:
        """Keep figures of the present step."""
        self._waiting.extend((name, progress.step, progress.epoch, value) for name, value in values.items())
        if self._logger is not None:
            self._logger.log_metrics(dict(values), step=progress.step)
        if time.monotonic() - self._flushed >= _FLUSH_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Write the figures that wait."""
        self._flushed = time.monotonic()
        rows, self._waiting = self._waiting, []
        if rows:
            self._link.do(lambda connection: add_metrics(connection, self._run_id, rows))

    def save(self, state: Mapping[str, Any], progress: Progress, val_loss: float | None) -> None:
        """Keep a checkpoint as the last, and where it has a validation loss perhaps among the best."""
        self.flush()
        with self._new_file() as file:
            try:
                torch.save({**state, "progress": asdict(progress)}, file)
            except (OSError, RuntimeError) as error:  # torch tells so of a full disk
                raise UserError(f"{file.parent}: a checkpoint cannot be written there: {error}") from error
            self._link.do(lambda connection: self._save(connection, file, progress, val_loss))
        self.saved = progress.step, progress.epoch
        self.note("running")

    def note(self, status: str, message: str | None = None) -> None:
        """Write how the run stands: what is done is what its last checkpoint has."""
        self.flush()
        step, epoch = self.saved
        self._link.do(
            lambda connection: set_run(
                connection, self._run_id, status=status, message=message, step=step, epoch=epoch
            )
        )

    def __enter__(self) -> Records:
        """Return itself."""
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """End the logger's files, and where there was an error let the run's row say so."""
        if self._logger is not None:
            self._logger.finalize("success" if error is None else "failed")
        if error is not None:
            with suppress(UserError, psycopg.Error):  # what `error` says counts, also of the database
                self.note("failed", (str(error).strip() or type(error).__name__).splitlines()[0])

    @contextmanager
    def _new_file(self) -> Iterator[Path]:
        """Give a file to write a checkpoint to."""
        if self._home is not None:
            with unfinished(self._home) as file:
                yield file
            return
        with TemporaryDirectory(prefix="open3dsg-") as folder:
            yield Path(folder) / "checkpoint"

    def _save(
        self, connection: Connection[Any], file: Path, progress: Progress, val_loss: float | None
    ) -> None:
        save_checkpoint(
            connection,
            self._run_id,
            file,
            step=progress.step,
            epoch=progress.epoch,
            position=progress.position,
            val_loss=val_loss,
            keep=self._keep,
            folder=self._folder,
        )


def check_conduct(conduct: Conduct) -> None:
    """Raise UserError where the package of the logger is missing, or checkpoints cannot go where they are to.

    Their folder is made.
    """
    if (folder := conduct.checkpoints_in) is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=folder).close()  # without a name, where the system can do that
        except OSError as error:
            raise UserError(f"--checkpoints-in {folder}: cannot be written: {error.strerror}") from error
    if conduct.logger is not None and find_spec(conduct.logger) is None:
        raise UserError(f"--logger {conduct.logger} needs a package: {_INSTALL[conduct.logger]}")


def _make_logger(conduct: Conduct, name: str) -> Any:
    folder = str(conduct.logs_in or Path.cwd())
    if conduct.logger == "tensorboard":
        from lightning.fabric.loggers.tensorboard import TensorBoardLogger

        return TensorBoardLogger(folder, name=name, version="")
    if conduct.logger == "mlflow":
        from lightning.pytorch.loggers.mlflow import MLFlowLogger

        return MLFlowLogger("open3dsg", run_name=name, save_dir=folder)
    return None
