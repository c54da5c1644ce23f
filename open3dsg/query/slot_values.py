"""What stands at a place of a triplet, as vectors and filters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.images import read_image
from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.terms import check_term
from open3dsg.errors import UserError
from open3dsg.query.nodes import NodeFilters, check_question
from open3dsg.query.slots import split_instance
from open3dsg.store.encoders import picture_vector, query_vector
from open3dsg.store.instances import check_instances, read_labels
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.query.slots import Slot
    from open3dsg.query.spaces import Spaces
    from open3dsg.store.scans import StoredScan


def slot_vector(
    connection: Connection[Any], place: str, slot: Slot, spaces: Spaces
) -> NDArray[np.float32] | None:
    """Return the (d,) float32 vector that a place is compared with; None where it is not.

    Raises UserError for words that cannot be asked, a picture that cannot be read or compared, and an
    instance that is not there or has no embedding.
    """
    words = spaces.relations if place == "predicate" else spaces.nodes
    if not slot.is_scored or words is None:
        return None
    if slot.kind == "text":
        return query_vector(connection, words, check_term(slot.value, f"the {place}"))
    if place == "predicate":
        raise _no_example(slot)
    if slot.kind == "image":
        file = Path(slot.value)
        return picture_vector(words, read_image(file.parent, file.name), str(file))
    return _instance_vector(connection, slot, spaces)


def slot_filter(connection: Connection[Any], place: str, slot: Slot) -> dict[str, Any]:
    """Return the filter of search_triplets_v1 that a place stands for; UserError for what is not there."""
    if slot.kind == "label":
        _check_label(connection, place, slot.value)
        return {f"{place}_label": slot.value}
    if slot.kind == "instance" and place == "predicate":
        raise _no_example(slot)
    if slot.kind == "instance":
        scan, number = _find_instance(connection, slot)
        return {f"{place}_instance": {"scan_id": scan.scan_id, "instance": number}}
    return {}


def _no_example(slot: Slot) -> UserError:
    return UserError(f"the predicate is {slot}: give words, label:PREDICATE or *")


def _check_label(connection: Connection[Any], place: str, label: str) -> None:
    if place != "predicate":
        check_question(connection, (), 1, NodeFilters(label=label))
    elif not fetch_value(connection, "has_predicate", {"text": label}):
        close = ", ".join(name for (name,) in execute(connection, "predicates_like", {"text": label}))
        raise UserError(f"no relation is annotated {label!r}" + (f"; did you mean {close}?" if close else ""))


def _find_instance(connection: Connection[Any], slot: Slot) -> tuple[StoredScan, int]:
    name, number = split_instance(slot.value)
    scan = find_scan(connection, name)
    check_instances(scan, read_labels(connection, scan), [number])
    return scan, number


def _instance_vector(connection: Connection[Any], slot: Slot, spaces: Spaces) -> NDArray[np.float32]:
    scan, number = _find_instance(connection, slot)
    key: dict[str, Any] = {"scan_id": scan.scan_id, "instance": number}
    if spaces.prediction is not None:
        name = spaces.prediction.full_name
        key["prediction_id"] = spaces.prediction.prediction_id
        found = fetch_value(connection, "instance_prediction", key)
    elif spaces.nodes is not None:
        name = spaces.nodes.full_name
        key["encoder_id"] = spaces.nodes.encoder_id
        found = fetch_value(connection, "instance_feature", key)
    if found is None:
        raise UserError(
            f"instance {number} of scan {scan.key} has no embedding by {name}: no frame shows it, or it was"
            " left out"
        )
    return np.array(found.to_list(), np.float32)
