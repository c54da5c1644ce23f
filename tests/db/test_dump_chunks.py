"""Dumps in chunks: cut off, continued, begun by several, with other options, within little memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from open3dsg.errors import UserError
from open3dsg.steps.features import DumpNodes, DumpPairs, FeatureOptions, PairOptions, Running
from open3dsg.steps.features.estimate import estimate
from open3dsg.steps.graph import Graph, GraphOptions
from open3dsg.steps.status import scan_statuses
from tests import miniature as mini
from tests.content import content
from tests.db.pipeline import FULL_GRAPH, KEY, Database, rows


def chunked(size: int, **running: Any) -> DumpPairs:
    return DumpPairs(PairOptions("toy"), running=Running(pair_chunk=size, **running))


def kept_rows(database: Database) -> dict[tuple[int, int], str]:
    """Return where each row lies on disk: one that is written again lies elsewhere."""
    return {
        (a, b): place
        for a, b, place in rows(
            database, "SELECT instance_a, instance_b, (ctid, xmin)::text FROM pair_feature"
        )
    }


@pytest.mark.parametrize(("first", "second"), [(1, 4), (2, 3), (4, 1), (3, 512), (5, 4)])
def test_another_chunk_size_does_nothing_again(
    database: Database, graph: None, first: int, second: int
) -> None:
    """Cut off after one chunk, and then after all: what is there stays, and no pair is forgotten."""
    chunked(512)(database, KEY)
    whole = rows(database, "SELECT * FROM pair_feature ORDER BY instance_a, instance_b")
    database.execute("DELETE FROM ledger WHERE step = 'features.pairs'")
    replace(chunked(first), chunk=0)(database, KEY)
    before = kept_rows(database)
    assert 0 < len(before) < len(whole)
    assert not chunked(second)(database, KEY).skipped
    after = kept_rows(database)
    assert before.items() <= after.items()
    assert rows(database, "SELECT * FROM pair_feature ORDER BY instance_a, instance_b") == whole
    ((of, lines),) = rows(
        database, "SELECT max(chunks), count(*) FROM ledger WHERE step = 'features.pairs' AND NOT stale"
    )
    assert of == lines == -(-6 // second)
    for size in (first, second, 5):
        assert chunked(size)(database, KEY).skipped
        assert chunked(size).parts(database, KEY) == []
    assert kept_rows(database) == after


def test_chunks_of_another_size_count_no_longer(database: Database, graph: None) -> None:
    """Cut off once more: who reads the ledger must not take chunks of two sizes for all of one."""
    for size, chunk in ((1, 1), (1, 2), (4, 0)):
        replace(chunked(size), chunk=chunk)(database, KEY)
    lines = rows(database, "SELECT chunk, chunks FROM ledger WHERE step = 'features.pairs'")
    assert lines == [(0, 2)]
    assert chunked(4).parts(database, KEY) == [1]


def test_what_was_seen_in_too_few_photos_is_looked_at_again(
    database: Database, graph: None, root: Path
) -> None:
    chunked(512)(database, KEY)
    whole = content(database)
    photo = root / mini.NAME / "sequence" / "frame-000001.color.jpg"
    good = photo.read_bytes()
    photo.write_bytes(b"no picture")
    replace(chunked(512), force=True)(database, KEY)
    assert content(database) != whole
    photo.write_bytes(good)
    database.execute("UPDATE ledger SET stale = true WHERE step = 'features.pairs'")
    chunked(512)(database, KEY)
    assert content(database) == whole


def test_batch_memory_and_chunk_change_no_result(database: Database, graph: None) -> None:
    chunked(512)(database, KEY)
    whole = rows(database, "SELECT instance_a, instance_b, embedding, boxes FROM pair_feature ORDER BY 1, 2")
    for dump in (chunked(512, batch=1), chunked(2, batch=5), chunked(512, max_memory=2**26)):
        replace(dump, force=True)(database, KEY)
        found = rows(
            database, "SELECT instance_a, instance_b, embedding, boxes FROM pair_feature ORDER BY 1, 2"
        )
        assert found == whole


def test_few_sums_are_open_where_memory_is_short(
    database: Database, graph: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from open3dsg.steps.features import dump as module
    from open3dsg.steps.features.options import Room
    from open3dsg.steps.features.pipeline import Gatherer

    gatherers: list[Gatherer] = []

    class Watched(Gatherer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            gatherers.append(self)

    monkeypatch.setattr(module, "Gatherer", Watched)
    database.execute("DELETE FROM observation WHERE instance_no = 7")
    options = PairOptions("toytokens")
    DumpPairs(options)(database, KEY)
    clean = content(database)
    asked: list[int] = []

    def two_at_once(_limit: int, *, items: int, **_bytes: int) -> Room:
        asked.append(items)
        return Room(2**20, 2)

    monkeypatch.setattr(module, "plan_memory", two_at_once)
    again = DumpPairs(options, force=True)
    planned = estimate(again, database, [KEY], lambda _scan: None)
    counts = again(database, KEY).counts
    assert content(database) == clean
    assert (counts["pairs"], counts["pairs_unseen"]) == (3, 3)
    assert asked == [3, 3]  # what no frame shows wants no memory
    assert (planned.items_at_once, planned.counts["photos"]) == (2, counts["photos"])
    all_at_once, two_at_a_time = (gatherer.tally for gatherer in gatherers)
    assert all_at_once.most_open > 2
    assert two_at_a_time.most_open == 2
    assert two_at_a_time.photos > all_at_once.photos
    assert 0 < two_at_a_time.most_waiting <= 2**20


def test_pairs_that_a_graph_adds_are_filled_in(database: Database, graph: None) -> None:
    """What is there stays; pairs that are gone take their features along."""
    database.execute("DELETE FROM pair WHERE instance_b = 7")
    dump = chunked(512)
    dump(database, KEY)
    before = kept_rows(database)
    assert dump(database, KEY).skipped
    FULL_GRAPH(database, KEY)
    (status,) = scan_statuses(database)
    assert status.steps["features.pairs toy@0123456789abcdef"].state == "stale"
    added = dump(database, KEY)
    assert not added.skipped
    after = kept_rows(database)
    assert before.items() <= after.items()
    assert added.counts["pairs"] == len(after) - len(before) > 0
    FULL_GRAPH(database, KEY)
    assert dump(database, KEY).skipped
    narrow = Graph(GraphOptions(instance_points=20, pair_points=50, full=True, max_distance_m=0.01))
    database.execute("DELETE FROM subgraph WHERE method = '3dssg'")
    replace(narrow, replace=True)(database, KEY)
    left = set(rows(database, "SELECT instance_a, instance_b FROM pair"))
    assert kept_rows(database).keys() <= left
    dump(database, KEY)
    assert kept_rows(database).items() <= after.items()


def test_chunks_side_by_side_are_the_whole(database: Database, graph: None) -> None:
    dump = chunked(2)
    dump(database, KEY)
    whole = content(database)
    database.execute("DELETE FROM ledger WHERE step = 'features.pairs'")
    for chunk in (2, 0, 1):
        assert not replace(dump, chunk=chunk)(database, KEY).skipped
    assert content(database) == whole
    assert replace(dump, chunk=0)(database, KEY).skipped
    assert replace(dump, chunk=9)(database, KEY).skipped


def test_of_chunks_begun_together_only_the_first_clears(database: Database, graph: None) -> None:
    dump = chunked(2)
    dump(database, KEY)
    whole = content(database)
    database.execute("DELETE FROM ledger WHERE step = 'features.pairs'")
    begun = [dump.plan(database, KEY) for _chunk in range(3)]
    for chunk, work in enumerate(begun):
        work.run_one(chunk)
    assert content(database) == whole


def test_other_options_are_not_taken_for_done(database: Database, graph: None) -> None:
    DumpPairs(PairOptions("toytokens"))(database, KEY)
    for other, told in (
        (PairOptions("toytokens", dtype="int8"), "token_dtype fp16, now int8"),
        (PairOptions("toytokens", min_frames=1), "min_frames 2, now 1"),
        (PairOptions("toytokens", precision="bf16"), "precision fp32, now bf16"),
    ):
        with pytest.raises(UserError, match=f"features.pairs was done with other options.*{told}"):
            DumpPairs(other)(database, KEY)


def test_a_dump_of_an_earlier_version_gives_way(database: Database, graph: None) -> None:
    """Its options had other names; those that both know must be the same."""
    dump = DumpNodes(FeatureOptions("toy"))
    dump(database, KEY)
    whole = content(database)
    database.execute(
        "UPDATE ledger SET step_version = 1, options_hash = 'other', counts = '{}',"
        """ options = '{"encoder": "toy", "scales": 3, "top_k_frames": 5}' WHERE step = 'features.nodes'"""
    )
    assert (
        scan_statuses(database)[0].missing == "stale features: open3dsg features dump --nodes --encoder toy"
    )
    with pytest.raises(UserError, match=r"other options \(top_k_frames 5, now 4\)"):
        DumpNodes(FeatureOptions("toy", top_k_frames=4))(database, KEY)
    assert dump(database, KEY).counts["nodes"] == 4
    assert content(database) == whole
