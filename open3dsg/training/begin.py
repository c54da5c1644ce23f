"""How a run begins: what it learns from is found and pinned, its network made, and last its row added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from open3dsg.store.checkpoints import checkpoint_file, find_checkpoint, list_checkpoints
from open3dsg.store.runs import NewRun, create_run
from open3dsg.training.examples import ExampleReader
from open3dsg.training.manifest import TRAIN, make_manifest
from open3dsg.training.restore import Plan, find_places, start_network
from open3dsg.training.state import read_checkpoint
from open3dsg.training.targets import find_targets, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import Connection

    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.runs import StoredRun
    from open3dsg.training.manifest import Manifest
    from open3dsg.training.network.network import SceneGraphNetwork
    from open3dsg.training.request import TrainRequest
    from open3dsg.training.targets import RelationTarget


def begin_run(
    connection: Connection[Any], request: TrainRequest, name: str, tell: Callable[[str], None]
) -> tuple[StoredRun, SceneGraphNetwork]:
    """Add the row of a run, and return it with its network.

    Raises UserError, and adds nothing, where features or units are missing, or weights do not fit.
    """
    nodes, relation = find_targets(
        connection, request.dataset, request.encoder, request.pair_encoder, request.targets
    )
    manifest = make_manifest(
        connection,
        dataset=request.dataset,
        train_split=request.train_split,
        validation_split=request.validation_split,
        graphs=request.options.stream.graphs,
        node_encoder=nodes,
        relation=relation,
        mini=request.mini,
    )
    if manifest.left_out:
        tell(f"units left out, whose scans have no features of {nodes.full_name}: {manifest.left_out}")
    # Samples that are smaller than asked for are told before there is a run.
    first = manifest.units[TRAIN][0]
    ExampleReader(connection, nodes, relation, request.options.stream, [first.scan]).read([first])
    shape = shape_of(nodes, relation)
    has_places = find_places(shape) is not None
    plan = Plan(request.options.network, shape, has_places, request.checkpoint, request.point_weights)
    network = start_network(connection, plan, request.options.stream.seed, tell)
    return create_run(connection, _new_run(request, name, nodes, relation, manifest, plan)), network


def _new_run(
    request: TrainRequest,
    name: str,
    nodes: StoredEncoder,
    relation: RelationTarget,
    manifest: Manifest,
    plan: Plan,
) -> NewRun:
    points = None if plan.point_weights is None else str(plan.point_weights.absolute())
    options = {
        **request.options.as_json(),
        "dataset": request.dataset,
        "splits": [request.train_split, request.validation_split],
        "mini": request.mini,
        "left_out": manifest.left_out,
        "tokens": relation.tokens,
        "has_places": plan.has_places,
        "start": {"checkpoint": plan.checkpoint, "point_weights": points},
        "conduct": request.conduct.as_json(),
    }
    return NewRun(
        name=name,
        options=options,
        node_encoder_id=nodes.encoder_id,
        relation_encoder_id=None if relation.encoder is None else relation.encoder.encoder_id,
        words_encoder_id=None if relation.words is None else relation.words.encoder_id,
        targets=relation.kind,
        predicates=relation.predicates if relation.kind == "classes" else None,
        units=manifest.as_json(),
        manifest=manifest.digest,
    )


def last_state(connection: Connection[Any], run: StoredRun) -> dict[str, Any] | None:
    """Return what the last checkpoint of a run holds; None where it has none yet."""
    if not any(kept.is_last for kept in list_checkpoints(connection, run)):
        return None
    with checkpoint_file(connection, find_checkpoint(connection, run, "last")) as file:
        return read_checkpoint(file)
