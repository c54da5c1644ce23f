"""PointNet++ with one scale of grouping (Qi et al., NeurIPS 2017), with the widths that ULIP trained.

Sampling and grouping are torch alone, on any device. Where the published network begins its sampling at a
point drawn at random, this one begins at the first, so that a cloud has one embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from open3dsg.training.network.norm import perceptron

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open3dsg.training.network.pointnet import Widths
    from open3dsg.training.options import Norm

_DROPPED = 0.4  # share of the last two layers' outputs, in training, as published


@torch.no_grad()
def farthest_points(xyz: Tensor, count: int) -> Tensor:
    """Choose `count` of the points (n, N, 3) of each cloud: (n, count) int64 places.

    The first point comes first, then always the one farthest from all before it, of several the first.
    """
    clouds = torch.arange(len(xyz), device=xyz.device)
    chosen = torch.zeros(len(xyz), count, dtype=torch.int64, device=xyz.device)
    nearest = torch.full(xyz.shape[:2], torch.inf, device=xyz.device)
    for place in range(1, count):
        last = xyz[clouds, chosen[:, place - 1]]
        nearest = torch.minimum(nearest, (xyz - last[:, None]).square().sum(dim=-1))
        chosen[:, place] = nearest.argmax(dim=1)
    return chosen


@torch.no_grad()
def ball_members(xyz: Tensor, centres: Tensor, radius: float, count: int) -> Tensor:
    """Find up to `count` points of (n, N, 3) no farther than `radius` from each of the centres (n, S, 3).

    Returns (n, S, count) int64 places: the first ones in the order of the cloud; where there are fewer, the
    first of them again and again. A centre must be one of the points: so each has a member.
    """
    apart = torch.cdist(centres, xyz, compute_mode="donot_use_mm_for_euclid_dist")
    many = xyz.shape[1]
    places = torch.arange(many, dtype=torch.int32, device=xyz.device).expand_as(apart)
    within = torch.where(apart <= radius, places, many)
    found = within.topk(min(count, many), dim=-1, largest=False).values.sort(dim=-1).values.long()
    found = torch.where(found == many, found[..., :1], found)
    spare = found[..., :1].expand(*found.shape[:2], count - found.shape[2])
    return torch.cat([found, spare], dim=-1)


def gather_rows(rows: Tensor, places: Tensor) -> Tensor:
    """Take rows of each cloud: (n, N, C) at (n, ...) places gives (n, ..., C)."""
    clouds = torch.arange(len(rows), device=rows.device).view(-1, *[1] * (places.dim() - 1))
    return rows[clouds, places]


class SetAbstraction(nn.Module):
    """Describes the neighbourhoods of points that lie far from each other: PointNet in a ball around each."""

    def __init__(
        self, channels: int, widths: Sequence[int], norm: Norm, *, centres: int, radius: float, members: int
    ) -> None:
        """Take points with `channels` channels beside xyz to at most `centres` ones with `widths[-1]`."""
        super().__init__()
        self.centres, self.radius, self.members = centres, radius, members
        self.layers = perceptron([3 + channels, *widths], norm, last=True)

    def forward(self, xyz: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (n, N, 3) and (n, N, channels) to (n, S, 3) and (n, S, widths[-1])."""
        chosen = gather_rows(xyz, farthest_points(xyz, min(self.centres, xyz.shape[1])))
        members = ball_members(xyz, chosen, self.radius, self.members)
        about = gather_rows(xyz, members) - chosen[:, :, None]
        grouped = torch.cat([about, gather_rows(features, members)], dim=-1)
        return chosen, self.layers(grouped).max(dim=2).values


class PointNet2(nn.Module):
    """Two set abstractions, one over what is left, and two layers; of the published widths 256 numbers."""

    def __init__(self, channels: int, widths: Widths, norm: Norm, *, dropout: float = 1.0) -> None:
        """Take points of `channels` channels, xyz first, to `widths[2]` / 4 numbers a cloud.

        The published widths follow from those of PointNet. `dropout` is a share of the published one.
        """
        super().__init__()
        fine, middle, wide = widths
        coarse = 2 * middle
        self.dimension = wide // 4
        self.sa1 = SetAbstraction(
            channels - 3, (fine, fine, middle), norm, centres=512, radius=0.2, members=32
        )
        self.sa2 = SetAbstraction(middle, (middle, middle, coarse), norm, centres=128, radius=0.4, members=64)
        self.sa3 = perceptron([3 + coarse, coarse, wide // 2, wide], norm, last=True)
        self.fc1 = perceptron([wide, wide // 2], norm, last=True)
        self.fc2 = perceptron([wide // 2, wide // 4], norm, last=True)
        self.drop = nn.Dropout(_DROPPED * dropout)

    def forward(self, points: Tensor) -> tuple[Tensor, None]:
        """Map (n, N, channels) to (n, widths[2] / 4); there are no transforms."""
        xyz, features = self.sa1(points[..., :3], points[..., 3:])
        xyz, features = self.sa2(xyz, features)
        cloud = self.sa3(torch.cat([xyz, features], dim=-1)).max(dim=1).values
        return self.drop(self.fc2(self.drop(self.fc1(cloud)))), None
