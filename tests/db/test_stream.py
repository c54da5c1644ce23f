"""Batches from the store, against plain readings of its rows, whoever reads them and whatever happens."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch as Joined

from open3dsg.db.connect import connect
from open3dsg.db.migrate import migrate
from open3dsg.db.server import EmbeddedServer
from open3dsg.encoders.tokens import PackedTokens, unpack_tokens
from open3dsg.errors import UserError
from open3dsg.store.encoders import StoredEncoder
from open3dsg.store.removal import delete_scan
from open3dsg.store.scans import find_scan
from open3dsg.store.unit import UnitKey
from open3dsg.store.units import UnitReader, read_unit
from open3dsg.training.batch import Batch, Cursor, SceneGraph, join
from open3dsg.training.examples import ExampleReader, scene_graph
from open3dsg.training.options import StreamOptions, Targets
from open3dsg.training.stream import UnitStream, dead_workers_told, make_loader, read_graphs
from open3dsg.training.targets import RelationTarget, find_targets
from tests.conftest import FAST
from tests.db import made_room as made
from tests.db import trained
from tests.db.pipeline import Database, rows
from tests.db.test_units import build

SCANS = 3
SCAN_KEYS = [trained.key(scan) for scan in range(1, SCANS + 1)]
KEYS = [UnitKey(scan, number) for scan in SCAN_KEYS for number in range(1, trained.UNITS + 1)]
OPTIONS = StreamOptions(workers=0, use_rgb=True, augment=True)
KINDS: list[tuple[str | None, Targets]] = [
    (trained.POOLED, "pooled"),
    (trained.TOKENS, "tokens"),
    (trained.CAPTIONS, "captions"),
    (None, "classes"),
]


def targets(store: Database, pair_encoder: str | None, kind: Targets) -> tuple[StoredEncoder, RelationTarget]:
    return find_targets(store, trained.DATASET, trained.NODES, pair_encoder, kind)


def stream(store: Database, url: str, options: StreamOptions = OPTIONS, **how: Any) -> UnitStream:
    found = targets(store, trained.TOKENS, "tokens")
    return UnitStream(url, how.pop("keys", KEYS), *found, options, **{"train": True, **how})


def contents(batch: Batch) -> tuple[Any, ...]:
    """All of a batch, to compare it with another."""
    graph = (
        None
        if batch.graph is None
        else {name: _plain(value) for name, value in batch.graph.to_dict().items()}
    )
    return batch.keys, batch.cursor, batch.total, graph


def _plain(value: Any) -> Any:
    return (str(value.dtype), value.tolist()) if isinstance(value, torch.Tensor) else value


def test_a_graph_is_the_unit_point_by_point(database: Database) -> None:
    made.ingest(database)
    made.observe(database)
    build(database)
    unit = read_unit(database, UnitKey(made.KEY, 1))
    graph = scene_graph(unit, (120, 400), use_rgb=True)
    assert graph.instance_points.shape == (len(unit.numbers), 120, 6)
    for sample, shown in zip(unit.samples, graph.instance_points.numpy(), strict=True):
        again = np.resize(np.arange(len(sample)), 120)
        np.testing.assert_allclose(shown[:, :3], sample.normalised()[again], atol=2e-5)
        np.testing.assert_allclose(shown[:, 3:], sample.rgb[again] / 255, atol=1e-6)
    assert graph.edge_index.T.tolist() == unit.edges.tolist()
    for edge, (pair, turned) in enumerate(
        zip(graph.edge_pair.tolist(), graph.edge_turned.tolist(), strict=True)
    ):
        union = unit.unions[edge]
        again = np.resize(np.arange(len(union)), 400)
        shown = graph.pair_points[pair].numpy()
        np.testing.assert_allclose(shown[:, :3], union.normalised()[again], atol=2e-5)
        np.testing.assert_allclose(shown[:, 3:], union.rgb[again] / 255, atol=1e-6)
        whose = graph.pair_owner[pair].numpy()
        assert (np.array([0, 2, 1])[whose] if turned else whose).tolist() == unit.flags(edge)[again].tolist()
    np.testing.assert_allclose(graph.edge_offset, unit.offset_m, atol=1e-5)
    np.testing.assert_allclose(graph.instance_centre, unit.centre_m, atol=1e-5)
    middle, lengths = (unit.aabb_min_m + unit.aabb_max_m) / 2, unit.aabb_max_m - unit.aabb_min_m
    np.testing.assert_allclose(graph.instance_box[:, :6], np.hstack([middle, lengths]), atol=1e-5)
    assert not graph.instance_box[:, 6].any()
    assert 2 * graph.pairs == len(unit.edges)


def test_joined_units_keep_their_own_instances_pairs_and_rows(store: Database) -> None:
    for pair_encoder, kind in KINDS:
        found = targets(store, pair_encoder, kind)
        reader = ExampleReader(store, *found, StreamOptions(), SCAN_KEYS)
        alone = [reader.read([key])[1] for key in KEYS[:3]]
        joined = reader.read(KEYS[:3])[1]
        assert (joined.graphs, joined.num_nodes) == (3, 12)
        assert joined.batch.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert joined.edge_graph.tolist() == [0] * 12 + [1] * 12 + [2] * 12
        for unit, graph in enumerate(alone):
            edges = joined.edge_graph == unit
            nodes = joined.edge_index[:, edges]
            of_joined, of_graph = joined.node_target[nodes], graph.node_target[graph.edge_index]
            assert torch.equal(of_joined, of_graph)
            pairs = joined.pair_points[joined.edge_pair[edges]]
            assert torch.equal(pairs, graph.pair_points[graph.edge_pair])
            assert learnt(joined, kind)[12 * unit : 12 * unit + 12] == learnt(graph, kind)


def learnt(graph: SceneGraph, kind: Targets) -> list[Any]:
    """What each edge learns, None where there is nothing."""
    if kind == "classes":
        return list(graph.relation_classes.tolist())
    return [
        graph.relation_target[row].tolist() if valid else None
        for row, valid in zip(graph.relation_row.tolist(), graph.relation_valid.tolist(), strict=True)
    ]


def test_targets_are_what_is_stored(store: Database) -> None:
    """But for one instance, one pair and one caption that are not there."""
    scan_id = find_scan(store, KEYS[0].scan).scan_id
    unit = read_unit(store, KEYS[0])
    for table, which in (
        ("node_feature", "instance_no = 4"),
        ("pair_feature", "(instance_a, instance_b) = (1, 4)"),
        ("relation_caption", "(subject_no, object_no) = (7, 2)"),
    ):
        store.execute(f"DELETE FROM {table} WHERE scan_id = {scan_id} AND {which}".encode())
    for pair_encoder, kind in KINDS:
        found = targets(store, pair_encoder, kind)
        graph = ExampleReader(store, *found, StreamOptions(), SCAN_KEYS).read([KEYS[0]])[1]
        assert graph.node_valid.tolist() == [number != 4 for number in unit.numbers.tolist()]
        for number, row in zip(unit.numbers.tolist(), graph.node_target, strict=True):
            assert row.tolist() == (node(store, scan_id, number) if number != 4 else [0] * 4)
        expected = {"pooled": pooled, "tokens": tokens, "captions": caption, "classes": classes}[kind]
        assert learnt(graph, kind) == [expected(store, scan_id, pair) for pair in unit.pairs.tolist()]
        if kind in ("pooled", "tokens"):
            assert len(graph.relation_target) == 5  # one a pair, not a direction
        if kind == "tokens":
            assert graph.relation_target.dtype == torch.float16


def node(store: Database, scan_id: int, number: int) -> list[float]:
    [(found,)] = rows(
        store, f"SELECT embedding FROM node_feature WHERE (scan_id, instance_no) = ({scan_id}, {number})"
    )
    return list(found.to_numpy().astype(np.float32).tolist())


def pooled(store: Database, scan_id: int, pair: list[int]) -> list[float] | None:
    of_toy = f"{of_pair(scan_id, pair)} AND name = 'toy'"
    found = rows(store, f"SELECT embedding FROM pair_feature JOIN encoder USING (encoder_id) {of_toy}")
    return list(found[0][0].to_numpy().astype(np.float32).tolist()) if found else None


def tokens(store: Database, scan_id: int, pair: list[int]) -> list[Any] | None:
    found = rows(
        store, f"SELECT layout, dtype, packing, tokens, scales FROM pair_tokens {of_pair(scan_id, pair)}"
    )
    return list(unpack_tokens(PackedTokens(*found[0]), 6).tolist()) if found else None


def of_pair(scan_id: int, pair: list[int]) -> str:
    return f"WHERE (scan_id, instance_a, instance_b) = ({scan_id}, {min(pair)}, {max(pair)})"


def caption(store: Database, scan_id: int, pair: list[int]) -> list[float] | None:
    found = rows(
        store,
        "SELECT te.embedding FROM relation_caption c JOIN term_embedding te ON te.term_id = c.phrase_id"
        " JOIN encoder e ON e.encoder_id = te.encoder_id"
        f" WHERE e.name = 'toywords' AND scan_id = {scan_id}"
        f" AND (subject_no, object_no) = ({pair[0]}, {pair[1]})",
    )
    return list(found[0][0].to_numpy().astype(np.float32).tolist()) if found else None


def classes(_store: Database, _scan_id: int, pair: list[int]) -> list[float]:
    said = {(4, 1): ["close by", "standing on"], (7, 2): ["hanging on"], (4, 2): ["close by"]}
    held = said.get((pair[0], pair[1]), ["none"])
    return [float(word in held) for word in ("none", "close by", "standing on", "hanging on")]


def test_batches_do_not_depend_on_workers(store: Database, store_url: str) -> None:
    expected = [contents(batch) for batch in stream(store, store_url)]
    assert sorted(key for keys, *_ in expected for key in keys) == KEYS
    assert [cursor for _, cursor, *_ in expected] == [Cursor(0, place) for place in range(1, 7)]
    for workers in (1, 2):
        loader = make_loader(stream(store, store_url), replace(OPTIONS, workers=workers))
        assert len(loader) == len(KEYS)
        assert [contents(batch) for batch in loader] == expected


@pytest.mark.parametrize("keep", [0, 3, len(KEYS) * 4])
def test_batches_stay_what_they_are_however_many_are_kept(store: Database, store_url: str, keep: int) -> None:
    """More than there are spaces for, and so many that spaces are used again while some are kept."""
    keys = KEYS * 4
    expected = [contents(batch) for batch in stream(store, store_url, keys=keys)]
    kept: deque[tuple[int, Batch]] = deque(maxlen=keep)
    for number, batch in enumerate(
        make_loader(stream(store, store_url, keys=keys), replace(OPTIONS, workers=2))
    ):
        kept.append((number, batch))
        assert contents(batch) == expected[number]
        assert contents(kept[0][1] if kept else batch) == expected[kept[0][0] if kept else number]
    assert [contents(batch) for _, batch in kept] == expected[len(keys) - keep :]


def test_workers_that_are_not_forked_give_the_same(
    store: Database, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [contents(batch) for batch in stream(store, store_url)]
    monkeypatch.setattr("sys.platform", "darwin")
    loader = make_loader(stream(store, store_url), replace(OPTIONS, workers=1))
    monkeypatch.undo()
    assert [contents(batch) for batch in loader] == expected


def test_a_loader_is_gone_through_again(store: Database, store_url: str) -> None:
    loader = make_loader(stream(store, store_url), replace(OPTIONS, workers=2))
    first = list(loader)
    for batch in loader:
        assert batch.graph is not None
        break
    assert [contents(batch) for batch in loader] == [contents(batch) for batch in first]


def test_who_goes_on_sees_the_same_units_changed_alike(store: Database, store_url: str) -> None:
    whole = list(stream(store, store_url, cursor=Cursor(2, 0)))
    rest = stream(store, store_url, cursor=Cursor(2, 4))
    assert len(rest) == 2
    assert [contents(batch) for batch in rest] == [contents(batch) for batch in whole[4:]]
    other = stream(store, store_url, cursor=Cursor(3, 0))
    assert [batch.keys for batch in other] != [batch.keys for batch in whole]


def test_processes_share_a_batch(store: Database, store_url: str) -> None:
    large = replace(OPTIONS, batch_size=4)
    small = replace(OPTIONS, batch_size=2)
    one = list(stream(store, store_url, large))
    parts = [list(stream(store, store_url, small, rank=rank, world=2)) for rank in (0, 1)]
    for whole, *shares in zip(one, *parts, strict=True):
        assert whole.keys == tuple(itertools.chain(*(share.keys for share in shares)))
        assert {(share.cursor, share.total) for share in shares} == {(whole.cursor, whole.total)}
        assert whole.graph is not None
        points = [share.graph.instance_points for share in shares if share.graph is not None]
        assert torch.equal(whole.graph.instance_points, torch.cat(points))


def test_a_process_without_a_unit_takes_the_step_too(store: Database, store_url: str) -> None:
    [batch] = stream(store, store_url, keys=KEYS[:1], rank=1, world=2)
    assert (batch.graph, batch.keys, batch.cursor, batch.total) == (None, (), Cursor(0, 1), 1)


def test_validation_is_in_order_and_changes_nothing(store: Database, store_url: str) -> None:
    found = list(stream(store, store_url, train=False))
    assert [key for batch in found for key in batch.keys] == KEYS
    plain = list(stream(store, store_url, replace(OPTIONS, augment=False), train=False))
    assert [contents(batch) for batch in found] == [contents(batch) for batch in plain]


def test_full_graphs(store: Database, store_url: str) -> None:
    keys = [UnitKey(trained.key(scan), -1) for scan in (1, 2)]
    [batch] = stream(store, store_url, replace(OPTIONS, graphs="full", batch_size=2), keys=keys)
    assert set(batch.keys) == set(keys)
    assert batch.graph is not None
    assert batch.graph.relation_valid.all()


@pytest.mark.parametrize(("at_hand", "again"), [(SCANS, []), (2, SCAN_KEYS[:1])])
def test_points_of_a_scan_are_fetched_once_while_it_is_at_hand(
    store: Database, monkeypatch: pytest.MonkeyPatch, at_hand: int, again: list[str]
) -> None:
    monkeypatch.setattr("open3dsg.training.examples._SCANS_AT_HAND", at_hand)
    made_readers: list[str] = []
    begin = UnitReader.__init__

    def count(self: UnitReader, connection: Any, scan: str, **how: Any) -> None:
        made_readers.append(scan)
        begin(self, connection, scan, **how)

    monkeypatch.setattr(UnitReader, "__init__", count)
    reader = ExampleReader(store, *targets(store, None, "classes"), StreamOptions(), SCAN_KEYS)
    for key in (*KEYS, *KEYS[::-1]):
        reader.read([key])
    assert made_readers == SCAN_KEYS + again


@pytest.mark.parametrize("workers", [0, 2])
def test_a_lost_connection_is_opened_again(store: Database, store_url: str, workers: int) -> None:
    expected = [contents(batch) for batch in stream(store, store_url)]
    found = []
    for batch in make_loader(stream(store, store_url), replace(OPTIONS, workers=workers)):
        found.append(contents(batch))
        store.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert found == expected


@pytest.mark.slow
def test_a_database_that_is_started_again_in_mid_epoch(
    encoders: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPEN3DSG_ENCODERS", trained.SETTINGS)
    server = EmbeddedServer(Path(f"/tmp/o3-stream-{time.time_ns()}"), 18, FAST, say=lambda _text: None)
    try:
        url = server.ensure_running()
        migrate(url)
        with connect(url) as connection:
            connection.autocommit = True
            trained.trainable(connection, tmp_path, SCANS)
            reading = stream(connection, url)
        expected = [contents(batch) for batch in reading]
        loader = iter(make_loader(reading, replace(OPTIONS, workers=1)))
        found = [contents(next(loader))]
        server.stop()
        threading.Timer(2, server.ensure_running).start()
        found += [contents(batch) for batch in loader]
        assert found == expected
    finally:
        server.stop()


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_that_are_deleted_meanwhile(store: Database, store_url: str, workers: int) -> None:
    keys = [UnitKey(trained.key(1), 1)] * 11 + [UnitKey(trained.key(2), 2)]
    reading = make_loader(stream(store, store_url, keys=keys, train=False), replace(OPTIONS, workers=workers))
    batches = iter(reading)
    next(batches)
    delete_scan(store, find_scan(store, trained.key(2)))
    with pytest.raises(UserError) as told:
        assert len(list(batches)) == len(keys)  # it never comes to that
    assert str(told.value).startswith("subgraph 2 of scan 3rscan/mini-0002 cannot be read: no scan")
    assert "\n" not in str(told.value)


def test_features_that_are_dropped_meanwhile(store: Database, store_url: str) -> None:
    reading = stream(store, store_url, train=False)
    scan_id = find_scan(store, trained.key(2)).scan_id
    store.execute("DELETE FROM node_feature WHERE scan_id = %s", [scan_id])
    told = "subgraph 1 of scan 3rscan/mini-0002 .* no features by toy@.* dump --nodes --encoder toy --scan"
    with pytest.raises(UserError, match=told):
        list(reading)


def test_larger_samples_of_other_scans_change_nothing(store: Database, store_url: str) -> None:
    before = [contents(batch) for batch in stream(store, store_url, keys=KEYS[:4])]
    store.execute(
        "UPDATE ledger SET options = jsonb_set(options, '{shared,instance_points}', '99')"
        " WHERE step = 'graph' AND scan_id = %s",
        [find_scan(store, SCAN_KEYS[2]).scan_id],
    )
    assert [contents(batch) for batch in stream(store, store_url, keys=KEYS[:4])] == before
    [*_, (_, _, _, graph)] = map(contents, stream(store, store_url, train=False))
    assert {len(points) for points in graph["instance_points"][1]} == {99}


def read_on(waiting: Iterator[Batch], killing: BaseProcess) -> None:
    with dead_workers_told():
        killing.kill()
        list(waiting)


def with_one_worker(store: Database, url: str) -> tuple[Iterator[Batch], BaseProcess]:
    """Return a reading of which the first batch was taken, and its worker."""
    others = set(multiprocessing.active_children())
    waiting = iter(make_loader(stream(store, url, keys=KEYS * 10), replace(OPTIONS, workers=1)))
    next(waiting)
    [worker] = set(multiprocessing.active_children()) - others
    return waiting, worker


def test_a_worker_that_is_killed_is_told_in_one_line(store: Database, store_url: str) -> None:
    waiting, worker = with_one_worker(store, store_url)
    told = "was killed, most likely for want of memory: give fewer --workers"
    with pytest.raises(UserError, match=told):
        read_on(waiting, killing=worker)


def test_a_worker_that_is_killed_while_it_hands_a_batch_over(store: Database, store_url: str) -> None:
    waiting, worker = with_one_worker(store, store_url)
    kept = [next(waiting) for _ in range(6)]  # all spaces are taken: each other batch has handles of its own
    assert worker.pid is not None
    time.sleep(1)  # in which it has the next batch ready, and waits to be asked for its handles
    os.kill(worker.pid, signal.SIGSTOP)
    told = signal.getsignal(signal.SIGCHLD)
    # The broken connection is noticed first: the news of the death comes a second late.
    signal.signal(signal.SIGCHLD, lambda *_: signal.setitimer(signal.ITIMER_REAL, 1))
    alarm = signal.signal(signal.SIGALRM, told)
    killing = threading.Timer(1, worker.kill)
    killing.start()
    try:
        with (
            pytest.raises(UserError, match="was killed, most likely for want of memory"),
            dead_workers_told(),
        ):
            next(waiting)
        assert [batch.cursor.position for batch in kept] == list(range(2, 8))
    finally:
        killing.join()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        signal.signal(signal.SIGCHLD, told)


def test_graphs_of_one_scan_for_prediction(store: Database) -> None:
    found = targets(store, trained.POOLED, "pooled")
    read = list(read_graphs(store, "mini-0002", *found, OPTIONS, with_targets=False))
    assert [key for key, _, _ in read] == [UnitKey(trained.key(2), number) for number in (1, 2)]
    for key, unit, graph in read:
        assert unit.key == key
        assert graph.batch.tolist() == [0] * 4
        assert "node_target" not in graph
    whole = replace(OPTIONS, graphs="full")
    [(key, _, graph)] = read_graphs(store, trained.key(2), *found, whole, with_targets=True)
    assert key.subgraph_no == -1
    assert graph.node_valid.all()


def test_graphs_of_a_scan_of_which_little_is_seen(store: Database) -> None:
    found = targets(store, trained.POOLED, "pooled")
    store.execute("DELETE FROM observation WHERE instance_no = 4")
    assert list(read_graphs(store, "mini-0002", *found, OPTIONS, with_targets=False)) == []
    read = list(read_graphs(store, "mini-0002", *found, OPTIONS, with_targets=False, unseen=True))
    assert [unit.numbers.tolist() for _, unit, _ in read] == [[1, 2, 4, 7]] * 2


def test_units_are_joined_as_torch_geometric_does(store: Database) -> None:
    for pair_encoder, kind in KINDS:
        reader = ExampleReader(store, *targets(store, pair_encoder, kind), StreamOptions(), SCAN_KEYS)
        units = [reader.read([key])[1] for key in KEYS[:3]]
        for unit in units:
            del unit.batch
            for name in ("instances", "pairs", "rows"):
                unit[name] = int(unit[name])
        joined, theirs = join(units), Joined.from_data_list(units)
        theirs.graphs = 3  # which they list
        expected = {name: _plain(value) for name, value in theirs.to_dict().items()}
        assert {name: _plain(value) for name, value in joined.to_dict().items()} == {
            name: value for name, value in expected.items() if name in joined
        }
        assert set(theirs.keys()) - set(joined.keys()) == {"ptr"}


def test_one_unit_is_joined_too() -> None:
    graph = SceneGraph(num_nodes=2, edge_index=torch.tensor([[0], [1]]), instances=2, pairs=1, rows=0)
    assert join([graph]).batch.tolist() == [0, 0]
