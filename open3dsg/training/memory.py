"""How much memory a step of training takes, measured on units of noise in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.encoders.memory import Meter, Part, gpu_reserved, in_fresh_process
from open3dsg.training.options import TargetShape, preset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from open3dsg.training.batch import SceneGraph
    from open3dsg.training.options import Preset, StreamOptions, Targets, TrainPrecision

INSTANCES = 9  # of a unit, the most that a subgraph of 3DSSG has; all are related, both ways
_POINTS = 2000, 5000  # of an instance and a pair, as `graph build` samples 3RScan, where a preset says none
_DIMENSION = 768  # of the nodes: those of CLIP and OpenSeg
_SHAPES = {
    "pooled": TargetShape(_DIMENSION, "pooled", relation_dimension=1408),
    "tokens": TargetShape(_DIMENSION, "tokens", relation_dimension=1408, tokens=257),  # of BLIP
    "captions": TargetShape(_DIMENSION, "captions", relation_dimension=384),  # of the sentence encoder
    "classes": TargetShape(_DIMENSION, "classes", classes=tuple(f"predicate {n}" for n in range(27))),
}
_OF_PRESET: dict[Preset, Targets] = {"published": "tokens", "small": "captions"}


@dataclass(frozen=True)
class TrainingProfile:
    """What training with a preset takes on one device, in bytes; a batch is so many units."""

    preset: str
    targets: str
    device: str
    precision: str
    batch: int
    weights: int  # numbers that are learnt
    parts: Sequence[Part]
    resident_peak: int  # of the process, the interpreter included
    imports_share: float  # of resident_peak
    an_item: int | None  # what each further unit adds to the peak of a step; a batch of one cannot tell
    gpu_reserved: int | None


def measure_training(
    name: Preset, targets: Targets | None, device: str, precision: TrainPrecision, batch: int | None
) -> TrainingProfile:
    """Train the network of a preset for three steps, and say what each part of a step took.

    `targets` None: tokens of the published preset, captions of the small one. `batch` None: as many units as
    the preset takes. Raises UserError where the memory does not suffice.
    """
    count = preset(name).stream.batch_size if batch is None else batch
    work = partial(_measure, name, targets or _OF_PRESET[name], device, precision, count)
    return in_fresh_process(work, f"training with the preset {name}", device, count)


def _measure(
    name: Preset, targets: Targets, device: str, precision: TrainPrecision, batch: int
) -> TrainingProfile:
    meter = Meter(device)
    made: list[_Trainer] = []
    meter.measure("network", lambda: made.append(_Trainer(name, _SHAPES[targets], device, precision)))
    (trainer,) = made
    meter.measure("units", partial(trainer.take, batch))
    meter.measure("forward", trainer.forward)
    meter.measure("backward", trainer.backward)
    meter.measure("optimizer", trainer.optimize)
    trainer.forget()
    whole = meter.measure("next step", trainer.step)
    trainer.take(1)
    one = meter.measure("one unit", trainer.step)
    on_gpu = meter.gpu is not None
    most, least = ((part.gpu_peak if on_gpu else part.peak) or 0 for part in (whole, one))
    return TrainingProfile(
        preset=name,
        targets=targets,
        device=device,
        precision=precision,
        batch=batch,
        weights=trainer.weights,
        parts=meter.all_parts(),
        resident_peak=meter.resident_peak,
        imports_share=meter.imported / meter.resident_peak,
        an_item=max(0, most - least) // (batch - 1) if batch > 1 else None,
        gpu_reserved=gpu_reserved(device) if on_gpu else None,
    )


class _Trainer:
    """A network that takes steps, its parts called one by one."""

    _graph: SceneGraph
    _loss: Tensor

    def __init__(self, name: Preset, shape: TargetShape, device: str, precision: TrainPrecision) -> None:
        import torch

        from open3dsg.training.module import Student
        from open3dsg.training.network.network import SceneGraphNetwork

        options = preset(name)
        self._stream, self._shape, self._device = options.stream, shape, device
        self._student = (
            Student(SceneGraphNetwork(options.network, shape), options.learning).to(device).train()
        )
        self._optimizer = torch.optim.Adam(self._student.parameters(), lr=options.learning.lr)
        self.weights = sum(parameter.numel() for parameter in self._student.parameters())
        number = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
        kind = torch.device(device).type
        self._cast = partial(torch.autocast, kind, dtype=number, enabled=precision != "fp32")

    def take(self, units: int) -> None:
        from open3dsg.training.batch import join

        made = [made_unit(seed, self._shape, self._stream) for seed in range(units)]
        self._graph = join(made).to(self._device)

    def forward(self) -> None:
        with self._cast():
            self._loss, _ = self._student(self._graph, 1 / int(self._graph.graphs))

    def backward(self) -> None:
        self._loss.backward()  # type: ignore[no-untyped-call]
        del self._loss

    def optimize(self) -> None:
        self._optimizer.step()

    def forget(self) -> None:
        self._optimizer.zero_grad()

    def step(self) -> None:
        self.forward()
        self.backward()
        self.optimize()
        self.forget()


def made_unit(seed: int, shape: TargetShape, stream: StreamOptions) -> SceneGraph:
    """Return a unit of noise, as large as units get: `INSTANCES`, all related, each with a target."""
    import torch

    from open3dsg.training.batch import SceneGraph

    random = np.random.default_rng(seed)
    channels = 6 if stream.use_rgb else 3

    def noise(*size: int) -> Tensor:
        return torch.from_numpy(random.random(size, dtype=np.float32))

    edges = np.array(list(permutations(range(INSTANCES), 2)))
    low, high = edges.min(axis=1), edges.max(axis=1)
    pairs, edge_pair = np.unique(low * INSTANCES + high, return_inverse=True)
    of_instance, of_pair = stream.instance_points or _POINTS[0], stream.pair_points or _POINTS[1]
    return SceneGraph(
        instance_points=noise(INSTANCES, of_instance, channels),
        instance_box=noise(INSTANCES, 7),
        instance_centre=noise(INSTANCES, 3),
        pair_points=noise(len(pairs), of_pair, channels),
        pair_owner=torch.from_numpy(random.integers(0, 3, (len(pairs), of_pair), np.uint8)),
        edge_index=torch.from_numpy(edges.T.copy()),
        edge_pair=torch.from_numpy(edge_pair),
        edge_turned=torch.from_numpy(edges[:, 0] > edges[:, 1]),
        edge_offset=noise(len(edges), 3),
        edge_graph=torch.zeros(len(edges), dtype=torch.int64),
        node_target=noise(INSTANCES, shape.node_dimension),
        node_valid=torch.ones(INSTANCES, dtype=torch.bool),
        **_relations(shape, edge_pair, len(pairs), noise),
        graphs=1,
        instances=INSTANCES,
        pairs=len(pairs),
        rows=len(pairs),
        num_nodes=INSTANCES,
    )


def _relations(
    shape: TargetShape, edge_pair: NDArray[np.int64], pairs: int, noise: Callable[..., Tensor]
) -> dict[str, Tensor]:
    import torch

    if shape.targets == "classes":
        return {"relation_classes": noise(len(edge_pair), len(shape.classes)).round()}
    size = (pairs, shape.tokens) if shape.targets == "tokens" else (pairs,)
    target = noise(*size, shape.relation_dimension)
    return {
        "relation_target": target.half() if shape.targets == "tokens" else target,
        "relation_row": torch.from_numpy(edge_pair),
        "relation_valid": torch.ones(len(edge_pair), dtype=torch.bool),
    }
