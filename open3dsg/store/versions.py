"""Revisions of encoders side by side: how far they are apart, what a bare name means, dropping them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from open3dsg.db import ledger
from open3dsg.db.queries import execute, fetch_value
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from psycopg import Connection

    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.scans import StoredScan

# What an encoder has of a scan -> the step that made it.
KINDS: Mapping[str, str] = {
    "nodes": "features.nodes",
    "pairs": "features.pairs",
    "captions": "features.captions",
}
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True)
class Changed:
    """A node, or with `other` a pair, and the cosine distance between its two embeddings, 0 to 2."""

    dataset: str
    scan: str
    instance: int
    other: int | None
    label: str
    other_label: str | None
    distance: float


@dataclass(frozen=True)
class FeatureDiff:
    """Two encoders over the same things: `both` have a feature of them, `only_a` and `only_b` one has.

    `mean`, `largest` and `quantiles` are of the cosine distance over both, null where there are none.
    """

    a: str
    b: str
    both: int
    only_a: int
    only_b: int
    mean: float | None
    largest: float | None
    quantiles: Mapping[str, float | None]
    most: Sequence[Changed]

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return asdict(self)


@dataclass(frozen=True)
class Content:
    """What an encoder has of a scan; `scan` is `dataset/name`."""

    scan: str
    nodes: int
    pairs: int
    captions: int


@dataclass(frozen=True)
class Revision:
    """One revision of a name, as `name@revision`."""

    encoder: str
    is_active: bool
    nodes: int
    pairs: int


def diff_features(
    connection: Connection[Any],
    a: StoredEncoder,
    b: StoredEncoder,
    *,
    pairs: bool,
    dataset: str | None,
    most: int,
) -> FeatureDiff:
    """Compare what two encoders made of nodes, or of `pairs`; the `most` changed of them come by name.

    Raises UserError for vectors of different length, which have no distance.
    """
    if a.dimension != b.dimension:
        raise UserError(
            f"{a.full_name} has {a.dimension} numbers an embedding, {b.full_name} has {b.dimension}:"
            " they are not of one space"
        )
    asked = {"a": a.full_name, "b": b.full_name, "pairs": pairs, "dataset": dataset}
    row = execute(connection, "feature_diff", {**asked, "quantiles": list(QUANTILES)}).fetchone()
    both, only_a, only_b, mean, largest, quantiles = row or (0, 0, 0, None, None, None)
    changed = execute(connection, "feature_diff_most", {**asked, "most": most})
    return FeatureDiff(
        a.full_name,
        b.full_name,
        both,
        only_a,
        only_b,
        mean,
        largest,
        dict(zip(map(str, QUANTILES), quantiles or [None] * len(QUANTILES), strict=True)),
        [Changed(*each) for each in changed],
    )


def encoder_content(connection: Connection[Any], encoder: StoredEncoder) -> list[Content]:
    """Return what the store has of an encoder, scan by scan, those included where it found nothing."""
    asked = {"encoder_id": encoder.encoder_id, **_ledger_key(encoder)}
    return [Content(*row) for row in execute(connection, "encoder_content", asked)]


def drop_features(
    connection: Connection[Any], encoder: StoredEncoder, scan: StoredScan, kinds: Collection[str]
) -> Mapping[str, int]:
    """Drop what an encoder has of one scan, of some `KINDS`, in a transaction; return how many of each.

    UserError, and nothing is dropped, where a step works on the scan at this moment.
    """
    asked = {"scan_id": scan.scan_id, "encoder_id": encoder.encoder_id}
    chosen = {kind: kind in kinds for kind in KINDS}
    with ledger.scan_lock_at_once(connection, scan.dataset, scan.name), connection.transaction():
        counts = execute(connection, "encoder_drop", {**asked, **chosen}).fetchone()
        ledger.forget(connection, scan.scan_id, [KINDS[kind] for kind in kinds], encoder.full_name)
    gone = dict(zip(KINDS, counts or (), strict=True))
    return {kind: gone[kind] for kind in kinds}


def clear_encoder(connection: Connection[Any], encoder: StoredEncoder) -> tuple[Sequence[str], bool]:
    """Drop the vector indexes that features of an encoder are gone from, and its row if nothing is left.

    Words that it embedded go with the row; a sentence encoder stays, since its words are all that it is for.
    Returns the names of the indexes, and whether the row is gone.
    """
    indexes = fetch_value(connection, "encoder_drop_indexes", {"encoder": encoder.full_name})
    asked = {"encoder_id": encoder.encoder_id, **_ledger_key(encoder)}
    with connection.transaction():
        if fetch_value(connection, "encoder_hold", asked) in (None, "text"):
            return indexes, False
        gone = execute(connection, "encoder_delete_unused", asked).rowcount
    return indexes, bool(gone)


def revisions(connection: Connection[Any], name: str) -> list[Revision]:
    """Return all revisions of an encoder's name, the active one first."""
    return [Revision(*row) for row in execute(connection, "encoder_revisions", {"name": name})]


def _ledger_key(encoder: StoredEncoder) -> Mapping[str, Any]:
    return {"variant": encoder.full_name, "steps": list(KINDS.values())}
