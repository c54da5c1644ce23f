"""Named queries: every one is used, every use has one, none is in Python."""

from __future__ import annotations

import re
from pathlib import Path

import open3dsg
from open3dsg.db.queries import named_queries
from open3dsg.db.resources import migrations_folder, sql_folder

PACKAGE = Path(open3dsg.__file__).parent
CALL = re.compile(r"(?:execute|execute_many|fetch_value)\(\s*\w[\w.]*,\s*\"(\w+)\"", re.DOTALL)


def calls() -> set[str]:
    return {name for path in PACKAGE.rglob("*.py") for name in CALL.findall(path.read_text())}


def test_every_call_has_its_query_and_every_query_its_call() -> None:
    assert calls() == set(named_queries())


def test_the_folders_are_found() -> None:
    assert (sql_folder() / "uninstall.sql").is_file()
    assert (migrations_folder() / "env.py").is_file()


def test_sql_files_load_in_an_order_that_their_names_fix() -> None:
    names = [path.name for path in sql_folder().glob("[0-9]*.sql")]
    assert len(names) >= 6
    assert len({name[:3] for name in names}) == len(names)
