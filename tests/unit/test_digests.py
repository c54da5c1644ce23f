"""Hashes of weight files that are remembered on disk."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from open3dsg.encoders import digests
from open3dsg.encoders.digests import file_digest
from open3dsg.encoders.support import revision_of
from open3dsg.errors import BadFileError

BIG = digests.WORTH_BYTES


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that is not there yet."""
    monkeypatch.setenv("OPEN3DSG_HOME", str(tmp_path / "home"))
    file_digest.cache_clear()
    return tmp_path / "home"


def write_settled(path: Path, content: bytes) -> Path:
    """Write a file as if an hour ago: the memory trusts no file that may still be written to."""
    path.write_bytes(content)
    old = time.time_ns() - 3600 * 10**9
    os.utime(path, ns=(old, old))
    return path


def remembered(home: Path) -> dict[str, Any]:
    file_digest.cache_clear()
    memory = home / digests.NAME
    found: dict[str, Any] = json.loads(memory.read_text()) if memory.exists() else {}
    return found


def test_hashes_of_big_files_are_remembered_until_the_file_changes(tmp_path: Path, home: Path) -> None:
    file = write_settled(tmp_path / "weights", b"a" * BIG)
    assert file_digest(file) == hashlib.sha256(b"a" * BIG).hexdigest()
    size, changed, digest = remembered(home)[str(file)]
    assert (size, changed, digest) == (BIG, file.stat().st_mtime_ns, file_digest(file))

    lie = "0" * 64  # shows that the file is not read again
    (home / digests.NAME).write_text(json.dumps({str(file): [size, changed, lie]}))
    file_digest.cache_clear()
    assert file_digest(file) == lie
    os.utime(file, ns=(changed, changed + 1))
    file_digest.cache_clear()
    assert file_digest(file) == digest
    assert remembered(home)[str(file)] == [size, changed + 1, digest]


def test_small_files_and_those_just_written_are_not_remembered(tmp_path: Path, home: Path) -> None:
    small = write_settled(tmp_path / "small", b"a" * (BIG - 1))
    fresh = tmp_path / "fresh"
    fresh.write_bytes(b"a" * BIG)
    assert file_digest(small) != file_digest(fresh)
    assert remembered(home) == {}


def test_files_that_are_gone_are_forgotten(tmp_path: Path, home: Path) -> None:
    first, second = (write_settled(tmp_path / name, name.encode() * BIG) for name in "ab")
    file_digest(first)
    first.unlink()
    file_digest(second)
    assert list(remembered(home)) == [str(second)]


@pytest.mark.parametrize(
    "damage", [b"", b"\xff\x00", b"[1, 2]", b"{", b'{"x": [1, "a", null]}', b'{"x": 5}', b"[" * 100_000]
)
def test_a_damaged_memory_is_made_anew(damage: bytes, tmp_path: Path, home: Path) -> None:
    file = write_settled(tmp_path / "weights", b"a" * BIG)
    home.mkdir()
    (home / digests.NAME).write_bytes(damage)
    assert file_digest(file) == hashlib.sha256(b"a" * BIG).hexdigest()
    assert list(remembered(home)) == [str(file)]


def test_a_wrong_entry_is_no_hash(tmp_path: Path, home: Path) -> None:
    file = write_settled(tmp_path / "weights", b"a" * BIG)
    home.mkdir()
    entry = [BIG, file.stat().st_mtime_ns, "no hash"]
    (home / digests.NAME).write_text(json.dumps({str(file): entry}))
    assert file_digest(file) == hashlib.sha256(b"a" * BIG).hexdigest()


def test_a_memory_that_cannot_be_written_costs_only_time(tmp_path: Path, home: Path) -> None:
    home.write_text("a file where the folder should be")
    file = write_settled(tmp_path / "weights", b"a" * BIG)
    assert file_digest(file) == hashlib.sha256(b"a" * BIG).hexdigest()


def test_writers_at_once_leave_a_whole_memory(tmp_path: Path, home: Path) -> None:
    files = [write_settled(tmp_path / str(number), bytes([number]) * BIG) for number in range(6)]
    program = (
        "import sys, pathlib; from open3dsg.encoders.digests import file_digest;"
        "print(file_digest(pathlib.Path(sys.argv[1])))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, file], stdout=subprocess.PIPE, text=True)
        for file in files
    ]
    for process, file in zip(running, files, strict=True):
        out, _ = process.communicate(timeout=60)
        assert out.strip() == hashlib.sha256(file.read_bytes()).hexdigest()
    for path, (size, changed, digest) in remembered(home).items():
        state = Path(path).stat()
        assert (size, changed) == (state.st_size, state.st_mtime_ns)
        assert digest == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert [path.name for path in home.iterdir()] == [digests.NAME]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"absent: cannot be read: No such file"):
        revision_of({}, [tmp_path / "absent"])
