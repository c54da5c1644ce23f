"""Vocabularies as arrays: the candidates that predictions are compared with."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.db.queries import execute
from open3dsg.errors import UserError
from open3dsg.evaluation.judged import Words
from open3dsg.store.encoders import embed_vocabularies
from open3dsg.store.vocabularies import find_vocabulary, list_vocabularies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.vocabularies import Vocabulary


def choose_vocabulary(
    connection: Connection[Any], option: str, given: str | None, datasets: Sequence[str], kind: str
) -> Vocabulary:
    """Return the vocabulary that is named, or the list of the one dataset: `DATASET-classes`, `-predicates`.

    Raises UserError, naming `option` and those there are, for one of another kind, and where nothing is named
    and there are several datasets or none with such a list.
    """
    if given is not None:
        found = find_vocabulary(connection, given)
        if found.kind != kind:
            raise UserError(
                f"--{option} is {given!r}, which is a list of kind {found.kind}: give one of {kind}"
            )
        return found
    there = {known.name: known for known in list_vocabularies(connection) if known.kind == kind}
    own = f"{datasets[0]}-{option}"
    if len(datasets) > 1 or own not in there:
        why = (
            f"of {len(datasets)} datasets" if len(datasets) > 1 else f"of {datasets[0]}, which has no {own!r}"
        )
        raise UserError(
            f"the scans are {why}: say with --{option} what they are compared with; the store has"
            f" {', '.join(there) or 'no such list'}"
        )
    return there[own]


def choose_attributes(connection: Connection[Any], name: str) -> Vocabulary:
    """Return the vocabulary of an attribute; UserError, saying how to add it, where the store lacks it."""
    there = {known.name: known for known in list_vocabularies(connection)}
    if name not in there:
        raise UserError(f"no vocabulary {name!r} in the store: run `open3dsg vocab add --builtin {name}`")
    return there[name]


def read_words(
    connection: Connection[Any],
    vocabulary: Vocabulary,
    encoder: StoredEncoder | None,
    scored: Sequence[str] | None = None,
) -> Words:
    """Read a vocabulary, embedded by `encoder` where need be; without one, its classes that are `scored`.

    Raises UserError where no class is left.
    """
    if encoder is not None:
        embed_vocabularies(connection, encoder, vocabulary.name)
    key = {"vocabulary_id": vocabulary.vocabulary_id, "encoder_id": encoder and encoder.encoder_id}
    rows = execute(connection, "evaluation_words", key, binary=True).fetchall()
    digest = _digest([(text, wording) for _, text, wording, _ in rows])
    if encoder is None:
        rows = [row for row in rows if row[1] in (scored or ())]
    if not rows:
        raise UserError(
            f"the vocabulary {vocabulary.name!r} has no word"
            + ("" if encoder is not None else f" that the run learnt: {', '.join(scored or ())}")
        )
    names = {text: term_id for term_id, text, _, _ in rows}
    places = {text: place for place, text in enumerate(names)}
    return Words(
        vocabulary.name,
        digest,
        term_ids=np.array(list(names.values()), np.int32),
        texts=list(names),
        wordings=[wording for _, _, wording, _ in rows],
        owner=np.array([places[text] for _, text, _, _ in rows], np.intp),
        embeddings=unpack([packed for *_, packed in rows] if encoder is not None else [], len(rows)),
    )


def unpack(rows: Sequence[bytes], count: int | None = None) -> NDArray[np.float32]:
    """Return what halfvec_send gave as unit rows, (n, d) float32; (count, 0) of no rows."""
    if not rows:
        return np.zeros((count or 0, 0), np.float32)
    # The number of dimensions and a spare number come first, two bytes each.
    halves = np.frombuffer(b"".join(rows), ">f2").reshape(len(rows), -1)[:, 2:]
    wide = halves.astype(np.float32)
    unit: NDArray[np.float32] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit


def _digest(words: Sequence[tuple[str, str]]) -> str:
    """Hash classes and their wordings: 16 hex digits."""
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]
