"""Terms and vocabularies: one table of words serves labels, predicates and queries."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from open3dsg.db.queries import execute, fetch_value
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from psycopg import Connection

MAX_TERM_LENGTH = 500


def check_term(text: str, what: str) -> str:
    """Return `text` if it can be a term, or raise UserError that says `what` it was meant for."""
    if not text.strip():
        raise UserError(f"{what} is empty")
    if len(text) > MAX_TERM_LENGTH:
        raise UserError(f"{what} has {len(text)} characters; at most {MAX_TERM_LENGTH} are allowed")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} is {text!r}, which is not UTF-8 text") from error
    if "\0" in text:
        raise UserError(f"{what} contains a NUL character, which a database text cannot hold")
    return text


def term_ids(connection: Connection[Any], texts: Iterable[str], what: str = "a label") -> Mapping[str, int]:
    """Return the id of each text, adding those that are new.

    New rows go in sorted order, so that two writers cannot block each other in a circle.
    """
    wanted = sorted({check_term(text, what) for text in texts})
    known = dict(execute(connection, "term_ids", {"texts": wanted}).fetchall())
    new = [text for text in wanted if text not in known]
    if new:
        execute(connection, "term_add", {"texts": new})
        known.update(execute(connection, "term_ids", {"texts": new}).fetchall())
    return known


@contextmanager
def terms_in_use(connection: Connection[Any]) -> Iterator[None]:
    """Keep terms and datasets that no row names yet from being cleared away; the block gives them rows."""
    execute(connection, "hold_terms")
    try:
        yield
    finally:
        if not connection.closed:
            execute(connection, "release_terms")


def terms_alone(connection: Connection[Any]) -> bool:
    """Tell whether nobody is in `terms_in_use`, and keep it so until the present transaction ends."""
    return bool(fetch_value(connection, "try_terms_alone"))


def prune_terms(connection: Connection[Any]) -> int:
    """Delete the terms, with their embeddings, that nothing names any more; return their number.

    To be called after `terms_alone`, in its transaction.
    """
    return int(fetch_value(connection, "prune_terms"))


def add_vocabulary(
    connection: Connection[Any],
    name: str,
    kind: Literal["class", "predicate", "query"],
    texts: Sequence[str],
    *,
    ordered: bool = True,
) -> int:
    """Add `texts` to the vocabulary `name`, made if need be; return its id. Terms it has already stay."""
    ids = term_ids(connection, texts, f"a term of the vocabulary {name}")
    vocabulary_id = fetch_value(connection, "vocabulary_upsert", {"name": name, "kind": kind})
    execute(
        connection,
        "vocabulary_add_terms",
        {
            "vocabulary_id": vocabulary_id,
            "term_ids": [ids[text] for text in texts],
            "positions": list(range(len(texts))) if ordered else [None] * len(texts),
        },
    )
    return int(vocabulary_id)
