"""Bad files, names and databases through the installed command.

Each is one line and exit 2, or a counted skip where the rest can go on; nothing is half-written.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests import miniature as mini
from tests.command import DUMP, OBSERVE, Done
from tests.conftest import as_url
from tests.content import row_counts
from tests.scans import edit_json, replace

Run = Callable[..., Done]
Refused = Callable[..., str]
Database = psycopg.Connection[Any]

GOOD = "mini-0009"
PLY, SEMSEG = "labels.instances.annotated.v2.ply", "semseg.v2.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with two scans: one stays good, tests spoil the other."""
    folder = tmp_path / "root"
    mini.write_scan(folder, ply_format="binary_little_endian")
    mini.write_scan(folder, GOOD)
    return folder


def spoil_ply(folder: Path) -> None:
    path = folder / PLY
    path.write_bytes(path.read_bytes()[:-700])


def spoil_json(folder: Path) -> None:
    text = (folder / SEMSEG).read_bytes()
    (folder / SEMSEG).write_bytes(text[: len(text) // 2])


def spoil_label(label: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        edit_json(folder / SEMSEG, lambda content: content["segGroups"][0].update(label=label))

    return spoil


def spoil_frame_number(folder: Path) -> None:
    for kind in ("color.jpg", "pose.txt"):
        shutil.copy(folder / f"sequence/frame-000001.{kind}", folder / f"sequence/frame-99999999999.{kind}")


def spoil_info(folder: Path) -> None:
    replace(folder / "sequence/_info.txt", "m_depthShift = 1000", "m_depthShift = 0")


def test_bad_scans_are_a_line_each_and_the_good_one_goes_on(run: Run, database: Database, root: Path) -> None:
    spoilt: list[tuple[Callable[[Path], None], list[str]]] = [
        (spoil_ply, [PLY, "truncated", "fetch it again"]),
        (spoil_json, [SEMSEG, "not valid JSON at line 1", "fetch it again"]),
        (spoil_label(""), ["a label is empty"]),
        (spoil_label("chair" * 101), ["a label has 505 characters; at most 500"]),
        (spoil_label("cha\0ir"), ["a label contains a NUL"]),
        (spoil_frame_number, ["frame number 99999999999", "2147483647"]),
        (spoil_info, ["_info.txt", "'m_depthShift' is 0"]),
    ]
    expected: dict[str, list[str]] = {}
    for place, (spoil, told) in enumerate(spoilt):
        name = f"spoilt-{place}"
        spoil(mini.write_scan(root, name, ply_format="binary_little_endian"))
        expected[name] = told
    for jobs in (1, 2):
        done = run("ingest", "3rscan", root, "--json", "--jobs", jobs)
        assert done.code == 2
        lines = dict(line.removeprefix("error: ").split(": ", 1) for line in done.errors)
        assert lines.keys() == expected.keys()
        for name, told in expected.items():
            assert all(word in lines[name] for word in told), lines[name]
        assert json.loads(done.out)["failures"] == lines
    assert json.loads(done.out)["scans"] == {"done": 0, "skipped": 2, "failed": 7}
    assert database.execute("SELECT name FROM scan ORDER BY name").fetchall() == [(mini.NAME,), (GOOD,)]
    assert database.execute("SELECT sum(point_count) FROM point_block").fetchall() == [(640,)]


def test_flaws_that_leave_the_rest_usable_are_counted_and_kept(
    run: Run, database: Database, root: Path
) -> None:
    folder = root / mini.NAME
    sequence = folder / "sequence"
    (sequence / "frame-000001.pose.txt").write_text("nan 0 0 -inf\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    (sequence / "frame-000003.depth.pgm").unlink()
    depth = sequence / "frame-000000.depth.pgm"
    depth.write_bytes(depth.read_bytes()[:100])
    ghost = {"id": 99, "objectId": 99, "label": "ghost", "segments": []}
    edit_json(folder / SEMSEG, lambda content: content["segGroups"].append(ghost))

    ingested = run("ingest", "3rscan", root, "--json").json
    assert ingested["scans"] == {"done": 2, "skipped": 0, "failed": 0}
    assert ingested["counts"] == {"frames": 7, "instances": 9, "points": 640}
    problems = {"pose_not_finite": 1, "frame_without_depth": 1, "instance_without_points": 1}
    assert ingested["problems"] == problems
    observed = run(*OBSERVE, "--json").json
    assert observed["counts"] == {"frames": 5, "observations": 20}
    assert observed["problems"] == {"depth_unreadable": 1, "frame_without_depth": 1}
    details = [problem["detail"] for problem in observed["problem_details"][f"3rscan/{mini.NAME}"]]
    assert any("frame-000000.depth.pgm: truncated" in detail for detail in details)

    shown = run("scans", "show", mini.NAME).out
    assert "problem pose_not_finite" in shown
    assert "'ghost' has no points" in shown
    assert database.execute(
        "SELECT point_count, centroid_m FROM instance JOIN term ON term_id = label_id WHERE text = 'ghost'"
    ).fetchall() == [(0, None)]


def test_labels_that_the_lists_lack_are_kept_and_counted(run: Run, database: Database, root: Path) -> None:
    members = {"1": "unheard of", "2": "'; DROP TABLE scan; --"}
    relationships = [[1, 2, 9, "unheard of too"], [1, 77, 1, "close by"], [2, 2, 1, "close by"]]
    mini.write_annotations(root, mini.subgraph(objects=members, relationships=relationships))
    report = run("ingest", "3rscan", root, "--json").json
    assert report["problems"] == {
        "label_differs": 2,
        "label_not_in_classes": 2,
        "predicate_mismatch": 1,
        "relationship_object_missing": 1,
        "relationship_self": 1,
    }
    assert report["counts"]["triples"] == 1
    members_stored = database.execute(
        "SELECT text FROM subgraph_member JOIN term ON term_id = label_id ORDER BY instance_no"
    )
    assert [text for (text,) in members_stored] == list(members.values())


def test_annotations_that_no_column_can_hold_are_refused(
    run: Run, database: Database, tmp_path: Path
) -> None:
    expected: dict[str, tuple[dict[str, Any], str]] = {
        "graph": ({"split": 2**40}, "subgraph number 1099511627776"),
        "label": ({"objects": {"1": "cha\0ir"}, "relationships": []}, "NUL"),
    }
    graphs = [mini.subgraph(scan=name, **changes) for name, (changes, _told) in expected.items()]
    mini.write_annotations(tmp_path / "graphs", *graphs)
    before = row_counts(database)
    done = run("ingest", "3dssg", tmp_path / "graphs")
    assert (done.code, len(done.errors)) == (2, 2)
    for line, (name, (_changes, told)) in zip(done.errors, expected.items(), strict=True):
        assert line.startswith(f"error: {name}: ")
        assert told in line
    assert row_counts(database) == before


def test_an_object_number_that_no_column_can_hold_is_refused(refused: Refused, root: Path) -> None:
    mini.write_annotations(root, mini.subgraph(objects={"99999999999": "chair"}, relationships=[]))
    line = refused("ingest", "3rscan", root)
    assert "object number '99999999999' is no number from 0 to 2^31 - 1" in line


def test_annotations_cut_in_half_are_refused(refused: Refused, root: Path) -> None:
    mini.write_annotations(root, mini.subgraph())
    path = root / "relationships_train.json"
    path.write_bytes(path.read_bytes()[:200])
    for command in (("ingest", "3rscan", root), ("ingest", "3dssg", root)):
        line = refused(*command)
        assert f"{path}: not valid JSON at line 1" in line
        assert "fetch it again" in line


def test_a_scan_of_the_same_name_in_another_folder_is_not_taken_for_it(
    run: Run, refused: Refused, root: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    mini.write_scan(other, colours="vertex")
    assert run("ingest", "3rscan", root).code == 0
    line = refused("ingest", "3rscan", other)
    assert f"is rooted at {root}, not at {other}" in line
    assert "give this folder a name of its own with --dataset" in line
    assert line.endswith(f"run `open3dsg scans relocate 3rscan {other}`")
    assert run("ingest", "3rscan", other, "--dataset", "other").code == 0
    line = refused("scans", "show", mini.NAME)
    assert line.endswith(f"say 3rscan/{mini.NAME} or other/{mini.NAME}")
    assert run("observe", "--dataset", "other", "--scan", mini.NAME).code == 0


def test_paths_and_labels_may_be_in_any_script(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "my scäns 雪 'quoted' %s \\x"
    name = "scan ünï 雪"
    mini.write_scan(root, name, zipped=True)
    edit_json(root / name / SEMSEG, lambda content: content["segGroups"][0].update(label="Bild; -- '雪' %s"))
    for command in (("ingest", "3rscan", root), OBSERVE, DUMP):
        done = run(*command)
        assert "1 done, 0 already done, 0 failed" in done.out, done.err
    hits = run("query", "nodes", "red", "--label", "bild; -- '雪' %s", "--scan", name, "--json").json
    assert [(hit["scan"], hit["label"]) for hit in hits] == [(name, "Bild; -- '雪' %s")]
    plain = run("scans", "list", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert (plain.code, plain.errors) == (0, []), "a terminal without these letters shows them by number"


def test_a_folder_whose_name_is_no_text_is_one_line(run: Run, root: Path) -> None:
    shutil.copytree(root / mini.NAME, root / os.fsdecode(b"sc\xff"))
    done = run("ingest", "3rscan", root)
    assert done.code == 2
    assert "2 done, 0 already done, 1 failed" in done.out
    (line,) = done.errors
    assert line.endswith(r"the name of a scan is 'sc\udcff': rename it, it must be UTF-8 text")
    done = run("ingest", "3rscan", root / os.fsdecode(b"sc\xff"))
    assert (done.code, len(done.errors)) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--split", "nope"), "no split 'nope'"),
        (("--scan", "nope"), "no folder for scan 'nope'; there are 2: mini-0001, mini-0009"),
        (("--scan", "../root/mini-0001"), "the name of a scan is '../root/mini-0001'"),
        (("--scan", mini.NAME, "--split", "train"), "give one of the two"),
        (("--dataset", ""), "--dataset is ''"),
        (("--dataset", "a/b"), "--dataset is 'a/b'"),
        (("--annotations", "ROOT"), "holds none of relationships_train.json"),
        (("--force",), "name it with --scan"),
    ],
)
def test_ingest_refuses_what_it_cannot_do(
    refused: Refused, root: Path, arguments: tuple[str, ...], told: str
) -> None:
    given = (str(root) if argument == "ROOT" else argument for argument in arguments)
    assert told in refused("ingest", "3rscan", root, *given)


def test_a_folder_without_scans_is_refused(refused: Refused, tmp_path: Path) -> None:
    assert f"{tmp_path}: no folder of a scan is here" in refused("ingest", "3rscan", tmp_path)
    assert f"{tmp_path}: holds none of" in refused("ingest", "3dssg", tmp_path)


@pytest.mark.parametrize(
    ("command", "way_out"),
    [
        (("observe", "--jobs", 2), "run `open3dsg ingest 3rscan ROOT` first"),
        (DUMP, "run `open3dsg ingest 3rscan ROOT` first"),
        (("query", "nodes", "red"), "run `open3dsg features dump --nodes` first"),
        (("features", "index", "toy"), "run `open3dsg features dump --nodes --encoder NAME`"),
        (("scans", "show", "mini-0001"), "`open3dsg scans list` shows what is there"),
        (("scans", "list", "--dataset", "3rscan"), "it has none"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_empty_database_is_told_with_the_way_out(
    refused: Refused, command: tuple[object, ...], way_out: str
) -> None:
    assert way_out in refused(*command)


def test_steps_out_of_order_are_told_with_the_way_out(run: Run, refused: Refused, root: Path) -> None:
    mini.write_annotations(root, mini.subgraph(scan="elsewhere"))
    assert run("ingest", "3dssg", root).code == 0
    line = refused("observe", "--scan", "elsewhere")
    assert line.endswith("scan elsewhere has no points in the database: run `open3dsg ingest` for it first")
    assert run("ingest", "3rscan", root, "--scan", mini.NAME).code == 0
    done = run(*DUMP)
    (line,) = done.errors
    assert (done.code, line) == (
        2,
        f"error: 3rscan/{mini.NAME}: scan 3rscan/{mini.NAME} has no observations:"
        f" run `open3dsg observe --scan 3rscan/{mini.NAME}` first",
    )


def test_a_dataset_whose_folder_is_away_is_not_noted_as_observed(
    run: Run, refused: Refused, root: Path
) -> None:
    assert run("ingest", "3rscan", root, "--scan", mini.NAME).code == 0
    root.rename(root.with_name("away"))
    assert f"{root}: the folder of dataset '3rscan' is not there" in refused("observe")
    root.with_name("away").rename(root)
    assert run("observe", "--json").json["scans"]["done"] == 1


def test_a_wrong_database_url_is_one_line_without_the_password(
    run: Run, database_url: str, new_database: Callable[..., str]
) -> None:
    bare = as_url(new_database("bare"))
    host = conninfo_to_dict(database_url)["host"]
    for command, url, told in (
        ("scans list", "postgresql://me:secret@127.0.0.1:1/rooms", "Connection refused"),
        ("observe", "postgresql://me:secret@no-such-host.invalid/rooms", "check the host in the URL"),
        ("query nodes red", f"postgresql://stranger:secret@/rooms?host={host}", "stranger"),
        ("features index toy", f"postgresql://open3dsg@/nowhere?host={host}", "`createdb nowhere`"),
        ("query nodes red", "a database with password=secret", "expected a database URL like postgresql://"),
        ("scans list", bare, "the database has no open3dsg tables: run `open3dsg db migrate`"),
    ):
        done = run(*command.split(), OPEN3DSG_DATABASE_URL=url)
        assert done.code == 2
        (line,) = done.err.splitlines()
        assert line.startswith("error: ")
        assert told in line
        assert "secret" not in line


def test_a_role_that_may_not_write_is_one_line(refused: Refused, database_url: str, root: Path) -> None:
    line = refused("ingest", "3rscan", root, PGOPTIONS="-c default_transaction_read_only=on")
    assert "cannot execute INSERT in a read-only transaction" in line
    assert "OPEN3DSG_DATABASE_URL" in line
