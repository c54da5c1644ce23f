"""PointNet (Qi et al., CVPR 2017): a cloud to a vector, whatever the order of its points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from open3dsg.training.network.norm import make_norm, perceptron

if TYPE_CHECKING:
    from open3dsg.training.options import Norm

Widths = tuple[int, int, int]


class TransformNet(nn.Module):
    """Finds a square matrix for a cloud, near the identity; of xyz a rotation of sorts. PointNet's T-net."""

    def __init__(self, channels: int, size: int, widths: Widths, norm: Norm) -> None:
        """Take points of `channels` channels to matrices of `size` x `size`."""
        super().__init__()
        self.size = size
        self.points = perceptron([channels, *widths], norm, last=True)
        self.cloud = perceptron([widths[2], widths[2] // 2, widths[2] // 4], norm, last=True)
        self.matrix = nn.Linear(widths[2] // 4, size * size)

    def forward(self, points: Tensor) -> Tensor:
        """Map (n, N, channels) to (n, size, size)."""
        turned = self.matrix(self.cloud(self.points(points).max(dim=1).values))
        identity = torch.eye(self.size, device=turned.device)  # float32: halves have no numbers just above 1
        matrices: Tensor = turned.view(-1, self.size, self.size) + identity
        return matrices


def skew(matrices: Tensor) -> Tensor:
    """How far matrices (n, w, w) are from orthogonal: (n,) float32, the norms of T T^t - I."""
    identity = torch.eye(matrices.shape[-1], device=matrices.device)
    with torch.autocast(matrices.device.type, enabled=False):  # differences of near-equal numbers
        distance: Tensor = (matrices @ matrices.transpose(1, 2) - identity).flatten(1).norm(dim=1)
    return distance


class PointNet(nn.Module):
    """Shared layers on every point, then the maximum over the cloud."""

    def __init__(self, channels: int, widths: Widths, norm: Norm, *, transforms: bool) -> None:
        """Take points of `channels` channels, xyz first, to `widths[2]` numbers a cloud.

        With `transforms` one T-net moves xyz, and one the features of the first layer.
        """
        super().__init__()
        self.dimension = widths[2]
        self.of_points = TransformNet(channels, 3, widths, norm) if transforms else None
        self.of_features = TransformNet(widths[0], widths[0], widths, norm) if transforms else None
        self.first = perceptron([channels, widths[0]], norm, last=True)
        self.second = perceptron([widths[0], widths[1]], norm, last=True)
        self.third = nn.Sequential(nn.Linear(widths[1], widths[2]), make_norm(norm, widths[2]))

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map (n, N, channels) to (n, widths[2]), and give the skews (n,) of the transforms, if any."""
        if self.of_points is not None:
            moved = points[..., :3] @ self.of_points(points)
            points = torch.cat([moved, points[..., 3:]], dim=-1)
        x = self.first(points)
        skews = None
        if self.of_features is not None:
            transform = self.of_features(x)
            x = x @ transform
            skews = skew(transform)
        return self.third(self.second(x)).max(dim=1).values, skews
