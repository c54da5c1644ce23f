"""The preflight on roots: which folder was meant, which scans are there, what the lists say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from open3dsg.datasets.check.estimate import Estimate, Range, disk_finding, duration, estimate, size
from open3dsg.datasets.check.look import Facts
from open3dsg.errors import UserError
from tests import miniature as mini
from tests import scannet_miniature as scannet
from tests.checks import check, findings, kinds, only, write_rooms
from tests.scans import edit_json, replace

UUID = "7272e16c-a01b-20f6-8961-a0927b4a7629"
LISTS = "3DSSG_subset"


def test_a_root_one_or_two_folders_too_high(healthy: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    meant = healthy.rename(tmp_path / "a" / "3RScan")
    for root in (meant.parent, tmp_path):
        finding = only(root)
        assert (finding.kind, finding.severity) == ("root_above_scans", "error")
        assert f"{meant} was probably meant" in finding.what


@pytest.mark.parametrize("below", ["", "sequence"])
def test_a_root_one_folder_too_low(below: str, healthy: Path) -> None:
    finding = only(healthy / mini.NAME / below)
    assert (finding.kind, finding.severity) == ("root_inside_scan", "error")
    assert f"{healthy} was probably meant" in finding.what


def test_a_root_without_scans(tmp_path: Path) -> None:
    assert only(tmp_path).kind == "root_without_scans"


def test_a_root_of_another_layout(healthy: Path, tmp_path: Path) -> None:
    scannet.write_scan(tmp_path / "other")
    for root, layout, told in ((tmp_path / "other", "3rscan", "scannet"), (healthy, "scannet", "3rscan")):
        finding = only(root, layout)
        assert (finding.kind, finding.severity) == ("other_layout", "error")
        assert told in finding.what


def test_folders_that_are_no_scans(healthy: Path) -> None:
    (healthy / "renderings").mkdir()
    (healthy / UUID).mkdir()
    assert {(one.kind, one.file, one.severity) for one in findings(healthy)} == {
        ("folder_is_no_scan", "renderings", "warning"),
        ("scan_without_files", UUID, "error"),
    }


def test_scans_that_are_not_there(healthy: Path) -> None:
    write_rooms(healthy, train=[mini.NAME, "mini-0002", "mini-0003"], test=["mini-0004"])
    told = findings(healthy)
    assert [(one.kind, one.severity) for one in told] == [("scans_not_there", "warning")] * 2
    assert any("2 of 3 scans of split train are not there, such as mini-0002" in one.what for one in told)
    assert check(healthy).is_ready
    finding = only(healthy, split="train")
    assert (finding.kind, finding.severity) == ("scans_not_there", "error")
    assert not check(healthy, split="train").is_ready


def test_scans_that_were_named(healthy: Path) -> None:
    shutil.copytree(healthy / mini.NAME, healthy / "mini-0002")
    (healthy / "mini-0002/semseg.v2.json").unlink()
    assert kinds(healthy, scans=[mini.NAME]) == []
    assert kinds(healthy, scans=["mini-0002"]) == [("missing", "mini-0002/semseg.v2.json")]
    finding = only(healthy, scans=["mini-0009"])
    assert (finding.kind, finding.scan, finding.severity) == ("scans_not_there", "mini-0009", "error")


def test_a_split_that_no_list_has(healthy: Path) -> None:
    with pytest.raises(UserError, match="no split 'val'; there are: train"):
        check(healthy, split="val")
    with pytest.raises(UserError, match="give one of the two"):
        check(healthy, split="train", scans=[mini.NAME])


def test_a_scan_that_no_list_has(healthy: Path) -> None:
    shutil.copytree(healthy / mini.NAME, healthy / "mini-0002")
    finding = only(healthy)
    assert (finding.kind, finding.scan) == ("scan_not_listed", "mini-0002")


def test_a_folder_in_other_letters(healthy: Path) -> None:
    (healthy / mini.NAME).rename(healthy / mini.NAME.upper())
    finding = only(healthy)
    assert (finding.kind, finding.file, finding.severity) == ("scan_name_case", mini.NAME.upper(), "error")


def test_two_folders_that_differ_in_case_alone(healthy: Path) -> None:
    shutil.copytree(healthy / mini.NAME, healthy / mini.NAME.upper())
    told = findings(healthy)
    assert [(one.kind, one.severity) for one in told if one.kind == "scan_twice"] == [("scan_twice", "error")]


def test_a_scan_in_two_splits(healthy: Path) -> None:
    (healthy / "test_scans.txt").write_text(f"{mini.NAME}\n")
    finding = only(healthy)
    assert (finding.kind, finding.severity) == ("scan_in_two_splits", "warning")
    assert mini.NAME in finding.what


def test_a_scan_listed_twice(healthy: Path) -> None:
    write_rooms(healthy, train=[mini.NAME, mini.NAME])
    finding = only(healthy)
    assert (finding.kind, finding.file, finding.severity) == ("damaged", "3RScan.json", "error")
    assert "every scan" in finding.cost


@pytest.mark.parametrize("file", ["3RScan.json", f"{LISTS}/relationships_train.json"])
@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda data: data[: len(data) // 2], "cut_off"),
        (lambda _data: b"<!doctype html>", "wrong_kind"),
        (lambda _data: b'{"message": "404"}', "damaged"),
    ],
)
def test_metadata_that_cannot_be_read(file: str, spoil: Any, kind: str, healthy: Path) -> None:
    (healthy / file).write_bytes(spoil((healthy / file).read_bytes()))
    finding = only(healthy, deep=True)
    assert (finding.kind, finding.file, finding.severity) == (kind, file, "error")
    assert "every scan" in finding.cost


@pytest.mark.parametrize("folder", [".", "3DSSG", LISTS])
def test_attributes_that_cannot_be_read(folder: str, healthy: Path) -> None:
    (healthy / folder).mkdir(exist_ok=True)
    file = healthy / folder / "objects.json"
    file.write_text('{"scans": []}')
    assert findings(healthy) == []
    name = file.relative_to(healthy).as_posix()
    file.write_text('{"scans": [{"scan": "a", "obj')
    finding = only(healthy)
    assert (finding.kind, finding.file, finding.severity) == ("cut_off", name, "error")
    assert "every scan" in finding.cost
    file.write_text('{"scans": [{"scan": "a", "objects": [{"id": 1}]}]}')
    finding = only(healthy, deep=True)
    assert (finding.kind, finding.file, finding.severity) == ("damaged", name, "error")
    assert "scans[0]: objects[0]: 'id': a text was expected" in finding.what


def test_empty_attributes_are_counted(healthy: Path) -> None:
    thing = {"id": "1", "attributes": {"color": ["", "red", " "]}}
    (healthy / "objects.json").write_text(json.dumps({"scans": [{"scan": "a", "objects": [thing]}]}))
    finding = only(healthy)
    assert (finding.kind, finding.file, finding.severity) == ("annotation_flaw", "objects.json", "warning")
    assert "2 attribute_empty, such as a: instance 1: color" in finding.what


def test_without_metadata(healthy: Path) -> None:
    (healthy / "3RScan.json").unlink()
    shutil.rmtree(healthy / LISTS)
    assert {(one.kind, one.severity) for one in findings(healthy)} == {
        ("metadata_missing", "warning"), ("annotations_missing", "warning"),
    }  # fmt: skip


def test_annotations_given_by_folder(healthy: Path, tmp_path: Path) -> None:
    given = tmp_path / "elsewhere"
    (healthy / LISTS).rename(given)
    assert kinds(healthy) == [("annotations_missing", LISTS)]
    assert kinds(healthy, annotations=str(given)) == []


def test_annotations_of_one_split_alone(healthy: Path) -> None:
    (healthy / LISTS / "relationships_train.json").rename(healthy / LISTS / "relationships_test.json")
    assert ("annotations_missing", f"{LISTS}/relationships_train.json") in kinds(healthy)


@pytest.mark.parametrize("file", ["classes.txt", "relationships.txt"])
def test_a_list_of_words_missing(file: str, healthy: Path) -> None:
    (healthy / LISTS / file).unlink()
    assert kinds(healthy) == [("class_list_missing", f"{LISTS}/{file}")]


@pytest.mark.parametrize("file", ["classes.txt", "relationships.txt"])
def test_a_list_of_words_that_is_none(file: str, healthy: Path) -> None:
    path = healthy / LISTS / file
    words = path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + words)  # as Windows writes lists
    assert kinds(healthy) == []
    path.write_bytes(b"<!DOCTYPE html>\n<html>404</html>\n")
    assert kinds(healthy) == [("wrong_kind", f"{LISTS}/{file}")]


def test_a_class_list_of_other_classes(healthy: Path) -> None:
    (healthy / LISTS / "classes.txt").write_text("floor\nwall\ntable\n")
    finding = only(healthy)
    assert (finding.kind, finding.severity) == ("class_list_wrong", "error")
    assert "has 3 classes, and lacks 1 of 4 labels: 'picture'" in finding.what


def test_the_class_list_of_the_whole_3dssg(healthy: Path) -> None:
    words = [*mini.LABELS.values(), *(f"class {number}" for number in range(524))]
    (healthy / LISTS / "classes.txt").write_text("\n".join(words))
    finding = only(healthy)
    assert (finding.kind, finding.severity) == ("class_list_of_full_3dssg", "warning")
    assert "528" in finding.what


def test_another_class_list_beside_the_one_that_counts(healthy: Path) -> None:
    (healthy / "classes.txt").write_text("\n".join(f"class {number}" for number in range(528)))
    finding = only(healthy)
    assert (finding.kind, finding.file) == ("class_lists_differ", "classes.txt")
    assert f"has 528 classes and {LISTS}/classes.txt has 4" in finding.what
    shutil.copy(healthy / LISTS / "classes.txt", healthy / "classes.txt")
    assert kinds(healthy) == []


@pytest.mark.parametrize(
    ("word", "severity", "told"),
    [
        ("none", "warning", "has 3 predicates, without 'none'"),
        ("standing on", "error", "lacks 1 of 3 in use"),
    ],
)
def test_a_predicate_list_of_the_wrong_length(word: str, severity: str, told: str, healthy: Path) -> None:
    replace(healthy / LISTS / "relationships.txt", f"{word}\n", "")
    finding = only(healthy)
    assert (finding.kind, finding.severity) == ("predicate_list_wrong", severity)
    assert told in finding.what


def test_flaws_of_the_annotations_are_counted(healthy: Path) -> None:
    def relate_to_itself(content: Any) -> None:
        content["scans"][0]["relationships"] += [[1, 1, 1, "close by"], [2, 2, 1, "close by"]]

    edit_json(healthy / LISTS / "relationships_train.json", relate_to_itself)
    finding = only(healthy)
    assert (finding.kind, finding.severity) == ("annotation_flaw", "warning")
    assert "2 relationship_self" in finding.what


def test_real_data(real_data: Path) -> None:
    told = findings(real_data / "3RScan", deep=True)
    assert {one.kind for one in told if one.severity == "error"} == set()
    assert {one.kind for one in told} <= {
        "scans_not_there", "annotations_missing", "missing", "reader_problem", "class_lists_differ",
    }  # fmt: skip


def test_estimates_grow_with_the_folder() -> None:
    small, large = Facts(1000, 100, 10, 5), Facts(70_000, 200, 20, 10)
    of_both = estimate([small, large])
    assert [one.step for one in of_both] == ["ingest", "observe", "features dump --nodes"]
    rows = 2 + 3 + 300 + 15  # scans, blocks, frames, instances
    assert of_both[0].rows == Range(rows, rows)
    for one, a, b in zip(of_both, estimate([small]), estimate([large]), strict=True):
        assert one.bytes.low <= one.bytes.high
        assert one.seconds.low < one.seconds.high
        assert one.bytes.high == pytest.approx(a.bytes.high + b.bytes.high)


def test_the_disk_of_the_database() -> None:
    estimates = [Estimate("ingest", Range(1, 1), Range(1000, 2000), Range(1, 2))]
    assert disk_finding(estimates, "/data", 2000) is None
    for free, severity in ((1500, "warning"), (500, "error")):
        finding = disk_finding(estimates, "/data", free)
        assert finding is not None
        assert (finding.kind, finding.file, finding.severity) == ("disk_too_small", "/data", severity)


def test_figures_in_words() -> None:
    assert [size(count) for count in (12, 1234, 56_700, 1e9, 2.5e13)] == [
        "12 bytes", "1.2 kB", "57 kB", "1.0 GB", "25.0 TB",
    ]  # fmt: skip
    assert [duration(seconds) for seconds in (0.3, 59, 90, 7200, 1e6)] == [
        "0.3 s", "59 s", "1.5 min", "2.0 h", "11.6 days",
    ]  # fmt: skip


def test_json_of_a_finding_says_all(healthy: Path) -> None:
    (healthy / mini.NAME / "semseg.v2.json").unlink()
    told = json.loads(json.dumps(only(healthy).as_json()))
    assert set(told) == {"kind", "severity", "file", "what", "cost", "remedy", "scan"}
