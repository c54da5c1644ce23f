"""What features take, against a plain count of the published layout over the same made units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import psycopg
import pytest

from open3dsg.encoders.tokens import TokenFormat
from open3dsg.errors import UserError
from open3dsg.query.feature_stats import EncoderStats, Published, feature_stats
from open3dsg.store.pair_features import write_pair_features
from tests.db.pairs import all_pairs, made_features, rows, write_scan, write_token_encoder

Database = psycopg.Connection[Any]
Pair = tuple[int, int]


class Room(NamedTuple):
    """A scan of five instances: its units, and the pairs that a frame shows."""

    dataset: str
    units: Mapping[int, Sequence[int]]
    shown: Sequence[Pair]
    form: TokenFormat


# Of room a the whole is a unit too, which does not count beside others; of b it is all there is.
ROOMS = {
    "a": Room(
        "d",
        {0: [1, 2, 3, 4], 1: [2, 3, 4, 5], -1: [1, 2, 3, 4, 5]},
        [(1, 2), (2, 3), (2, 4), (3, 4), (4, 5), (1, 5)],  # no unit but the whole has 1 and 5
        TokenFormat("grid17", "int8"),
    ),
    "b": Room("d", {-1: [1, 2, 3]}, [(1, 3)], TokenFormat("full", "fp16")),
    "c": Room("other", {0: [1, 2, 4]}, [(1, 2)], TokenFormat("pooled")),
}
FAR = (2, 4)  # in unit 0 of a, whose pairs are nearer than this one
ROW = 17 * 6 * 2


def write_room(database: Database, name: str, room: Room) -> int:
    scan = write_scan(database, name, 5, room.dataset)
    [(label,)] = rows(database, "SELECT term_id FROM term")
    for a, b in all_pairs(5):
        database.execute(
            "INSERT INTO pair VALUES (%s, %s, %s, '\\x00000000', 1, '{0,0,0}', %s, 0, 0)",
            [scan, a, b, 9.0 if (a, b) == FAR else 0.5],
        )
    for number, members in room.units.items():
        method, furthest = ("full", None) if number < 0 else ("window", 1.0 if number == 0 else None)
        database.execute(
            "INSERT INTO subgraph VALUES (%s, %s, %s, NULL, %s)", [scan, number, method, furthest]
        )
        for member in members:
            database.execute(
                "INSERT INTO subgraph_member VALUES (%s, %s, %s, %s)", [scan, number, member, label]
            )
    return scan


@pytest.fixture
def encoder_id(database: Database) -> int:
    encoder = write_token_encoder(database)
    for name, room in ROOMS.items():
        scan = write_room(database, name, room)
        write_pair_features(database, scan, encoder.encoder_id, made_features(room.shown, room.form))
    return encoder.encoder_id


def unit_pairs(room: Room) -> list[Pair]:
    """The directed pairs of each counted unit, as the published dump has them one after the other."""
    counted = [number for number in room.units if number >= 0] or list(room.units)
    return [
        pair
        for number in counted
        for pair in permutations(room.units[number], 2)
        if not (number == 0 and tuple(sorted(pair)) == FAR)
    ]


def expected(names: Sequence[str]) -> dict[str, int]:
    """What is published, and what each lever leaves of it, but for the rest of a row."""
    totals = dict.fromkeys(("rows", "symmetry", "sharing", "absence", "format", "packing"), 0)
    for room in (ROOMS[name] for name in names):
        directed = unit_pairs(room)
        once = {(min(pair), max(pair)) for pair in directed}
        present = once & set(room.shown)
        totals["rows"] += len(directed)
        totals["symmetry"] += len(directed) // 2 * ROW
        totals["sharing"] += len(once) * ROW
        totals["absence"] += len(present) * ROW
        a_pair = {"grid17": 17 * (6 + 4), "full": 17 * 6 * 2, "pooled": 6 * 2}[room.form.layout]
        totals["format"] += len(present) * a_pair
        for feature in made_features(sorted(present), room.form):
            kept = feature.tokens
            totals["packing"] += 12 if kept is None else len(kept.tokens) + len(kept.scales or b"")
    return totals


def check(published: Published, names: Sequence[str]) -> None:
    wanted = expected(names)
    assert published.rows == wanted.pop("rows")
    assert published.row_bytes == ROW
    assert {name: left for name, left in published.left.items() if name != "rest"} == wanted
    assert published.stored_bytes == published.left["rest"] > published.left["packing"]
    assert sum(published.saved.values()) == published.bytes - published.stored_bytes
    shares = [share for share in published.share.values() if share is not None]
    assert math.prod(shares) == pytest.approx(published.stored_bytes / published.bytes, rel=1e-12)
    assert published.share["symmetry"] == 0.5


@pytest.mark.usefixtures("encoder_id")
def test_levers_are_those_of_a_plain_count(database: Database) -> None:
    [stats] = feature_stats(database)
    assert (stats.encoder, list(stats.kinds)) == ("toytokens@r", ["pairs", "tokens"])
    assert stats.published["pairs"].units == 4
    check(stats.published["pairs"], "abc")
    [of_d] = feature_stats(database, dataset="d", encoder="toytokens")
    assert of_d.published["pairs"].units == 3
    check(of_d.published["pairs"], "ab")
    assert (of_d.kinds["pairs"].rows, of_d.kinds["pairs"].scans) == (7, 2)
    assert (stats.kinds["tokens"].rows, stats.kinds["tokens"].scans) == (7, 2)


@pytest.mark.usefixtures("encoder_id")
def test_bytes_are_those_of_rows_as_the_server_measures_them(database: Database) -> None:
    """A whole row as the server sizes it has its head and gaps between columns, but no place on the page."""
    [stats] = feature_stats(database)
    for kind, table in (("pairs", "pair_feature"), ("tokens", "pair_tokens")):
        [(count, size)] = rows(database, f"SELECT count(*), sum(pg_column_size(t.*)) FROM {table} t")
        assert 0 <= size + 4 * count - stats.kinds[kind].bytes <= 16 * count, kind
    packed = [feature.tokens for room in ROOMS.values() for feature in made_features(room.shown, room.form)]
    assert stats.kinds["tokens"].payload_bytes == sum(
        len(each.tokens) + len(each.scales or b"") for each in packed if each
    )


def test_long_tokens_count_though_they_lie_out_of_line(database: Database, encoder_id: int) -> None:
    before = feature_stats(database)[0].kinds["tokens"].bytes
    database.execute(
        "UPDATE pair_tokens SET tokens = decode(repeat('a7', 500000), 'hex')"
        " WHERE (instance_a, instance_b) = (4, 5)"
    )
    after = feature_stats(database)[0].kinds["tokens"].bytes
    assert 499_000 < after - before < 501_000


def test_a_scan_that_was_dumped_without_a_pair_counts(database: Database, encoder_id: int) -> None:
    scan = write_room(database, "empty", Room("d", {0: [1, 2]}, [], TokenFormat()))
    before = feature_stats(database, dataset="d")[0].published["pairs"]
    database.execute(
        "INSERT INTO ledger (scan_id, step, variant, chunk, step_version, options_hash, options, chunks,"
        " counts, problems) VALUES (%s, 'features.pairs', 'toytokens@r', 0, 1, '', '{}', 1, '{}', '[]')",
        [scan],
    )
    after = feature_stats(database, dataset="d")[0].published["pairs"]
    assert (after.units, after.rows) == (before.units + 1, before.rows + 2)
    assert after.left["sharing"] == before.left["sharing"] + ROW
    assert after.left["absence"] == before.left["absence"]


def test_without_units_nothing_is_compared(database: Database) -> None:
    encoder, scan = write_token_encoder(database), write_scan(database, "s", 3)
    write_pair_features(database, scan, encoder.encoder_id, made_features([(1, 2)], TokenFormat()))
    [stats] = feature_stats(database)
    assert stats.published == {}
    assert stats.as_json()["bytes"] == stats.kinds["pairs"].bytes + stats.kinds["tokens"].bytes


@pytest.mark.parametrize(("views", "number"), [("pixels", 8), ("crops", 2)])
def test_nodes_count_as_published_for_their_kind_of_encoder(
    database: Database, views: str, number: int
) -> None:
    write_room(database, "a", ROOMS["a"])
    database.execute(
        "INSERT INTO encoder (name, revision, dimension, views, is_active) VALUES ('e', 'r', 6, %s, true)",
        [views],
    )
    for instance in (1, 2, 3):
        database.execute(
            "INSERT INTO node_feature VALUES (1, 1, %s, '[1,0,0,0,0,0]', '{1}', '{0,0,1,1}', '{1}')",
            [instance],
        )
    nodes = feature_stats(database)[0].published["nodes"]
    assert (nodes.units, nodes.rows, nodes.row_bytes) == (2, 8, 6 * number)
    left = {name: left for name, left in nodes.left.items() if name != "rest"}
    assert left == {"sharing": 5 * 6 * number, "absence": 3 * 6 * number, "format": 3 * 6 * 2}
    assert sum(nodes.saved.values()) == nodes.bytes - nodes.stored_bytes


def test_captions_are_counted(database: Database, encoder_id: int) -> None:
    database.execute("INSERT INTO relation_caption VALUES (1, 1, 2, 1, 'the thing is on the thing')")
    captions = feature_stats(database)[0].kinds["captions"]
    assert (captions.rows, captions.scans, captions.payload_bytes) == (1, 1, 25)
    assert 70 < captions.bytes < 80


@pytest.mark.usefixtures("encoder_id")
def test_json_says_what_is_counted(database: Database) -> None:
    [stats] = feature_stats(database)
    told = stats.as_json()
    pairs = told["published"]["pairs"]
    assert list(pairs["levers"]) == ["symmetry", "sharing", "absence", "format", "packing", "rest"]
    assert pairs["bytes"] - sum(lever["saved"] for lever in pairs["levers"].values()) == pairs["stored_bytes"]
    assert told["kinds"]["pairs"]["bytes_a_row"] == stats.kinds["pairs"].bytes / 8
    assert told["kinds"]["pairs"]["bytes_a_scan"] == stats.kinds["pairs"].bytes / 3


def test_other_revisions_are_apart_and_names_are_checked(database: Database, encoder_id: int) -> None:
    later = write_token_encoder(database, "later")
    write_pair_features(database, 1, later.encoder_id, made_features([(1, 2)], TokenFormat()))

    def names(found: list[EncoderStats]) -> list[str]:
        return [each.encoder for each in found]

    assert names(feature_stats(database)) == ["toytokens@later", "toytokens@r"]
    assert names(feature_stats(database, encoder="toytokens@later")) == ["toytokens@later"]
    assert names(feature_stats(database, encoder="toytokens")) == ["toytokens@r"]
    assert names(feature_stats(database, dataset="other", encoder="toytokens@later")) == []
    with pytest.raises(UserError, match="no dataset 'e'"):
        feature_stats(database, dataset="e")
    with pytest.raises(UserError, match="no features of an encoder 'clip'"):
        feature_stats(database, encoder="clip")
