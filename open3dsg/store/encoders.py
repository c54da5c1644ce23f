"""Encoders as rows: which revisions the store knows, and the embeddings of words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from pgvector import HalfVector
from psycopg.types.json import Jsonb

from open3dsg.db.queries import execute, execute_many, fetch_value
from open3dsg.db.terms import add_vocabulary, check_term, term_ids, terms_in_use
from open3dsg.encoders.registry import load_node_encoder, load_text_encoder
from open3dsg.errors import UserError
from open3dsg.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.encoders.contract import LoadedEncoder, TextEncoder, WordEncoder

QUERIES = "queries"  # the vocabulary of the words that were asked
MAX_DIMENSION = 4000  # what pgvector can index of halfvec
_TOGETHER = 256  # words embedded and written at a time


@dataclass(frozen=True)
class StoredEncoder:
    """One revision of an encoder in the store."""

    encoder_id: int
    name: str
    revision: str
    dimension: int
    is_active: bool  # the bare name means this revision

    @property
    def full_name(self) -> str:
        """`name@revision`, which is also the variant of its lines in the ledger."""
        return f"{self.name}@{self.revision}"


def register_encoder(connection: Connection[Any], encoder: LoadedEncoder) -> StoredEncoder:
    """Add the encoder's revision if it is new, and return its row.

    An encoder may have an attribute `options`, a mapping of what its revision was made with; it is stored
    for people to read. Raises UserError where the store has this revision with another dimension.

    The first revision of a name is active, which means that the bare name stands for it; see
    `activate_encoder` for later ones.
    """
    stored = add_revision(
        connection,
        encoder.name,
        encoder.revision,
        dimension=encoder.dimension,
        views=encoder.views,
        tokens=encoder.tokens if encoder.views == "tokens" else None,
        options=getattr(encoder, "options", {}),
    )
    if stored.dimension != encoder.dimension:
        raise UserError(
            f"the store has {stored.full_name} with {stored.dimension} numbers an embedding, the"
            f" installed encoder gives {encoder.dimension}: install that one again, or drop its features with"
            f" `open3dsg features drop {stored.full_name}`"
        )
    return stored


def add_revision(
    connection: Connection[Any],
    name: str,
    revision: str,
    *,
    dimension: int,
    views: str,
    tokens: int | None,
    options: Mapping[str, Any],
) -> StoredEncoder:
    """Add a revision if it is new, and return its row, which may be of another dimension if it is not.

    Options with the key ``imported`` say that its features came from elsewhere: the words that are compared
    with them are those of the installed encoder of that name, whatever its own revision; the first word that
    is kept settles on one. Raises UserError for a dimension that no column can hold.
    """
    if not 1 <= dimension <= MAX_DIMENSION:
        raise UserError(
            f"the encoder {name} gives {dimension} numbers a row; the store holds 1 to {MAX_DIMENSION}"
        )
    row = {"name": name, "revision": revision, "dimension": dimension, "views": views, "tokens": tokens}
    execute(connection, "encoder_upsert", {**row, "options": Jsonb(dict(options))})
    return _find_row(connection, f"{name}@{revision}")


def activate_encoder(
    connection: Connection[Any], encoder: StoredEncoder, what: str = "features"
) -> str | None:
    """Let the bare name stand for this revision once it has as many nodes and pairs as the active one.

    A new revision, dumped for one scan, must not hide the features of all others; and a name that was given
    to a revision by `choose_encoder` stays with it. Returns why the name stands for another, or None; `what`
    is what the encoder makes.
    """
    if encoder.is_active:
        return None
    with connection.transaction():
        key = {"name": encoder.name, "encoder_id": encoder.encoder_id}
        held = execute(connection, "encoder_hold_name", key).fetchall()
        active, is_chosen = next(((name, chosen) for name, on, chosen in held if on), (None, False))
        if active == encoder.revision:
            return None
        if is_chosen:
            return (
                f"{encoder.name} goes on meaning {encoder.name}@{active}, which was chosen for it; for these"
                f" say {encoder.full_name}, or `open3dsg features activate {encoder.full_name}`"
            )
        if not fetch_value(connection, "encoder_is_as_full", key):
            return (
                f"{encoder.name} still means {encoder.name}@{active}, which has more {what}; these are"
                f" {encoder.full_name}, until they are as many"
            )
        _give_name(connection, encoder, is_chosen=False)
    return None


def choose_encoder(connection: Connection[Any], encoder: StoredEncoder) -> None:
    """Let the bare name stand for this revision, however few features it has and others get."""
    with connection.transaction():
        execute(connection, "encoder_hold_name", {"name": encoder.name})
        _give_name(connection, encoder, is_chosen=True)


def _give_name(connection: Connection[Any], encoder: StoredEncoder, *, is_chosen: bool) -> None:
    execute(connection, "encoder_deactivate", {"name": encoder.name})
    execute(connection, "encoder_activate", {"encoder_id": encoder.encoder_id, "is_chosen": is_chosen})


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
    loaded = _loaded(connection, encoder)
    embedding = HalfVector(loaded.encode_text([text])[0])
    try:
        with terms_in_use(connection), connection.transaction():
            add_vocabulary(connection, QUERIES, "query", [text], ordered=False)
            _settle_on(connection, encoder, loaded)
            _keep(connection, encoder, [text], [embedding])
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction):
        # One who may only read is answered too; the word is embedded again the next time.
        pass
    return np.array(embedding.to_list(), np.float32)


def picture_vector(encoder: StoredEncoder, picture: NDArray[np.uint8], called: str) -> NDArray[np.float32]:
    """Return the (dimension,) float32 unit embedding of a whole picture, in the space of stored features.

    `picture`: (height, width, 3) uint8 RGB; `called` is what messages call it. Raises UserError for an
    encoder that sees no pictures, one that is not installed as it was at work, and features that came from
    elsewhere: nothing says that its pictures are in their space.
    """
    loaded = load_node_encoder(encoder.name)
    if loaded.revision != encoder.revision or loaded.dimension != encoder.dimension:
        raise UserError(
            f"{called} cannot be compared with {encoder.full_name}: the installed encoder"
            f" {encoder.name} is of revision {loaded.revision}"
        )
    try:
        if loaded.views == "crops":
            [row] = loaded.encode_crops([picture])
        else:
            pixels = np.argwhere(np.ones(picture.shape[:2], bool))
            [row] = loaded.encode_pixels(picture, [pixels])
    except ValueError as error:
        raise UserError(f"{called}: {' '.join(str(error).split())}") from error
    length = float(np.linalg.norm(row))
    if not np.isfinite(length) or length == 0:
        raise UserError(f"{called} cannot be compared: {encoder.name} makes nothing of it")
    unit: NDArray[np.float32] = row / np.float32(length)
    return unit


def embed_vocabularies(connection: Connection[Any], encoder: StoredEncoder, name: str | None = None) -> int:
    """Embed the terms of all class lists, or of the vocabulary `name`, that this encoder has not embedded.

    Returns their number. They are written some at a time: cut off, it goes on from there.
    """
    wanted = {"encoder_id": encoder.encoder_id, "name": name}
    texts = [text for (text,) in execute(connection, "vocabulary_terms_without_embedding", wanted)]
    if not texts:
        return 0
    loaded = _loaded(connection, encoder)
    for start in range(0, len(texts), _TOGETHER):
        part = texts[start : start + _TOGETHER]
        embeddings = [HalfVector(embedding) for embedding in loaded.encode_text(part)]
        with terms_in_use(connection), connection.transaction():
            _settle_on(connection, encoder, loaded)
            _keep(connection, encoder, part, embeddings)
    return len(texts)


def words_without_embedding(
    connection: Connection[Any], encoder: StoredEncoder, texts: Iterable[str]
) -> list[str]:
    """Return those of `texts`, each once and sorted, that the store has no embedding of by this encoder."""
    wanted = {"encoder_id": encoder.encoder_id, "texts": sorted(set(texts))}
    return [text for (text,) in execute(connection, "texts_without_embedding", wanted)]


def keep_words(
    connection: Connection[Any],
    encoder: StoredEncoder,
    texts: Sequence[str],
    embeddings: NDArray[np.float32],
) -> None:
    """Write the (n, dimension) embeddings of n words, in the caller's transaction, within `terms_in_use`."""
    _keep(connection, encoder, texts, [HalfVector(embedding) for embedding in embeddings])


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


def _settle_on(connection: Connection[Any], stored: StoredEncoder, loaded: TextEncoder) -> None:
    """Note, where the features were imported, whose words they are compared with from now on."""
    imported, settled = _imported(connection, stored)
    if imported and settled is None:
        key = {"encoder_id": stored.encoder_id}
        execute(connection, "encoder_settle", {**key, "revision": _words_revision(loaded)})


def _imported(connection: Connection[Any], stored: StoredEncoder) -> tuple[bool, str | None]:
    """Tell whether features were imported, and of which revision the words are that were settled on."""
    row = execute(connection, "encoder_words", {"encoder_id": stored.encoder_id}).fetchone()
    return (False, None) if row is None else (row[0], row[1])


def _words_revision(encoder: TextEncoder) -> str:
    """Return the revision of the text side, where it has one of its own."""
    alone: str | None = getattr(encoder, "text_revision", None)
    return encoder.revision if alone is None else alone


@lru_cache(4)
def _installed(name: str, settings: str) -> WordEncoder:  # noqa: ARG001 - by which it is told from others
    """Return an encoder with a text side; a process that answers many questions loads its weights once."""
    return load_text_encoder(name)


def _loaded(connection: Connection[Any], stored: StoredEncoder) -> TextEncoder:
    """Load the model of a stored revision; UserError where the installed one is another.

    Of features that were imported, any is right that gives vectors as long, until one is settled on.
    """
    encoder = _installed(stored.name, repr(load_settings().encoders))
    imported, settled = _imported(connection, stored)
    if not imported and encoder.revision != stored.revision:
        raise UserError(
            f"the features of {stored.name} in the store are of revision {stored.revision},"
            f" the installed encoder is {encoder.revision}:"
            f" run `open3dsg features dump --nodes --encoder {stored.name}` again"
        )
    if imported and settled is not None and settled != _words_revision(encoder):
        raise UserError(
            f"{stored.full_name} was imported, and is compared with words of the revision"
            f" {settled}; those of the installed encoder {stored.name} are {_words_revision(encoder)}:"
            " install that one again"
        )
    if encoder.dimension != stored.dimension:
        raise UserError(
            f"{stored.full_name} has {stored.dimension} numbers an embedding, the words of the"
            f" installed encoder {stored.name} {encoder.dimension}: they are not of one space"
        )
    return encoder
