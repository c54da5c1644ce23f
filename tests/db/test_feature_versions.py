"""Two revisions of an encoder: how far they are apart, dropping one, and what the bare name means."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from pgvector import HalfVector

from open3dsg.db import ledger
from open3dsg.db.connect import connect
from open3dsg.errors import UserError
from open3dsg.store.encoders import activate_encoder, choose_encoder, find_encoder
from open3dsg.store.scans import find_scan
from open3dsg.store.versions import (
    KINDS,
    QUANTILES,
    clear_encoder,
    diff_features,
    drop_features,
    encoder_content,
    revisions,
)
from tests import miniature as mini
from tests.db.pipeline import KEY, Database, ingest, rows

SECOND = "3rscan/second"
Vectors = NDArray[np.float32]


def add_encoder(database: Database, revision: str, dimension: int = 4, name: str = "toy") -> int:
    """Register a revision; the first of a name is the active one."""
    return int(
        database.execute(
            "INSERT INTO encoder (name, revision, dimension, views, is_active)"
            " VALUES (%(name)s, %(revision)s, %(dimension)s, 'crops',"
            "         NOT EXISTS (SELECT FROM encoder WHERE name = %(name)s)) RETURNING encoder_id",
            {"name": name, "revision": revision, "dimension": dimension},
        ).fetchall()[0][0]
    )


def add_nodes(database: Database, encoder: int, scan: str, numbers: list[int], vectors: Vectors) -> None:
    scan_id = find_scan(database, scan).scan_id
    for number, vector in zip(numbers, vectors, strict=True):
        database.execute(
            "INSERT INTO node_feature VALUES (%s, %s, %s, %s, '{}', '{}', '{}')",
            [scan_id, encoder, number, HalfVector(vector)],
        )
    _note(database, encoder, scan_id, "features.nodes")


def add_pairs(
    database: Database, encoder: int, scan: str, pairs: list[tuple[int, int]], vectors: Vectors
) -> None:
    scan_id = find_scan(database, scan).scan_id
    for (a, b), vector in zip(pairs, vectors, strict=True):
        database.execute(
            "INSERT INTO pair_feature VALUES (%s, %s, %s, %s, %s, '{}', '{}', '{}')",
            [scan_id, encoder, a, b, HalfVector(vector)],
        )
        database.execute(
            "INSERT INTO pair_tokens VALUES (%s, %s, %s, %s, 'full', 'fp16', 'raw', '\\x00', NULL)",
            [scan_id, encoder, a, b],
        )
        for subject, target in ((a, b), (b, a)):
            database.execute(
                "INSERT INTO relation_caption VALUES (%s, %s, %s, %s, 'words')",
                [scan_id, encoder, subject, target],
            )
    for step in ("features.pairs", "features.captions"):
        _note(database, encoder, scan_id, step)


def _note(database: Database, encoder: int, scan_id: int, step: str) -> None:
    ((variant,),) = database.execute(
        "SELECT name || '@' || revision FROM encoder WHERE encoder_id = %s", [encoder]
    ).fetchall()
    ledger.record(database, scan_id, ledger.Entry(step, 1, {}, variant), {})


def unit(seed: int, count: int) -> Vectors:
    """Vectors whose numbers are exact in halves but for their length, which cosines do not see."""
    random = np.random.default_rng(seed)
    return random.integers(-8, 9, (count, 4)).astype(np.float32) + np.float32(0.5)


def distances(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """Cosine distances, row by row."""
    told = [1 - np.dot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y)) for x, y in zip(a, b, strict=True)]
    return np.array(told, np.float64)


@pytest.fixture
def instances(database: Database, root: Path) -> list[int]:
    """Two scans of the same room; the numbers of its instances."""
    mini.write_scan(root, "second")
    for name in (mini.NAME, "second"):
        ingest(root)(database, name)
    scan_id = find_scan(database, KEY).scan_id
    found = rows(database, f"SELECT instance_no FROM instance WHERE scan_id = {scan_id} ORDER BY 1")
    return [number for (number,) in found]


def test_the_difference_is_told_as_cosine_distances(database: Database, instances: list[int]) -> None:
    old, new = add_encoder(database, "old"), add_encoder(database, "new")
    shared = instances[:-1]
    a, b = unit(1, len(instances)), unit(2, len(shared))
    add_nodes(database, old, KEY, instances, a)
    add_nodes(database, new, KEY, shared, b)
    add_nodes(database, new, SECOND, instances[:2], unit(3, 2))
    found = diff_features(
        database,
        find_encoder(database, "toy"),
        find_encoder(database, "toy@new"),
        pairs=False,
        dataset=None,
        most=2,
    )
    expected = distances(a[:-1], b)
    assert (found.a, found.b) == ("toy@old", "toy@new")
    assert (found.both, found.only_a, found.only_b) == (len(shared), 1, 2)
    np.testing.assert_allclose(
        np.array([found.mean, found.largest], float), [expected.mean(), expected.max()], atol=1e-6
    )
    told = [found.quantiles[str(q)] for q in QUANTILES]
    np.testing.assert_allclose(np.array(told, float), np.quantile(expected, QUANTILES), atol=1e-6)
    order = np.argsort(-expected)[:2]
    assert [row.instance for row in found.most] == [shared[at] for at in order]
    labels = dict(rows(database, "SELECT DISTINCT instance, label FROM v_node"))
    assert all(row.label == labels[row.instance] for row in found.most)
    assert {(row.dataset, row.scan, row.other) for row in found.most} == {("3rscan", mini.NAME, None)}


def test_pairs_are_compared_too_and_datasets_apart(database: Database, instances: list[int]) -> None:
    old, new = add_encoder(database, "old"), add_encoder(database, "new")
    first, second, third = instances[:3]
    a, b = unit(1, 2), unit(2, 2)
    add_pairs(database, old, KEY, [(first, second), (first, third)], a)
    add_pairs(database, new, KEY, [(first, third), (second, third)], b)
    encoders = [find_encoder(database, "toy@old"), find_encoder(database, "toy@new")]
    found = diff_features(database, *encoders, pairs=True, dataset="3rscan", most=5)
    assert (found.both, found.only_a, found.only_b) == (1, 1, 1)
    (changed,) = found.most
    assert (changed.instance, changed.other) == (first, third)
    np.testing.assert_allclose(changed.distance, distances(a[1:], b[:1])[0], atol=1e-6)
    none = diff_features(database, *encoders, pairs=True, dataset="another", most=5)
    assert (none.both, none.mean, none.largest, none.most) == (0, None, None, [])
    assert set(none.quantiles.values()) == {None}


def test_vectors_of_other_lengths_have_no_distance(database: Database) -> None:
    add_encoder(database, "old")
    add_encoder(database, "new", dimension=8)
    with pytest.raises(UserError, match=r"toy@old has 4 numbers .* toy@new has 8: they are not of one space"):
        diff_features(
            database,
            find_encoder(database, "toy@old"),
            find_encoder(database, "toy@new"),
            pairs=False,
            dataset=None,
            most=1,
        )


def everything(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """What the store has of features, by encoder."""
    return {
        table: rows(database, f"SELECT encoder_id, scan_id FROM {table} ORDER BY 1, 2")
        for table in ("node_feature", "pair_feature", "pair_tokens", "relation_caption")
    } | {
        "ledger": rows(
            database, "SELECT variant, step FROM ledger WHERE variant <> '' ORDER BY 1, 2, scan_id"
        )
    }


def test_drop_takes_what_it_is_asked_for_and_nothing_else(database: Database, instances: list[int]) -> None:
    old, new = add_encoder(database, "old"), add_encoder(database, "new")
    first, second = instances[:2]
    for encoder in (old, new):
        for key in (KEY, SECOND):
            add_nodes(database, encoder, key, [first, second], unit(1, 2))
            add_pairs(database, encoder, key, [(first, second)], unit(1, 1))
    dropped = find_encoder(database, "toy@old")
    scan = find_scan(database, KEY)
    assert [
        (held.scan, held.nodes, held.pairs, held.captions) for held in encoder_content(database, dropped)
    ] == [
        (KEY, 2, 1, 2),
        (SECOND, 2, 1, 2),
    ]
    assert drop_features(database, dropped, scan, ["pairs"]) == {"pairs": 1}
    after = everything(database)
    assert (old, scan.scan_id) not in after["pair_feature"] + after["pair_tokens"]
    assert (old, scan.scan_id) in after["node_feature"]
    assert after["relation_caption"].count((old, scan.scan_id)) == 2
    assert after["ledger"].count(("toy@old", "features.pairs")) == 1
    assert clear_encoder(database, dropped) == ([], False)
    assert drop_features(database, dropped, scan, list(KINDS)) == {"nodes": 2, "pairs": 0, "captions": 2}
    assert drop_features(database, dropped, find_scan(database, SECOND), list(KINDS)) == {
        "nodes": 2,
        "pairs": 1,
        "captions": 2,
    }
    assert encoder_content(database, dropped) == []
    assert clear_encoder(database, dropped) == ([], True)
    after = everything(database)
    assert {encoder for table in list(after)[:-1] for encoder, _scan in after[table]} == {new}
    assert {variant for variant, _step in after["ledger"]} == {"toy@new"}
    assert len(after["node_feature"]) == 4
    assert [revision.encoder for revision in revisions(database, "toy")] == ["toy@new"]


def test_the_index_goes_with_the_last_of_its_features(database: Database, instances: list[int]) -> None:
    old, new = add_encoder(database, "old"), add_encoder(database, "new")
    for encoder in (old, new):
        add_nodes(database, encoder, KEY, instances[:1], unit(1, 1))
        database.execute("SELECT create_node_index_v1(%s)", [f"toy@{'old' if encoder == old else 'new'}"])
    dropped = find_encoder(database, "toy@old")
    assert clear_encoder(database, dropped) == ([], False)
    drop_features(database, dropped, find_scan(database, KEY), ["nodes"])
    assert clear_encoder(database, dropped) == ([f"node_feature_{old}_hnsw"], True)
    left = rows(database, "SELECT indexname FROM pg_indexes WHERE indexname LIKE '%hnsw'")
    assert left == [(f"node_feature_{new}_hnsw",)]


def test_a_sentence_encoder_stays_for_its_words(database: Database) -> None:
    database.execute(
        "INSERT INTO encoder (name, revision, dimension, views, is_active)"
        " VALUES ('words', 'r', 4, 'text', true)"
    )
    assert clear_encoder(database, find_encoder(database, "words")) == ([], False)
    assert find_encoder(database, "words").revision == "r"


def test_a_scan_at_work_is_left_alone(database: Database, database_url: str, instances: list[int]) -> None:
    encoder = add_encoder(database, "old")
    add_nodes(database, encoder, KEY, instances, unit(1, len(instances)))
    with connect(database_url) as other:
        other.autocommit = True
        with (
            ledger.scan_lock(other, "3rscan", mini.NAME),
            pytest.raises(UserError, match=f"someone is at work on scan {KEY}"),
        ):
            drop_features(database, find_encoder(database, "toy"), find_scan(database, KEY), list(KINDS))
    assert len(everything(database)["node_feature"]) == len(instances)


def test_an_encoder_that_someone_writes_features_of_is_not_taken_from_under_him(
    database: Database, database_url: str, instances: list[int]
) -> None:
    encoder = add_encoder(database, "old")
    told: list[tuple[object, bool]] = []
    with psycopg.connect(database_url) as writer:
        writer.execute(
            "INSERT INTO node_feature SELECT scan_id, %s, instance_no, '[1,2,3,4]', '{}', '{}', '{}'"
            " FROM instance LIMIT 1",
            [encoder],
        )
        with connect(database_url) as other:
            other.autocommit = True
            stored = find_encoder(other, "toy")
            thread = threading.Thread(target=lambda: told.append(clear_encoder(other, stored)))
            thread.start()
            thread.join(0.2)
            assert thread.is_alive()
            writer.commit()
            thread.join()
    assert told == [([], False)]
    assert len(rows(database, "SELECT 1 FROM node_feature")) == 1


def test_the_bare_name_means_what_was_activated(database: Database, instances: list[int]) -> None:
    old, new = add_encoder(database, "old"), add_encoder(database, "new")
    add_nodes(database, old, KEY, instances[:2], unit(1, 2))
    add_nodes(database, new, KEY, instances[:1], unit(1, 1))
    choose_encoder(database, find_encoder(database, "toy@new"))
    assert find_encoder(database, "toy").revision == "new"
    assert [(r.encoder, r.is_active, r.nodes, r.pairs) for r in revisions(database, "toy")] == [
        ("toy@new", True, 1, 0),
        ("toy@old", False, 2, 0),
    ]
    choose_encoder(database, find_encoder(database, "toy@new"))
    assert find_encoder(database, "toy").revision == "new"
    chosen = "SELECT revision FROM encoder WHERE is_chosen"
    assert rows(database, chosen) == [("new",)]
    choose_encoder(database, find_encoder(database, "toy@old"))
    assert rows(database, chosen) == [("old",)]


def test_what_was_activated_keeps_the_name_however_full_others_are(
    database: Database, instances: list[int]
) -> None:
    old, new = add_encoder(database, "old"), add_encoder(database, "new")
    add_nodes(database, old, KEY, instances[:2], unit(1, 2))
    add_nodes(database, new, KEY, instances, unit(1, len(instances)))
    choose_encoder(database, find_encoder(database, "toy@old"))
    assert activate_encoder(database, find_encoder(database, "toy@new")) == (
        "toy goes on meaning toy@old, which was chosen for it; for these say toy@new, or"
        " `open3dsg features activate toy@new`"
    )
    assert find_encoder(database, "toy").revision == "old"
    drop_features(database, find_encoder(database, "toy"), find_scan(database, KEY), list(KINDS))
    assert clear_encoder(database, find_encoder(database, "toy")) == ([], True)
    assert activate_encoder(database, find_encoder(database, "toy@new")) is None
    assert rows(database, "SELECT revision, is_active, is_chosen FROM encoder") == [("new", True, False)]


def test_a_name_is_given_by_one_at_a_time(
    database: Database, database_url: str, instances: list[int]
) -> None:
    old, new = add_encoder(database, "old"), add_encoder(database, "new")
    for encoder in (old, new):
        add_nodes(database, encoder, KEY, instances[:1], unit(1, 1))
    add_encoder(database, "third")
    told: list[str | None] = []
    with connect(database_url) as dumping:
        dumping.autocommit = True
        row = find_encoder(dumping, "toy@new")
        with database.transaction():
            choose_encoder(database, find_encoder(database, "toy@third"))
            thread = threading.Thread(target=lambda: told.append(activate_encoder(dumping, row)))
            thread.start()
            thread.join(0.2)
            assert thread.is_alive()
        thread.join()
    (remark,) = told
    assert str(remark).startswith("toy goes on meaning toy@third")
    assert find_encoder(database, "toy").revision == "third"


def test_a_writer_drops_features_with_their_index_and_calls_nobody_elses_function(
    database: Database, instances: list[int]
) -> None:
    encoder = add_encoder(database, "old")
    add_nodes(database, encoder, KEY, instances, unit(1, len(instances)))
    database.execute("GRANT CREATE ON SCHEMA public TO open3dsg_writer")
    for role, denied in (("open3dsg_reader", True), ("open3dsg_writer", False)):
        database.execute(f"SET ROLE {role}".encode())
        if denied:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                clear_encoder(database, find_encoder(database, "toy"))
            continue
        database.execute("SELECT create_node_index_v1('toy')")
        for name, takes, returns, value in (
            ("format", "text, integer", "text", "'(encoder_id = 1)'"),
            ("array_append", "text[], text", "text[]", "'{mine}'::text[]"),
        ):
            database.execute(
                f"CREATE FUNCTION public.{name}({takes}) RETURNS {returns} LANGUAGE plpgsql"
                f" AS $$ BEGIN DELETE FROM store_meta; RETURN {value}; END $$".encode()
            )
        drop_features(database, find_encoder(database, "toy"), find_scan(database, KEY), list(KINDS))
        told = clear_encoder(database, find_encoder(database, "toy"))
    database.execute("RESET ROLE")
    assert told == ([f"node_feature_{encoder}_hnsw"], True)
    assert rows(database, "SELECT count(*) > 0 FROM store_meta") == [(True,)]
