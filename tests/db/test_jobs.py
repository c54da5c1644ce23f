"""The queue and its items in the database: submitted once, done in parts, adopted, given new attempts."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from open3dsg.db.connect import connect
from open3dsg.errors import UserError
from open3dsg.jobs.child import Child
from open3dsg.jobs.items import Item
from open3dsg.jobs.link import Taken, open_link
from open3dsg.jobs.policy import Decision, Outcome
from open3dsg.jobs.queue import Queue, known_queues, open_queue
from open3dsg.jobs.submit import Share, share_out
from open3dsg.jobs.worker import Pace, Tally, Worker
from open3dsg.steps.features import DumpNodes, FeatureOptions
from open3dsg.steps.runner import Step
from tests import miniature as mini
from tests.conftest import as_url
from tests.content import content
from tests.crash import crowd
from tests.db.pipeline import KEY, Database, ingest, observe, rows

FAST = Pace(beat_s=0.2, silent_s=1.0, poll_s=0.05, backoff_s=0.05)
DUMP = DumpNodes(FeatureOptions("toy"))


@pytest.fixture
def queue(database: Database, database_url: str) -> Iterator[Queue]:
    with open_queue(database, database_url) as queue:
        yield queue


def share(database: Database, step: str, work: Step, *scans: str, max_attempts: int = 3) -> Share:
    return share_out(database, step, work, scans, max_attempts=max_attempts, advance=lambda _scan: None)


def work_off(url: str, concurrency: int = 1) -> tuple[Tally, list[str]]:
    told: list[str] = []
    worker = Worker(url, tell=told.append, concurrency=concurrency, until_empty=True, pace=FAST)
    return worker.run(), told


@pytest.fixture
def observed(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)


def test_work_that_waits_is_not_queued_twice(database: Database, root: Path, queue: Queue) -> None:
    items = share(database, "ingest", ingest(root), mini.NAME).items
    assert queue.submit(items, "cpu") == 1
    again = share(database, "ingest", ingest(root), mini.NAME).items
    assert queue.submit(again, "cpu") == 0
    forced = share(database, "ingest", ingest(root, force=True), mini.NAME).items
    assert queue.submit(forced, "other") == 1
    assert [entry.queue for entry in queue.find()] == ["cpu", "other"]
    assert known_queues(database) == ["cpu", "gpu", "other"]


def test_what_is_done_is_left_out_and_what_cannot_be_done_is_told(
    database: Database, observed: None, encoders: None
) -> None:
    assert share(database, "observe", observe(), KEY) == Share([], 1, {})
    other = share(database, "observe", observe(every=2), KEY)
    assert other.items == []
    assert "every 1, now 2" in other.failures[KEY]
    database.execute("DELETE FROM ledger WHERE step = 'observe'")
    assert "has no observations" in share(database, "features", DUMP, KEY).failures[KEY]


def test_a_worker_writes_what_the_steps_write(
    database: Database, database_url: str, root: Path, queue: Queue, encoders: None
) -> None:
    ingest(root)(database, mini.NAME)
    ingest(root).close(database)
    observe()(database, KEY)
    DUMP(database, KEY)
    DUMP.close(database)
    direct = content(database)
    database.execute("DELETE FROM scan")
    database.execute("DELETE FROM vocabulary")
    database.execute("DELETE FROM term_embedding")
    for step, work, scan in (
        ("ingest", ingest(root), mini.NAME),
        ("observe", observe(), KEY),
        ("features", DUMP, KEY),
    ):
        queue.submit(share(database, step, work, scan).items, "cpu")
        tally, told = work_off(database_url)
        assert tally.as_json()["items"] == {"done": 1, "skipped": 0, "failed": 0, "waiting": 0}, told
    assert content(database) == direct
    assert queue.counts()["done"] == 3


def in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open3dsg.steps.features.nodes.CHUNK", 1)


def part(chunk: int, work: DumpNodes = DUMP) -> DumpNodes:
    return DumpNodes(work.options, work.force, work.replace, chunk)


def test_a_scan_of_several_chunks_is_several_items(
    database: Database, observed: None, encoders: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [item.chunk for item in share(database, "features", DUMP, KEY).items] == [None]
    in_chunks(monkeypatch)
    assert [item.chunk for item in share(database, "features", DUMP, KEY).items] == [0, 1, 2, 3]
    part(2)(database, KEY)
    assert [item.chunk for item in share(database, "features", DUMP, KEY).items] == [0, 1, 3]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 2, 0)])
def test_chunks_in_any_order_are_the_whole(
    database: Database,
    observed: None,
    encoders: None,
    monkeypatch: pytest.MonkeyPatch,
    order: tuple[int, ...],
) -> None:
    in_chunks(monkeypatch)
    DUMP(database, KEY)
    whole = content(database)
    other = DumpNodes(FeatureOptions("toy", scales=1), replace=True)
    summaries = [part(chunk, other)(database, KEY) for chunk in order]
    assert sum(summary.counts["nodes"] for summary in summaries) == 4
    assert sum(summary.counts.get("instances_unseen", 0) for summary in summaries) == 0
    by_chunks = content(database)
    assert by_chunks != whole
    DumpNodes(other.options, force=True)(database, KEY)
    assert content(database) == by_chunks
    for chunk in order:
        part(chunk, DumpNodes(DUMP.options, replace=True))(database, KEY)
    assert content(database) == whole


def test_a_chunk_done_twice_or_gone_does_nothing_and_force_does_it_over(
    database: Database, observed: None, encoders: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_chunks(monkeypatch)
    DUMP(database, KEY)
    whole = content(database)
    assert part(1)(database, KEY).skipped
    assert part(4)(database, KEY).skipped
    assert part(4, DumpNodes(DUMP.options, force=True))(database, KEY).skipped
    database.execute("UPDATE node_feature SET weights = '{1}'")
    for chunk in range(4):
        assert not part(chunk, DumpNodes(DUMP.options, force=True))(database, KEY).skipped
    assert content(database) == whole


def test_chunks_go_side_by_side_and_the_whole_scan_waits_for_them(
    database: Database, database_url: str, observed: None, encoders: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from open3dsg.db import ledger

    in_chunks(monkeypatch)
    entry = ledger.Entry("features.nodes", 1, {})
    with connect(database_url) as other, ledger.chunk_lock(database, "3rscan", mini.NAME, entry, 0):
        other.autocommit = True
        other.execute("SET lock_timeout = '300ms'")
        with ledger.chunk_lock(other, "3rscan", mini.NAME, entry, 1):
            pass
        for waits in (
            ledger.chunk_lock(other, "3rscan", mini.NAME, entry, 0),
            ledger.scan_lock(other, "3rscan", mini.NAME),
        ):
            with pytest.raises(Exception, match="lock timeout"), waits:
                pass


def test_two_processes_share_the_chunks_of_a_scan(
    database: Database, database_url: str, observed: None, queue: Queue, encoders: None
) -> None:
    crowd(database, mini.NAME, 150)
    assert DUMP(database, KEY).counts["nodes"] == 154
    DUMP.close(database)
    direct = content(database)
    database.execute("DELETE FROM ledger WHERE step = 'features.nodes'")
    items = share(database, "features", DUMP, KEY).items
    assert [item.chunk for item in items] == [0, 1, 2]
    queue.submit(items, "gpu")
    tally, _told = work_off(database_url, concurrency=2)
    assert (tally.ended["done"], tally.counts["nodes"], tally.counts["instances_unseen"]) == (3, 154, 0)
    assert content(database) == direct


def test_a_bad_file_is_parked_with_its_reason_and_can_be_retried(
    database: Database, database_url: str, root: Path, queue: Queue
) -> None:
    ply = root / mini.NAME / "labels.instances.annotated.v2.ply"
    whole = ply.read_bytes()
    ply.write_bytes(whole[:3000])
    queue.submit(share(database, "ingest", ingest(root), mini.NAME).items, "cpu")
    tally, told = work_off(database_url)
    [entry] = queue.find(status="failed")
    assert (entry.attempts, tally.failures) == (1, {entry.job_id: entry.reason})
    assert "labels.instances.annotated.v2.ply" in (entry.reason or "")
    assert any(": failed: " in line for line in told)
    assert rows(database, "SELECT count(*) FROM scan") == [(0,)]
    with pytest.raises(UserError, match="does not wait: it is failed"):
        queue.cancel([entry])
    ply.write_bytes(whole)
    assert queue.retry([entry]) == 1
    assert work_off(database_url)[0].ended["done"] == 1
    assert [attempt.outcome for attempt in queue.attempts(entry.job_id)] == ["refused", "done"]
    with pytest.raises(UserError, match="has not failed: it is done"):
        queue.retry(queue.find(ids=[entry.job_id]))


def test_a_failed_item_is_left_as_it_is_where_the_same_work_waits(
    database: Database, database_url: str, queue: Queue
) -> None:
    item = Item("observe", {}, "3rscan/a", None, "")
    queue.submit([item], "cpu")
    assert work_off(database_url)[0].ended == {"failed": 1}
    assert queue.submit([item], "cpu") == 1
    assert queue.retry(queue.find(status="failed")) == 0
    assert [entry.status for entry in queue.find()] == ["failed", "waiting"]


def test_a_process_that_died_between_two_items_is_no_fault_of_the_next(
    database: Database, database_url: str, root: Path
) -> None:
    [item] = share(database, "ingest", ingest(root), mini.NAME).items
    child = Child(database_url, 1)
    child.start()
    child.kill()
    for process in multiprocessing.active_children():
        process.join()
    assert child.run(item).kind == "done"
    child.close()


def test_an_error_that_is_a_bug_is_tried_again_then_parked_with_its_traceback(
    database: Database, database_url: str, observed: None, queue: Queue
) -> None:
    database.execute("DELETE FROM ledger WHERE step = 'observe'")
    database.execute("UPDATE frame SET depth_size = '{1}'")
    queue.submit(share(database, "observe", observe(), KEY, max_attempts=2).items, "cpu")
    tally, _told = work_off(database_url)
    assert (tally.ended["waiting"], tally.ended["failed"]) == (1, 1)
    [entry] = queue.find(status="failed")
    first, second = queue.attempts(entry.job_id)
    assert (first.outcome, second.outcome) == ("broken", "broken")
    assert second.reason is not None
    assert second.reason.startswith("TypeError: ")
    assert "Traceback" in (second.trace or "")
    assert second.started_at >= first.started_at


def test_items_of_another_version_are_refused_once_and_can_be_listed_and_cancelled(
    database: Database, database_url: str, observed: None, queue: Queue
) -> None:
    items = share(database, "observe", observe(every=2, replace=True), KEY).items
    odd = [
        replace(items[0], arguments={**items[0].arguments, "options": {"pace": number}}) for number in (1, 2)
    ]
    assert queue.submit([*items, *odd], "cpu") == 3
    database.execute("UPDATE open3dsg_queue.procrastinate_jobs SET args = args - 'submission' WHERE id = 1")
    assert [entry.item.label for entry in queue.find()] == [f"observe {KEY}"] * 3
    assert queue.cancel(queue.find(ids=[3])) == 1
    tally, told = work_off(database_url)
    assert tally.ended == {"failed": 2}
    assert all("queued by another version of open3dsg" in line for line in told)
    assert {entry.status for entry in queue.find()} == {"failed", "cancelled"}


def test_a_folder_that_is_not_here_is_no_fault_of_the_item(
    database: Database, database_url: str, root: Path, observed: None, queue: Queue
) -> None:
    database.execute("DELETE FROM ledger WHERE step = 'observe'")
    away = root.with_name("away")
    root.rename(away)
    queue.submit(share(database, "observe", observe(), KEY, max_attempts=1).items, "cpu")
    tally, told = work_off(database_url)
    [entry] = queue.find(status="waiting")
    assert tally.handed_back == {entry.job_id}
    assert f"{root} is not on this machine" in told[-1]
    away.rename(root)
    assert work_off(database_url)[0].ended["done"] == 1
    assert [attempt.outcome for attempt in queue.attempts(entry.job_id)] == ["away", "done"]


def test_an_item_that_was_handed_back_is_tried_again_after_a_rest(
    database: Database, database_url: str, root: Path, queue: Queue
) -> None:
    queue.submit(share(database, "ingest", ingest(root), mini.NAME).items, "cpu")
    away = root.rename(root.with_name("away"))

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def tell(line: str) -> None:
        if "is not on this machine" in line and away.exists():
            away.rename(root)
        elif ": done (" in line:
            stop()

    in_the_end = threading.Timer(60, stop)
    in_the_end.start()
    tally = Worker(database_url, tell=tell, pace=FAST).run()
    in_the_end.cancel()
    assert (tally.ended["done"], tally.handed_back) == (1, set())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"revision": "of other weights"}, "is 0123456789abcdef, not of other weights: install the same"),
        ({"options": {"encoder": "absent", "top_k_frames": 5, "scales": 3}}, "no encoder is called 'absent'"),
    ],
)
def test_an_encoder_that_is_not_here_or_another_is_no_fault_of_the_item(
    database: Database,
    database_url: str,
    encoders: None,
    observed: None,
    queue: Queue,
    change: dict[str, Any],
    told: str,
) -> None:
    [item] = share(database, "features", DUMP, KEY, max_attempts=1).items
    queue.submit([replace(item, arguments={**item.arguments, **change})], "gpu")
    tally, lines = work_off(database_url)
    assert len(tally.handed_back) == 1
    assert told in lines[-1]
    assert rows(database, "SELECT FROM node_feature") == []


def test_items_that_cannot_be_done_here_keep_no_other_waiting(
    database: Database, database_url: str, root: Path, observed: None, queue: Queue
) -> None:
    [item] = share(database, "ingest", ingest(root, force=True), mini.NAME).items
    gone = [replace(item, arguments={**item.arguments, "root": f"/gone/{number}"}) for number in range(5)]
    assert queue.submit([*gone, item], "cpu") == 6
    tally, told = work_off(database_url)
    assert tally.ended == {"done": 1, "waiting": 5}, told
    assert [len(queue.attempts(entry.job_id)) for entry in queue.find()] == [1] * 6


def test_a_login_with_the_role_of_a_worker_can_do_items(
    database: Database, database_url: str, root: Path, queue: Queue
) -> None:
    database.execute("DROP ROLE IF EXISTS queue_worker")
    database.execute("CREATE ROLE queue_worker LOGIN IN ROLE open3dsg_worker")
    theirs = as_url(database_url, user="queue_worker")
    with connect(theirs) as connection:
        connection.autocommit = True
        with open_queue(connection, theirs) as queue_of_theirs:
            queue_of_theirs.submit(share(connection, "ingest", ingest(root), mini.NAME).items, "cpu")
    tally, told = work_off(theirs)
    assert tally.ended == {"done": 1}, told
    database.execute("DROP ROLE queue_worker")


def test_cancelled_items_are_not_done(
    database: Database, database_url: str, root: Path, queue: Queue
) -> None:
    queue.submit(share(database, "ingest", ingest(root), mini.NAME).items, "cpu")
    assert queue.cancel(queue.find(step="ingest", status="waiting")) == 1
    assert work_off(database_url)[0].ended == {}
    assert queue.counts() == {"waiting": 0, "running": 0, "done": 0, "failed": 0, "cancelled": 1}
    assert queue.submit(share(database, "ingest", ingest(root), mini.NAME).items, "cpu") == 1


def test_items_of_the_dead_go_to_one_of_those_who_look_for_them(database_url: str, queue: Queue) -> None:
    queue.submit([Item("observe", {}, f"3rscan/{number}", None, "") for number in range(10)], "cpu")

    async def scene() -> list[list[Taken]]:
        async with (
            open_link(database_url, None, "dead:1", print) as dead,
            open_link(database_url, None, "first:2", print) as first,
            open_link(database_url, ["cpu"], "second:3", print) as second,
        ):
            await dead.register()
            taken = [await dead.fetch() for _ in range(10)]
            assert None not in taken
            assert await dead.fetch() is None
            await first.register()
            await second.register()
            assert await first.adopt(60, ()) == [], "it was heard of a moment ago"
            await asyncio.sleep(0.5)
            await first.beat()
            await second.beat()
            both = await asyncio.gather(first.adopt(0.4, ()), second.adopt(0.4, ()))
            assert taken[0] is not None
            assert not await dead.is_mine(taken[0])
            for link, adopted in zip((first, second), both, strict=True):
                for item in adopted:
                    await link.end_attempt(item, Outcome("lost", "silent"))
                    await link.settle(item, Decision("waiting"))
            assert await dead.fetch() is None, "it is no worker any more, and becomes one again"
            assert await dead.fetch() is not None
            return list(both)

    both = asyncio.run(scene())
    assert sorted(taken.job_id for taken in [*both[0], *both[1]]) == list(range(1, 11))
    outcomes: list[Any] = [attempt.outcome for attempt in queue.attempts(1)]
    assert outcomes[0] == "lost"


def test_a_worker_that_wakes_up_keeps_what_it_has_under_way(database_url: str, queue: Queue) -> None:
    queue.submit([Item("observe", {}, "3rscan/a", None, "")], "cpu")

    async def scene() -> None:
        async with open_link(database_url, None, "asleep:1", print) as link:
            await link.register()
            taken = await link.fetch()
            assert taken is not None
            await link.unregister()  # as if another had taken it for dead
            await link.register()
            assert await link.adopt(60, {taken.job_id}) == []
            assert await link.is_mine(taken)

    asyncio.run(scene())


def test_an_item_that_somebody_ended_or_put_in_again_is_not_put_back(database_url: str, queue: Queue) -> None:
    item = Item("observe", {}, "3rscan/a", None, "")
    told: list[str] = []

    async def scene() -> None:
        async with open_link(database_url, None, "one:1", told.append) as link:
            await link.register()
            taken = []
            for _ in range(2):
                assert queue.submit([item], "cpu") == 1
                taken.append(await link.fetch())
                assert taken[0] is not None
                await link.settle(taken[0], Decision("failed"))
            assert taken[1] is not None
            assert queue.retry(queue.find(ids=[1])) == 1
            await link.settle(taken[1], Decision("waiting"))

    asyncio.run(scene())
    assert told == ["item 1 was ended by another worker, too"]
    assert [entry.status for entry in queue.find()] == ["waiting", "failed"]
