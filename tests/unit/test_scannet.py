"""The ScanNet reader on a miniature tree: points, instances, labels, splits, and what is wrong with them."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open3dsg.datasets import scannet_surface
from open3dsg.datasets.layouts import open_reader
from open3dsg.datasets.ply import read_ply_mesh
from open3dsg.datasets.scan import Cloud, Scan
from open3dsg.datasets.scannet import ScanNet
from open3dsg.errors import BadFileError, UserError
from tests import miniature as mini
from tests import scannet_miniature as scannet
from tests.scannet_miniature import NAME, Place

SEGMENTS = "_vh_clean_2.0.010000.segs.json"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scannet")
    scannet.write_metadata(root)
    scannet.write_scan(root)
    return root


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Place:
    """A root with one clean scan of the train split, to be spoiled."""
    root = Path(shutil.copytree(template, tmp_path / "räume 1 'a'"))
    return Place(root, root / "scans" / NAME, root / "scannet_2d" / NAME)


def kinds(scan: Scan) -> list[str]:
    return [problem.kind for problem in scan.problems]


def cloud_of(scan: Scan) -> Cloud:
    assert scan.cloud is not None
    return scan.cloud


def change_json(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_clean_scan_is_the_room_with_its_axes_aligned(place: Place) -> None:
    scan = ScanNet(place.root).read(NAME)
    assert (scan.dataset, scan.name, scan.split, scan.subgraphs) == ("scannet", NAME, "train", ())
    assert kinds(scan) == []
    assert scan.labels == scannet.LABELS
    cloud = cloud_of(scan)
    xyz, _, rgb = mini.points()
    np.testing.assert_allclose(cloud.xyz_m, xyz, atol=1e-6)
    np.testing.assert_array_equal(cloud.rgb, rgb)
    np.testing.assert_array_equal(cloud.instance, scannet.instances())
    assert cloud.normals is not None
    np.testing.assert_allclose(cloud.normals, scannet.normals(), atol=1e-6)
    types = [array.dtype.name for array in (cloud.xyz_m, cloud.instance, cloud.normals)]
    assert types == ["float32", "int32", "float32"]
    assert cloud.colour_source == "vertex"


@pytest.mark.parametrize(
    "parent", ["", "scans", "scans_test", "scannet_3d", "scannet_3d/data", "scannet_3d/scans"]
)
def test_scans_are_found_in_the_trees_people_have(parent: str, tmp_path: Path) -> None:
    scannet.write_scan(tmp_path, parent=parent)
    reader = ScanNet(tmp_path)
    assert reader.scan_names(None) == [NAME]
    scan = reader.read(NAME)
    assert scan.split is None
    assert kinds(scan) == []
    assert len(scan.frames) == scannet.FRAMES


def test_a_reader_is_its_arguments(place: Place) -> None:
    arguments = {
        "metadata": str(place.root),
        "frames": str(place.root / "scannet_2d"),
        "labels": "nyu40",
        "sens_every": 5,
    }
    reader = open_reader("scannet", place.root, arguments)
    again = pickle.loads(pickle.dumps(reader))
    # Relative to the root: it may be mounted elsewhere where work is done.
    assert again.arguments == reader.arguments == arguments | {"frames": "scannet_2d"}
    assert again.ledger_options == {"frames": "scannet_2d", "labels": "nyu40", "sens_every": 5}
    assert again.read(NAME).labels == reader.read(NAME).labels
    plain = open_reader("scannet", place.root, {})
    assert plain.ledger_options == {"frames": None, "labels": "raw", "sens_every": 20}
    assert plain.annotation_hash(NAME) is None


def test_splits_come_from_the_root_or_the_metadata(place: Place, tmp_path: Path) -> None:
    reader = ScanNet(place.root)
    assert reader.scan_names("train") == reader.scan_names(None) == [NAME]
    assert reader.scan_names("validation") == []
    assert reader.missing("validation") == [scannet.VALIDATION, "scene0002_00"]
    assert reader.missing(None) == [scannet.VALIDATION, "scene0002_00", scannet.TEST]
    with pytest.raises(UserError, match=r"no split 'val'; there are: train, validation, test"):
        reader.scan_names("val")
    scannet.write_scan(tmp_path / "bare")
    bare = ScanNet(tmp_path / "bare")
    assert bare.missing(None) == []
    with pytest.raises(UserError, match=r"no split is known: scannetv2_train\.txt"):
        bare.scan_names("train")
    assert ScanNet(tmp_path / "bare", metadata=place.root).read(NAME).split == "train"


def test_the_test_split_has_no_annotations_and_says_so(place: Place) -> None:
    scannet.write_scan(place.root, scannet.TEST, parent="scans_test", annotated=False)
    scan = ScanNet(place.root).read(scannet.TEST)
    assert (scan.split, scan.labels) == ("test", {})
    assert kinds(scan) == ["labels_missing"]
    assert (cloud_of(scan).instance == -1).all()


def test_annotations_that_should_be_there_are_missed(place: Place) -> None:
    place.file(".aggregation.json").unlink()
    with pytest.raises(BadFileError, match=r"scene0000_00\.aggregation\.json: missing, though its split has"):
        ScanNet(place.root).read(NAME)
    scannet.write_aggregation(place, "_vh_clean.aggregation.json")
    assert kinds(ScanNet(place.root).read(NAME)) == []
    (place.root / "scannetv2_train.txt").unlink()
    place.file("_vh_clean.aggregation.json").unlink()
    assert kinds(ScanNet(place.root).read(NAME)) == ["labels_missing"]


def test_annotations_of_another_mesh_are_passed_over(place: Place) -> None:
    scannet.write_aggregation(place, "_vh_clean.aggregation.json")
    scannet.write_aggregation(place, segmentsFile=f"scannet.{NAME}_vh_clean.segs.json")
    scan = ScanNet(place.root).read(NAME)
    assert kinds(scan) == ["aggregation_of_other_mesh"]
    np.testing.assert_array_equal(cloud_of(scan).instance, scannet.instances())
    place.file("_vh_clean.aggregation.json").unlink()
    with pytest.raises(
        BadFileError,
        match=r"is of the segments in 'scannet.*_vh_clean\.segs\.json': fetch it again, and scene0000_00_vh_",
    ):
        ScanNet(place.root).read(NAME)


def test_segments_that_no_point_has_are_counted(place: Place) -> None:
    def change(document: Any) -> None:
        document["segGroups"][0]["segments"].append(777)

    change_json(place.file(".aggregation.json"), change)
    scan = ScanNet(place.root).read(NAME)
    assert kinds(scan) == ["segments_not_in_mesh"]
    assert "1 of 9 segments" in scan.problems[0].detail
    np.testing.assert_array_equal(cloud_of(scan).instance, scannet.instances())
    change_json(place.file(SEGMENTS), lambda document: document.update(segIndices=[5] * 320))
    with pytest.raises(BadFileError, match="names 9 of 9 segments that no point has: fetch it again"):
        ScanNet(place.root).read(NAME)


def test_annotations_without_an_instance_are_damaged(place: Place) -> None:
    scannet.write_aggregation(place, "_vh_clean.aggregation.json")
    scannet.write_aggregation(place, segGroups=[])
    scan = ScanNet(place.root).read(NAME)
    assert kinds(scan) == ["aggregation_of_other_mesh"]
    np.testing.assert_array_equal(cloud_of(scan).instance, scannet.instances())
    place.file("_vh_clean.aggregation.json").unlink()
    with pytest.raises(BadFileError, match=r"scene0000_00\.aggregation\.json: names no instance"):
        ScanNet(place.root).read(NAME)


def test_instances_that_stand_twice_are_told(place: Place) -> None:
    """As in scene0217_00, whose objects are all there a second time, under other numbers."""

    def change(document: Any) -> None:
        document["segGroups"].append(document["segGroups"][0] | {"id": 9, "objectId": 9})

    change_json(place.file(".aggregation.json"), change)
    scan = ScanNet(place.root).read(NAME)
    assert kinds(scan) == ["segment_shared", "instance_without_points"]
    np.testing.assert_array_equal(cloud_of(scan).instance, scannet.instances())
    assert scan.labels[9] == scan.labels[0]


@pytest.mark.parametrize("text", [None, "colorWidth = 1296\n"])
def test_without_alignment_the_axes_are_the_devices(place: Place, text: str | None) -> None:
    place.file(".txt").unlink()
    if text is not None:
        place.file(".txt").write_text(text)
    scan = ScanNet(place.root).read(NAME)
    assert kinds(scan) == ["axis_alignment_missing"]
    np.testing.assert_allclose(cloud_of(scan).xyz_m, scannet.to_device(mini.points()[0]), atol=1e-6)
    np.testing.assert_allclose(scan.frames[1].T_world_camera, scannet.pose(1), atol=1e-6)


def test_an_alignment_that_is_none(place: Place) -> None:
    place.file(".txt").write_text("axisAlignment = " + "2 " * 16)
    assert kinds(ScanNet(place.root).read(NAME)) == ["axis_alignment_not_rigid"]
    place.file(".txt").write_text("axisAlignment = 1 2 3\n")
    with pytest.raises(BadFileError, match=r"'axisAlignment' must be 16 finite numbers"):
        ScanNet(place.root).read(NAME)


def test_labels_are_mapped_where_asked(place: Place) -> None:
    change_json(place.file(".aggregation.json"), lambda d: d["segGroups"][3].update(label="dog bed"))
    place.file("_vh_clean_2.labels.ply").unlink()
    nyu40 = ScanNet(place.root, labels="nyu40").read(NAME)
    assert nyu40.labels == {0: "picture", 1: "floor", 2: "wall", 3: "otherprop"}
    assert kinds(nyu40) == []
    benchmark = ScanNet(place.root, labels="scannet200").read(NAME)
    assert benchmark.labels == {0: "picture", 1: "floor", 2: "wall", 3: "unknown"}
    assert kinds(benchmark) == ["label_without_class"]
    assert kinds(ScanNet(place.root).read(NAME)) == []


def test_labels_that_the_table_lacks_are_told(place: Place) -> None:
    change_json(place.file(".aggregation.json"), lambda d: d["segGroups"][0].update(label="unheard of"))
    raw, nyu40 = ScanNet(place.root).read(NAME), ScanNet(place.root, labels="nyu40").read(NAME)
    assert kinds(raw) == kinds(nyu40) == ["labels_differ", "label_not_in_table"]
    assert (raw.labels[0], nyu40.labels[0]) == ("unheard of", "unknown")


def test_mapping_needs_its_files(place: Place) -> None:
    (place.root / "scannet200_classes.txt").unlink()
    assert [words.name for words in ScanNet(place.root).word_lists()] == ["nyu40", "raw"]
    with pytest.raises(UserError, match=r"--labels scannet200 needs scannet200_classes\.txt: .*--metadata"):
        ScanNet(place.root, labels="scannet200").read(NAME)
    (place.root / "scannetv2-labels.combined.tsv").unlink()
    with pytest.raises(UserError, match=r"--labels nyu40 needs scannetv2-labels\.combined\.tsv"):
        ScanNet(place.root, labels="nyu40").read(NAME)
    reader = ScanNet(place.root)
    assert reader.word_lists() == ()
    assert reader.read(NAME).labels == scannet.LABELS


def test_lists_of_words(place: Place) -> None:
    lists = {words.name: list(words.words) for words in ScanNet(place.root).word_lists()}
    assert lists == {
        "nyu40": ["wall", "floor", "table", "picture", "otherprop"],
        "scannet200": ["wall", "floor", "table", "picture", "coffee table"],
        "raw": ["wall", "floor", "pictures", "picture", "coffee table", "table", "dog bed"],
    }
    assert {words.kind for words in ScanNet(place.root).word_lists()} == {"class"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"a\tb\n1\t2\n", "names no column 'id'"),
        (b"id\traw_category\tnyu40id\tnyu40class\n1\twall\n", "line 2 lacks one of"),
        (b"id\traw_category\tnyu40id\tnyu40class\nx\twall\t1\twall\n", "line 2 lacks one of"),
        (b"id\traw_category\tnyu40id\tnyu40class\n1\tw\xff\t1\twall\n", "not UTF-8 text"),
        (b"id\traw_category\tnyu40id\tnyu40class\n1\twall\t1\twall\n", "'coffee table' is no raw category"),
        (b"\0\0\0", "no text file"),
        (b"", "names no column"),
    ],
)
def test_tables_of_another_kind(place: Place, table: bytes, message: str) -> None:
    (place.root / "scannetv2-labels.combined.tsv").write_bytes(table)
    with pytest.raises(UserError, match=message):
        ScanNet(place.root).read(NAME)


def test_text_files_may_begin_with_the_mark_of_utf_8(place: Place) -> None:
    for name in ("scannetv2-labels.combined.tsv", "scannet200_classes.txt", "scannetv2_train.txt"):
        path = place.root / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    scan = ScanNet(place.root, labels="scannet200").read(NAME)
    assert (scan.split, kinds(scan)) == ("train", [])


def test_labels_of_points_are_held_against_the_annotations(place: Place) -> None:
    classes = [0, *(scannet.NYU40[scannet.LABELS[number]] for number in sorted(scannet.LABELS))]
    labels = [classes[number + 1] for number in scannet.instances()]
    scannet.write_ply(place.file("_vh_clean_2.labels.ply"), [50, 0, *labels[2:]])
    scan = ScanNet(place.root).read(NAME)
    assert kinds(scan) == ["labels_differ"]
    assert "2 of 320 points" in scan.problems[0].detail
    scannet.write_ply(place.file("_vh_clean_2.labels.ply"), None)
    with pytest.raises(BadFileError, match="no whole number label"):
        ScanNet(place.root).read(NAME)


def test_segments_of_another_mesh(place: Place) -> None:
    change_json(place.file(SEGMENTS), lambda document: document["segIndices"].pop())
    with pytest.raises(BadFileError, match="319 entries for the 320 points"):
        ScanNet(place.root).read(NAME)
    place.file(SEGMENTS).unlink()
    with pytest.raises(BadFileError, match=r"segs\.json: cannot be read: No such file"):
        ScanNet(place.root).read(NAME)


def test_a_mesh_cannot_be_done_without(place: Place) -> None:
    mesh = place.file("_vh_clean_2.ply")
    whole = mesh.read_bytes()
    mesh.write_bytes(whole[:-5])
    with pytest.raises(BadFileError, match="ends within its faces"):
        ScanNet(place.root).read(NAME)
    mesh.write_bytes(whole.replace(b"vertex 320", b"vertex 0").replace(b"face 490", b"face 0"))
    with pytest.raises(BadFileError, match="has no points"):
        ScanNet(place.root).read(NAME)
    mesh.write_bytes(whole.replace(b"float z", b"float w"))
    with pytest.raises(BadFileError, match="its vertices lack z"):
        ScanNet(place.root).read(NAME)
    mesh.unlink()
    with pytest.raises(BadFileError, match=r"_vh_clean_2\.ply: cannot be read: No such file"):
        ScanNet(place.root).read(NAME)


def test_points_that_are_nowhere_and_meshes_without_colours(place: Place) -> None:
    mesh = place.file("_vh_clean_2.ply")
    data = bytearray(mesh.read_bytes().replace(b"uchar red", b"uchar rot"))
    start = data.index(b"end_header\n") + len(b"end_header\n")
    data[start : start + 4] = b"\x01\x00\x80\x7f"  # a NaN that signals
    data[start + 16 : start + 20] = np.float32(-1e30).tobytes()
    mesh.write_bytes(bytes(data))
    scan = ScanNet(place.root).read(NAME)
    assert kinds(scan) == ["point_not_finite", "point_too_far", "colours_missing"]
    cloud = cloud_of(scan)
    np.testing.assert_allclose(cloud.xyz_m, mini.points()[0][2:], atol=1e-6)
    np.testing.assert_array_equal(cloud.instance, scannet.instances()[2:])
    assert cloud.normals is not None
    assert np.isfinite(cloud.normals).all()
    assert cloud.colour_source == "none"


def test_a_mesh_without_faces_has_no_normals(place: Place) -> None:
    mesh = place.file("_vh_clean_2.ply")
    data = mesh.read_bytes().replace(b"element face 490\nproperty list uchar int vertex_indices\n", b"")
    mesh.write_bytes(data[: data.index(b"end_header\n") + len(b"end_header\n") + 320 * 16])
    scan = ScanNet(place.root).read(NAME)
    assert kinds(scan) == ["normals_missing"]
    assert cloud_of(scan).normals is None


def test_two_scans_of_one_name(place: Place) -> None:
    (place.root / "scannet_3d").symlink_to(place.root)
    assert kinds(ScanNet(place.root).read(NAME)) == []
    shutil.copytree(place.folder, place.root / "scans_test" / NAME)
    reader = ScanNet(place.root)
    assert reader.scan_names(None) == [NAME]
    with pytest.raises(
        UserError, match=rf"{NAME} is in .*scans.{NAME} and in .*scans_test.*: two scans of one name"
    ):
        reader.read(NAME)


def test_a_scan_that_is_not_there(place: Place) -> None:
    with pytest.raises(UserError, match=r"no folder for scan 'scene0009_00'; there are 1: scene0000_00"):
        ScanNet(place.root).read("scene0009_00")
    with pytest.raises(UserError, match="is no scan name"):
        ScanNet(place.root).read("../scans")


def test_options_that_cannot_be(place: Place, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        ScanNet(place.root, metadata=tmp_path / "none")
    with pytest.raises(UserError, match="--sens-every is 0: give 1 or more"):
        ScanNet(place.root, sens_every=0)
    with pytest.raises(UserError, match="--labels is 'nyu': give raw, nyu40, scannet200"):
        open_reader("scannet", place.root, {"labels": "nyu"})


@pytest.mark.parametrize("file", [".txt", "_vh_clean_2.ply"])
def test_a_scan_whose_files_change_while_it_is_read(
    place: Place, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_and_change(path: Path) -> Any:
        with place.file(file).open("ab") as growing:
            growing.write(b"\n")
        return read_ply_mesh(path)

    monkeypatch.setattr(scannet_surface, "read_ply_mesh", read_and_change)
    with pytest.raises(UserError, match=rf"{NAME}{file}: changed while {NAME} was read: wait until"):
        ScanNet(place.root).read(NAME)


def test_a_file_that_is_still_being_written_is_not_called_damaged(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = place.file("_vh_clean_2.ply")
    whole = mesh.read_bytes()
    mesh.write_bytes(whole[:-5])

    def read_and_change(path: Path) -> Any:
        try:
            return read_ply_mesh(path)
        finally:
            mesh.write_bytes(whole)

    monkeypatch.setattr(scannet_surface, "read_ply_mesh", read_and_change)
    with pytest.raises(UserError, match=r"_vh_clean_2\.ply: changed while"):
        ScanNet(place.root).read(NAME)
