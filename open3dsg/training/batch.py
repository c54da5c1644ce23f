"""What a network is shown: training units as tensors, and several of them as one graph without padding.

Shapes, of a unit or a batch: M instances, P unordered pairs (a < b), E directed edges, R rows of targets.
Points are in farthest-point order, about their mean, the furthest at distance 1; a sample of fewer points
than the others repeats its own, which no pooling by maximum notices. Colours are 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import Data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open3dsg.store.unit import UnitKey

# Names whose numbers are places of another thing of the same unit: shifted when units are joined.
_PLACES = {
    "edge_index": "instances",
    "edge_pair": "pairs",
    "relation_row": "rows",
}


@dataclass(frozen=True)
class Cursor:
    """How far an epoch is: units of it that were trained on, over all processes."""

    epoch: int
    position: int


class SceneGraph(Data):  # type: ignore[misc]
    """A unit, or after `join` several, when ``batch`` (M,) int64 is which of them an instance is of.

    Fields, C = 3 or with colours 6:

    - ``instance_points`` (M, N, C) float32;
    - ``instance_box`` (M, 7) float32, centre and lengths of the axis-aligned box in metres, world, and an
      angle, which is 0, as Open3DSG's are;
    - ``instance_centre`` (M, 3) float32, metres, world;
    - ``pair_points`` (P, K, C) float32; ``pair_owner`` (P, K) uint8, 1: a point of a, 2: of b, 0: of neither;
    - ``edge_index`` (2, E) int64, subject and object among the instances;
    - ``edge_pair`` (E,) int64, its pair; ``edge_turned`` (E,) bool, whether the subject is b, where the
      network swaps 1 and 2;
    - ``edge_offset`` (E, 3) float32, centroid of the subject - centroid of the object, metres;
    - ``edge_graph`` (E,) int64, which unit of the batch, as ``batch`` is of instances;
    - ``node_target`` (M, d) float32 unit rows, where ``node_valid`` (M,) bool; else zeros;
    - ``relation_target``: of pooled and captions (R, d) float32 unit rows, of tokens (R, T, d) float16;
      ``relation_row`` (E,) int64, the row of each edge where ``relation_valid`` (E,) bool;
    - of classes ``relation_classes`` (E, K) float32, 0 or 1, in their place;
    - ``graphs``, how many units it is; ``instances``, ``pairs``, ``rows``: M, P and R of each unit.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Return by how much the numbers of `key` of the next unit are shifted."""
        if key in _PLACES:
            return int(self[_PLACES[key]])
        if key == "edge_graph":
            return 1
        return super().__inc__(key, value, *args, **kwargs)


def join(units: Sequence[SceneGraph]) -> SceneGraph:
    """Return units, one or several, as one graph, which alone has ``batch``.

    What `torch_geometric.data.Batch.from_data_list` makes of them, but in memory of this process also in a
    worker, where that one makes shared memory for every field.
    """
    fields = {name: _joined(name, units) for name in units[0].keys() if name != "num_nodes"}  # noqa: SIM118
    instances = fields["instances"]
    joined = SceneGraph(num_nodes=int(instances.sum()), **fields)
    joined.graphs = len(units)
    joined.batch = torch.repeat_interleave(torch.arange(len(units)), instances)
    return joined


def _joined(name: str, units: Sequence[SceneGraph]) -> Tensor:
    values = [unit[name] for unit in units]
    if not isinstance(values[0], Tensor):
        return torch.tensor(values)
    steps = [unit.__inc__(name, value) for unit, value in zip(units, values, strict=True)]
    if any(steps):
        values = [value + start for value, start in zip(values, accumulate(steps, initial=0), strict=False)]
    return torch.cat(values, units[0].__cat_dim__(name, values[0]))


@dataclass(frozen=True, eq=False)
class Batch:
    """Units of one process, joined, and where in its epoch they end.

    A process that has none left, while others have, gets `graph` None: its step adds nothing to the sum.
    """

    graph: SceneGraph | None
    keys: tuple[UnitKey, ...]  # of the units in it, in their order
    cursor: Cursor  # once this batch, on all processes, is done
    total: int  # units of this batch over all processes: gradients are those of the mean over them

    def to(self, device: Any) -> Batch:
        """Return the batch with its tensors on `device`."""
        return Batch(
            None if self.graph is None else self.graph.to(device), self.keys, self.cursor, self.total
        )

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory."""
        return replace(self, graph=None if self.graph is None else self.graph.pin_memory())


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a network says of a batch.

    `relations` are those of `edges` (F,), places among the E edges, in their order.
    """

    nodes: Tensor  # (M, node_dimension)
    edges: Tensor  # (F,) int64
    relations: Tensor | None  # (F, d); of tokens (F, T, d); None where classes are learnt
    classes: Tensor | None  # (F, K) logits, where classes are learnt
    transforms: tuple[Tensor, ...]  # (M,) and (E,), of PointNet's transforms: how far from orthogonal; or ()
