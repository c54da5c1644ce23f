"""Names of runs, and what says which code made them."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import open3dsg
from open3dsg.errors import UserError
from open3dsg.store import run_names
from open3dsg.store.revision import describe_code
from open3dsg.store.run_names import check_run_name, propose_name


def test_a_name_is_two_words_and_a_number() -> None:
    names = {propose_name() for _ in range(100)}
    assert len(names) > 90
    assert all(re.fullmatch(r"[a-z]+-[a-z]+-\d+", check_run_name(name)) for name in names)


def test_a_proposed_name_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_names, "_KINDS", "warm")
    monkeypatch.setattr(run_names, "_THINGS", "lamp")
    taken: set[str] = set()
    for _ in range(300):  # more than numbers of two digits
        taken.add(propose_name(taken))
    assert len(taken) == 300


@given(st.text(st.characters(codec="utf-8"), max_size=8))
def test_a_name_is_one_word_of_a_command_and_one_folder(name: str) -> None:
    with suppress(UserError):
        check_run_name(name)
        assert Path("runs", name).parent == Path("runs")
        assert ":" not in name
        assert not name.startswith("-")


@pytest.mark.parametrize(
    "name", ["", " ", "a:b", "a/b", "a\\b", "a\nb", "-a", " a", "..", "x" * 201, "ü" * 101, "\udcff"]
)
def test_what_no_run_can_be_called(name: str) -> None:
    with pytest.raises(UserError, match="a run cannot be called"):
        check_run_name(name)


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    done = subprocess.run(["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_checkout_is_named_by_its_commit_and_whether_its_code_was_changed(tmp_path: Path) -> None:
    package = tmp_path / "open3dsg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    version = open3dsg.__version__
    assert describe_code(package) == version, "no checkout at all"
    git(tmp_path, "init", "-q")
    assert describe_code(package) == version, "in the checkout of something else"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")[:12]
    (tmp_path / "notes.txt").write_text("no code")
    assert describe_code(package) == f"{version} {commit}"
    (package / "new.py").write_text("")
    assert describe_code(package) == f"{version} {commit}+changes"


def test_where_there_is_no_git_the_version_has_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe_code(Path(open3dsg.__file__).parent) == open3dsg.__version__
