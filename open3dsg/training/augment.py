"""Small random changes of what a network is shown, those of Open3DSG's training.

As they are meant: the published code expects the clouds of one unit, and fails on the batches it is given.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from open3dsg.training.batch import SceneGraph

CHANCE = 0.25  # of each change
NOISE = 0.01  # of a point, standard deviation; the cloud has radius 1
SCALE = 0.1
COLOUR = 0.02


def unit_generator(seed: int, epoch: int, unit: int) -> Generator:
    """Return where the changes of one unit in one epoch come from, whichever process and batch it is in."""
    state = np.random.SeedSequence([seed, epoch, unit]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def augment(graph: SceneGraph, generator: Generator) -> None:
    """Change the points and colours of one unit in place.

    Each with a chance of a quarter: points are moved by noise of 0.01, clouds are scaled by 0.9 to 1.1 each,
    all instances are turned about z together by any angle (pairs are not), colours are moved by up to 0.02.
    Targets, boxes and offsets stay as they are.
    """
    clouds = (graph.instance_points, graph.pair_points)
    jitter, scale, turn, tint = (torch.rand(4, generator=generator) < CHANCE).tolist()
    if jitter:
        _jitter(clouds, generator)
    if scale:
        _scale(clouds, generator)
    if turn:
        _turn(graph.instance_points, generator)
    if tint:
        _tint(clouds, generator)


def _jitter(clouds: Sequence[Tensor], generator: Generator) -> None:
    for points in clouds:
        points[..., :3] += NOISE * torch.randn(points[..., :3].shape, generator=generator)


def _scale(clouds: Sequence[Tensor], generator: Generator) -> None:
    for points in clouds:
        drawn = torch.rand((len(points), 1, 1), generator=generator)
        points[..., :3] *= 1 + SCALE * (2 * drawn - 1)


def _turn(points: Tensor, generator: Generator) -> None:
    angle = 2 * math.pi * float(torch.rand((), generator=generator))
    cosine, sine = math.cos(angle), math.sin(angle)
    about_z = torch.tensor([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    points[..., :3] = points[..., :3] @ about_z


def _tint(clouds: Sequence[Tensor], generator: Generator) -> None:
    for points in clouds:
        colours = points[..., 3:]
        colours += COLOUR * (2 * torch.rand(colours.shape, generator=generator) - 1)
