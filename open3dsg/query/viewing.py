"""What a viewer asks of the store beside searches and graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.db.queries import execute, fetch_value
from open3dsg.query.nodes import refusals_told

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.store.scans import StoredScan


@dataclass(frozen=True)
class Term:
    """A word of a vocabulary, and its cosine similarity to something (of learnt classes their score)."""

    text: str
    similarity: float


@dataclass(frozen=True)
class SharedFrame:
    """A frame that shows two instances; pixel boxes (4,) int32 on its depth grid, inclusive."""

    frame_no: int
    box_a: NDArray[np.int32]
    box_b: NDArray[np.int32]


def scans_to_view(connection: Connection[Any]) -> list[str]:
    """Return the scans of which there is something to draw, as `dataset/name`."""
    return [key for (key,) in execute(connection, "scans_to_view")]


def count_instances(connection: Connection[Any]) -> int:
    """Return the number of instances of all scans."""
    return int(fetch_value(connection, "count_instances"))


def encoders_with_features(connection: Connection[Any]) -> list[str]:
    """Return the names of the encoders that nodes can be asked by."""
    return [name for (name,) in execute(connection, "encoders_with_features")]


def may_correct(connection: Connection[Any]) -> bool:
    """Tell whether the present role may write corrections to this server."""
    return bool(fetch_value(connection, "may_correct"))


def is_there(connection: Connection[Any]) -> bool:
    """Ask the database for a sign of life."""
    return bool(fetch_value(connection, "is_there"))


def has_points(connection: Connection[Any], scan: StoredScan) -> bool:
    """Tell whether the points of a scan were read, and not only annotations or boxes."""
    return bool(fetch_value(connection, "has_points", {"scan_id": scan.scan_id}))


def nearest_terms(
    connection: Connection[Any], scan: StoredScan, instance: int, encoder: str, vocabulary: str, k: int
) -> list[Term]:
    """Return the `k` words of a vocabulary nearest to the feature of an instance; none: it has no feature.

    Raises UserError for an encoder or vocabulary that the store does not know, or that do not fit.
    """
    asked: dict[str, Any] = {
        "scan_id": scan.scan_id,
        "scan": scan.name,
        "instance": instance,
        "encoder": encoder,
    }
    asked |= {"vocabulary": vocabulary, "k": k}
    with refusals_told():
        return [Term(*row) for row in execute(connection, "nearest_terms", asked)]


def nearest_terms_predicted(
    connection: Connection[Any], scan: StoredScan, instance: int, prediction: str, vocabulary: str, k: int
) -> list[Term]:
    """Return the `k` words of a vocabulary nearest to what is predicted of an instance; else as above."""
    asked = {
        "scan": scan.key,
        "instance": instance,
        "prediction": prediction,
        "vocabulary": vocabulary,
        "k": k,
    }
    with refusals_told():
        return [Term(*row) for row in execute(connection, "nearest_terms_predicted", asked)]


def nearest_predicates_predicted(
    connection: Connection[Any],
    scan: StoredScan,
    subject: int,
    object_: int,
    prediction: str,
    vocabulary: str,
    k: int,
) -> list[Term]:
    """Return the `k` predicates nearest to what is predicted of a pair, in this direction; else as above."""
    asked: dict[str, Any] = {
        "scan": scan.key,
        "subject": subject,
        "object": object_,
        "prediction": prediction,
    }
    asked |= {"vocabulary": vocabulary, "k": k}
    with refusals_told():
        return [Term(*row) for row in execute(connection, "nearest_predicates_predicted", asked)]


def frames_of_both(
    connection: Connection[Any], scan: StoredScan, a: int, b: int, k: int
) -> list[SharedFrame]:
    """Return at most `k` frames that show two instances, first those that show the lesser seen best."""
    rows = execute(connection, "frames_of_both", {"scan_id": scan.scan_id, "a": a, "b": b, "k": k})
    return [
        SharedFrame(frame_no, np.asarray(box_a, np.int32), np.asarray(box_b, np.int32))
        for frame_no, box_a, box_b in rows
    ]
