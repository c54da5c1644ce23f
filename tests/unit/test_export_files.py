"""Files to write: there whole or not at all, and nothing else is written over."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from open3dsg.errors import UserError
from open3dsg.export.files import check_folder, whole_file, write_json


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "file"

    def write_half() -> None:
        with whole_file(target) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert list(tmp_path.iterdir()) == []
    with (
        pytest.raises(UserError, match=r"missing/file: cannot be written"),
        whole_file(tmp_path / "missing" / "file"),
    ):
        pass


def test_what_is_no_number_of_json_leaves_the_file_of_before(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    write_json(path, [1.5, "\N{SNOWMAN}"])
    before = path.read_text(encoding="utf-8")
    assert before == '[\n  1.5,\n  "\N{SNOWMAN}"\n]\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, [1.5, float("nan")])
    assert path.read_text(encoding="utf-8") == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(UserError, match="cannot be written: it is there already, and is no file"):
            write_json(path, [])
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_stays_one(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / "link"
    link.symlink_to(Path("elsewhere", "list.json"))
    for value in ("1", "2"):  # first it leads to nothing yet
        write_json(link, value)
        assert link.is_symlink()
        assert (elsewhere / "list.json").read_text() == f'"{value}"\n'
    assert len(list(elsewhere.iterdir())) == 1


@pytest.mark.parametrize("path", [Path(), Path("x" * 300, "file"), Path("x" * 300)])
def test_names_that_cannot_be_are_one_line(path: Path) -> None:
    with pytest.raises(UserError, match=r"empty|cannot be written: File name too long"):
        check_folder(path)
