"""Scans moved, deleted and changed while they are read; how far each step is."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from open3dsg.datasets import sequence
from open3dsg.datasets.surface import SurfaceReader
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.db import ledger
from open3dsg.db.connect import connect
from open3dsg.db.terms import terms_in_use
from open3dsg.errors import UserError
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.relabel import Correct, Relabel
from open3dsg.steps.runner import Step
from open3dsg.steps.status import scan_statuses
from open3dsg.store.removal import clear_away, delete_scan
from open3dsg.store.roots import dataset_roots, find_move, relocate
from open3dsg.store.scans import find_scan
from tests import miniature as mini
from tests.conftest import as_url
from tests.content import content, row_counts
from tests.db.corrections import DUMP, PLY, rename, run_all
from tests.db.pipeline import KEY, Database, ingest, observe, rows


@pytest.fixture(autouse=True)
def _small_chunks(encoders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open3dsg.steps.features.nodes.CHUNK", 2)


@pytest.mark.parametrize("file", [PLY, "sequence/frame-000002.color.jpg", "new.txt"])
def test_a_scan_whose_files_change_while_it_is_read_is_not_written(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    read = sequence.read_sequence

    def restless(folder: Path, name: str, axes: Any) -> Any:
        found = read(folder, name, axes)
        with (folder / name / file).open("ab") as opened:
            opened.write(b" ")
        return found

    with monkeypatch.context() as patched:
        patched.setattr("open3dsg.datasets.threerscan.read_sequence", restless)
        with pytest.raises(UserError, match=rf"{file}: changed while {mini.NAME} was read: wait until"):
            ingest(root)(database, mini.NAME)
    assert rows(database, "SELECT name FROM scan") == []
    assert not ingest(root)(database, mini.NAME).skipped


def test_a_file_that_is_still_being_copied_is_told_as_such(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ply = root / mini.NAME / PLY
    whole = ply.read_bytes()
    ply.write_bytes(whole[:3000])
    read = SurfaceReader.read

    def copy(self: SurfaceReader, groups: Any, frames: Any) -> Any:
        try:
            return read(self, groups, frames)
        finally:
            ply.write_bytes(whole)

    with monkeypatch.context() as patched:
        patched.setattr(SurfaceReader, "read", copy)
        with pytest.raises(UserError, match=f"{PLY}: changed while"):
            ingest(root)(database, mini.NAME)
    assert not ingest(root)(database, mini.NAME).skipped


def test_a_deleted_scan_leaves_nothing_behind(database: Database, fresh: Database, root: Path) -> None:
    run_all(database, root)
    mini.write_scan(root, "b")
    rename(4, "a word of its own")(root / "b")
    run_all(database, root, "b")
    before = row_counts(database)
    gone = delete_scan(database, find_scan(database, "b"))
    cleared = clear_away(database, ["3rscan"])
    after = row_counts(database)
    assert {table: before[table] - after[table] for table in before if before[table] != after[table]} == {
        **gone,
        **(cleared or {}),
    }
    assert gone == {
        "observation": 16,
        "node_feature": 8,
        "frame": 4,
        "instance": 4,
        "ledger": 6,
        "point_block": 1,
        "scan": 1,
    }
    assert cleared == {"term": 1}
    run_all(fresh, root)
    assert content(database) == content(fresh)


def test_the_last_scan_takes_its_dataset_with_it(database: Database, root: Path) -> None:
    from open3dsg.store.vocabularies import add_word_lists, set_vocabulary

    run_all(database, root)
    add_word_lists(database, "3rscan", ThreeRScan(root).word_lists())
    set_vocabulary(database, "3rscan-mine", "class", ["sofa", "table"])
    tables = set(row_counts(database))
    assert delete_scan(database, find_scan(database, KEY))["relationship"] == 4
    assert clear_away(database, ["another"]) == {}
    assert clear_away(database, ["3rscan"]) == {
        "dataset": 1,
        "vocabulary": 2,
        "vocabulary_term": 8,
        "term": 7,
    }
    left = {table: count for table, count in row_counts(database).items() if count}
    assert left == {
        "alembic_version": 1,
        "store_meta": left["store_meta"],
        "encoder": 2,
        "vocabulary": 1,
        "vocabulary_term": 2,
        "term": 2,
    }
    assert set(row_counts(database)) == tables


def test_every_table_of_a_scan_is_emptied(database: Database) -> None:
    """The catalogue, not a list, says what belongs to a scan: a table of a later version counts too."""
    database.execute(
        "CREATE TABLE later (scan_id bigint, instance_no int, FOREIGN KEY (scan_id, instance_no)"
        " REFERENCES instance ON DELETE CASCADE)"
    )
    database.execute("INSERT INTO dataset (name, layout) VALUES ('d', 'l')")
    database.execute("INSERT INTO scan (dataset_id, name) SELECT dataset_id, 's' FROM dataset")
    database.execute("INSERT INTO term (text) VALUES ('chair'), ('unused')")
    database.execute(
        "INSERT INTO instance (scan_id, instance_no, label_id, point_count)"
        " SELECT scan_id, 1, term_id, 0 FROM scan, term WHERE text = 'chair'"
    )
    database.execute("INSERT INTO later SELECT scan_id, 1 FROM scan")
    assert clear_away(database, ()) == {"term": 1}
    assert delete_scan(database, find_scan(database, "s")) == {"later": 1, "instance": 1, "scan": 1}


def test_a_scan_that_is_worked_on_is_not_deleted(database: Database, database_url: str, root: Path) -> None:
    run_all(database, root)
    before = content(database)
    entry = ledger.Entry("features.nodes", 1, {}, "toy")
    for chunk in (None, 0):
        with connect(database_url) as other:
            other.autocommit = True
            lock = (
                ledger.scan_lock(other, "3rscan", mini.NAME)
                if chunk is None
                else ledger.chunk_lock(other, "3rscan", mini.NAME, entry, chunk)
            )
            with lock, pytest.raises(UserError, match=f"someone is at work on scan {KEY}"):
                delete_scan(database, find_scan(database, KEY))
    assert content(database) == before
    delete_scan(database, find_scan(database, KEY))


@pytest.mark.parametrize(
    "work",
    [observe(force=True), DUMP, replace(DUMP, chunk=0), Correct({KEY: {1: "x"}}), Relabel()],
    ids=["observe", "features", "chunk", "correct", "relabel"],
)
def test_who_waited_for_a_scan_that_was_deleted_meanwhile_says_so(
    database: Database, database_url: str, root: Path, work: Step
) -> None:
    run_all(database, root)
    told: list[str] = []

    def go() -> None:
        with connect(database_url) as other:
            other.autocommit = True
            try:
                work(other, KEY)
            except UserError as error:
                told.append(str(error))

    thread = threading.Thread(target=go)
    with ledger.scan_lock(database, "3rscan", mini.NAME):
        thread.start()
        while not rows(database, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            assert thread.is_alive()
        delete_scan(database, find_scan(database, KEY))
    thread.join()
    assert told == [f"no scan {KEY!r} in the store; `open3dsg scans list` shows what is there"]
    assert row_counts(database).get("scan", 0) == 0


def test_words_stay_while_someone_is_about_to_use_them(database: Database, database_url: str) -> None:
    database.execute("INSERT INTO term (text) VALUES ('new')")
    with connect(database_url) as other:
        other.autocommit = True
        with terms_in_use(other):
            assert clear_away(database, ()) is None
        assert clear_away(database, ()) == {"term": 1}


def test_scans_are_ingested_while_others_are_deleted(
    database: Database, database_url: str, root: Path
) -> None:
    """Words and dataset rows that come and go never fail those who are using them."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def clear() -> None:
        with connect(database_url) as other:
            other.autocommit = True
            while not stop.is_set():
                try:
                    clear_away(other, ["3rscan"])
                except BaseException as error:
                    failures.append(error)
                    return

    thread = threading.Thread(target=clear)
    thread.start()
    try:
        for _ in range(10):
            ingest(root)(database, mini.NAME)
            delete_scan(database, find_scan(database, KEY))
    finally:
        stop.set()
        thread.join()
    assert failures == []


def move_to(root: Path, new: Path) -> Path:
    new.parent.mkdir(parents=True, exist_ok=True)
    return root.rename(new)


def test_a_dataset_that_was_moved(database: Database, root: Path, tmp_path: Path) -> None:
    for name in ("b", "c"):
        mini.write_scan(root, name, zipped=name == "c")
    reader = ThreeRScan(root, root)
    for name in (mini.NAME, "b", "c"):
        Ingest(reader, "3rscan", "3rscan", str(root))(database, name)
    new = move_to(root, tmp_path / "new place" / "3RScan")
    with pytest.raises(UserError, match="open3dsg scans relocate 3rscan NEW_ROOT"):
        observe()(database, KEY)
    (known,) = dataset_roots(database)
    assert not known.is_there
    move = find_move(database, "3rscan", new, "all")
    assert (move.scans, list(move.missing), move.pictures) == (3, [], 24)
    assert (list(move.pictures_missing), list(move.annotations_differ)) == ([], [])
    relocate(database, move)
    (known,) = dataset_roots(database)
    assert (known.root, known.is_there) == (str(new), True)
    assert known.arguments == {"annotations": str(new), "camera_axes": "y-down"}
    assert observe()(database, KEY).counts["observations"] == 16
    assert Relabel()(database, KEY).counts["labels_changed"] == 0


def test_what_is_missing_in_the_new_folder_is_told(database: Database, root: Path, tmp_path: Path) -> None:
    for name in ("b", "c"):
        mini.write_scan(root, name, zipped=name == "c")
        ingest(root)(database, name)
    ingest(root)(database, mini.NAME)
    new = move_to(root, tmp_path / "new")
    (new / "b").rename(new.parent / "b")
    (new / mini.NAME / "sequence/frame-000000.color.jpg").unlink()
    (new / "c/sequence.zip").write_bytes(b"no zip")
    mini.write_annotations(new, mini.subgraph(relationships=[]))
    move = find_move(database, "3rscan", new, "sample")
    assert list(move.missing) == ["b"]
    assert (move.pictures, len(move.pictures_missing)) == (8, 5)
    assert f"{mini.NAME}/sequence/frame-000000.color.jpg" in move.pictures_missing
    assert list(move.annotations_differ) == [mini.NAME]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda new: (new / mini.NAME).rename(new.parent / "gone"), "none of the 1 scans of dataset 3rscan"),
        (
            lambda new: [path.unlink() for path in (new / mini.NAME / "sequence").glob("*.[jp]*g*")],
            "none of the 4 pictures looked for",
        ),
        (lambda new: new.rename(new.parent / "gone"), "no such folder"),
    ],
)
def test_a_folder_of_something_else_is_refused(
    database: Database, root: Path, tmp_path: Path, spoil: Callable[[Path], object], told: str
) -> None:
    ingest(root)(database, mini.NAME)
    before = content(database)
    new = move_to(root, tmp_path / "new")
    spoil(new)
    with pytest.raises(UserError, match=told):
        find_move(database, "3rscan", new, "sample")
    assert content(database) == before
    relocate(database, find_move(database, "3rscan", new, "none"))
    assert dataset_roots(database)[0].root == str(new)


def test_a_dataset_without_a_folder_cannot_be_moved(database: Database, root: Path) -> None:
    from open3dsg.datasets.annotations import AnnotationReader

    Ingest(AnnotationReader(root, "3rscan"), "3rscan", "3rscan", None)(database, mini.NAME)
    with pytest.raises(UserError, match="has no folder yet: run `open3dsg ingest 3rscan"):
        find_move(database, "3rscan", root, "sample")
    with pytest.raises(UserError, match="no dataset 'another' in the store; it has 3rscan"):
        find_move(database, "another", root, "sample")


def test_a_database_of_the_first_version_is_taken_over(new_database: Callable[..., str], root: Path) -> None:
    """Lists that came with a dataset are known as such, and going back loses no more than it must."""
    from open3dsg.db.migrate import migrate

    url = as_url(new_database("taken_over"))
    migrate(url, "0001")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO dataset (name, layout, root) VALUES ('3rscan', '3rscan', '/data')")
        connection.execute(
            "INSERT INTO vocabulary (name, kind) VALUES ('3rscan-classes', 'class'), ('queries', 'query')"
        )
        connection.execute("INSERT INTO scan (dataset_id, name) SELECT dataset_id, 's' FROM dataset")
        migrate(url)
        owned = connection.execute("SELECT name FROM vocabulary WHERE dataset_id IS NOT NULL").fetchall()
        assert owned == [("3rscan-classes",)]
        connection.execute(
            "INSERT INTO ledger SELECT scan_id, step, '', 0, 1, '', '{}', 1, '{}', '[]', now(), stale"
            " FROM scan, (VALUES ('ingest', false), ('observe', true)) AS done (step, stale)"
        )
        migrate(url, "0001")
        assert connection.execute("SELECT step FROM ledger").fetchall() == [("ingest",)]
        assert connection.execute("SELECT count(*) FROM vocabulary").fetchone() == (2,)


def test_json_of_the_status_is_plain(database: Database, root: Path) -> None:
    run_all(database, root)
    (status,) = scan_statuses(database, scan=KEY)
    assert not status.lacks("features")
    assert not status.lacks("features", "toy")
    assert status.lacks("features", "another")
    assert json.loads(json.dumps(status.as_json(), default=vars))["steps"]["observe"]["state"] == "done"
