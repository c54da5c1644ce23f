"""Encoders as rows: which revisions the store knows, and the embeddings of words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from pgvector import HalfVector
from psycopg.types.json import Jsonb

from open3dsg.db.queries import execute, execute_many, fetch_value
from open3dsg.db.terms import add_vocabulary, check_term, term_ids, terms_in_use
from open3dsg.encoders.registry import load_text_encoder
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.encoders.contract import LoadedEncoder, TextEncoder

QUERIES = "queries"  # the vocabulary of the words that were asked
_TOGETHER = 256  # words embedded and written at a time


@dataclass(frozen=True)
class StoredEncoder:
    """One revision of an encoder in the store."""

    encoder_id: int
    name: str
    revision: str
    dimension: int
    is_active: bool  # the bare name means this revision


def register_encoder(connection: Connection[Any], encoder: LoadedEncoder) -> StoredEncoder:
    """Add the encoder's revision if it is new, and return its row.

    An encoder may have an attribute `options`, a mapping of what its revision was made with; it is stored
    for people to read. Raises UserError where the store has this revision with another dimension.

    The first revision of a name is active, which means that the bare name stands for it; see
    `activate_encoder` for later ones.
    """
    revision = {
        "name": encoder.name,
        "revision": encoder.revision,
        "dimension": encoder.dimension,
        "views": encoder.views,
        "tokens": encoder.tokens if encoder.views == "tokens" else None,
        "options": Jsonb(dict(getattr(encoder, "options", {}))),
    }
    execute(connection, "encoder_upsert", revision)
    stored = _find_row(connection, f"{encoder.name}@{encoder.revision}")
    if stored.dimension != encoder.dimension:
        raise UserError(
            f"the store has {stored.name}@{stored.revision} with {stored.dimension} numbers an embedding, the"
            f" installed encoder gives {encoder.dimension}: install that one again, or drop its features with"
            f" `open3dsg features drop {stored.name}@{stored.revision}`"
        )
    return stored


def activate_encoder(connection: Connection[Any], encoder: StoredEncoder) -> bool:
    """Let the bare name stand for this revision once it has as many nodes as the active one.

    Returns whether it does: a new revision, dumped for one scan, must not hide the features of all others.
    """
    if encoder.is_active:
        return True
    with connection.transaction():
        key = {"name": encoder.name, "encoder_id": encoder.encoder_id}
        if not fetch_value(connection, "encoder_is_as_full", key):
            return False
        execute(connection, "encoder_deactivate", key)
        execute(connection, "encoder_activate", key)
    return True


def find_encoder(connection: Connection[Any], text: str | None) -> StoredEncoder:
    """Find an encoder by `name` (its active revision) or `name@revision`.

    None means the one encoder that has features; UserError where there is none, or more than one.
    """
    if text is None:
        names = [name for (name,) in execute(connection, "encoders_with_features")]
        if not names:
            raise UserError("the store has no features yet: run `open3dsg features dump --nodes` first")
        if len(names) > 1:
            raise UserError(f"the store has features of several encoders: say --encoder {' or '.join(names)}")
        text = names[0]
    return _find_row(connection, text)


def _find_row(connection: Connection[Any], text: str) -> StoredEncoder:
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

    The words are kept as terms of the vocabulary ``queries``, so that asking again needs no model; the first
    time too, the embedding is the one that is kept, in half precision, so that answers do not change.
    """
    check_term(text, "a query")
    known = fetch_value(connection, "term_embedding", {"encoder_id": encoder.encoder_id, "text": text})
    if known is not None:
        return np.array(known.to_list(), np.float32)
    embedding = HalfVector(_loaded(encoder).encode_text([text])[0])
    try:
        with terms_in_use(connection), connection.transaction():
            add_vocabulary(connection, QUERIES, "query", [text], ordered=False)
            _keep(connection, encoder, [text], [embedding])
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction):
        # One who may only read is answered too; the word is embedded again the next time.
        pass
    return np.array(embedding.to_list(), np.float32)


def embed_vocabularies(connection: Connection[Any], encoder: StoredEncoder, name: str | None = None) -> int:
    """Embed the terms of all class lists, or of the vocabulary `name`, that this encoder has not embedded.

    Returns their number. They are written some at a time: cut off, it goes on from there.
    """
    wanted = {"encoder_id": encoder.encoder_id, "name": name}
    texts = [text for (text,) in execute(connection, "vocabulary_terms_without_embedding", wanted)]
    for start in range(0, len(texts), _TOGETHER):
        part = texts[start : start + _TOGETHER]
        embeddings = [HalfVector(embedding) for embedding in _loaded(encoder).encode_text(part)]
        with terms_in_use(connection), connection.transaction():
            _keep(connection, encoder, part, embeddings)
    return len(texts)


def _keep(
    connection: Connection[Any],
    encoder: StoredEncoder,
    texts: Sequence[str],
    embeddings: Sequence[HalfVector],
) -> None:
    """Write embeddings of words; another process may have been first with any of them."""
    ids = term_ids(connection, texts)
    rows = [
        {"encoder_id": encoder.encoder_id, "term_id": ids[text], "embedding": embedding}
        for text, embedding in zip(texts, embeddings, strict=True)
    ]
    execute_many(connection, "term_embedding_add", sorted(rows, key=lambda row: row["term_id"]))


def _loaded(stored: StoredEncoder) -> TextEncoder:
    """Load the model of a stored revision; UserError where the installed one is another."""
    encoder = load_text_encoder(stored.name)
    if encoder.revision != stored.revision:
        raise UserError(
            f"the features of {stored.name} in the store are of revision {stored.revision},"
            f" the installed encoder is {encoder.revision}:"
            f" run `open3dsg features dump --nodes --encoder {stored.name}` again"
        )
    return encoder
