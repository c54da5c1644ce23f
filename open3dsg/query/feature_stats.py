"""What features take, and what the published layout would take for the same training units.

Open3DSG (Koch et al., CVPR 2024) dumps a file a training unit, with a row for each of its objects and for
each directed pair of them, what no frame shows included: `_dump_features` in open3dsg/scripts/trainer.py.
The row of a pair is the tokens of InstructBLIP in bfloat16 (257 x 1408 numbers, 723,712 bytes) or a CLIP
embedding in float16, as clip.load gives it on a GPU; that of an object is such an embedding too, or with
OpenSeg 768 numbers of float64, the type of the array that open3dsg/models/sgpn.py gathers them in. Here the
same is reckoned with an encoder's own number of tokens and dimension. Heads of files, and the flags that say
which objects are valid, a byte each, are left out.

Between that and what the store takes lie six levers, each over what the one before it left:

- symmetry: both directions of a pair are one row;
- sharing: what several units speak of is one row;
- absence: what no frame shows has none;
- format: fewer and smaller numbers, see `open3dsg.encoders.tokens`;
- packing: what lossless packing saves on tokens;
- rest: what else a row holds, which saves less than nothing: keys, evidence, and beside tokens the embedding
  for search.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from open3dsg.db.queries import execute
from open3dsg.encoders.tokens import TokenFormat, token_bytes
from open3dsg.store.encoders import find_encoder
from open3dsg.store.scans import check_dataset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

    from open3dsg.encoders.tokens import Layout, TokenDtype

_HALF, _DOUBLE = 2, 8


@dataclass(frozen=True)
class Stored:
    """The rows of one kind: `nodes`, `pairs`, `tokens` or `captions`.

    `bytes` are those of their columns, wherever they lie, and of the heads of rows: no indexes, no free
    space. `payload_bytes` are those of the numbers, or letters, alone.
    """

    rows: int
    scans: int  # that have any
    bytes: int
    payload_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints: the means are of the scans and things that have any."""
        means = {"bytes_a_row": self.bytes / self.rows, "bytes_a_scan": self.bytes / self.scans}
        return {**vars(self), **means}


@dataclass(frozen=True)
class Published:
    """Training units in the published layout, and how the store comes to fewer bytes for the same."""

    units: int
    rows: int  # of all units; of pairs both directions
    row_bytes: int
    left: Mapping[str, int]  # lever -> bytes that are left after it; the last are those that are stored

    @property
    def bytes(self) -> int:
        """All rows of all units."""
        return self.rows * self.row_bytes

    @property
    def stored_bytes(self) -> int:
        """Bytes that the store takes for the things of these units; see `Stored`."""
        return list(self.left.values())[-1]

    @property
    def saved(self) -> Mapping[str, int]:
        """Lever -> bytes; they add up to all that is saved."""
        before = [self.bytes, *self.left.values()]
        return {name: start - end for start, (name, end) in zip(before, self.left.items(), strict=False)}

    @property
    def share(self) -> Mapping[str, float | None]:
        """Lever -> what it leaves of what there was before it; their product is stored by published bytes.

        None where there was nothing.
        """
        before = [self.bytes, *self.left.values()]
        pairs = zip(before, self.left.items(), strict=False)
        return {name: end / start if start else None for start, (name, end) in pairs}

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        levers = {
            name: {"bytes_left": self.left[name], "saved": self.saved[name], "share": self.share[name]}
            for name in self.left
        }
        return {
            "units": self.units,
            "rows": self.rows,
            "row_bytes": self.row_bytes,
            "bytes": self.bytes,
            "stored_bytes": self.stored_bytes,
            "stored_share": self.stored_bytes / self.bytes if self.bytes else None,
            "levers": levers,
        }


@dataclass(frozen=True)
class EncoderStats:
    """What one revision of an encoder takes, and against what, by kind; `published` is of nodes and pairs."""

    encoder: str  # name@revision
    kinds: Mapping[str, Stored]
    published: Mapping[str, Published]  # empty where no training units were built

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "encoder": self.encoder,
            "bytes": sum(kind.bytes for kind in self.kinds.values()),
            "kinds": {name: kind.as_json() for name, kind in self.kinds.items()},
            "published": {name: layout.as_json() for name, layout in self.published.items()},
        }


@dataclass(frozen=True)
class _Row:
    """A row of the query: the rows of a kind, and of tokens those in one format."""

    encoder: str
    views: str
    dimension: int
    tokens: int | None
    kind: str
    layout: str | None
    dtype: str | None
    scans: int
    rows: int
    bytes: int
    payload_bytes: int
    unit_rows: int
    unit_bytes: int
    unit_payload_bytes: int


@dataclass(frozen=True)
class _Units:
    """Training units of the scans that an encoder was dumped for, with the things of one kind in them."""

    units: int
    unit_things: int  # unit by unit; pairs without direction
    things: int  # each once


def feature_stats(
    connection: Connection[Any], *, dataset: str | None = None, encoder: str | None = None
) -> list[EncoderStats]:
    """Count what the features of each encoder take, or of one, in all datasets or in one.

    The published layout is reckoned for the scans for which an encoder was dumped. Raises UserError for a
    dataset or encoder that the store has not.
    """
    if dataset is not None:
        check_dataset(connection, dataset)
    if encoder is not None:
        encoder = find_encoder(connection, encoder).full_name
    asked = {"dataset": dataset, "encoder": encoder}
    of_encoder: dict[str, list[_Row]] = defaultdict(list)
    for values in execute(connection, "feature_stats", asked):
        row = _Row(*values)
        of_encoder[row.encoder].append(row)
    units = {
        (name, kind): _Units(*counts) for name, kind, *counts in execute(connection, "feature_units", asked)
    }
    return [_encoder_stats(name, rows, units) for name, rows in of_encoder.items()]


def _encoder_stats(name: str, rows: Sequence[_Row], units: Mapping[tuple[str, str], _Units]) -> EncoderStats:
    by_kind: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        by_kind[row.kind].append(row)
    published = {}
    if by_kind["nodes"] and (of_nodes := units.get((name, "nodes"))):
        published["nodes"] = _nodes(by_kind["nodes"], of_nodes)
    if by_kind["pairs"] and (of_pairs := units.get((name, "pairs"))):
        published["pairs"] = _pairs(by_kind["pairs"], by_kind["tokens"], of_pairs)
    kinds = {kind: _stored(of_kind) for kind, of_kind in by_kind.items() if of_kind}
    return EncoderStats(name, kinds, published)


def _stored(rows: Sequence[_Row]) -> Stored:
    return Stored(
        sum(row.rows for row in rows),
        max(row.scans for row in rows),
        sum(row.bytes for row in rows),
        sum(row.payload_bytes for row in rows),
    )


def _nodes(rows: Sequence[_Row], units: _Units) -> Published:
    (nodes,) = rows
    row_bytes = nodes.dimension * (_DOUBLE if nodes.views == "pixels" else _HALF)
    left = {
        "sharing": units.things * row_bytes,
        "absence": nodes.unit_rows * row_bytes,
        "format": nodes.unit_payload_bytes,
        "rest": nodes.unit_bytes,
    }
    return Published(units.units, units.unit_things, row_bytes, left)


def _pairs(rows: Sequence[_Row], tokens: Sequence[_Row], units: _Units) -> Published:
    (pairs,) = rows
    row_bytes = (pairs.tokens or 1) * pairs.dimension * _HALF
    # Where no tokens are kept the embedding is what is left of them.
    pooled = (pairs.unit_rows - sum(row.unit_rows for row in tokens)) * pairs.dimension * _HALF
    left = {
        "symmetry": units.unit_things * row_bytes,
        "sharing": units.things * row_bytes,
        "absence": pairs.unit_rows * row_bytes,
        "format": pooled + sum(row.unit_rows * _unpacked_bytes(row) for row in tokens),
        "packing": pooled + sum(row.unit_payload_bytes for row in tokens),
        "rest": pairs.unit_bytes + sum(row.unit_bytes for row in tokens),
    }
    return Published(units.units, 2 * units.unit_things, row_bytes, left)


def _unpacked_bytes(row: _Row) -> int:
    form = TokenFormat(cast("Layout", row.layout), cast("TokenDtype", row.dtype))
    return token_bytes(form, row.tokens or 1, row.dimension)
