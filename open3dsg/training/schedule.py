"""The learning rate of an epoch: the three ways of the published code, each a plain function.

The published code asks for a step after each batch, but in a place where Lightning does not look for it: its
rates change once an epoch, and so do these. That also makes them the same however an epoch is cut up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from open3dsg.training.options import LearningOptions

_THRESHOLD = 1e-4  # of the loss: less is no improvement to `reduce`
_PATIENCE = 5  # epochs that `reduce` bears without one
_FACTOR = 0.5
_GAMMA = 0.7  # by which each cycle of `cosine` peaks lower


@dataclass
class Plateau:
    """Halves the rate after more than five epochs whose validation loss was no better by a ten-thousandth."""

    best: float = math.inf
    bad: int = 0  # epochs in a row
    factor: float = 1.0

    def note(self, loss: float) -> None:
        """Take the validation loss of an epoch."""
        if loss < self.best * (1 - _THRESHOLD):
            self.best, self.bad = loss, 0
            return
        self.bad += 1
        if self.bad > _PATIENCE:
            self.factor, self.bad = self.factor * _FACTOR, 0


def learning_rate(options: LearningOptions, epoch: int, plateau: Plateau) -> float:
    """Return the rate of an epoch, counted from 0; `plateau` has seen the validations before it.

    Cyclic (triangular2: Smith, WACV 2017) and cosine with warm-up and restarts (SGDR: Loshchilov and Hutter,
    ICLR 2017) both move between half the given rate and one and a half of it, in three cycles a run.
    """
    if options.lr_scheduler == "reduce":
        return options.lr * plateau.factor
    lowest, span = options.lr / 2, options.lr
    length = options.epochs / 3
    cycle, share = int(epoch / length), epoch / length % 1
    if options.lr_scheduler == "cyclic":
        return lowest + span * (1 - abs(2 * share - 1)) / float(2**cycle)
    peak = (options.lr * 1.5) * float(_GAMMA**cycle)
    warm_up = 0.25  # of a cycle
    risen = share / warm_up if share < warm_up else (1 + math.cos(math.pi * (share - warm_up) / 0.75)) / 2
    return lowest + (peak - lowest) * risen
