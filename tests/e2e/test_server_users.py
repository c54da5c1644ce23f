"""Which system user runs the embedded server, and what happens to those who may not."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from tests.e2e.machines import BARE, NOBODY, as_root, owned, refused, run, server_of, started, user


@as_root
@pytest.mark.slow
def test_a_user_runs_it_as_himself(folder: Path) -> None:
    home = owned(folder / "home", NOBODY)
    started(run(home, "db", "start", before=user(NOBODY)))
    assert server_of(home).uids().effective == NOBODY
    # Root uses, and may stop, the server of the user; the user can go on after that.
    started(run(home, "db", "start"))
    assert run(home, "db", "stop").out == "stopped\n"
    started(run(home, "db", "start"))
    assert server_of(home).uids().effective == NOBODY
    assert run(home, "db", "stop", before=user(NOBODY)).out == "stopped\n"
    started(run(home, "db", "start", before=user(NOBODY)))


@as_root
@pytest.mark.slow
def test_root_in_the_folder_of_a_user_makes_the_database_the_users(folder: Path) -> None:
    home = owned(folder / "home", NOBODY)
    started(run(home, "db", "start"))
    assert server_of(home).uids().effective == NOBODY
    assert run(home, "db", "stop", before=user(NOBODY)).out == "stopped\n"
    started(run(home, "db", "start", before=user(NOBODY)))


@as_root
@pytest.mark.slow
def test_the_data_folder_of_somebody_else_is_not_touched(folder: Path) -> None:
    home = folder / "home"
    started(run(home, "db", "start"))
    for command in ("start", "stop", "status"):
        line = refused(run(home, "db", command, before=user(NOBODY)))
        assert "Permission denied" in line
        assert "OPEN3DSG_HOME names another" in line
    run(home, "db", "stop")
    assert "OPEN3DSG_HOME" in refused(run(home, "db", "start", before=user(NOBODY)))


@as_root
@pytest.mark.slow
def test_a_user_without_a_name(folder: Path) -> None:
    uid = 54321
    with pytest.raises(KeyError):
        pwd.getpwuid(uid)
    home = owned(folder / "home", uid)
    line = refused(run(home, "db", "start", before=user(uid)))
    assert "could not look up effective user ID 54321" in line
    assert "let root add a line to /etc/passwd" in line
    assert not list(home.glob("postgres-18*/*"))
    # Root, as a container usually is, does not take an owner whom PostgreSQL would not take.
    started(run(home, "db", "start"))
    assert server_of(home).uids().effective not in (0, uid)


@as_root
@pytest.mark.slow
def test_a_machine_without_users_and_useradd(folder: Path) -> None:
    done = run(folder / "home", "db", "start", before=("unshare", "-m", "sh", "-c", BARE, "sh"))
    started(done)
    assert server_of(folder / "home").uids().effective == NOBODY


@as_root
@pytest.mark.slow
def test_a_home_below_private_folders(folder: Path) -> None:
    home = owned(folder / "private", 0) / "deeper" / "home"
    started(run(home, "db", "start"))
    assert (folder / "private").stat().st_mode & 0o777 == 0o701
