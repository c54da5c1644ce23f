"""Checkpoints: which are kept, in the database and as files, and what a save that was cut off leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pytest

from open3dsg.db.connect import connect
from open3dsg.errors import UserError
from open3dsg.store import checkpoints
from open3dsg.store.checkpoints import (
    StoredCheckpoint,
    checkpoint_file,
    find_checkpoint,
    list_checkpoints,
    save_checkpoint,
)
from open3dsg.store.runs import StoredRun, delete_run, find_run, run_lock
from tests.content import row_counts
from tests.db.made_runs import Database, make_run

Save = Callable[..., StoredCheckpoint]


@pytest.fixture
def run(database: Database) -> StoredRun:
    return make_run(database)


@pytest.fixture(params=["database", "files"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "database" else tmp_path / "räume %20" / "kept"


@pytest.fixture
def save(database: Database, run: StoredRun, folder: Path | None, tmp_path: Path) -> Save:
    def save(step: int, val_loss: float | None = None, content: bytes | None = None, **changes: Any) -> Any:
        file = tmp_path / "new.ckpt"
        file.write_bytes(f"state of {step}".encode() if content is None else content)
        chosen = {"epoch": 0, "position": step, "keep": 2, "folder": folder}
        return save_checkpoint(database, run.run_id, file, step=step, val_loss=val_loss, **chosen | changes)

    return save


def content(database: Database, checkpoint: StoredCheckpoint) -> bytes:
    with checkpoint_file(database, checkpoint) as path:
        return path.read_bytes()


def steps(database: Database, run: StoredRun) -> list[int]:
    return [kept.step for kept in list_checkpoints(database, run)]


def files(folder: Path | None) -> list[str]:
    """The files below `folder` without their hashes, and empty folders, of which there should be none."""
    below = [] if folder is None else sorted(folder.rglob("*"))
    return [path.name.rsplit("-", 1)[0] for path in below if path.is_file() or not any(path.iterdir())]


def test_the_bytes_come_back_whatever_their_length(database: Database, run: StoredRun, save: Save) -> None:
    part = checkpoints.PART_BYTES
    for step, length in enumerate((0, 1, part, 2 * part + 7)):
        data = bytes([step]) * length
        stored = save(step, content=data)
        assert (stored.size, stored.digest) == (length, hashlib.sha256(data).hexdigest())
        assert content(database, stored) == data
        assert list_checkpoints(database, run) == [stored]


def test_parts_are_of_8_mib_and_lie_in_the_database(
    database: Database, run: StoredRun, tmp_path: Path
) -> None:
    file = tmp_path / "new.ckpt"
    file.write_bytes(bytes(checkpoints.PART_BYTES + 7))
    last: dict[str, Any] = {"val_loss": None, "keep": 5, "folder": None}
    save_checkpoint(database, run.run_id, file, step=1, epoch=2, position=3, **last)
    parts = database.execute("SELECT part_no, length(data) FROM checkpoint_part ORDER BY 1").fetchall()
    assert parts == [(0, 8 * 2**20), (1, 7)]
    assert file.exists(), "the caller removes it"
    row = database.execute("SELECT step, epoch, position, uri FROM v_checkpoint").fetchone()
    assert row == (1, 2, 3, None)


def test_the_best_and_the_last_are_kept(
    database: Database, run: StoredRun, save: Save, folder: Path | None
) -> None:
    kept = []
    for step, loss in enumerate((0.5, 0.4, None, 0.6, 0.3, float("nan"), 0.3)):
        save(step, loss)
        kept.append(steps(database, run))
    assert kept == [[0], [0, 1], [0, 1, 2], [0, 1, 3], [1, 4], [1, 4, 5], [4, 6]]
    assert [checkpoint.is_last for checkpoint in list_checkpoints(database, run)] == [False, True]
    assert find_checkpoint(database, run, "best").step == 4
    assert find_checkpoint(database, run, "last").step == 6
    assert find_checkpoint(database, run, "4").val_loss == 0.3
    assert [content(database, kept) for kept in list_checkpoints(database, run)] == [
        b"state of 4",
        b"state of 6",
    ]
    if folder is None:
        (count,) = database.execute("SELECT count(*) FROM checkpoint_part").fetchone() or (None,)
        assert count == 2
    else:
        assert files(folder) == ["step-4", "step-6"]


def test_a_step_is_kept_once(database: Database, run: StoredRun, save: Save, folder: Path | None) -> None:
    save(7, 0.5)
    again = save(7, None, b"a little later")
    assert list_checkpoints(database, run) == [again]
    assert (again.val_loss, again.is_last) == (0.5, True)
    assert content(database, again) == b"a little later"
    same = save(7, 0.4, b"a little later")
    assert list_checkpoints(database, run) == [same]
    assert (same.val_loss, same.is_last) == (0.4, True)
    assert content(database, same) == b"a little later"
    assert files(folder) == ([] if folder is None else ["step-7"])


def test_one_that_is_not_there_is_named_with_those_that_are(
    database: Database, run: StoredRun, save: Save
) -> None:
    with pytest.raises(UserError, match="the run 'quiet-lamp-1' has no checkpoint 'last'; it has none yet"):
        find_checkpoint(database, run, "last")
    save(3)
    with pytest.raises(UserError, match=r"no checkpoint 'best', for it was not validated yet; .* 3 \(last\)"):
        find_checkpoint(database, run, "best")
    save(4, 0.5)
    with pytest.raises(UserError, match=r"no checkpoint '3'; it has those of the steps 4 \(last\)"):
        find_checkpoint(database, run, "3")


def test_bytes_that_are_gone_or_damaged_are_refused(database: Database, save: Save) -> None:
    stored = save(9, content=b"x" * 100)
    cannot = "the checkpoint of step 9 of the run 'quiet-lamp-1' cannot be used"
    if stored.uri is None:
        spoil = ("UPDATE checkpoint_part SET data = set_byte(data, 50, 1)", "DELETE FROM checkpoint_part")
        for statement in spoil:
            database.execute(statement)
            with pytest.raises(UserError, match=f"{cannot}: its bytes in the database are gone or damaged"):
                content(database, stored)
        return
    path = Path(unquote(urlsplit(stored.uri).path))
    path.write_bytes(b"x" * 99)
    with pytest.raises(UserError, match=f"{cannot}: .*/step-9-.*damaged: its SHA-256 is another"):
        content(database, stored)
    path.unlink()
    with pytest.raises(UserError, match=f"{cannot}: its file file:///.* is not there; `open3dsg runs show"):
        content(database, stored)


def test_a_save_that_fails_leaves_all_as_it_was(
    database: Database, run: StoredRun, save: Save, folder: Path | None, tmp_path: Path
) -> None:
    save(1, 0.5)
    database.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE data_corrupted; END'"
    )
    database.execute(
        "CREATE TRIGGER refuse BEFORE DELETE ON checkpoint FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    before = list_checkpoints(database, run), row_counts(database), files(folder)
    with pytest.raises(psycopg.errors.DataCorrupted):
        save(2, 0.4, keep=1)  # which drops the first, the last thing it does
    assert (list_checkpoints(database, run), row_counts(database), files(folder)) == before
    assert content(database, before[0][0]) == b"state of 1"
    database.execute("DROP TRIGGER refuse ON checkpoint")
    chosen: dict[str, Any] = {"epoch": 0, "position": 2, "keep": 1, "folder": folder}
    file = tmp_path / "new.ckpt"
    again = save_checkpoint(database, run.run_id, file, step=2, val_loss=0.4, **chosen)
    assert content(database, again) == b"state of 2", "the file was there to be saved once more"
    assert file.exists() == (folder is None)


def test_a_save_is_done_again_on_a_new_connection(
    database: Database, database_url: str, run: StoredRun, save: Save, tmp_path: Path
) -> None:
    """The server goes away after the file has moved, as when it is restarted."""
    folder = tmp_path / "kept"
    save(1, 0.5, folder=folder)
    database.execute(
        "CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN OLD; END'"
    )
    database.execute("CREATE TRIGGER leave BEFORE DELETE ON checkpoint FOR EACH ROW EXECUTE FUNCTION leave()")
    file = tmp_path / "second.ckpt"
    file.write_bytes(b"state of 2")
    chosen: dict[str, Any] = {"epoch": 0, "position": 2, "val_loss": 0.4, "keep": 1}
    with connect(database_url) as lost:
        lost.autocommit = True
        with pytest.raises(psycopg.OperationalError):
            save_checkpoint(lost, run.run_id, file, step=2, folder=folder, **chosen)
    database.execute("DROP TRIGGER leave ON checkpoint")
    assert steps(database, run) == [1]
    again = save_checkpoint(database, run.run_id, file, step=2, folder=folder, **chosen)
    assert content(database, again) == b"state of 2"
    assert files(folder) == ["step-2"]


def test_of_a_deleted_run_nothing_is_kept(
    database: Database, run: StoredRun, save: Save, folder: Path | None
) -> None:
    save(1, 0.5)
    save(2, 0.4)
    assert delete_run(database, run).checkpoints == 2
    assert files(folder) == []
    (count,) = database.execute("SELECT count(*) FROM checkpoint_part").fetchone() or (None,)
    assert count == 0
    with pytest.raises(UserError, match="the run was deleted meanwhile"):
        save(3)


def test_a_run_continued_elsewhere_keeps_its_files_apart(
    database: Database, run: StoredRun, save: Save, tmp_path: Path
) -> None:
    """The second folder takes over from the first, or from the database."""
    first, second = tmp_path / "first", tmp_path / "second"
    save(1, 0.5, folder=first)
    save(2, None, folder=first)
    save(3, 0.4, folder=second)
    assert (files(first), files(second)) == (["step-1"], ["step-3"])
    save(4, 0.3, folder=None)
    assert steps(database, run) == [3, 4]
    assert (files(first), files(second)) == ([], ["step-3"])


def test_what_a_killed_save_left_behind_is_cleared_up_by_the_next(
    database: Database, run: StoredRun, save: Save, tmp_path: Path
) -> None:
    stored = save(1, 0.5, folder=tmp_path / "kept")
    assert stored.uri is not None
    path = Path(urlsplit(stored.uri).path)
    # Killed after the commit, before the file got its name: it is as good as saved.
    pending = path.rename(path.with_name(f"{path.name}.pending"))
    assert content(database, stored) == b"state of 1"
    # Killed before the commit: no row knows it.
    path.with_name("step-2-00000000.ckpt.pending").write_bytes(b"half")
    save(3, 0.4, folder=tmp_path / "kept")
    assert files(tmp_path / "kept") == ["step-1", "step-3"]
    assert path.read_bytes() == b"state of 1"
    assert not pending.exists()


def test_another_store_with_a_run_of_that_name_may_use_the_folder(
    database: Database, fresh: Database, save: Save, tmp_path: Path
) -> None:
    save(1, 0.5, folder=tmp_path / "kept")
    other = make_run(fresh)
    file = tmp_path / "other.ckpt"
    file.write_bytes(b"theirs")
    chosen: dict[str, Any] = {"epoch": 0, "position": 0, "val_loss": 0.5, "keep": 2}
    save_checkpoint(fresh, other.run_id, file, step=1, folder=tmp_path / "kept", **chosen)
    assert files(tmp_path / "kept") == ["step-1", "step-1"]
    delete_run(fresh, other)
    assert (
        content(database, find_checkpoint(database, find_run(database, "quiet-lamp-1"), "1")) == b"state of 1"
    )


def test_a_folder_that_cannot_be_written_is_one_line(
    database: Database, run: StoredRun, save: Save, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    save(1, 0.5, folder=None)
    with pytest.raises(
        UserError, match=r"file/quiet-lamp-1-.*/step-2-.*\.ckpt: cannot be written: Not a dir"
    ):
        save(2, 0.4, folder=tmp_path / "file")
    assert steps(database, run) == [1]


def test_a_reader_reads_and_a_writer_writes(
    database: Database, database_url: str, run: StoredRun, tmp_path: Path
) -> None:
    file = tmp_path / "new.ckpt"
    file.write_bytes(b"state")
    row: dict[str, Any] = {
        "epoch": 0,
        "position": 0,
        "val_loss": 0.5,
        "keep": 1,
        "folder": None,
    }
    with connect(database_url) as other:
        other.autocommit = True
        other.execute("SET ROLE open3dsg_writer")
        with run_lock(other, run.name):
            save_checkpoint(other, run.run_id, file, step=1, **row)
            save_checkpoint(other, run.run_id, file, step=2, **row)
        other.execute("SET ROLE open3dsg_reader")
        assert content(other, find_checkpoint(other, find_run(other, run.name), "best")) == b"state"
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            save_checkpoint(other, run.run_id, file, step=3, **row)
