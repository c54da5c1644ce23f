"""What the network of a run says of a scan from its points alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from open3dsg.encoders.support import find_device
from open3dsg.errors import UserError
from open3dsg.steps.predict_fusion import Means, unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.store.captions import Pair
    from open3dsg.store.checkpoints import StoredCheckpoint
    from open3dsg.store.runs import StoredRun
    from open3dsg.store.unit import UnitKey
    from open3dsg.training.batch import Outputs, SceneGraph
    from open3dsg.training.network.network import SceneGraphNetwork
    from open3dsg.training.options import Graphs

_TOKENS_TOGETHER = 256  # edges whose tokens lie in memory at a time: 370 MB of 257 x 1408 numbers


class Student:
    """The network of a run at a checkpoint. A process keeps the last one that it used."""

    _kept: ClassVar[tuple[tuple[str, str], SceneGraphNetwork] | None] = None

    def __init__(
        self, connection: Connection[Any], run: StoredRun, checkpoint: StoredCheckpoint, device: str | None
    ) -> None:
        """Load it; `device` None: a GPU if there is one. UserError where either is of no use."""
        self._run, self._checkpoint = run, checkpoint
        self._device = find_device(device)
        key = (checkpoint.digest, self._device)
        if Student._kept is None or Student._kept[0] != key:
            from open3dsg.training.restore import load_network

            Student._kept = None  # two of them need not fit the memory
            Student._kept = key, load_network(connection, run, checkpoint).to(self._device)
        self._network = Student._kept[1]

    def predict(
        self,
        connection: Connection[Any],
        scan: str,
        numbers: Sequence[int],
        pairs: Sequence[Pair],
        *,
        graphs: Graphs,
        unseen: bool,
    ) -> tuple[Means[int], Means[Pair]]:
        """Return what is said of the instances and the directed pairs of all units of a scan, `dataset/name`.

        Of nodes, and of relations that are vectors, unit rows are added up; of tokens and of scores the
        numbers themselves. `numbers` and `pairs` are those that there can be.
        """
        import torch

        from open3dsg.training.options import run_options
        from open3dsg.training.restore import relation_of
        from open3dsg.training.stream import read_graphs

        run = self._run
        options = replace(run_options(run.options).stream, graphs=graphs, augment=False)
        nodes, edges = Means(numbers), Means(pairs)
        found = read_graphs(
            connection, scan, run.node_encoder, relation_of(run), options, with_targets=False, unseen=unseen
        )
        with torch.inference_mode():
            for key, of_unit, graph in found:
                told = _Told(f"the checkpoint of step {self._checkpoint.step} of {run.name}", key)
                ends = of_unit.numbers[graph.edge_index.numpy()].T.tolist()
                for place, outputs in enumerate(self._outputs(graph)):
                    if place == 0:
                        nodes.add(of_unit.numbers.tolist(), unit(told.numbers(outputs.nodes)))
                    chosen = [tuple(ends[at]) for at in outputs.edges.tolist()]
                    edges.add(chosen, _relations(outputs, told))
        return nodes, edges

    def _outputs(self, graph: SceneGraph) -> Iterator[Outputs]:
        """Embed one unit: at once, or where edges are grids of tokens, some of the edges at a time."""
        import torch

        from open3dsg.training.batch import join

        joined = join([graph]).to(self._device)
        count = graph.edge_index.shape[1]
        if self._run.targets != "tokens" or count <= _TOKENS_TOGETHER:
            yield self._network(joined)
            return
        for start in range(0, count, _TOKENS_TOGETHER):
            stop = min(start + _TOKENS_TOGETHER, count)
            yield self._network(joined, torch.arange(start, stop, device=self._device))


class _Told:
    """Takes numbers from the network of one unit to this machine's memory."""

    def __init__(self, whose: str, key: UnitKey) -> None:
        self._whose, self._key = whose, key

    def numbers(self, tensor: torch.Tensor) -> NDArray[np.float32]:
        """Return them; UserError, naming checkpoint and unit, where one is not finite."""
        found: NDArray[np.float32] = tensor.float().cpu().numpy()
        if not np.isfinite(found).all():
            raise UserError(
                f"{self._whose} gives numbers that are not finite for {self._key.scan}, unit"
                f" {self._key.subgraph_no}: predict with another --checkpoint"
            )
        return found


def _relations(outputs: Outputs, told: _Told) -> NDArray[np.float32]:
    """Return unit vectors, (F, d), tokens as they are, (F, T, d), or scores 0 to 1, (F, K)."""
    if outputs.classes is not None:
        return told.numbers(outputs.classes.float().sigmoid())
    if outputs.relations is None:
        raise ValueError("a network gives relations or classes")
    relations = told.numbers(outputs.relations)
    return unit(relations) if relations.ndim == 2 else relations
