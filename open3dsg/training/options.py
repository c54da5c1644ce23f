"""What may be chosen of a run: network, what it is shown, how it learns. Plain values, kept with the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

PointEncoder: TypeAlias = Literal["pointnet", "pointnet2"]
Backbone: TypeAlias = Literal["message", "attention", "transformer", "mlp"]
Norm: TypeAlias = Literal["batch", "group", "frozen"]
Graphs: TypeAlias = Literal["subgraph", "full"]
Targets: TypeAlias = Literal["pooled", "tokens", "captions", "classes"]
Scheduler: TypeAlias = Literal["reduce", "cyclic", "cosine"]
TrainPrecision: TypeAlias = Literal["fp32", "fp16", "bf16"]
Preset: TypeAlias = Literal["published", "small"]

BACKBONES: tuple[Backbone, ...] = get_args(Backbone)
SCHEDULERS: tuple[Scheduler, ...] = get_args(Scheduler)
TARGETS: tuple[Targets, ...] = get_args(Targets)


@dataclass(frozen=True)
class NetworkOptions:
    """The network of Open3DSG (Koch et al., CVPR 2024); the defaults are the published ones."""

    point_encoder: PointEncoder = "pointnet"
    use_rgb: bool = False
    point_widths: tuple[int, int, int] = (64, 128, 1024)  # of PointNet's three shared layers
    transforms: bool = True  # PointNet's T-nets, of its input and of its features
    centre: bool = False  # an embedding of centroids joins that of boxes; the published one is not used
    geometry: bool = False  # not published: sizes, heights, and of an edge one box against the other
    adapter_dim: int = 512  # between points and graph
    gnn_layers: int = 4  # 0: no messages
    backbone: Backbone = "message"
    gconv_dim: int = 512
    hidden_dim: int = 1024
    heads: int = 8  # of attention and transformer
    attention_dim: int = 512  # of attention
    projector_dim: int = 1024  # of the hidden layers before the embeddings
    blip_layers: int = 3  # of the projector onto tokens
    norm: Norm = "batch"
    dropout: float = 1.0  # share of the published rates: 0.3 of attention and classes, 0.4 of PointNet++


@dataclass(frozen=True)
class TargetShape:
    """What a network gives: embeddings of nodes, and of edges vectors, tokens or scores of classes."""

    node_dimension: int
    targets: Targets
    relation_dimension: int = 0  # of pooled, tokens and captions
    tokens: int = 0  # of tokens: how many a pair
    classes: tuple[str, ...] = ()  # of classes: the predicates


@dataclass(frozen=True)
class StreamOptions:
    """What batches are made of. A batch is `batch_size` units a process."""

    graphs: Graphs = "subgraph"
    instance_points: int | None = None  # None: as many as `graph build` sampled
    pair_points: int | None = None
    use_rgb: bool = False
    augment: bool = False
    batch_size: int = 1
    workers: int = 2
    seed: int = 42


@dataclass(frozen=True)
class LearningOptions:
    """How the network learns; the defaults are the published ones."""

    epochs: int = 50
    lr: float = 1e-4
    lr_scheduler: Scheduler = "reduce"
    weight_decay: float = 1e-5
    precision: TrainPrecision = "fp32"
    accumulate: int = 1  # batches a step
    w_obj: float = 1.0
    w_rel: float = 1.0
    w_transform: float = 1e-4  # the published 0.1 x 0.001
    patience: int = 10  # epochs without a better validation loss, after which it stops; 0: never
    keep: int = 5  # best checkpoints that are kept, beside the last


@dataclass(frozen=True)
class RunOptions:
    """All that is chosen of a run, beside its data and its encoders."""

    preset: Preset = "published"
    network: NetworkOptions = field(default_factory=NetworkOptions)
    stream: StreamOptions = field(default_factory=StreamOptions)
    learning: LearningOptions = field(default_factory=LearningOptions)

    def as_json(self) -> dict[str, Any]:
        """Return what `run.options` keeps; `run_options` reads it."""
        return asdict(self)


def run_options(kept: Mapping[str, Any]) -> RunOptions:
    """Return the options that `RunOptions.as_json` wrote, through JSON or not.

    Raises TypeError for a name that this version does not know.
    """
    network = dict(kept["network"])
    network["point_widths"] = tuple(network["point_widths"])
    return RunOptions(
        kept["preset"],
        NetworkOptions(**network),
        StreamOptions(**kept["stream"]),
        LearningOptions(**kept["learning"]),
    )


def preset(name: Preset) -> RunOptions:
    """Return the options of a preset.

    `published`: those of Open3DSG. `small`: few points and narrow layers, for a CPU; its group norm gives the
    same gradients however a batch is shared out.
    """
    published = RunOptions()
    if name == "published":
        return published
    network = NetworkOptions(
        use_rgb=True,
        point_widths=(32, 64, 256),
        transforms=False,
        geometry=True,
        adapter_dim=128,
        gnn_layers=2,
        gconv_dim=128,
        hidden_dim=256,
        heads=4,
        attention_dim=128,
        projector_dim=256,
        blip_layers=1,
        norm="group",
        dropout=0.0,
    )
    stream = replace(published.stream, instance_points=256, pair_points=512, use_rgb=True, batch_size=4)
    learning = replace(published.learning, epochs=30, lr=1e-3, lr_scheduler="cosine")
    return RunOptions("small", network, stream, learning)
