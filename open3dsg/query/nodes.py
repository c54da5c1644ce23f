"""Ask for objects in words: text to vector, then one SQL function over one scan or all of them."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from pgvector import Vector
from psycopg.types.json import Jsonb

from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.terms import check_term
from open3dsg.errors import UserError
from open3dsg.store.encoders import find_encoder, query_vector
from open3dsg.store.scans import check_dataset, find_scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from psycopg import Connection, Cursor

    from open3dsg.store.encoders import StoredEncoder

MOST_HITS = 2**31 - 1  # the k of search_nodes_v1 is an integer

# What search_nodes_v1 raises for arguments that a person can mend.
_REFUSALS = (psycopg.errors.NoDataFound, psycopg.errors.InvalidParameterValue, psycopg.errors.DataException)


@dataclass(frozen=True)
class NodeFilters:
    """What hits must be: of a scan, of a dataset, of a label, with their centroid within a box.

    `within`: x0, y0, z0, x1, y1, z1, metres, world z-up. `exact` compares with every row that passes.
    """

    scan: str | None = None
    dataset: str | None = None
    label: str | None = None
    within: tuple[float, float, float, float, float, float] | None = None
    exact: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the filters as search_nodes_v1 takes them: only those that are set."""
        return {name: value for name, value in vars(self).items() if value not in (None, False)}


@dataclass(frozen=True)
class NodeHit:
    """An instance that was found: cosine `similarity` to the query, `position` x, y, z of its centroid."""

    scan: str
    instance: int
    label: str
    similarity: float
    position: tuple[float, float, float]  # metres, world
    dataset: str
    query: str

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints: scan, instance, label, similarity, position come first."""
        return {**vars(self), "position": list(self.position)}


def search_nodes(
    connection: Connection[Any],
    texts: Sequence[str],
    *,
    k: int = 5,
    encoder: str | None = None,
    filters: NodeFilters | None = None,
) -> list[list[NodeHit]]:
    """Return for each text the `k` nodes most similar to it, best first; fewer only where fewer match.

    Raises UserError for a text that cannot be asked, an encoder without features, an unknown scan, dataset
    or label, a box that is not finite, and k out of range; nothing is kept of the `texts` then.
    """
    filters = check_question(connection, texts, k, filters)
    stored = find_encoder(connection, encoder)
    asked = {"encoder": stored.full_name, "k": k, "filters": Jsonb(filters.as_json())}

    def search(query: Vector) -> Cursor[Any]:
        return execute(connection, "search_nodes", {**asked, "query": query})

    return ask(connection, texts, stored, search)


def ask(
    connection: Connection[Any],
    texts: Sequence[str],
    words: StoredEncoder,
    search: Callable[[Vector], Cursor[Any]],
) -> list[list[NodeHit]]:
    """Return the hits of each text: `search` is given its vector by the encoder `words`.

    Raises UserError, in one line, for what the database refuses.
    """
    answers = []
    for text in texts:
        vector = Vector(query_vector(connection, words, text))
        with refusals_told():
            rows = search(vector).fetchall()
        answers.append([NodeHit(s, i, t, sim, tuple(at), d, text) for s, i, t, sim, at, d in rows])
    return answers


@contextmanager
def refusals_told() -> Iterator[None]:
    """Raise UserError, in one line, for arguments that a SQL function refuses and a person can mend."""
    try:
        yield
    except _REFUSALS as error:
        hint = f"; {error.diag.message_hint}" if error.diag.message_hint else ""
        raise UserError(f"{error.diag.message_primary}{hint}") from error


def check_asked_by(encoder: str | None, run: str | None) -> None:
    """Raise UserError where both are given."""
    if encoder is not None and run is not None:
        raise UserError("--run asks by its own encoder: leave out --encoder")


def check_question(
    connection: Connection[Any], texts: Sequence[str], k: int, filters: NodeFilters | None
) -> NodeFilters:
    """Return the filters as SQL takes them; UserError for what cannot be asked."""
    if not 1 <= k <= MOST_HITS:
        raise UserError(f"-k is {k}: give 1 to {MOST_HITS}")
    for text in texts:
        check_term(text, "a query")
    return _checked(connection, filters or NodeFilters())


def _checked(connection: Connection[Any], filters: NodeFilters) -> NodeFilters:
    """Refuse names that the store does not know, rather than answer with nothing."""
    if filters.within is not None and not all(map(math.isfinite, filters.within)):
        raise UserError(
            f"--within is {' '.join(map(str, filters.within))}: give six finite numbers, in metres"
        )
    if filters.dataset is not None:
        check_dataset(connection, filters.dataset)
    if filters.label is not None and not fetch_value(connection, "has_label", {"text": filters.label}):
        close = ", ".join(name for (name,) in execute(connection, "labels_like", {"text": filters.label}))
        raise UserError(
            f"no instance is labelled {filters.label!r}" + (f"; did you mean {close}?" if close else "")
        )
    if filters.scan is None:
        return filters
    scan = find_scan(connection, filters.scan)
    return NodeFilters(scan.name, scan.dataset, filters.label, filters.within, filters.exact)
