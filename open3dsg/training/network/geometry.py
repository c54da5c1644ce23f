"""What boxes say of things and of pairs, in numbers that a small network can use.

Beyond what was published, which hands a network the box of a node and the offset of an edge as they are.
Clouds come without their size, and the rules of support and order are told by centimetres between the faces
of two boxes (Wald et al., CVPR 2020): so sizes are logarithms, and distances keep their sign and are
stretched near zero. The frame is the world's, whose z is up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from open3dsg.training.batch import SceneGraph

NODE_NUMBERS = 9
EDGE_NUMBERS = 34

_FINE_M = 0.05  # distances well below it are told linearly, beyond it as logarithms
_SMALLEST_M = 0.01  # lengths below it are taken for it


def node_numbers(graph: SceneGraph) -> Tensor:
    """Describe the box of each instance: (M, 9) float32.

    Log lengths along the world's axes; the log of the longer and of the shorter side of the footprint, and
    of the volume; how high its foot and its top are above the lowest foot of the unit, and its middle above
    the world's zero.
    """
    low, high = corners(graph.instance_box)
    log_lengths = _log_lengths(low, high)
    level = log_lengths[:, :2]
    floor = _lowest(low[:, 2], unit_of_nodes(graph))
    heights = torch.stack([low[:, 2] - floor, high[:, 2] - floor, (low + high)[:, 2] / 2], dim=1)
    footprint = [level.amax(dim=1, keepdim=True), level.amin(dim=1, keepdim=True)]
    volume = log_lengths.sum(dim=1, keepdim=True)
    return torch.cat([log_lengths, *footprint, volume, stretched(heights)], dim=1)


def edge_numbers(graph: SceneGraph) -> Tensor:
    """Describe the box of the subject as the object's sees it: (E, 34) float32.

    Of middles, lower faces, upper faces, and the lower face of each to the upper one of the other the
    distances along the axes; between the boxes the gap along each axis, and as a whole; between the middles
    the distance, and that seen from above; of each box the share along each axis, of the footprint and of
    the volume that lies in the other; the log ratios of the lengths.
    """
    low, high = corners(graph.instance_box)
    subject, other = graph.edge_index
    (low_s, high_s), (low_o, high_o) = (low[subject], high[subject]), (low[other], high[other])
    middle = (low_s + high_s - low_o - high_o) / 2
    below, above = low_o - high_s, low_s - high_o
    gap = torch.maximum(below, above)
    apart = gap.clamp(min=0).norm(dim=1, keepdim=True)
    distance = middle.norm(dim=1, keepdim=True)
    level = middle[:, :2].norm(dim=1, keepdim=True)
    metres = torch.cat([middle, low_s - low_o, high_s - high_o, below, above, gap, apart, distance, level], 1)
    common = (torch.minimum(high_s, high_o) - torch.maximum(low_s, low_o)).clamp(min=0)
    shares = [_shares(common, high_s - low_s), _shares(common, high_o - low_o)]
    ratios = _log_lengths(low_s, high_s) - _log_lengths(low_o, high_o)
    return torch.cat([stretched(metres), *shares, ratios], dim=1)


def corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest corner, (M, 3) each, of axis-aligned boxes (M, 7)."""
    centre, half = boxes[:, :3], boxes[:, 3:6] / 2
    return centre - half, centre + half


def stretched(metres: Tensor) -> Tensor:
    """Return signed logarithms: near zero 20 a metre, far away ever less. Any shape."""
    return metres.sign() * torch.log1p(metres.abs() / _FINE_M)


def _log_lengths(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=_SMALLEST_M).log()


def _shares(common: Tensor, lengths: Tensor) -> Tensor:
    """(E, 5): of each axis, of the footprint, and of the volume."""
    share = (common / lengths.clamp(min=_SMALLEST_M)).clamp(max=1)
    footprint = share[:, :2].prod(dim=1, keepdim=True)
    return torch.cat([share, footprint, share.prod(dim=1, keepdim=True)], dim=1)


def unit_of_nodes(graph: SceneGraph) -> Tensor:
    """(M,) int64: which unit each instance is of; a unit that was not joined to others is the only one."""
    unit = graph.batch
    if unit is None:
        unit = torch.zeros(len(graph.instance_box), dtype=torch.int64, device=graph.instance_box.device)
    kept: Tensor = unit
    return kept


def _lowest(heights: Tensor, unit: Tensor) -> Tensor:
    """(M,): the least of the heights of the same unit."""
    units = int(unit.max()) + 1 if len(unit) else 0
    least = heights.new_full((units,), torch.inf).scatter_reduce(0, unit, heights, "amin")
    return least[unit]
