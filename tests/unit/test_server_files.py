import os
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from open3dsg.db import server_files as files
from open3dsg.db.server_account import Account, server_account

_RUNNING = b"123\n/data\n1700000000\n5432\n/data/so cket\n\n   264   7\nready   \n"


def test_a_whole_pid_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_bytes(_RUNNING)
    assert files.read_pid_file(tmp_path) == files.PidFile(123, 5432, Path("/data/so cket"), None, "ready")


@pytest.mark.parametrize("lines", range(1, 8))
def test_a_pid_file_of_a_starting_server_lacks_lines(tmp_path: Path, lines: int) -> None:
    (tmp_path / "postmaster.pid").write_bytes(b"\n".join(_RUNNING.split(b"\n")[:lines]))
    found = files.read_pid_file(tmp_path)
    assert found == files.PidFile(123, 5432, Path("/data/so cket") if lines >= 5 else None, None, None)


def test_a_pid_file_names_the_tcp_address(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_bytes(b"9\n/data\n1700000000\n6000\n/s\n::1\n   264   7\nready   \n")
    assert files.read_pid_file(tmp_path) == files.PidFile(9, 6000, Path("/s"), "::1", "ready")


@pytest.mark.parametrize("content", [b"", b"\n", b"-5\n/data\n", b"rubbish", b"\xff\xfe"])
def test_a_garbled_pid_file_is_none_and_disowning_removes_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "postmaster.pid").write_bytes(content)
    assert files.read_pid_file(tmp_path) is None
    files.disown_pid_file(tmp_path)
    assert not (tmp_path / "postmaster.pid").exists()


def test_no_pid_file_is_none(tmp_path: Path) -> None:
    assert files.read_pid_file(tmp_path) is None
    assert files.read_pid_file(tmp_path / "nowhere") is None


def test_a_disowned_pid_file_keeps_its_shared_memory_line(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_bytes(_RUNNING)
    files.disown_pid_file(tmp_path)
    expected = _RUNNING.replace(b"123\n", b"%d\n" % files.NO_PROCESS, 1)
    assert (tmp_path / "postmaster.pid").read_bytes() == expected
    with pytest.raises(ProcessLookupError):
        os.kill(files.NO_PROCESS, 0)


def test_the_socket_lies_with_the_data_where_its_path_is_short_and_plain() -> None:
    for name in ("/srv/open3dsg/postgres-18", "/srv/a b/ünï/部屋"):
        assert files.socket_folder(Path(name), 1000) == Path(name)


@pytest.mark.parametrize("name", ["/" + "x" * 120, "/a,b", '/a"b', "/it's", "/a\\b", "/a\nb", "/" + "é" * 50])
def test_the_socket_has_a_short_folder_of_its_own_otherwise(name: str) -> None:
    folder = files.socket_folder(Path(name), 1000)
    assert folder.parent == Path("/tmp")
    assert folder == files.socket_folder(Path(name), 1000)
    assert len(os.fsencode(folder / ".s.PGSQL.65535")) <= files.LONGEST_SOCKET_PATH
    others = {files.socket_folder(Path(name), 1001), files.socket_folder(Path(name + "x"), 1000)}
    assert folder not in others


def test_the_longest_path_that_fits_is_the_limit() -> None:
    room = files.LONGEST_SOCKET_PATH - len("/.s.PGSQL.65535")
    fits, too_long = Path("/" + "x" * (room - 1)), Path("/" + "x" * room)
    assert files.socket_folder(fits, 0) == fits
    assert files.socket_folder(too_long, 0) != too_long


@pytest.mark.parametrize("folder", ["/srv/x", "/srv/a b", "/srv/ünï/部屋", "/srv/100%41&x=1?#+"])
def test_libpq_reads_the_folder_back_from_the_url(folder: str) -> None:
    options = conninfo_to_dict(files.server_url(Path(folder)))
    assert options["host"] == folder
    assert (options["port"], options["user"], options["dbname"]) == ("5432", "open3dsg", "open3dsg")


def test_configuration_values_are_quoted() -> None:
    text = files.configuration_text({"a": r"it's a \ path", "b": ""})
    assert text.splitlines()[1:] == [r"a = 'it''s a \\ path'", "b = ''"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it said nothing"),
        ("loading\nlibz.so.1: no such file\n", "libz.so.1: no such file"),
        (
            "2026-01-01 00:00:00.1 UTC [5] LOG:  starting\n2026-01-01 00:00:00.2 UTC [5] FATAL:  no room\n"
            "2026-01-01 00:00:00.2 UTC [5] HINT:  buy more\n",
            "FATAL:  no room",
        ),
        (
            "1 [7] FATAL:  the database system is starting up\n1 [5] PANIC:  No space left on device\n"
            "1 [5] PANIC:  cannot abort\n",
            "PANIC:  No space left on device",
        ),
        (
            "1 [5] FATAL:  data directory has wrong permissions\n1 [5] DETAIL:  They should be 0700.\n",
            "FATAL:  data directory has wrong permissions: They should be 0700.",
        ),
        ("initdb: error: disk full\ninitdb: removing contents\n", "initdb: error: disk full"),
    ],
)
def test_the_reason_is_the_line_that_matters(text: str, reason: str) -> None:
    assert files.main_reason(text) == reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('LOG:  listening on IPv4 address "0.0.0.0", port 5432', None),
        (
            'LOG:  could not bind IPv4 address "0.0.0.0": Address already in use',
            "Address already in use (another program has the port)",
        ),
        (
            'LOG:  could not bind IPv6 address "fe80::1": Cannot assign requested address',
            "Cannot assign requested address (it is not one of this machine's)",
        ),
        (
            'LOG:  could not bind IPv4 address "127.0.0.1": Permission denied',
            "Permission denied (ports below 1024 are the system's)",
        ),
        (
            'LOG:  could not translate host name "x", service "5432" to address: Name or service not known',
            "Name or service not known",
        ),
    ],
)
def test_why_a_server_cannot_listen(line: str, reason: str | None) -> None:
    log = f"1 [7] LOG:  starting PostgreSQL\n1 [7] {line}\n1 [7] LOG:  listening on Unix socket\n"
    assert files.listen_trouble(log) == reason


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_whole(path, b"old", os.geteuid(), os.getegid())
    assert path.stat().st_mode & 0o777 == 0o600
    path.with_name("file.new").mkdir()  # in the way, as a full disk is
    with pytest.raises(OSError, match=r"file\.new"):
        files.write_whole(path, b"new", os.geteuid(), os.getegid())
    assert path.read_bytes() == b"old"


def test_folder_size_counts_files_at_every_depth(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "x").write_bytes(b"12")
    (tmp_path / "a" / "b" / "y").write_bytes(b"345")
    assert files.folder_size(tmp_path) == 5
    assert files.folder_size(tmp_path / "nowhere") == 0


def test_an_ordinary_user_runs_the_server_and_root_never_does(tmp_path: Path) -> None:
    account = server_account(tmp_path / "postgres-18")
    assert account.uid != 0
    assert isinstance(account, Account)
    assert account.switch == (os.geteuid() == 0)
