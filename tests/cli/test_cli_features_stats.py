"""`open3dsg features stats` and `features index`: what they print, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from open3dsg.encoders.tokens import TokenFormat
from open3dsg.store.pair_features import write_pair_features
from tests.command import Done
from tests.db.pairs import all_pairs, made_features, rows, write_scan, write_token_encoder

Run = Callable[..., Done]


@pytest.fixture
def pairs(database: psycopg.Connection[Any]) -> None:
    """Features of the six pairs of scan d/s by toytokens, and the graph of the whole scan over them."""
    scan, encoder = write_scan(database, "s", 4), write_token_encoder(database)
    form = TokenFormat("grid17", "int8")
    write_pair_features(database, scan, encoder.encoder_id, made_features(all_pairs(4), form))
    database.execute("INSERT INTO subgraph VALUES (%s, -1, 'full', NULL, NULL)", [scan])
    database.execute("INSERT INTO subgraph_member SELECT scan_id, -1, instance_no, label_id FROM instance")
    database.execute(
        "INSERT INTO pair SELECT scan_id, instance_a, instance_b, '\\x00000000', 1, '{0,0,0}', 1, 0, 0"
        " FROM pair_feature"
    )


def test_without_features_stats_says_so(run: Run) -> None:
    done = run("features", "stats")
    assert (done.code, done.err) == (0, "no features yet: run `open3dsg features dump`\n")
    assert run("features", "stats", "--json").json == []


@pytest.mark.usefixtures("pairs")
def test_stats_are_a_table_for_people_and_json_for_programs(run: Run) -> None:
    [told] = run("features", "stats", "--json").json
    pairs = told["published"]["pairs"]
    assert (told["encoder"], pairs["units"], pairs["rows"], pairs["row_bytes"]) == ("toytokens@r", 1, 12, 204)
    done = run("features", "stats", "--dataset", "d", "--encoder", "toytokens")
    lines = [line.split() for line in done.out.splitlines()]
    stored = told["kinds"]["tokens"]
    assert ["toytokens@r", "tokens", "1", "6", f"{stored['bytes']:,}"] == lines[2][:5]
    assert "toytokens@r, pairs: 12 rows of 204 bytes in 1 unit as published, 2,448 bytes" in done.out
    assert ["both", "directions", "once", "1,224", "1,224", "0.500"] in lines
    assert done.out.endswith(f"in all {pairs['stored_share']:.4f} of the published bytes\n")


def test_what_stats_cannot_find_is_told(run: Run, refused: Callable[..., str]) -> None:
    assert "no dataset 'x' in the store" in refused("features", "stats", "--dataset", "x")
    assert "no features of an encoder 'x'" in refused("features", "stats", "--encoder", "x")


@pytest.mark.usefixtures("pairs")
def test_an_index_is_built_and_built_again(
    run: Run, refused: Callable[..., str], database: psycopg.Connection[Any]
) -> None:
    def oid() -> int:
        [(found,)] = rows(database, "SELECT 'pair_feature_1_hnsw'::regclass::oid::int8")
        return int(found)

    line = refused("features", "index", "toytokens")
    assert line == (
        "error: the store has no features of instances by toytokens@r: for those of pairs say --pairs"
    )
    assert run("features", "index", "toytokens", "--pairs").out == "index pair_feature_1_hnsw is ready\n"
    before = oid()
    done = run("features", "index", "toytokens", "--pairs", "--rebuild")
    assert done.out == "index pair_feature_1_hnsw is ready\n"
    assert done.err == ""
    assert oid() != before
