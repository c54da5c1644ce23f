"""Encoders as rows: which revisions the store knows, and the embeddings of words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pgvector import HalfVector

from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.terms import add_vocabulary, check_term, term_ids
from open3dsg.encoders.registry import load_encoder
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.encoders.contract import Encoder

QUERIES = "queries"  # the vocabulary of the words that were asked


@dataclass(frozen=True)
class StoredEncoder:
    """One revision of an encoder in the store."""

    encoder_id: int
    name: str
    revision: str
    dimension: int


def register_encoder(connection: Connection[Any], encoder: Encoder) -> StoredEncoder:
    """Add the encoder's revision if it is new, and make it the one that the bare name means."""
    with connection.transaction():
        row = execute(
            connection,
            "encoder_upsert",
            {
                "name": encoder.name,
                "revision": encoder.revision,
                "dimension": encoder.dimension,
                "views": encoder.views,
            },
        ).fetchone()
        if row is None:
            raise RuntimeError("an upsert returns its row")
        execute(connection, "encoder_activate", {"encoder_id": row[0]})
    return StoredEncoder(row[0], encoder.name, encoder.revision, row[1])


def find_encoder(connection: Connection[Any], text: str | None) -> StoredEncoder:
    """Find an encoder by `name` (its active revision) or `name@revision`.

    None means the one encoder that has features; UserError where there is none, or more than one.
    """
    if text is None:
        names = [name for name, _count in execute(connection, "encoders_with_features")]
        if not names:
            raise UserError("the store has no features yet: run `open3dsg features dump --nodes` first")
        if len(names) > 1:
            raise UserError(f"the store has features of several encoders: say --encoder {' or '.join(names)}")
        text = names[0]
    row = execute(connection, "encoder_find", {"text": text}).fetchone()
    if row is None:
        known = ", ".join(name for (name,) in execute(connection, "encoders_known"))
        raise UserError(
            f"the store has no features of an encoder {text!r}; it knows {known or 'none'}:"
            " run `open3dsg features dump --nodes --encoder NAME`"
        )
    return StoredEncoder(*row)


def query_vector(connection: Connection[Any], encoder: StoredEncoder, text: str) -> NDArray[np.float32]:
    """Return the (dimension,) float32 embedding of `text`, from the store or, the first time, from the model.

    The words are kept as terms of the vocabulary ``queries``, so that asking again needs no model.
    """
    check_term(text, "a query")
    known = fetch_value(connection, "term_embedding", {"encoder_id": encoder.encoder_id, "text": text})
    if known is not None:
        return np.array(known.to_list(), np.float32)
    embedding: NDArray[np.float32] = _loaded(encoder).encode_text([text])[0]
    with connection.transaction():
        add_vocabulary(connection, QUERIES, "query", [text], ordered=False)
        term_id = term_ids(connection, [text])[text]
        execute(
            connection,
            "term_embedding_add",
            {"encoder_id": encoder.encoder_id, "term_id": term_id, "embedding": HalfVector(embedding)},
        )
    return embedding


def embed_vocabularies(connection: Connection[Any], encoder: StoredEncoder) -> int:
    """Embed the terms of all class lists that have no embedding by this encoder yet; return their number."""
    with connection.transaction():
        rows = execute(
            connection, "vocabulary_terms_without_embedding", {"encoder_id": encoder.encoder_id}
        ).fetchall()
        if not rows:
            return 0
        embeddings = _loaded(encoder).encode_text([text for _id, text in rows])
        return copy_in(
            connection,
            "term_embedding",
            {"encoder_id": "int4", "term_id": "int4", "embedding": "halfvec"},
            (
                (encoder.encoder_id, term_id, HalfVector(embedding))
                for (term_id, _text), embedding in zip(rows, embeddings, strict=True)
            ),
        )


def _loaded(stored: StoredEncoder) -> Encoder:
    """Load the model of a stored revision; UserError where the installed one is another."""
    encoder = load_encoder(stored.name)
    if encoder.revision != stored.revision:
        raise UserError(
            f"the features of {stored.name} in the store are of revision {stored.revision}, the installed"
            f" encoder is {encoder.revision}: run `open3dsg features dump --nodes --encoder {stored.name}` again"
        )
    return encoder
