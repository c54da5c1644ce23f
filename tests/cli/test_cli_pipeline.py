"""The main job through the installed command: dataset folder, database, questions in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests import miniature as mini
from tests.command import DUMP, OBSERVE, Done
from tests.conftest import as_url
from tests.content import content

Run = Callable[..., Done]
Database = psycopg.Connection[Any]

NAMES = [mini.NAME, mini.RESCAN, "mini-0003"]


@pytest.fixture
def database_url(full_database_url: str) -> str:
    """Every step is done in the database of these tests."""
    return full_database_url


def centroid(label: str) -> NDArray[np.float64]:
    xyz, numbers, _ = mini.points()
    (number,) = (n for n, text in mini.LABELS.items() if text == label)
    mean: NDArray[np.float64] = xyz[numbers == number].mean(axis=0)
    return mean


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    return database.execute(query.encode()).fetchall()


def test_each_step_says_what_it_did_and_skips_it_the_next_time(steps: dict[str, Done]) -> None:
    for name, counts in (
        (
            "ingest",
            "frames 12, instances 12, objects 4, points 960, rescan_objects 0, subgraphs 1, triples 4",
        ),
        ("observe", "frames 12, observations 48"),
        (
            "dump",
            "crops 144, crops_shared 0, instances_unqualified 0, instances_unseen 0, nodes 12, photos 12,"
            " views 144",
        ),
    ):
        first, again = steps[name], steps[f"{name} again"].json
        assert first.code == 0, first.err
        assert "3 done, 0 already done, 0 failed in" in first.out.splitlines()[0]
        assert first.out.splitlines()[1].strip() == counts
        assert again["scans"] == {"done": 0, "skipped": 3, "failed": 0}
        assert (again["counts"], again["problems"], again["failures"]) == ({}, {}, {})
    assert "2 scans of the metadata have no folder here, such as mini-0009" in steps["ingest"].err
    assert "embedded 4 terms of class lists" in steps["dump"].err
    assert "embedded" not in steps["dump again"].err


def test_the_table_has_a_line_a_hit_best_first(run: Run) -> None:
    done = run("query", "nodes", "red", "blue", "-k", 4)
    assert (done.code, done.err) == (0, "")
    header, *lines = done.out.splitlines()
    assert header.split() == ["query", "similarity", "label", "scan", "instance", "position", "m"]
    assert [line.split()[0] for line in lines] == ["red"] * 4 + ["blue"] * 4
    assert lines[0].split()[2:] == ["picture", mini.NAME, "7", "2.25", "2.38", "1.25"]
    for query in ("red", "blue"):
        found = [float(line.split()[1]) for line in lines if line.startswith(query)]
        assert found == sorted(found, reverse=True)


def test_json_is_an_array_of_hits_that_begin_with_what_is_promised(run: Run) -> None:
    hits = run("query", "nodes", "red", "blue", "-k", 4, "--json").json
    assert [hit["query"] for hit in hits] == ["red"] * 4 + ["blue"] * 4
    for hit in hits:
        assert list(hit)[:5] == ["scan", "instance", "label", "similarity", "position"]
        assert hit["label"] == mini.LABELS[hit["instance"]]
        assert isinstance(hit["position"], list)
        np.testing.assert_allclose(hit["position"], centroid(hit["label"]), atol=1e-6)
    assert [hit["label"] for hit in hits[:3]] == ["picture"] * 3
    assert sorted(hit["scan"] for hit in hits[:3]) == NAMES
    assert all(0.8 < hit["similarity"] <= 1 for hit in hits[:3])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (("--label", "Table"), {(name, "table") for name in NAMES}),
        (("--scan", mini.RESCAN), {(mini.RESCAN, label) for label in mini.LABELS.values()}),
        (("--scan", f"3rscan/{mini.RESCAN}", "--label", "wall"), {(mini.RESCAN, "wall")}),
        (("--dataset", "3rscan", "--label", "floor"), {(name, "floor") for name in NAMES}),
        # Around the table's centroid 1.3 1.6 0.7; corners in any order.
        (("--within", 2, 2, 1, 1, 1, 0.5), {(name, "table") for name in NAMES}),
        (("--within", "-9", "-9", "-9", "-8", "-8", "-8"), set()),
    ],
)
def test_filters_leave_all_that_pass_and_nothing_else(
    run: Run, filters: tuple[object, ...], expected: set[tuple[str, str]]
) -> None:
    done = run("query", "nodes", "red", "-k", 100, "--json", *filters)
    hits = done.json
    assert len(hits) == len(expected)
    assert {(hit["scan"], hit["label"]) for hit in hits} == expected


def test_no_hit_is_no_error_and_is_said(run: Run) -> None:
    done = run("query", "nodes", "red", "--within", 9, 9, 9, 9, 9, 9)
    assert (done.code, len(done.out.splitlines())) == (0, 1)
    assert done.err == "'red': no node passes the filters\n"


def test_the_index_and_the_exact_search_agree(run: Run, database: Database) -> None:
    indexed = run("features", "index", "toy")
    assert indexed.code == 0, indexed.err
    (name,) = (word for word in indexed.out.split() if word.startswith("node_feature_"))
    assert rows(database, f"SELECT 1 FROM pg_indexes WHERE indexname = '{name}'") == [(1,)]
    question = ("query", "nodes", "red", "blue", "-k", 7, "--json")
    by_index = run(*question, PGOPTIONS="-c open3dsg.exact_rows=0").json
    exact = run(*question, "--exact").json
    assert exact == run(*question).json, "so few rows are compared exactly anyway"
    for query in ("red", "blue"):
        similarity, reference = (
            [hit["similarity"] for hit in hits if hit["query"] == query] for hits in (by_index, exact)
        )
        assert len(reference) == 7
        assert similarity == pytest.approx(reference, abs=1e-3)


def test_asking_again_gives_the_same_answer(run: Run) -> None:
    question = ("query", "nodes", "some new words", "--json")
    assert run(*question).json == run(*question).json


def test_ply_and_log_hold_the_hits_in_their_colours(run: Run, tmp_path: Path) -> None:
    ply, log = tmp_path / "my scene.ply", tmp_path / "hits.jsonl"
    done = run("query", "nodes", "red", "-k", 2, "--scan", mini.NAME, "--ply", ply, "--log", log, "--json")
    hits = done.json
    logged = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [{key: row[key] for key in hits[0]} for row in logged] == hits
    assert [row["rank"] for row in logged] == [1, 2]
    vertices = read_ply(ply)
    xyz, numbers, _ = mini.points()
    np.testing.assert_allclose(np.stack([vertices[axis] for axis in "xyz"], axis=1), xyz, atol=1e-6)
    np.testing.assert_array_equal(vertices["instance"], np.where(numbers == 0, -1, numbers))
    painted = np.stack([vertices[colour] for colour in ("red", "green", "blue")], axis=1)
    for row in logged:
        assert (painted[numbers == row["instance"]] == row["colour"]).all()
    colours = [tuple(row["colour"]) for row in logged]
    assert len(set(colours)) == 2
    others = painted[~np.isin(numbers, [row["instance"] for row in logged])]
    assert (others == others[:, :1]).all(), "all else is grey"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hits.jsonl", "my scene.ply"]


def read_ply(path: Path) -> NDArray[Any]:
    header, _, body = path.read_bytes().partition(b"end_header\n")
    first, form, *lines = header.decode("ascii").splitlines()
    assert (first, form) == ("ply", "format binary_little_endian 1.0")
    (count,) = (int(line.split()[2]) for line in lines if line.startswith("element vertex"))
    kinds = {"float": "<f4", "uchar": "u1", "int": "<i4"}
    words = [line.split() for line in lines if line.startswith("property")]
    vertices = np.frombuffer(body, np.dtype([(name, kinds[kind]) for _, kind, name in words]))
    assert len(vertices) == count
    return vertices


def test_the_picture_is_a_png_with_a_panel_a_question(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "answers.png"
    done = run("query", "nodes", "red", "blue", "--picture", path)
    assert done.code == 0, done.err
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width >= 1600
        assert picture.height >= 600
        colours = picture.convert("RGB").getcolors(maxcolors=1 << 24)
    assert len(colours or []) > 100


def test_scans_list_says_what_is_there_and_what_is_missing(run: Run, database: Database) -> None:
    database.execute(
        "DELETE FROM ledger WHERE step = 'observe' AND scan_id = (SELECT max(scan_id) FROM scan)"
    )
    table = run("scans", "list").out.splitlines()
    assert len(table) == 4
    assert table[1].split() == [
        "3rscan",
        mini.NAME,
        "train",
        "320",
        "4",
        "4",
        "16",
        *["done"] * 3,
        "never",
        "toy",
        "done",
        "0",
    ]
    assert table[3].endswith("observations: open3dsg observe")
    listed = run("scans", "list", "--dataset", "3rscan", "--json").json
    assert [row["scan"] for row in listed] == NAMES
    assert [row["missing"] for row in listed] == [None, None, "observations: open3dsg observe"]
    assert listed[0]["features"] == {"toy@0123456789abcdef": 4}


def test_scans_show_tells_all_of_one_scan(run: Run) -> None:
    shown = run("scans", "show", mini.NAME, "--json").json
    assert (shown["points"], shown["subgraphs"], shown["relationships"], shown["split"]) == (
        320,
        1,
        4,
        "train",
    )
    assert set(shown["steps"]) == {"ingest", "annotate", "observe", "features.nodes toy@0123456789abcdef"}
    lines = run("scans", "show", f"3rscan/{mini.NAME}").out.splitlines()
    assert "missing" in lines[-1]
    assert lines[-1].endswith("nothing")
    assert "features toy@0123456789abcdef" in "\n".join(lines)


def test_annotations_can_be_read_without_geometry(run: Run, root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "3DSSG"
    mini.write_annotations(folder, mini.subgraph(), mini.subgraph(scan="elsewhere"))
    report = run("ingest", "3dssg", folder, "--json").json
    assert report["scans"] == {"done": 1, "skipped": 1, "failed": 0}
    assert report["counts"] == {"subgraphs": 1, "objects": 4, "triples": 4}
    shown = run("scans", "show", "elsewhere", "--json").json
    assert (shown["points"], shown["instances"], shown["missing"]) == (
        None,
        4,
        "geometry: open3dsg ingest 3rscan ROOT",
    )


def test_two_processes_write_what_one_writes(
    run: Run, root: Path, template: str, new_database: Callable[..., str]
) -> None:
    found = []
    for jobs in (1, 2):
        url = as_url(new_database(f"jobs_{jobs}", template=template))
        for command in (("ingest", "3rscan", root), OBSERVE, DUMP):
            done = run(*command, "--jobs", jobs, OPEN3DSG_DATABASE_URL=url)
            assert "3 done, 0 already done, 0 failed" in done.out, done.err
        with psycopg.connect(url) as connection:
            found.append(content(connection))
    assert found[0] == found[1]
    tables = ("instance", "observation", "node_feature", "ledger")
    assert [len(found[0][table]) for table in tables] == [12, 48, 12, 11]


def test_force_does_one_scan_again_and_asks_which(run: Run, root: Path, database: Database) -> None:
    for command in (("ingest", "3rscan", root), OBSERVE, DUMP):
        assert run(*command, "--force").errors == ["error: --force does one scan again: name it with --scan"]
        both = run(*command, "--force", "--scan", NAMES[0], "--scan", NAMES[1])
        assert (both.code, len(both.errors)) == (2, 1)
    assert run(*DUMP, "--force", "--scan", mini.NAME, "--json").json["scans"]["done"] == 1
    report = run("ingest", "3rscan", root, "--force", "--scan", mini.NAME, "--json").json
    assert report["scans"] == {"done": 1, "skipped": 0, "failed": 0}
    missing = {row["scan"]: row["missing"] for row in run("scans", "list", "--json").json}
    assert set(missing.values()) == {None}, "nothing changed, so what was made of it stays"


def test_a_scan_that_changed_its_options_is_done_again(run: Run) -> None:
    refused = run("observe", "--every", 2, *OBSERVE[3:])
    assert refused.code == 2
    assert "observe was done with other options (every 1, now 2)" in refused.err
    report = run("observe", "--every", 2, *OBSERVE[3:], "--replace", "--json").json
    assert report["scans"] == {"done": 3, "skipped": 0, "failed": 0}
    assert report["counts"] == {"frames": 6, "observations": 24}


def test_a_zipped_sequence_and_a_moved_home_give_the_same_answers(
    run: Run, root: Path, tmp_path: Path, template: str, new_database: Callable[..., str]
) -> None:
    url = as_url(new_database("zipped", template=template))
    moved = tmp_path / "zipped"
    shutil.copytree(root / mini.NAME, moved / mini.NAME)
    mini.zip_sequence(moved / mini.NAME)
    for command in (("ingest", "3rscan", moved), OBSERVE, DUMP):
        assert run(*command, OPEN3DSG_DATABASE_URL=url).code == 0
    question = ("query", "nodes", "red", "--scan", mini.NAME, "--json")
    assert run(*question, OPEN3DSG_DATABASE_URL=url).json == run(*question).json
