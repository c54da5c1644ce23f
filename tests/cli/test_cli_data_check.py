"""`open3dsg data check` and the scripts that fetch metadata, as they are installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import miniature as mini
from tests.checks import LABELS_PLY, SEQUENCE, tree_hash, write_healthy, write_rooms
from tests.command import CHECKOUT, Done, call

Run = Callable[..., Done]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("check")
    write_healthy(root)
    return root


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "a räum 雪"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that nothing may be written into."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def run(home: Path) -> Run:
    """Call the command without any database."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPEN3DSG_", "XDG_", "PG", "PYTHON"))}
    variables = kept | {"HOME": str(home), "OPEN3DSG_HOME": str(home / "store")}

    def run(*arguments: object, **changes: str) -> Done:
        return call(variables | changes, "data", "check", *arguments)

    return run


def test_a_healthy_folder(root: Path, home: Path, run: Run) -> None:
    before = tree_hash(root)
    for deep in ((), ("--deep",), ("--deep", "--jobs", 2)):
        done = run("3rscan", root, *deep)
        assert (done.code, done.errors) == (0, [])
        first, _header, *steps, _about, database = done.out.splitlines()
        assert first.startswith("1 scan, 4 frames, 4 instances, 320 points: 0 errors and 0 warnings")
        assert [line.split()[0] for line in steps] == ["ingest", "observe", "features"]
        assert database.startswith(f"Database: {home / 'store'}, ")
        assert database.endswith(" free.")
    assert tree_hash(root) == before
    assert list(home.iterdir()) == []


def test_a_spoiled_folder(root: Path, home: Path, run: Run) -> None:
    (root / LABELS_PLY).write_bytes(b"PK\x03\x04")
    (root / SEQUENCE / "_info.txt").unlink()
    (root / mini.NAME / "mesh.refined_0.png").unlink()
    before = tree_hash(root)
    done = run("3rscan", root)
    assert (done.code, done.errors) == (2, [])
    lines = done.out.splitlines()
    assert [line.split(": ")[:3] for line in lines[:3]] == [
        ["error", "wrong_kind", LABELS_PLY],
        ["error", "missing", f"{SEQUENCE}/_info.txt"],
        ["warning", "missing", f"{mini.NAME}/mesh.refined_0.png"],
    ]
    assert "2 errors and 1 warning," in lines[3]
    assert tree_hash(root) == before
    assert list(home.iterdir()) == []


def test_json_has_all(root: Path, home: Path, run: Run) -> None:
    for number in range(2, 10):
        shutil.copytree(root / mini.NAME, root / f"mini-000{number}")
    write_rooms(root, train=[path.name for path in root.glob("mini-*")])
    for path in root.glob("mini-*/mesh.refined_0.png"):
        path.unlink()
    (root / LABELS_PLY).unlink()
    done = run("3rscan", root, "--json")
    assert done.code == 0
    content = json.loads(done.out)
    assert (content["ready"], content["scans"], content["frames"]) == (True, 9, 36)
    assert len(content["findings"]) == 10
    assert content["disk"]["folder"] == str(home / "store")
    assert content["disk"]["free_bytes"] > 0
    assert [one["step"] for one in content["estimates"]] == ["ingest", "observe", "features dump --nodes"]
    told = run("3rscan", root).out
    assert told.count("/mesh.refined_0.png: missing") == 5
    assert "warning: missing: and 4 more of mesh.refined_N.png; --json lists all" in told


def test_two_processes_find_the_same_as_one(root: Path, run: Run) -> None:
    shutil.copytree(root / mini.NAME, root / "mini-0002")
    write_rooms(root, train=[mini.NAME, "mini-0002"])
    path = root / "mini-0002/mesh.refined.v2.obj"
    path.write_text(path.read_text().replace("f 1/1/1", "f 9999/1/1"))
    one, two = (run("3rscan", root, "--deep", "--jobs", jobs, "--json") for jobs in (1, 2))
    (finding,) = json.loads(one.out)["findings"]
    assert (finding["kind"], finding["scan"], finding["severity"]) == (
        "scan_unreadable",
        "mini-0002",
        "error",
    )
    assert json.loads(two.out)["findings"] == [finding]
    assert (one.code, two.code) == (2, 2)


def test_a_given_server_is_not_asked(root: Path, run: Run) -> None:
    done = run("3rscan", root, OPEN3DSG_DATABASE_URL="postgresql://nobody@nowhere.invalid/x")
    assert done.code == 0
    assert "a given server (OPEN3DSG_DATABASE_URL), whose free disk cannot be seen" in done.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--split", "tset"), "no split 'tset'; there are: train"),
        (("--annotations", "/nowhere"), "does not exist"),
        (("--jobs", "0"), "--jobs"),
    ],
)
def test_mistakes_in_the_words(arguments: tuple[str, ...], told: str, root: Path, run: Run) -> None:
    done = run("3rscan", root, *arguments)
    assert done.code == 2
    (line,) = done.errors
    assert told in line
    assert done.out == ""


def test_a_scan_that_is_not_there(root: Path, run: Run) -> None:
    done = run("3rscan", root, "--scan", "mini-0009")
    assert done.code == 2
    assert "error: scans_not_there: .: no folder of a scan mini-0009 is here" in done.out


def test_another_folder_was_meant(root: Path, run: Run) -> None:
    done = run("3rscan", root.parent)
    assert done.code == 2
    assert f"{root} was probably meant" in done.out


@pytest.mark.slow
def test_synthetic_rooms_of_both_layouts_are_healthy(tmp_path: Path, run: Run) -> None:
    for layout in ("3rscan", "scannet"):
        rooms = tmp_path / layout
        made = call(
            dict(os.environ) | {"OPEN3DSG_HOME": str(tmp_path / "none")},
            "data", "synth", rooms, "--layout", layout, "--scans", 2, "--frames", 4,
        )  # fmt: skip
        assert made.code == 0, made.err
        done = run(layout, rooms, "--deep", "--json")
        assert done.code == 0, done.out
        kinds = {finding["kind"] for finding in json.loads(done.out)["findings"]}
        assert kinds <= {"reader_problem", "pose_unusable"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def script(name: str, *arguments: object) -> Done:
    done = subprocess.run(
        [sys.executable, CHECKOUT / "scripts" / name, *map(str, arguments)],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"no_proxy": "127.0.0.1", "PYTHONPATH": str(CHECKOUT)},
        timeout=60,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_the_metadata_of_3rscan_is_fetched(served: tuple[Path, str], tmp_path: Path, run: Run) -> None:
    folder, url = served
    (folder / "3RScan").mkdir()
    (folder / "3DSSG").mkdir()
    write_rooms(folder / "3RScan", train=[mini.NAME])
    mini.write_annotations(tmp_path / "subset", mini.subgraph())
    with zipfile.ZipFile(folder / "3DSSG/3DSSG_subset.zip", "w") as archive:
        for path in (tmp_path / "subset").iterdir():
            archive.write(path, f"3DSSG_subset/{path.name}")
        archive.writestr("3DSSG_subset/relationships_validation.json", '{"scans": []}')
    out = tmp_path / "3RScan"
    mini.write_scan(out)
    done = script("download_3rscan_meta", out, "--base-url", url, "--unverified")
    assert done.out.splitlines()[0].startswith("3RScan and 3DSSG are for non-commercial use under")
    assert done.code == 2
    lost, count = done.errors
    assert f"127.0.0.1: {url}/3DSSG/3DSSG.zip: the server answers 404" in lost
    assert count == "error: 1 of 3 files were not fetched; run it again to go on"
    assert json.loads(run("3rscan", out, "--json").out)["findings"] == []
    again = script("download_3rscan_meta", out, "--base-url", url, "--unverified")
    assert "there already: 3RScan.json" in again.out
    refused = script("download_3rscan_meta", tmp_path / "other", "--base-url", url)
    assert "its sha256 is" in refused.errors[0]


def test_the_metadata_of_scannet_is_fetched(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    for path, text in (
        ("Tasks/Benchmark/scannetv2_train.txt", "scene0000_00\n"),
        ("Tasks/Benchmark/scannetv2_val.txt", "scene0001_00\n"),
        ("Tasks/Benchmark/scannetv2_test.txt", "scene0707_00\n"),
        (
            "BenchmarkScripts/ScanNet200/scannet200_constants.py",
            "A = 1\nCLASS_LABELS_200 = ('wall', 'chair')\n",
        ),
        ("v2/tasks/scannetv2-labels.combined.tsv", "id\traw_category\n"),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    out = tmp_path / "ScanNet"
    done = script("download_scannet_meta", out, "--base-url", url, "--unverified")
    assert (done.code, done.errors) == (0, [])
    assert "ScanNet_TOS.pdf" in done.out.splitlines()[0]
    assert {path.name for path in out.iterdir()} == {
        "scannetv2_train.txt", "scannetv2_val.txt", "scannetv2_test.txt", "scannet200_constants.py",
        "scannetv2-labels.combined.tsv", "scannet200_classes.txt",
    }  # fmt: skip
    assert (out / "scannet200_classes.txt").read_text() == "chair\nwall\n"
