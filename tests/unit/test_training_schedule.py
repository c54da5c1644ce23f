"""Rates of epochs against torch's own schedulers, and the published cosine written out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from open3dsg.training.options import LearningOptions
from open3dsg.training.schedule import Plateau, learning_rate

LR = 1e-3


def rates(options: LearningOptions, losses: Sequence[float]) -> list[float]:
    """Return the rate of each epoch, of which `losses` are the validation losses."""
    plateau, told = Plateau(), []
    for epoch, loss in enumerate(losses):
        told.append(learning_rate(options, epoch, plateau))
        plateau.note(loss)
    return told


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=LR)


@pytest.mark.parametrize("epochs", [9, 30, 50])
def test_cyclic_is_triangular2(epochs: int) -> None:
    options = LearningOptions(epochs=epochs, lr=LR, lr_scheduler="cyclic")
    stepped = optimizer()
    theirs = torch.optim.lr_scheduler.CyclicLR(
        stepped,
        base_lr=LR / 2,
        max_lr=LR * 1.5,
        step_size_up=epochs / 6,  # type: ignore[arg-type]  # as published
        step_size_down=epochs / 6,  # type: ignore[arg-type]
        mode="triangular2",
        cycle_momentum=False,
    )
    expected = []
    with warnings.catch_warnings(action="ignore"):  # it is not the optimizer that is tried
        for _epoch in range(epochs):
            expected.append(stepped.param_groups[0]["lr"])
            theirs.step()
    assert rates(options, [1.0] * epochs) == pytest.approx(expected)


def test_reduce_is_that_of_torch() -> None:
    losses = [1.0, 0.5, *[0.50001] * 14, 0.2, *[0.3] * 6, 0.1999999, *[0.4] * 9]
    options = LearningOptions(epochs=len(losses), lr=LR, lr_scheduler="reduce")
    stepped = optimizer()
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(stepped, factor=0.5, patience=5)
    expected = []
    for loss in losses:
        expected.append(stepped.param_groups[0]["lr"])
        theirs.step(loss)
    assert min(expected) < LR / 4
    assert rates(options, losses) == pytest.approx(expected)


def test_cosine_rises_and_falls_in_three_cycles_each_lower() -> None:
    options = LearningOptions(epochs=36, lr=LR, lr_scheduler="cosine")
    told = rates(options, [1.0] * 36)
    for cycle, peak in enumerate((1.5 * LR, 1.5 * 0.7 * LR, 1.5 * 0.49 * LR)):
        of_cycle = told[12 * cycle : 12 * cycle + 12]
        warm_up = [LR / 2 + (peak - LR / 2) * step / 3 for step in range(3)]
        fall = [LR / 2 + (peak - LR / 2) * (1 + math.cos(math.pi * step / 9)) / 2 for step in range(9)]
        assert of_cycle == pytest.approx(warm_up + fall)


def test_a_scheduler_of_few_epochs_has_a_rate() -> None:
    for scheduler in ("reduce", "cyclic", "cosine"):
        options = replace(LearningOptions(lr=LR, epochs=1), lr_scheduler=scheduler)
        assert LR / 2 <= learning_rate(options, 0, Plateau()) <= 1.5 * LR
