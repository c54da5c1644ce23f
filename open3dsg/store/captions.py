"""What encoders say of pairs: directed captions, the phrases in them, and the embeddings of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.terms import MAX_TERM_LENGTH, term_ids
from open3dsg.encoders.contract import PairGeometry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.scans import StoredScan

CAPTIONS = "features.captions"  # the step, as the ledger calls it

Pair = tuple[int, int]  # two instances, the lower number first where it has no direction

COLUMNS = {
    "scan_id": "int8",
    "encoder_id": "int4",
    "subject_no": "int4",
    "object_no": "int4",
    "caption": "text",
    "phrase_id": "int4",
}


class Caption(NamedTuple):
    """What is said of a pair in one direction."""

    subject: int
    object: int
    text: str  # the whole of it
    phrase: str | None  # the words between the two names


@dataclass(frozen=True)
class StoredCaption:
    """A caption with the names of its instances."""

    subject: int
    subject_label: str
    phrase: str | None
    object: int
    object_label: str
    caption: str
    encoder: str  # name@revision


def as_caption(subject: int, object_: int, text: str, phrase: str | None) -> Caption:
    """Return a caption as the store can hold it.

    NUL and lone surrogates become the replacement character. A phrase of more than 500 characters is none:
    it says something else than how two things relate.
    """
    if phrase is not None:
        phrase = _storable(phrase)[: MAX_TERM_LENGTH + 1].strip()
        if not 0 < len(phrase) <= MAX_TERM_LENGTH:
            phrase = None
    return Caption(subject, object_, _storable(text), phrase)


def _storable(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def write_captions(
    connection: Connection[Any], scan_id: int, encoder_id: int, captions: Sequence[Caption]
) -> int:
    """Write captions of pairs that have none yet, in the caller's transaction, within `terms_in_use`.

    Returns their number.
    """
    phrases = {caption.phrase for caption in captions if caption.phrase is not None}
    ids = term_ids(connection, phrases, "a phrase")
    rows = (
        (scan_id, encoder_id, subject, object_, text, None if phrase is None else ids[phrase])
        for subject, object_, text, phrase in captions
    )
    return copy_in(connection, "relation_caption", COLUMNS, rows)


def clear_captions(
    connection: Connection[Any], scan_id: int, encoder_id: int, pairs: Sequence[Pair] | None
) -> None:
    """Drop the captions of `pairs`, each (a, b) with a < b, in both directions, or all of the scan."""
    a, b = (None, None) if pairs is None else ([a for a, _ in pairs], [b for _, b in pairs])
    execute(connection, "captions_clear", {"scan_id": scan_id, "encoder_id": encoder_id, "a": a, "b": b})


def mark_captions_stale(connection: Connection[Any], scan_id: int, encoder_id: int) -> None:
    """Note in the present transaction that an encoder has to say anew what was dropped; others need not."""
    key = {"scan_id": scan_id, "encoder_id": encoder_id, "step": CAPTIONS}
    execute(connection, "captions_mark_stale", key)


def phrases_without_embedding(
    connection: Connection[Any], encoder: StoredEncoder, sentences: StoredEncoder
) -> list[str]:
    """Return the phrases of an encoder's captions, in all scans, that a sentence encoder has not embedded."""
    asked = {"encoder_id": encoder.encoder_id, "sentences_id": sentences.encoder_id}
    return [text for (text,) in execute(connection, "phrases_without_embedding", asked)]


def captions_there(connection: Connection[Any], scan_id: int, encoder_id: int) -> Mapping[Pair, bool]:
    """Return (subject, object) of the captions of a scan, and whether each has a phrase."""
    rows = execute(connection, "captions_there", {"scan_id": scan_id, "encoder_id": encoder_id})
    return {(subject, object_): has_phrase for subject, object_, has_phrase in rows}


def count_pairs_without_features(connection: Connection[Any], scan_id: int, encoder_id: int) -> int:
    """Return how many of the scan's pairs an encoder has no feature of."""
    key = {"scan_id": scan_id, "encoder_id": encoder_id}
    return int(fetch_value(connection, "pairs_without_features", key))


def read_pair_geometry(connection: Connection[Any], scan_id: int, pairs: Sequence[Pair]) -> PairGeometry:
    """Return the geometry of `pairs`, the first as the subject, ascending.

    The camera is that of the frame in which the lesser seen of the two shows the largest share of itself.
    """
    asked = {"scan_id": scan_id, "a": [a for a, _ in pairs], "b": [b for _, b in pairs]}
    rows = execute(connection, "pair_boxes", asked).fetchall()
    nowhere = [np.nan] * 16
    corners = np.array([row[2:6] for row in rows], np.float64).reshape(-1, 4, 3)
    cameras = [nowhere if row[7] is None else row[7] for row in rows]
    return PairGeometry(
        subject_min_m=corners[:, 0],
        subject_max_m=corners[:, 1],
        object_min_m=corners[:, 2],
        object_max_m=corners[:, 3],
        distance_m=np.array([row[6] for row in rows], np.float64),
        T_world_camera=np.array(cameras, np.float64).reshape(-1, 4, 4),
    )


def find_captions(
    connection: Connection[Any], scan: StoredScan, encoder: StoredEncoder | None, instance: int | None
) -> list[StoredCaption]:
    """Return the captions of a scan: of one encoder or all, of one instance or all; by subject and object."""
    encoder_id = None if encoder is None else encoder.encoder_id
    asked = {"scan_id": scan.scan_id, "encoder_id": encoder_id, "instance": instance}
    return [StoredCaption(*row) for row in execute(connection, "relation_captions", asked)]


def is_step_done(
    connection: Connection[Any], scan_id: int, step: str, variant: str | None = None
) -> bool | None:
    """Tell whether a step, or one variant of it, is done with a scan and up to date; None: never begun."""
    asked = {"scan_id": scan_id, "step": step, "variant": variant}
    ready: bool | None = fetch_value(connection, "is_step_done", asked)
    return ready
