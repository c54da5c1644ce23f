"""Features of pairs: the pooled embedding with its evidence, and the packed tokens beside it.

Neither way do more than a few dozen pairs lie in memory at a time, which at 257 tokens of 1,408 halves are
some 20 MB.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from pgvector import HalfVector

from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute, fetch_value, stream
from open3dsg.encoders.tokens import PackedTokens, unpack_halves, unpack_tokens
from open3dsg.errors import UserError
from open3dsg.store.captions import clear_captions, mark_captions_stale

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.store.encoders import StoredEncoder

_TOGETHER = 32  # pairs a round trip

_KEY = {"scan_id": "int8", "encoder_id": "int4", "instance_a": "int4", "instance_b": "int4"}
FEATURE_COLUMNS = _KEY | {
    "embedding": "halfvec",
    "frame_nos": "int4[]",
    "boxes": "int2[]",
    "weights": "float4[]",
}
TOKEN_COLUMNS = _KEY | {
    "layout": "text",
    "dtype": "text",
    "packing": "text",
    "tokens": "bytea",
    "scales": "bytea",
}


@dataclass(frozen=True, eq=False)
class PairFeature:
    """What an encoder made of a pair, from n views."""

    instance_a: int  # below instance_b
    instance_b: int
    embedding: NDArray[np.float32]  # (d,) unit length
    frame_nos: Sequence[int]  # n
    boxes: NDArray[np.integer[Any]]  # (n, 4) edge boxes on the photo
    weights: Sequence[float]  # n
    tokens: PackedTokens | None  # None: only the embedding is kept


def write_pair_features(
    connection: Connection[Any], scan_id: int, encoder_id: int, features: Iterable[PairFeature]
) -> int:
    """Write features of pairs that have none yet, as they come, in the caller's transaction.

    Returns their number. Raises ValueError for an embedding that is not finite in halves, naming the pair;
    what else the tables refuse is told by `copy_in`.
    """
    left = iter(features)
    count = 0
    while together := list(islice(left, _TOGETHER)):
        count += copy_in(
            connection,
            "pair_feature",
            FEATURE_COLUMNS,
            (_feature_row(scan_id, encoder_id, feature) for feature in together),
        )
        copy_in(connection, "pair_tokens", TOKEN_COLUMNS, _token_rows(scan_id, encoder_id, together))
    return count


def clear_pair_features(
    connection: Connection[Any],
    scan_id: int,
    encoder_id: int,
    pairs: Sequence[tuple[int, int]] | None,
) -> None:
    """Drop the features of `pairs`, each (a, b) with a < b, or of all pairs of the scan, and their tokens.

    What the encoder said of them goes with them, and its captions are marked as stale.
    """
    execute(connection, "pair_feature_clear", _key(scan_id, encoder_id, pairs))
    clear_captions(connection, scan_id, encoder_id, pairs)
    mark_captions_stale(connection, scan_id, encoder_id)


def pair_looks(connection: Connection[Any], scan_id: int, encoder_id: int) -> Mapping[tuple[int, int], int]:
    """Return how many looks are behind each stored pair of a scan, ascending by (a, b)."""
    rows = execute(connection, "pair_feature_looks", _key(scan_id, encoder_id, None))
    return {(a, b): looks for a, b, looks in rows}


def read_pair_tokens(
    connection: Connection[Any],
    scan_id: int,
    encoder: StoredEncoder,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Yield (a, b, tokens) of `pairs` in their order, or of all pairs of the scan, ascending.

    Tokens are (T', dimension) float32 as they are stored; `spread_tokens` lays them out over the full grid.
    Where none are kept it is one row, the pooled embedding. A pair without a feature is passed over. The
    connection is free between two pairs. Raises UserError, naming scan and pair, for damaged bytes.
    """
    if pairs is None:
        pairs = list(pair_looks(connection, scan_id, encoder.encoder_id))
    for start in range(0, len(pairs), _TOGETHER):
        asked = _key(scan_id, encoder.encoder_id, pairs[start : start + _TOGETHER])
        rows = execute(connection, "pair_tokens_read", asked, binary=True).fetchall()
        for a, b, pooled, *packed in rows:
            try:
                tokens = _tokens(pooled, packed, encoder.dimension)
            except ValueError as error:
                raise _damaged(connection, scan_id, encoder, (a, b), error) from error
            yield a, b, tokens


def read_pair_halves(
    connection: Connection[Any],
    scan_id: int,
    encoder: StoredEncoder,
    pairs: Sequence[tuple[int, int]],
    out: NDArray[np.float16],
) -> None:
    """Fill `out`, (R, T, d) float16, with the tokens of R `pairs` in order, laid out by `spread_tokens`.

    What `read_pair_tokens` reads, but all of it by one query, and unpacked while the server fetches what is
    next: for the pairs of a training unit. Raises UserError, naming scan and pair, for a pair without a
    feature, for damaged bytes and for tokens that cannot be laid out so.
    """
    asked = _key(scan_id, encoder.encoder_id, pairs)
    rows = stream(connection, "pair_tokens_read", asked, binary=True)
    for pair, tokens in zip(pairs, out, strict=True):
        try:
            _fill(tokens, pair, next(rows, None))
        except ValueError as error:
            deque(rows, maxlen=0)  # the connection is free again behind the last one
            raise _damaged(connection, scan_id, encoder, pair, error) from error
    deque(rows, maxlen=0)


def _fill(out: NDArray[np.float16], pair: tuple[int, int], row: tuple[Any, ...] | None) -> None:
    """Lay out a row of `pair_tokens_read`; ValueError unless it is one of `pair`."""
    if row is None or row[:2] != pair:
        raise ValueError("there are none")
    _, _, pooled, *packed = row
    if pooled is None:
        unpack_halves(PackedTokens(*packed), out)
    else:
        out[:] = pooled.to_numpy()


def _damaged(
    connection: Connection[Any],
    scan_id: int,
    encoder: StoredEncoder,
    pair: tuple[int, int],
    error: ValueError,
) -> UserError:
    scan = fetch_value(connection, "scan_key", {"scan_id": scan_id})
    return UserError(
        f"scan {scan}, pair {pair[0]} and {pair[1]}, tokens of {encoder.full_name}: {error};"
        f" dump them again: open3dsg features dump --pairs --pair-encoder {encoder.name}"
        f" --scan {scan} --force"
    )


def _tokens(pooled: HalfVector | None, packed: Sequence[Any], dimension: int) -> NDArray[np.float32]:
    if pooled is None:
        return unpack_tokens(PackedTokens(*packed), dimension)
    row: NDArray[np.float32] = pooled.to_numpy().astype(np.float32)[None]
    return row


def _key(scan_id: int, encoder_id: int, pairs: Sequence[tuple[int, int]] | None) -> Mapping[str, object]:
    a, b = (None, None) if pairs is None else ([a for a, _ in pairs], [b for _, b in pairs])
    return {"scan_id": scan_id, "encoder_id": encoder_id, "a": a, "b": b}


def _feature_row(scan_id: int, encoder_id: int, feature: PairFeature) -> tuple[object, ...]:
    with np.errstate(over="ignore"):
        halves = np.asarray(feature.embedding, np.float32).astype(np.float16)
    if not np.isfinite(halves).all():
        pair = f"{feature.instance_a} and {feature.instance_b}"
        raise ValueError(f"the embedding of pair {pair} has a number that is not finite or beyond 65,504")
    return (
        scan_id,
        encoder_id,
        feature.instance_a,
        feature.instance_b,
        HalfVector(halves),
        feature.frame_nos,
        np.asarray(feature.boxes).ravel().tolist(),
        feature.weights,
    )


def _token_rows(
    scan_id: int, encoder_id: int, features: Iterable[PairFeature]
) -> Iterator[tuple[object, ...]]:
    for feature in features:
        if (kept := feature.tokens) is not None:
            key = (scan_id, encoder_id, feature.instance_a, feature.instance_b)
            yield (*key, kept.layout, kept.dtype, kept.packing, kept.tokens, kept.scales)
