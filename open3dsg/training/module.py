"""The network as it is trained: with its loss, and with what processes that train together need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from open3dsg.errors import UserError
from open3dsg.training.loss import distillation_loss

if TYPE_CHECKING:
    from collections.abc import Iterable

    from open3dsg.training.batch import SceneGraph
    from open3dsg.training.network.network import SceneGraphNetwork
    from open3dsg.training.options import LearningOptions

LOSSES = ("total", "nodes", "relations", "transforms")


class Student(nn.Module):
    """The network that learns. Called with a graph, it gives its losses: so Fabric and DDP see one call."""

    def __init__(self, network: SceneGraphNetwork, options: LearningOptions) -> None:
        """Take the network and how it is to learn."""
        super().__init__()
        self.network = network
        self._options = options

    def forward(self, graph: SceneGraph | None, scale: float) -> tuple[Tensor, Tensor]:
        """Return what to descend, a scalar, and (4,) the sums over the units of `LOSSES`.

        `scale` makes the sum over this process's units its share of the mean over all. Without a graph both
        are zero. Every parameter gets a gradient, zero if need be: DDP waits for each, and Adam then treats
        one that a batch does not use alike, whatever else other processes have.
        """
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        nothing = torch.stack([parameter.sum() * 0.0 for parameter in parameters]).sum()
        if graph is None:
            return nothing, torch.zeros(len(LOSSES), device=nothing.device)
        losses = distillation_loss(self.network(graph, learnt_edges(graph)), graph, self._options)
        sums = torch.stack([getattr(losses, name).detach().float() for name in LOSSES])
        return losses.total * scale + nothing, sums


def learnt_edges(graph: SceneGraph) -> Tensor | None:
    """Return the places of the edges that have a target, (F,) int64; None: all, where classes are learnt."""
    if "relation_valid" not in graph:
        return None
    places: Tensor = graph.relation_valid.nonzero().flatten()
    return places


def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Tell whether no number of any is infinite or NaN; all are on one device, which is asked once."""
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())


def check_norm(norm: str, world: int, *, on_gpus: bool) -> None:
    """Raise UserError where the batch statistics of several processes cannot be shared."""
    if norm == "batch" and world > 1 and not on_gpus:
        raise UserError(
            "--norm batch shares its statistics over GPUs only: on several CPU processes take --norm group"
            " or --norm frozen"
        )


def synchronised(student: Student) -> Student:
    """Return the student with batch statistics that are shared by all processes, if it has any."""
    shared: Student = nn.SyncBatchNorm.convert_sync_batchnorm(student)  # type: ignore[no-untyped-call]
    return shared
