"""The main job: dataset folder -> database -> answers, right answers."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from PIL import Image

from open3dsg.db.connect import connect
from open3dsg.db.migrate import migrate
from open3dsg.steps.status import scan_statuses
from tests.conftest import as_url
from tests.e2e.conftest import Store, fill

ROOT = Path(__file__).parents[2]


def recall(store: Store, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "recall"), *arguments],
        env={"OPEN3DSG_DATABASE_URL": store.url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_every_step_is_done_for_every_room(rooms_store: Store) -> None:
    with connect(rooms_store.url) as connection:
        statuses = scan_statuses(connection)
    assert len(statuses) == 3
    for status in statuses:
        assert status.missing is None
        assert status.row["problems"] == []
        assert status.row["frames"] == 100
        assert status.row["instances"] >= 15
        assert status.row["relationships"] > 20
        (nodes,) = status.row["features"].values()
        assert nodes >= 0.9 * status.row["instances"]


def test_answers_are_right(rooms_store: Store) -> None:
    result = recall(rooms_store, "--encoder", "rooms", "--dataset", "rooms", "--vocabulary", "rooms-classes")
    assert result["scans"] == 3
    assert result["recall@1"] >= 0.9, result
    assert result["chance_seen@1"] < 0.2
    assert result["class_recall@10"] >= 0.9, result


def test_a_question_beyond_the_classes(rooms_store: Store, tmp_path: Path) -> None:
    picture = tmp_path / "answers.png"
    answer = json.loads(
        rooms_store.run("query", "nodes", "a place to sit", "-k", "3", "--json", "--picture", str(picture))
    )
    assert len(answer) == 3
    assert answer[0]["label"] in {
        "chair",
        "armchair",
        "sofa",
        "couch",
        "stool",
        "bench",
        "office chair",
        "ottoman",
    }
    assert list(answer[0])[:5] == ["scan", "instance", "label", "similarity", "position"]
    with Image.open(picture) as image:
        assert image.size[0] >= 800


@pytest.mark.slow
def test_ten_rooms_never_trained_on(new_database: Callable[..., str], tmp_path: Path) -> None:
    url = as_url(new_database("ten_rooms"))
    migrate(url)
    store = fill(url, tmp_path, scans=10, seed=1)
    result = recall(store, "--encoder", "rooms", "--dataset", "rooms")
    assert result["scans"] == 10
    assert result["recall@1"] >= 0.9, result


@pytest.mark.slow
def test_the_demo_runs_and_runs_again(tmp_path: Path) -> None:
    for _ in range(2):
        done = subprocess.run(
            [ROOT / "scripts" / "demo", tmp_path / "a demo"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "something to write on" in done.stdout
        assert (tmp_path / "a demo" / "answers.png").stat().st_size > 100_000
    assert "ingest: 0 done, 10 already done, 0 failed" in done.stdout


def say_what_is_annotated(store: Store) -> None:
    """Have corrections that change nothing: a label, and a relation, as they are annotated."""
    with psycopg.connect(store.url) as connection:
        query = b"SELECT scan, subject, subject_label, predicate, object FROM v_relationship LIMIT 1"
        [(scan, subject, label, predicate, target)] = connection.execute(query).fetchall()
    store.run("correct", "label", scan, str(subject), label)
    store.run("correct", "relation", scan, str(subject), predicate, str(target))


def make_one_a_rescan(store: Store) -> None:
    """Have two of the rooms pass for two visits to one."""
    with psycopg.connect(store.url) as connection:
        connection.execute(
            "UPDATE scan SET reference_name = (SELECT min(name) FROM scan),"
            " t_reference_scan = '{1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}'"
            " WHERE name = (SELECT max(name) FROM scan)"
        )


@pytest.mark.parametrize(("page", "least"), [("sql.md", 16), ("corrections.md", 2)])
def test_documented_sql_runs(
    rooms_store: Store, new_database: Callable[..., str], page: str, least: int
) -> None:
    blocks = (ROOT / "docs" / page).read_text(encoding="utf-8").split("```sql\n")[1:]
    # In a database of our own: what is corrected here is nobody else's.
    name = f"documented_{page.removesuffix('.md')}"
    store = Store(as_url(new_database(name, template="rooms_store")), rooms_store.rooms)
    store.run("query", "nodes", "chair", "-k", "1")  # so that the word has an embedding
    say_what_is_annotated(store)
    make_one_a_rescan(store)
    statements = [
        statement.strip()
        for block in blocks
        for statement in block.split("```")[0].split(";\n")
        if statement.strip()
    ]
    assert len(statements) >= least
    with psycopg.connect(store.url) as connection:
        for statement in statements:
            rows = connection.execute(statement.encode()).fetchall()
            assert rows or "missing_frames" in statement, statement


def test_the_wheel_migrates_a_database_without_the_checkout(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run(
        [*pip, "wheel", str(ROOT), "--no-deps", "-w", str(tmp_path)], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert (tmp_path / "site" / "open3dsg" / "_sql" / "uninstall.sql").is_file()
    url = as_url(new_database("by_wheel"))
    code = (
        "import open3dsg, sys; from open3dsg.db.migrate import migrate;"
        f"print(open3dsg.__file__); print(migrate({url!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        str(tmp_path / "site" / "open3dsg" / "__init__.py"),
        "['0001', '0002', '0003', '0004', '0005', '0006']",
    ]
