"""3DSSG's objects.json: read as published, damage named with its place, found where it may lie."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open3dsg.datasets.annotations import AnnotationReader
from open3dsg.datasets.attributes import ScanAttributes, find_objects, read_attributes
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.errors import BadFileError, UserError
from tests import miniature as mini

# As 3DSSG's README shows the file.
FLOOR = {
    "global_id": "6",
    "id": "1",
    "label": "floor",
    "ply_color": "#aec7e8",
    "affordances": ["placing items on", "walking on"],
    "attributes": {"texture": ["tiled"], "color": ["brown", "gray", "brown"], "material": ["ceramic"]},
}
PLANT = {
    "global_id": "8",
    "id": "30",
    "label": "plant",
    "attributes": {"other": ["nonrigid", " "], "size": []},
}
CONTENT: dict[str, Any] = {
    "scans": [{"scan": "a", "objects": [PLANT, FLOOR]}, {"scan": "b", "objects": [{"id": "7"}]}]
}
ROWS = (
    (1, "affordances", "placing items on"),
    (1, "affordances", "walking on"),
    (1, "color", "brown"),
    (1, "color", "gray"),
    (1, "material", "ceramic"),
    (1, "texture", "tiled"),
    (30, "other", "nonrigid"),
)


def write(folder: Path, content: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "objects.json").write_text(json.dumps(content))
    return folder / "objects.json"


def test_all_words_of_an_object_are_read(tmp_path: Path) -> None:
    found = read_attributes(write(tmp_path, CONTENT))
    assert found.keys() == {"a", "b"}
    assert found["a"].rows == ROWS
    assert [(one.kind, one.detail) for one in found["a"].problems] == [
        ("attribute_empty", "a: instance 30: other: left out")
    ]
    assert found["b"] == ScanAttributes(())


@given(st.permutations(CONTENT["scans"][0]["objects"]), st.booleans())
def test_the_hash_is_of_what_is_said(
    tmp_path_factory: pytest.TempPathFactory, order: list[Any], twice: bool
) -> None:
    folder = tmp_path_factory.mktemp("objects")
    scans = [{"scan": "a", "objects": order}] * (1 + twice)
    same = read_attributes(write(folder, {"scans": scans}))["a"]
    assert same.hash == ScanAttributes(ROWS).hash
    assert same.hash != ScanAttributes(ROWS[1:]).hash
    assert same.hash != ScanAttributes(((2, *ROWS[0][1:]), *ROWS[1:])).hash


def spoilt(path: list[Any], value: object) -> dict[str, Any]:
    content = copy.deepcopy(CONTENT)
    at: Any = content
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return content


OBJECT = ["scans", 0, "objects", 1]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (["scans"], {}, "'scans': a list was expected, found an object"),
        (["scans", 1], [], "scans[1]: an object was expected"),
        (["scans", 1], {"objects": []}, "scans[1]: 'scan' is missing"),
        (["scans", 1, "scan"], "../b", "scans[1]"),
        (["scans", 1], {"scan": "b"}, "scans[1]: 'objects' is missing"),
        (OBJECT, "floor", "scans[0]: objects[1]: an object was expected"),
        ([*OBJECT, "id"], 1, "objects[1]: 'id': a text was expected"),
        ([*OBJECT, "id"], "-1", "objects[1]: 'id' '-1' is no number from 0"),
        ([*OBJECT, "id"], "1" * 5000, "objects[1]: 'id' '1111"),
        ([*OBJECT, "id"], "2147483648", "is no number from 0 to 2^31 - 1"),
        ([*OBJECT, "attributes"], ["brown"], "'attributes': an object was expected, found a list"),
        ([*OBJECT, "attributes", "color"], "brown", "objects[1]: 'color': a list was expected"),
        ([*OBJECT, "attributes", "color"], [3], "objects[1]: 'color': a text was expected"),
        ([*OBJECT, "attributes", "color"], ["x" * 501], "is no word of at most 500 characters"),
        ([*OBJECT, "attributes", "color"], ["a\nb"], "is no word of at most 500 characters"),
        ([*OBJECT, "attributes", " "], ["a"], "a kind of attribute has 1 to 100 characters"),
        ([*OBJECT, "attributes", "x" * 101], ["a"], "a kind of attribute has 1 to 100 characters"),
        ([*OBJECT, "affordances"], "sitting", "objects[1]: 'affordances': a list was expected"),
    ],
)
def test_what_is_not_as_published_is_named_with_its_place(
    path: list[Any], value: object, told: str, tmp_path: Path
) -> None:
    file = write(tmp_path, spoilt(path, value))
    with pytest.raises(UserError) as caught:
        read_attributes(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


KEYS = st.sampled_from(["scans", "scan", "objects", "id", "attributes", "affordances", "color", " ", "\0"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.sampled_from(["a", "1", "-1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def with_object(thing: Any) -> dict[str, Any]:
    return {"scans": [{"scan": "a", "objects": [{"id": "1", **thing} if isinstance(thing, dict) else thing]}]}


@settings(max_examples=50)
@given(st.one_of(JSON, JSON.map(lambda scan: {"scans": [scan]}), JSON.map(with_object)))
def test_whatever_is_there_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    file = write(tmp_path_factory.mktemp("objects"), content)
    try:
        found = read_attributes(file)
    except UserError as error:
        told = str(error)
    else:
        told = f"{file}: holds {sum(len(scan.rows) for scan in found.values())} attributes"
    assert told.startswith(str(file))
    assert "\n" not in told


def test_a_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    file = write(tmp_path, CONTENT)
    file.write_text(file.read_text()[:-40])
    with pytest.raises(BadFileError, match=r"objects\.json: not valid JSON at line 1, column"):
        read_attributes(file)


def test_the_file_is_found_where_it_may_lie(root: Path, tmp_path: Path) -> None:
    given_folder = tmp_path / "given"
    mini.write_annotations(given_folder, mini.subgraph())
    reader = ThreeRScan(root, annotations=given_folder)
    assert reader.attributes_of(mini.NAME) is None
    for folder in (root, root / "3DSSG_subset", root / "3DSSG", given_folder):
        word = folder.name
        write(folder, {"scans": [{"scan": mini.NAME, "objects": [{"id": "1", "affordances": [word]}]}]})
        reader = pickle.loads(pickle.dumps(ThreeRScan(root, annotations=given_folder)))
        found = reader.attributes_of(mini.NAME)
        assert found is not None
        assert found.rows == ((1, "affordances", word),)
        assert reader.attributes_of("another") is None
    found = AnnotationReader(given_folder, "3rscan").attributes_of(mini.NAME)
    assert found is not None
    assert found.rows == ((1, "affordances", "given"),)
    assert find_objects([tmp_path]) is None
