"""Normalisation of rows, and the perceptrons that are made of it.

Everything here works on the last dimension: a point of a cloud is a row like an instance or an edge.

- ``batch``: the statistics of the rows of a step, and running ones outside training (Ioffe and Szegedy, ICML
  2015), as published. Rows of other units change the result, and so does how a batch is shared out.
- ``group``: each row on its own, all of its channels one group (Wu and He, ECCV 2018): on CPUs 2.5 times as
  fast as eight. A row knows of no other: repeated points change nothing, and the gradient of a batch is the
  sum of those of its units.
- ``frozen``: running statistics as they were loaded, or 0 and 1; weight and bias are still learnt.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open3dsg.training.options import Norm


class BatchRows(nn.Module):
    """Batch normalisation of rows. One row alone has no variance: running statistics stand in for it."""

    def __init__(self, channels: int, *, frozen: bool = False) -> None:
        """Work on `channels` channels; `frozen`: by running statistics that stay as they are."""
        super().__init__()
        self.frozen = frozen
        # A part of its own, so that what torch makes of it for several processes sees rows, too.
        self.rows = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., channels) to the same shape."""
        rows = x.reshape(-1, x.shape[-1])
        alone = len(rows) < 2 and not isinstance(self.rows, nn.SyncBatchNorm)
        rows = self._as_running(rows) if self.frozen or alone else self.rows(rows)
        return rows.view_as(x)

    def _as_running(self, rows: Tensor) -> Tensor:
        kept = self.rows
        return functional.batch_norm(
            rows, kept.running_mean, kept.running_var, kept.weight, kept.bias, training=False, eps=kept.eps
        )


def make_norm(kind: Norm, channels: int) -> nn.Module:
    """Return the normalisation of that kind, of (..., channels)."""
    return nn.LayerNorm(channels) if kind == "group" else BatchRows(channels, frozen=kind == "frozen")


def perceptron(widths: Sequence[int], norm: Norm | None = None, *, last: bool = False) -> nn.Sequential:
    """Return linear layers of `widths`, each with its norm, if any, and ReLU behind it.

    Behind the last one they are only with `last`.
    """
    layers: list[nn.Module] = []
    for place, (inputs, outputs) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(inputs, outputs))
        if last or place < len(widths) - 2:
            layers += [] if norm is None else [make_norm(norm, outputs)]
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)
