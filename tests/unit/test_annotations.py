from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from open3dsg.datasets.annotations import AnnotationReader, read_annotations
from open3dsg.datasets.scan import Scan
from open3dsg.errors import BadFileError, UserError
from tests.miniature import LABELS, NAME, subgraph, write_annotations


def read(folder: Path) -> Scan:
    reader = AnnotationReader(folder, "3rscan")
    [name] = reader.annotations.scans
    assert reader.annotation_hash(name)
    assert reader.annotation_hash("another") is None
    return reader.read(name)


def kinds(scan: Scan) -> list[str]:
    return [problem.kind for problem in scan.problems]


def test_a_clean_scan(tmp_path: Path) -> None:
    write_annotations(
        tmp_path, subgraph(), subgraph(split=2, objects={"1": "floor", "12": "table"}, relationships=[])
    )
    scan = read(tmp_path)
    assert (scan.dataset, scan.name, scan.split, scan.root) == ("3rscan", NAME, "train", tmp_path)
    assert scan.cloud is None
    assert scan.labels == {**LABELS, 12: "table"}
    first, second = scan.subgraphs
    assert (first.number, first.members) == (1, LABELS)
    assert first.relationships == (
        (4, 1, "standing on"),
        (7, 2, "hanging on"),
        (4, 2, "close by"),
        (4, 1, "close by"),
    )
    assert (second.number, second.members, second.relationships) == (2, {1: "floor", 12: "table"}, ())
    assert scan.problems == ()


@pytest.mark.parametrize(
    ("relationship", "kind", "is_kept"),
    [
        ([4, 99, 1, "close by"], "relationship_object_missing", False),
        ([99, 99, 1, "close by"], "relationship_object_missing", False),
        ([4, 4, 1, "close by"], "relationship_self", False),
        ([7, 2, 3, "hanging on"], "relationship_duplicate", False),
        ([4, 7, 2, "close by"], "predicate_mismatch", True),
        ([4, 7, 9, "glued to"], "predicate_mismatch", True),
    ],
)
def test_flaws_of_relationships(relationship: list[object], kind: str, is_kept: bool, tmp_path: Path) -> None:
    clean = subgraph()["relationships"]
    write_annotations(tmp_path, subgraph(relationships=[*clean, relationship]))
    scan = read(tmp_path)
    assert kinds(scan) == [kind]
    assert NAME in scan.problems[0].detail
    assert len(scan.subgraphs[0].relationships) == len(clean) + is_kept
    if is_kept:
        assert scan.subgraphs[0].relationships[-1] == (relationship[0], relationship[1], relationship[3])


def test_flaws_of_objects_and_subgraphs(tmp_path: Path) -> None:
    again = subgraph(relationships=[])
    other = subgraph(split=2, objects={"1": "rug", "4": "'; DROP TABLE scan; --"}, relationships=[])
    write_annotations(tmp_path, subgraph(), again, other)
    scan = read(tmp_path)
    assert Counter(kinds(scan)) == {"subgraph_duplicate": 1, "label_not_in_classes": 2, "label_changes": 2}
    assert len(scan.subgraphs[0].relationships) == 4
    assert scan.subgraphs[1].members == {1: "rug", 4: "'; DROP TABLE scan; --"}
    assert scan.labels == LABELS


def test_without_lists_nothing_is_checked_against_them(tmp_path: Path) -> None:
    write_annotations(tmp_path, subgraph(objects={"1": "anything"}, relationships=[]))
    for name in ("classes.txt", "relationships.txt"):
        (tmp_path / name).unlink()
    assert read(tmp_path).problems == ()
    assert read_annotations(tmp_path).classes == read_annotations(tmp_path).predicates == ()


def test_lists_begin_with_a_word_and_not_with_a_byte_order_mark(tmp_path: Path) -> None:
    write_annotations(tmp_path, subgraph())
    plain = read_annotations(tmp_path)
    for name in ("classes.txt", "relationships.txt"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())
    marked = read_annotations(tmp_path)
    assert (marked.classes, marked.predicates) == (plain.classes, plain.predicates)


def test_a_scan_in_two_splits_counts_in_the_first(tmp_path: Path) -> None:
    write_annotations(tmp_path, subgraph(), split="validation")
    write_annotations(tmp_path, subgraph(split=3), subgraph(split=4), split="test")
    scan = read(tmp_path)
    assert (scan.split, len(scan.subgraphs), kinds(scan)) == ("validation", 1, ["scan_in_two_splits"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scan": "../x"}, "no scan name"),
        ({"scan": "/etc"}, "no scan name"),
        ({"scan": ".."}, "no scan name"),
        ({"scan": 7}, "'scan': a text was expected"),
        ({"split": "1"}, "'split': a whole number was expected"),
        ({"split": True}, "'split': a whole number was expected"),
        ({"objects": ["floor"]}, "'objects': an object was expected"),
        ({"objects": {"-1": "floor"}}, "object number '-1'"),
        ({"objects": {"2147483648": "floor"}}, "object number '2147483648'"),
        ({"objects": {"1" * 5000: "floor"}}, "object number '1111"),
        ({"objects": {"1": None}}, "label of object 1"),
        ({"relationships": [[4, 1, "close by"]]}, r"relationships\[0\]"),
        ({"relationships": [[4, 1, 1, 1]]}, r"relationships\[0\]"),
    ],
)
def test_wrong_types_are_told(change: dict[str, object], message: str, tmp_path: Path) -> None:
    write_annotations(tmp_path, subgraph(split=5), subgraph(**change))
    with pytest.raises(UserError, match=message) as error:
        read_annotations(tmp_path)
    assert "relationships_train.json: scans[1]" in str(error.value)


def test_a_cut_anywhere_is_told(tmp_path: Path) -> None:
    write_annotations(tmp_path, subgraph())
    path = tmp_path / "relationships_train.json"
    whole = path.read_bytes()
    for length in range(0, len(whole), 20):
        path.write_bytes(whole[:length])
        with pytest.raises(
            BadFileError, match=r"relationships_train\.json: not valid JSON at line 1, column"
        ) as error:
            read_annotations(tmp_path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "an object was expected at the top, found a list"),
        (b"{}", "'scans' is missing"),
        (b'{"scans": [3]}', r"scans\[0\]: an object was expected"),
        (b'{"scans": "\xff"}', "not UTF-8 text at byte 11"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_other_files_are_told(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "relationships_train.json").write_bytes(data)
    with pytest.raises(BadFileError, match=message):
        read_annotations(tmp_path)


def test_a_folder_without_annotations_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"relationships_train\.json"):
        read_annotations(tmp_path)


def test_published_subset() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "3dssg_subset"
    if not folder.is_dir():
        pytest.skip(f"NO REAL DATA: the published 3DSSG subset is not in {folder}")
    reader = AnnotationReader(folder, "3rscan")
    annotations = reader.annotations
    scans = [reader.read(name) for name in annotations.scans]
    for split, counts, flaws in (
        ("train", (1178, 3852, 33153, 81174), {"relationship_object_missing": 16}),
        ("validation", (157, 548, 4745, 11243), {"relationship_self": 11}),
    ):
        of_split = [scan for scan in scans if scan.split == split]
        subgraphs = [part for scan in of_split for part in scan.subgraphs]
        members = sum(len(part.members) for part in subgraphs)
        relationships = sum(len(part.relationships) for part in subgraphs)
        assert (len(of_split), len(subgraphs), members, relationships) == counts
        assert Counter(kind for scan in of_split for kind in kinds(scan)) == flaws
        raw = json.loads((folder / f"relationships_{split}.json").read_bytes())["scans"]
        assert sum(len(record["relationships"]) for record in raw) == relationships + sum(flaws.values())
    assert (len(annotations.classes), len(annotations.predicates)) == (160, 27)
