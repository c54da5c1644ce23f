"""Networks out of runs, checkpoints and files of weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from open3dsg.encoders.blip_positions import load_position_embedding, position_embedding_path
from open3dsg.encoders.tokens import coarse_grid
from open3dsg.errors import BadFileError, UserError
from open3dsg.store.checkpoints import checkpoint_file, find_checkpoint, list_checkpoints
from open3dsg.store.runs import find_run
from open3dsg.training.network.network import SceneGraphNetwork
from open3dsg.training.network.pretrained import load_point_weights, load_published
from open3dsg.training.options import Targets, TargetShape, run_options
from open3dsg.training.state import FORMAT, read_checkpoint, read_file, shape_as_json
from open3dsg.training.targets import RelationTarget, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psycopg import Connection
    from torch import Tensor

    from open3dsg.store.checkpoints import StoredCheckpoint
    from open3dsg.store.runs import StoredRun
    from open3dsg.training.options import NetworkOptions

FULL_GRID = 257  # tokens of BLIP's, whose places the published file embeds
# Options of a network that are set by options of the command line; the others by --preset.
_FLAGS = {
    "point_encoder",
    "use_rgb",
    "centre",
    "geometry",
    "gnn_layers",
    "backbone",
    "gconv_dim",
    "hidden_dim",
    "blip_layers",
    "norm",
}


def relation_of(run: StoredRun) -> RelationTarget:
    """Return what a run learns of pairs, as `find_targets` found it."""
    return RelationTarget(
        kind=cast("Targets", run.targets),
        encoder=run.relation_encoder,
        words=run.words_encoder,
        predicates=run.predicates or (),
        tokens=run.options["tokens"],
    )


@dataclass(frozen=True)
class Plan:
    """What a network is made of."""

    options: NetworkOptions
    shape: TargetShape
    has_places: bool  # the published embedding of the places of tokens is kept; else one is learnt
    checkpoint: str | None = None  # what it starts from
    point_weights: Path | None = None


def plan_of(run: StoredRun) -> Plan:
    """Return the plan of a run's network."""
    options, start = run_options(run.options), run.options["start"]
    points = start["point_weights"]
    return Plan(
        options.network,
        shape_of(run.node_encoder, relation_of(run)),
        run.options["has_places"],
        start["checkpoint"],
        None if points is None else Path(points),
    )


def make_network(plan: Plan) -> SceneGraphNetwork:
    """Return a network, its weights drawn from torch's generator."""
    shape = plan.shape
    places = torch.zeros(shape.tokens, shape.relation_dimension) if plan.has_places else None
    return SceneGraphNetwork(plan.options, shape, places)


def start_network(
    connection: Connection[Any], plan: Plan, seed: int, tell: Callable[[str], None]
) -> SceneGraphNetwork:
    """Return a network as a run begins with it: drawn by `seed`, then filled with what it starts from.

    Raises UserError for weights of other options, which it names, and BadFileError for files of no use.
    """
    torch.manual_seed(seed)
    places = find_places(plan.shape) if plan.has_places else None
    network = SceneGraphNetwork(plan.options, plan.shape, places)
    if plan.point_weights is not None:
        drawn = load_point_weights(network, plan.point_weights)
        if drawn:
            tell(
                f"{plan.point_weights} has other inputs than this network: {', '.join(drawn)} start at random"
            )
    if plan.checkpoint is not None:
        _start_from(connection, network, plan, plan.checkpoint)
    return network


def load_network(
    connection: Connection[Any], run: StoredRun, checkpoint: StoredCheckpoint
) -> SceneGraphNetwork:
    """Return the network of a run as it was at a checkpoint, in eval mode, on the CPU.

    Raises UserError where the checkpoint is gone, damaged or of other options.
    """
    plan = plan_of(run)
    network = make_network(plan)
    with checkpoint_file(connection, checkpoint) as path:
        held = read_checkpoint(path)
    fill(network, held, plan, f"the checkpoint of step {checkpoint.step} of the run {run.name!r}")
    return network.eval()


def find_places(shape: TargetShape) -> Tensor | None:
    """Return the published embedding of the places of tokens, (T, d); None where its file is not there.

    Of 17 tokens each is the mean over the places it stands for. BadFileError for a file that does not fit.
    """
    path = position_embedding_path()
    if shape.targets != "tokens" or not path.is_file():
        return None
    places = load_position_embedding(path, FULL_GRID, shape.relation_dimension)
    return torch.from_numpy(places if shape.tokens == FULL_GRID else coarse_grid(places))


def fill(network: SceneGraphNetwork, held: Mapping[str, Any], plan: Plan, source: str) -> None:
    """Load the weights of a checkpoint, read from `source`; UserError, naming what differs, if any does."""
    options = asdict(plan.options)
    theirs = {**held["options"], **held["shape"], "point_widths": tuple(held["options"]["point_widths"])}
    for name, value in {**options, **shape_as_json(plan.shape)}.items():
        if theirs.get(name) != value:
            way_out = f"give its --{name.replace('_', '-')}" if name in _FLAGS else "take its --preset"
            if name not in options:
                way_out = "take its encoders and --targets"
            raise UserError(f"{source}: {_difference(name, theirs.get(name), value)}: {way_out}")
    try:
        network.load_state_dict(held["network"])
    except RuntimeError as error:
        raise BadFileError(f"{source}: its weights are not those of its options") from error


def _difference(name: str, theirs: object, ours: object) -> str:
    if name == "classes":
        return "its predicates are others than those of this network"
    return f"its network has {name.replace('_', ' ')} {theirs}, this one {ours}"


def _start_from(connection: Connection[Any], network: SceneGraphNetwork, plan: Plan, source: str) -> None:
    """Fill `network` from a file, or from the checkpoint of a run that RUN or RUN:WHICH means."""
    told, path = f"--checkpoint {source}", Path(source)
    if path.is_file():
        held = read_file(path)
        if held.get("format") == FORMAT:
            fill(network, held, plan, told)
        else:
            load_published(network, path)
        return
    name, _, which = source.partition(":")
    other = find_run(connection, name)
    was_judged = any(kept.val_loss is not None for kept in list_checkpoints(connection, other))
    checkpoint = find_checkpoint(connection, other, which or ("best" if was_judged else "last"))
    with checkpoint_file(connection, checkpoint) as file:
        fill(network, read_checkpoint(file), plan, told)
