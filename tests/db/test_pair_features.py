"""Features of pairs: as written so read, in the order asked, a few at a time; what is damaged is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import numpy as np
import psycopg
import pytest

from open3dsg.encoders.tokens import TokenFormat, pack_tokens, spread_tokens, unpack_tokens
from open3dsg.errors import UserError
from open3dsg.store import pair_features
from open3dsg.store.pair_features import (
    PairFeature,
    clear_pair_features,
    pair_looks,
    read_pair_halves,
    read_pair_tokens,
    write_pair_features,
)
from tests.db.pairs import (
    DIMENSION,
    TOKENS,
    all_pairs,
    made_features,
    made_tokens,
    rows,
    write_scan,
    write_token_encoder,
)

Database = psycopg.Connection[Any]

FORMS = [TokenFormat("full", "fp16"), TokenFormat("grid17", "int8"), TokenFormat("full", "fp8")]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.layout}-{form.dtype}")
def test_tokens_are_read_as_they_were_packed(database: Database, form: TokenFormat) -> None:
    scan, encoder = write_scan(database, "s", 9), write_token_encoder(database)
    pairs = all_pairs(9)  # 36, more than are read together
    assert write_pair_features(database, scan, encoder.encoder_id, made_features(pairs, form)) == 36
    read = list(read_pair_tokens(database, scan, encoder))
    assert [(a, b) for a, b, _ in read] == pairs
    for a, b, tokens in read:
        packed = pack_tokens(made_tokens(a, b), form)
        assert packed is not None
        np.testing.assert_array_equal(tokens, unpack_tokens(packed, DIMENSION))


def test_the_row_of_a_pair_has_its_evidence(database: Database) -> None:
    scan, encoder = write_scan(database, "s", 4), write_token_encoder(database)
    write_pair_features(database, scan, encoder.encoder_id, made_features([(2, 4)], TokenFormat()))
    [(a, b, embedding, frames, boxes, weights)] = rows(
        database, "SELECT instance_a, instance_b, embedding, frame_nos, boxes, weights FROM pair_feature"
    )
    assert (a, b, frames, boxes, weights) == (2, 4, [0, 1], [0, 1, 2, 3, 0, 1, 2, 3], [0.5, 0.5])
    mean = made_tokens(2, 4).mean(axis=0)
    np.testing.assert_allclose(embedding.to_numpy(), mean / np.linalg.norm(mean), atol=1e-3)
    assert pair_looks(database, scan, encoder.encoder_id) == {(2, 4): 2}


def test_pairs_come_in_the_order_asked_and_absent_ones_not_at_all(database: Database) -> None:
    scan, encoder = write_scan(database, "s", 9), write_token_encoder(database)
    stored = [pair for pair in all_pairs(9) if pair != (3, 5)]
    write_pair_features(database, scan, encoder.encoder_id, made_features(stored, TokenFormat()))
    asked = [(a, b) for a, b in reversed(all_pairs(9))]
    read = [(a, b) for a, b, _ in read_pair_tokens(database, scan, encoder, asked)]
    assert read == [pair for pair in asked if pair != (3, 5)]
    assert list(read_pair_tokens(database, scan, encoder, [])) == []
    assert list(read_pair_tokens(database, scan + 1, encoder)) == []


def test_without_tokens_the_pooled_embedding_is_read(database: Database) -> None:
    scan, encoder = write_scan(database, "s", 3), write_token_encoder(database)
    write_pair_features(
        database, scan, encoder.encoder_id, made_features([(1, 2)], TokenFormat("pooled", "fp16"))
    )
    assert rows(database, "SELECT count(*) FROM pair_tokens") == [(0,)]
    [(a, b, tokens)] = read_pair_tokens(database, scan, encoder)
    mean = made_tokens(1, 2).mean(axis=0)
    assert (a, b, tokens.shape) == (1, 2, (1, DIMENSION))
    np.testing.assert_allclose(tokens[0], mean / np.linalg.norm(mean), atol=1e-3)


@pytest.mark.parametrize(
    "form", [*FORMS, TokenFormat("pooled")], ids=lambda form: f"{form.layout}-{form.dtype}"
)
def test_halves_of_all_pairs_at_once(database: Database, form: TokenFormat) -> None:
    scan, encoder = write_scan(database, "s", 5), write_token_encoder(database)
    stored = [pair for pair in all_pairs(5) if pair != (2, 4)]
    write_pair_features(database, scan, encoder.encoder_id, made_features(stored, form))
    out = np.full((len(stored), TOKENS, DIMENSION), np.nan, np.float16)
    read_pair_halves(database, scan, encoder, stored[::-1], out)
    read = [tokens for _, _, tokens in read_pair_tokens(database, scan, encoder, stored[::-1])]
    wanted = np.stack([spread_tokens(tokens, TOKENS) for tokens in read])
    np.testing.assert_array_equal(out, wanted.astype(np.float16))
    with pytest.raises(UserError, match=r"^scan d/s, pair 2 and 4, tokens of toytokens@r: there are none"):
        read_pair_halves(database, scan, encoder, [(1, 2), (2, 4)], out[:2])


def test_few_pairs_lie_in_memory_at_a_time_and_the_connection_is_free(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_features, "_TOGETHER", 2)
    scan, encoder = write_scan(database, "s", 5), write_token_encoder(database)
    alive: WeakSet[PairFeature] = WeakSet()

    def watched() -> Iterator[PairFeature]:
        for feature in made_features(all_pairs(5), TokenFormat()):
            alive.add(feature)
            assert len(alive) <= 4  # those being written, and those being gathered
            yield feature

    assert write_pair_features(database, scan, encoder.encoder_id, watched()) == 10
    reader = read_pair_tokens(database, scan, encoder)
    next(reader)
    database.execute("DELETE FROM pair_feature WHERE (instance_a, instance_b) > (1, 3)")
    assert [(a, b) for a, b, _ in reader] == [(1, 3)]


def test_some_pairs_or_all_are_cleared_with_their_tokens(database: Database) -> None:
    scans = [write_scan(database, name, 4) for name in ("s", "t")]
    encoders = [write_token_encoder(database, revision) for revision in ("r", "later")]
    for scan in scans:
        for encoder in encoders:
            features = made_features(all_pairs(4), TokenFormat("grid17", "fp16"))
            write_pair_features(database, scan, encoder.encoder_id, features)

    def left() -> list[int]:
        counts = (len(pair_looks(database, scan, e.encoder_id)) for scan in scans for e in encoders)
        assert rows(database, "SELECT count(*) FROM pair_feature") == rows(
            database, "SELECT count(*) FROM pair_tokens"
        )
        return list(counts)

    clear_pair_features(database, scans[0], encoders[0].encoder_id, [(1, 3), (2, 4), (4, 9)])
    assert left() == [4, 6, 6, 6]
    assert list(pair_looks(database, scans[0], encoders[0].encoder_id)) == [(1, 2), (1, 4), (2, 3), (3, 4)]
    clear_pair_features(database, scans[0], encoders[0].encoder_id, [])
    assert left() == [4, 6, 6, 6]
    clear_pair_features(database, scans[1], encoders[1].encoder_id, None)
    assert left() == [4, 6, 6, 0]


def test_rows_are_part_of_the_callers_transaction(database: Database) -> None:
    scan, encoder = write_scan(database, "s", 4), write_token_encoder(database)
    with database.transaction(force_rollback=True):
        write_pair_features(database, scan, encoder.encoder_id, made_features([(1, 2)], TokenFormat()))
        assert pair_looks(database, scan, encoder.encoder_id) == {(1, 2): 1}
    assert pair_looks(database, scan, encoder.encoder_id) == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, 65_520.0])
def test_an_embedding_that_no_halves_hold_is_refused(database: Database, value: float) -> None:
    scan, encoder = write_scan(database, "s", 4), write_token_encoder(database)
    [feature] = made_features([(1, 3)], TokenFormat())
    wrong = replace(feature, embedding=np.full(DIMENSION, value, np.float32))
    with pytest.raises(ValueError, match="the embedding of pair 1 and 3 has a number that is not finite"):
        write_pair_features(database, scan, encoder.encoder_id, [wrong])
    assert pair_looks(database, scan, encoder.encoder_id) == {}


def test_pairs_the_wrong_way_round_or_of_unknown_instances_are_refused(database: Database) -> None:
    scan, encoder = write_scan(database, "s", 4), write_token_encoder(database)
    [feature] = made_features([(1, 3)], TokenFormat())
    with pytest.raises(psycopg.errors.CheckViolation):
        write_pair_features(
            database, scan, encoder.encoder_id, [replace(feature, instance_a=3, instance_b=1)]
        )
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        write_pair_features(database, scan, encoder.encoder_id, [replace(feature, instance_b=5)])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("tokens = substr(tokens, 1, 20)", "are no tokens|damaged planes"),
        ("tokens = set_byte(tokens, octet_length(tokens) - 1, 7), packing = 'zstd'", "damaged planes"),
        ("packing = 'zip'", "unknown packing 'zip'"),
        ("scales = substr(scales, 5)", "64 bytes of scales for 17 tokens"),
    ],
)
def test_damaged_tokens_are_told_with_scan_and_pair(database: Database, damage: str, told: str) -> None:
    scan, encoder = write_scan(database, "s", 4), write_token_encoder(database)
    form = TokenFormat("grid17", "int8")
    write_pair_features(database, scan, encoder.encoder_id, made_features(all_pairs(4), form))
    database.execute(f"UPDATE pair_tokens SET {damage} WHERE (instance_a, instance_b) = (2, 3)".encode())
    reader = read_pair_tokens(database, scan, encoder)
    assert [(a, b) for a, b, _ in (next(reader), next(reader), next(reader))] == [(1, 2), (1, 3), (1, 4)]
    refused = rf"^scan d/s, pair 2 and 3, tokens of toytokens@r: .*({told})"
    with pytest.raises(UserError, match=refused):
        next(reader)
    with pytest.raises(UserError, match=refused):
        read_pair_halves(database, scan, encoder, all_pairs(4), np.empty((6, TOKENS, DIMENSION), np.float16))
