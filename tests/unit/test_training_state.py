"""What is kept of a run beside its weights, and where it is told to work."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from open3dsg.errors import BadFileError, UserError
from open3dsg.training.batch import Cursor
from open3dsg.training.module import check_norm
from open3dsg.training.processes import Place, chosen_devices, torchrun_place
from open3dsg.training.request import Conduct, conduct_from
from open3dsg.training.state import FORMAT, Progress, Sums, progress_from, read_checkpoint
from open3dsg.training.switch import StopSwitch


def test_progress_survives_its_file(tmp_path: Path) -> None:
    progress = Progress(step=3, position=7)
    progress.sums.add(Sums(2, 3.0, 1.0, 2.0, 0.5))
    progress.close_epoch(0.25)
    progress.position = 4
    torch.save({"format": FORMAT, "progress": asdict(progress)}, tmp_path / "file")
    kept = progress_from(read_checkpoint(tmp_path / "file")["progress"])
    assert kept == progress
    assert kept.cursor == Cursor(1, 4)
    assert (kept.train_loss, kept.best_val_loss, kept.best_step) == (1.5, 0.25, 3)


def test_epochs_without_a_better_loss_are_counted() -> None:
    progress = Progress()
    counts = []
    for loss in (0.5, 0.6, 0.5, 0.4, 0.7):
        progress.close_epoch(loss)
        counts.append(progress.epochs_since_best)
    assert counts == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("held", [{"format": "another"}, {"weights": torch.zeros(1)}, [1, 2]])
def test_files_that_are_no_checkpoints_are_refused(held: object, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "file")
    with pytest.raises(BadFileError, match=r"file: not a checkpoint"):
        read_checkpoint(tmp_path / "file")


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    torch.save({"format": FORMAT, "weights": torch.zeros(999)}, tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFileError, match="file: cannot be read as a checkpoint"):
        read_checkpoint(tmp_path / "file")
    with pytest.raises(BadFileError, match="none: no such checkpoint"):
        read_checkpoint(tmp_path / "none")


def test_a_conduct_survives_json() -> None:
    conduct = Conduct(devices=("cpu", "cpu"), logger="tensorboard", logs_in=Path("/logs"), every_steps=3)
    assert conduct_from(json.loads(json.dumps(conduct.as_json()))) == conduct
    assert conduct_from(json.loads(json.dumps(Conduct().as_json()))) == Conduct()


def test_devices_are_those_that_are_there() -> None:
    gpus = torch.cuda.device_count()
    assert chosen_devices(Conduct(gpus=0)) == ("cpu",)
    assert chosen_devices(Conduct(devices=("cpu", "cpu"))) == ("cpu", "cpu")
    assert len(chosen_devices(Conduct())) == max(gpus, 1)
    with pytest.raises(UserError, match=f"--gpus {gpus + 1}: this machine has {gpus}"):
        chosen_devices(Conduct(gpus=gpus + 1))
    for wrong in (("cpu", "cuda:0"), (f"cuda:{gpus}",), ("gpu",)):
        with pytest.raises(UserError, match=f"--devices {','.join(wrong)}: give cpu"):
            chosen_devices(Conduct(devices=wrong))
    with pytest.raises(UserError, match="--gpus and --devices"):
        chosen_devices(Conduct(gpus=0, devices=("cpu",)))


def test_torchrun_gives_places(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torchrun_place(Conduct()) is None
    given = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert torchrun_place(Conduct(gpus=0)) == Place("cpu", 5, 8, 1, 4)
    with pytest.raises(UserError, match="under torchrun"):
        torchrun_place(Conduct(devices=("cpu",)))


def test_batch_statistics_are_not_shared_by_cpus() -> None:
    check_norm("batch", 1, on_gpus=False)
    check_norm("batch", 2, on_gpus=True)
    check_norm("group", 2, on_gpus=False)
    with pytest.raises(UserError, match="--norm batch shares its statistics over GPUs only"):
        check_norm("batch", 2, on_gpus=False)


def test_ctrl_c_is_a_wish_first_and_an_order_then() -> None:
    told: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with StopSwitch(told.append) as switch:
        found = [switch.is_on]
        for _twice in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            found.append(switch.is_on)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert found == [False, True, True]
    assert len(told) == 1
    assert signal.getsignal(signal.SIGINT) is before
