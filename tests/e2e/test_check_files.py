"""The preflight on spoiled files of a 3RScan scan: each is named, with what it costs and what to do."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from open3dsg.datasets.check.files import damage_of
from open3dsg.datasets.check.findings import KINDS, finding
from tests import miniature as mini
from tests.checks import (
    LABELS_PLY,
    MESH,
    SEGMENTS,
    SEMSEG,
    SEQUENCE,
    check,
    findings,
    kinds,
    only,
    tree_hash,
    write_rooms,
)
from tests.scans import replace

PTH = b"PK\x03\x04" + bytes(40)
PICKLE = b"\x80\x02}q\x00."
HTML = b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1341186\n"


def test_a_healthy_folder_has_no_finding_and_is_left_as_it_is(healthy: Path) -> None:
    before = tree_hash(healthy)
    checked = check(healthy, deep=True)
    assert [str(finding) for finding in checked.findings] == []
    assert checked.is_ready
    (facts,) = checked.facts.values()
    assert (facts.points, facts.frames, facts.observed, facts.instances) == (320, 4, 1, 4)
    assert tree_hash(healthy) == before


@pytest.mark.parametrize(
    ("content", "kind", "told"),
    [
        (b"", "empty", "0 bytes"),
        (PTH, "wrong_kind", ".pth"),
        (PICKLE, "wrong_kind", "pickle"),
        (HTML, "wrong_kind", "web page"),
        (POINTER, "wrong_kind", "git lfs pull"),
        (bytes(5000), "wrong_kind", "zeros"),
        (b"\x1f\x8b\x08\0", "wrong_kind", "gzip"),
    ],
)
def test_another_kind_of_file(content: bytes, kind: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    for due in ("ply", "obj", "json", "jpg", "png", "pgm", "text"):
        damage = damage_of(tmp_path / "a", due)
        assert damage is not None
        assert damage.kind == kind
        assert told in damage.what


FILES = [LABELS_PLY, SEMSEG, MESH, SEGMENTS, f"{mini.NAME}/mesh.refined_0.png"]


@pytest.mark.parametrize("file", FILES)
def test_files_of_a_scan(file: str, healthy: Path) -> None:
    data = (healthy / file).read_bytes()
    for content, kind in ((b"", "empty"), (PTH, "wrong_kind"), (data[: len(data) // 3], "cut_off")):
        (healthy / file).write_bytes(content)
        finding = only(healthy)
        assert (finding.kind, finding.file, finding.severity) == (kind, file, "error")
        assert finding.scan == mini.NAME
        assert finding.cost == "`ingest` refuses the scan"
        assert KINDS[kind].remedy in str(finding)


@pytest.mark.parametrize("ply_format", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("lost", [1, 3, 10, 1000])
def test_a_ply_that_lost_its_end(ply_format: mini.PlyFormat, lost: int, tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    mini.write_ply(path, ply_format)
    assert damage_of(path, "ply") is None
    path.write_bytes(path.read_bytes()[:-lost])
    damage = damage_of(path, "ply")
    if ply_format == "ascii" and lost == 1:  # a last newline more or less is no damage
        assert damage is None
    else:
        assert damage is not None
        assert damage.kind == "cut_off"


@pytest.mark.parametrize(
    ("file", "severity", "cost"),
    [
        (SEMSEG, "error", "`ingest` refuses the scan"),
        (MESH, "warning", "no normals"),
        (SEGMENTS, "warning", "cannot be held against it"),
        (f"{mini.NAME}/mesh.refined.mtl", "warning", "the texture is not found"),
        (f"{mini.NAME}/mesh.refined_0.png", "warning", "colours come from the photographs"),
        (LABELS_PLY, "warning", "instances come from the segments"),
        (f"{SEQUENCE}/_info.txt", "error", "`ingest` refuses the scan"),
    ],
)
def test_a_missing_file(file: str, severity: str, cost: str, healthy: Path) -> None:
    (healthy / file).unlink()
    finding = only(healthy)
    assert (finding.kind, finding.file, finding.severity) == ("missing", file, severity)
    assert cost in finding.cost


@pytest.mark.parametrize("without", [SEGMENTS, MESH])
def test_points_and_what_could_stand_for_them_missing(without: str, healthy: Path) -> None:
    (healthy / LABELS_PLY).unlink()
    (healthy / without).unlink()
    assert {(one.file, one.severity) for one in findings(healthy)} == {
        (LABELS_PLY, "error"),
        (without, "warning"),
    }


@pytest.mark.parametrize(("split", "severity"), [("train", "error"), ("test", "warning")])
def test_the_hidden_test_scans_have_no_labels(split: str, severity: str, healthy: Path) -> None:
    write_rooms(healthy, **{split: [mini.NAME]})
    for file in (LABELS_PLY, SEMSEG, SEGMENTS):
        (healthy / file).unlink()
    finding = only(healthy)
    assert (finding.kind, finding.severity, finding.file) == ("missing", severity, LABELS_PLY)
    assert "observe" in finding.cost


@pytest.mark.parametrize(
    ("due", "there", "kind"),
    [
        (SEMSEG, f"{mini.NAME}/Semseg.V2.json", "file_name_case"),
        (SEMSEG, f"{mini.NAME}/semseg.json", "older_version"),
        (LABELS_PLY, f"{mini.NAME}/labels.instances.annotated.ply", "older_version"),
        (LABELS_PLY, f"{mini.NAME}/labels.instances.annotated.v2.pth", "wrong_kind"),
        (SEMSEG, f"{mini.NAME}/semseg.v2.json.gz", "wrong_kind"),
    ],
)
def test_a_file_under_another_name(due: str, there: str, kind: str, healthy: Path) -> None:
    (healthy / SEGMENTS).unlink()
    (healthy / due).rename(healthy / there)
    assert (kind, there) in kinds(healthy)
    (told,) = [one for one in findings(healthy) if one.kind == kind]
    assert Path(due).name in told.what
    assert told.severity == "error"


def test_a_ply_without_instances(healthy: Path) -> None:
    replace(healthy / LABELS_PLY, "objectId", "other")
    finding = only(healthy)
    assert (finding.kind, finding.file, finding.severity) == ("older_version", LABELS_PLY, "warning")
    (healthy / SEGMENTS).unlink()
    assert ("older_version", "error") in [(one.kind, one.severity) for one in findings(healthy)]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.mkdir(), "a folder has this name"),
        (lambda path: path.symlink_to("nowhere"), "leads nowhere"),
    ],
)
@pytest.mark.parametrize(("file", "severity"), [(SEMSEG, "error"), (SEGMENTS, "warning"), (MESH, "warning")])
def test_something_that_is_no_file(
    file: str, severity: str, spoil: Callable[[Path], None], told: str, healthy: Path
) -> None:
    (healthy / file).unlink()
    spoil(healthy / file)
    finding = only(healthy)
    assert (finding.kind, finding.severity) == ("not_a_file", severity)
    assert told in finding.what
    assert check(healthy, deep=True).is_ready == (severity == "warning")  # the reader goes on without it


@pytest.mark.parametrize("lost", [1, 2, 20])
def test_a_mesh_that_lost_its_end_among_the_faces(lost: int, healthy: Path) -> None:
    data = (healthy / MESH).read_bytes()
    assert data.splitlines()[-1].startswith(b"f ")
    (healthy / MESH).write_bytes(data[:-lost])
    assert (only(healthy).kind, only(healthy).severity) == ("cut_off", "error")


@pytest.mark.parametrize(
    ("content", "kind"), [(b"", "empty"), (HTML, "wrong_kind"), (b"newmtl a\nmap_K", "damaged")]
)
def test_materials_that_name_no_texture(content: bytes, kind: str, healthy: Path) -> None:
    (healthy / mini.NAME / "mesh.refined.mtl").write_bytes(content)
    finding = only(healthy)
    assert (finding.kind, finding.severity) == (kind, "warning")
    assert finding.file == f"{mini.NAME}/mesh.refined.mtl"
    assert "the texture is not found" in finding.cost


def test_a_json_file_of_other_content(healthy: Path) -> None:
    (healthy / SEMSEG).write_text(json.dumps({"message": "Rate limit exceeded"}))
    finding = only(healthy)
    assert (finding.kind, finding.file) == ("damaged", SEMSEG)
    assert "segGroups" in finding.what
    assert str(healthy) not in finding.what


def test_a_texture_with_a_name_longer_than_names_can_be(healthy: Path) -> None:
    (healthy / mini.NAME / "mesh.refined.mtl").write_text(f"map_Kd {'p' * 400}.png\n")
    told = findings(healthy, deep=True)
    assert {(one.kind, one.severity) for one in told} == {
        ("missing", "warning"),
        ("reader_problem", "warning"),
    }


def test_a_finding_is_one_short_line() -> None:
    line = str(finding("damaged", "a\x1b[2J\nb", "x" * 10_000))
    assert line.startswith("a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}b: xxx")
    assert len(line) < 700


def test_downloads_that_were_not_finished(healthy: Path) -> None:
    (healthy / mini.NAME / "sequence.zip.part").write_bytes(b"PK")
    assert kinds(healthy) == [("unfinished_download", f"{mini.NAME}/sequence.zip.part")]


def test_litter_is_passed_over(healthy: Path) -> None:
    for folder in (healthy, healthy / mini.NAME, healthy / SEQUENCE):
        (folder / "__MACOSX").mkdir()
        (folder / "._semseg.v2.json").write_bytes(b"\0\5\x16\7")
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf")
    assert kinds(healthy) == []


def test_a_zip_file_that_was_cut_off(healthy: Path) -> None:
    mini.zip_sequence(healthy / mini.NAME)
    path = healthy / f"{SEQUENCE}.zip"
    assert kinds(healthy) == []
    path.write_bytes(path.read_bytes()[:-100])
    finding = only(healthy)
    assert (finding.kind, finding.file, finding.severity) == ("cut_off", f"{SEQUENCE}.zip", "error")
    mini.write_sequence(healthy / mini.NAME)
    assert only(healthy).severity == "warning"  # the folder is used


def test_a_member_of_a_zip_file_that_is_damaged(healthy: Path) -> None:
    mini.zip_sequence(healthy / mini.NAME)
    path = healthy / f"{SEQUENCE}.zip"
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("frame-000002.color.jpg").header_offset
    data = bytearray(path.read_bytes())
    data[offset + 80 : offset + 90] = bytes(10)
    path.write_bytes(data)
    told = findings(healthy, deep=True)
    assert {one.kind for one in told} == {"damaged"}
    assert not any(str(healthy) in str(one) or "file again" in one.what for one in told)


def test_a_refusal_of_the_reader_is_told_beside_a_warning_on_the_same_file(healthy: Path) -> None:
    (healthy / SEQUENCE / "frame-000001.depth.pgm").unlink()
    mini.zip_sequence(healthy / mini.NAME)
    path = healthy / f"{SEQUENCE}.zip"
    with zipfile.ZipFile(path) as archive:
        pose = archive.getinfo("frame-000001.pose.txt")
    data = bytearray(path.read_bytes())
    data[pose.header_offset + 60 : pose.header_offset + 70] = bytes(10)
    path.write_bytes(data)
    warning = only(healthy)  # that pose is not looked at
    assert (warning.kind, warning.file) == ("frame_without_depth", f"{SEQUENCE}.zip")
    assert kinds(healthy, deep=True) == [("scan_unreadable", mini.NAME), (warning.kind, warning.file)]


def test_what_may_not_be_read_is_told(healthy: Path, as_nobody: Callable[[], None]) -> None:
    (healthy / SEMSEG).chmod(0)
    (healthy / SEQUENCE).chmod(0)
    (healthy / "mini-0009").mkdir(mode=0)
    (healthy / "classes.txt").touch(mode=0)
    as_nobody()
    unreadable = ("classes.txt", SEMSEG, SEQUENCE, "mini-0009")
    assert sorted(kinds(healthy)) == [("no_permission", file) for file in unreadable]


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Give a function that makes the test go on as a user who may not read everything."""
    user = os.geteuid()
    if user == 0:
        for folder in (*tmp_path.iterdir(), tmp_path, *tmp_path.parents):
            if folder.parent == folder or folder.stat().st_mode & 0o7:
                break
            folder.chmod(0o755)

    def change() -> None:
        if user == 0:
            os.seteuid(65534)

    yield change
    os.seteuid(user)
    for path in (tmp_path, *tmp_path.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def test_every_kind_of_finding_is_explained_in_the_docs_and_tested() -> None:
    page = Path(__file__).parents[2].joinpath("docs/data-check.md").read_text()
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_check_*.py"))
    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []
    assert [kind for kind in KINDS if f'"{kind}"' not in tests] == []
