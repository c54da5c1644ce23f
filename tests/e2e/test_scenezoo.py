"""Datasets through scenezoo, on miniatures: points, instances, cameras, splits, and what is wrong."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scenezoo

from open3dsg.datasets import scenezoo_package
from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.layouts import open_reader
from open3dsg.datasets.scan import Frame, Scan
from open3dsg.datasets.scenezoo import SceneZoo
from open3dsg.datasets.scenezoo_sources import SOURCES, find_source
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.pixels import PixelGrid
from tests import miniature as mini
from tests import scannet_miniature as scannet
from tests import scenezoo_miniature as zoo
from tests.scans import cloud_of, kinds
from tests.scenezoo_checks import agreeing

SCAN = {"scannetppv2": zoo.SCENE, "matterport3d": zoo.HOUSE, "arkitscenes": zoo.VIDEO}
FRAMES_AT = {
    "scannetppv2": "iphone",
    "matterport3d": "undistorted_depth_images",
    "arkitscenes": "lowres_depth",
}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenezoo")
    zoo.write_scannetpp(root / "scannetppv2")
    zoo.write_scannetpp_lists(root / "scannetppv2")
    zoo.write_matterport(root / "matterport3d")
    zoo.write_matterport_lists(root / "matterport3d")
    zoo.write_arkitscenes(root / "arkitscenes")
    zoo.write_arkitscenes_list(root / "arkitscenes", zoo.VIDEO, "41048262")
    return root


@pytest.fixture
def roots(template: Path, tmp_path: Path) -> Path:
    """A folder with a clean root of each of the three, to be spoiled."""
    return Path(shutil.copytree(template, tmp_path / "räume 1 'a'"))


def read(roots: Path, name: str) -> Scan:
    return SceneZoo(roots / name, name).read(SCAN[name])


@pytest.mark.parametrize("name", ["scannetppv2", "matterport3d"])
def test_a_clean_scan_is_the_room(template: Path, name: str) -> None:
    scan = read(template, name)
    assert (scan.dataset, scan.name, scan.split, scan.subgraphs) == (name, SCAN[name], "train", ())
    assert kinds(scan) == (["frames_without_pose"] if name == "scannetppv2" else [])
    assert scan.labels == zoo.LABELS
    cloud = cloud_of(scan)
    xyz, _, rgb = mini.points()
    np.testing.assert_allclose(cloud.xyz_m, xyz, atol=1e-6)
    np.testing.assert_array_equal(cloud.rgb, rgb)
    np.testing.assert_array_equal(cloud.instance, zoo.instances())
    assert cloud.normals is not None
    np.testing.assert_allclose(cloud.normals, scannet.normals(), atol=1e-6)
    types = [array.dtype.name for array in (cloud.xyz_m, cloud.rgb, cloud.instance, cloud.normals)]
    assert types == ["float32", "uint8", "int32", "float32"]
    assert cloud.colour_source == "vertex"


def test_boxes_of_arkitscenes_make_instances(template: Path) -> None:
    scan = read(template, "arkitscenes")
    assert kinds(scan) == []
    assert scan.labels == {0: "table", 1: "picture"}
    # The picture hangs 2 cm before the wall, and the wall is not in its box.
    expected = np.repeat([-1, -1, 0, 1, -1], mini.GRID**2)
    np.testing.assert_array_equal(cloud_of(scan).instance, expected)


@pytest.mark.parametrize("name", SCAN)
def test_a_known_point_lands_where_it_was_seen(template: Path, name: str) -> None:
    scan = read(template, name)
    assert [frame.number for frame in scan.frames] == list(range(mini.FRAMES))
    xyz, _, _ = mini.points()
    table = np.repeat([place == 2 for place in range(len(mini.ROOM))], mini.GRID**2)
    for frame in scan.frames:
        np.testing.assert_allclose(frame.T_world_camera, mini.pose(frame.number), atol=1e-6)
        seen = agreeing(template / name, frame, xyz)
        assert seen[table].mean() > 0.9, "nothing stands before the table"
        assert seen.mean() > 0.5
    flipped = scan.frames[0].T_world_camera @ np.diag([1.0, -1.0, -1.0, 1.0])
    wrong = Frame(**(vars(scan.frames[0]) | {"T_world_camera": flipped}))
    assert agreeing(template / name, wrong, xyz).mean() < 0.1, "the check would see a flipped camera"


def test_the_cameras_are_those_of_the_pictures(template: Path) -> None:
    """The pictures of ScanNet++ are 1/20 of those that its cameras are of, ARKitScenes' depth 1/2."""
    image = PixelGrid(96, 72, 80.0, 80.0, 47.5, 35.5)
    half = PixelGrid(48, 36, 40.0, 40.0, 23.5, 17.5)
    for name in ("scannetppv2", "arkitscenes"):
        frame = read(template, name).frames[1]
        for found, expected in ((frame.image, image), (frame.depth, half)):
            np.testing.assert_allclose(tuple(vars(found).values()), tuple(vars(expected).values()), atol=1e-4)
        assert frame.depth_unit_m == 0.001
    # The optical axis is 4 rows above the middle, since 8 rows are cut off at the top.
    frame = read(template, "matterport3d").frames[1]
    higher = PixelGrid(96, 72, 80.0, 80.0, 47.5, 31.5)
    for found in (frame.image, frame.depth):
        np.testing.assert_allclose(tuple(vars(found).values()), tuple(vars(higher).values()), atol=1e-4)
    assert frame.depth_unit_m == 0.00025


def test_photos_are_those_of_the_frames(template: Path) -> None:
    for name in SCAN:
        scan = read(template, name)
        with ImageReader(template / name) as reader:
            picture = reader.read_image(scan.frames[2].image_uri)
        _, things = mini.cast(2, mini.IMAGE_SIZE, mini.IMAGE_FOCAL)
        if name != "matterport3d":
            palette = np.array([*(thing.rgb for thing in mini.ROOM), (0, 0, 0)])
            assert np.median(np.abs(picture - palette[things])) <= 2
        assert picture.shape == (72, 96, 3)


def test_a_reader_is_its_arguments(template: Path) -> None:
    arguments = {"source": "matterport3d", "metadata": str(template)}
    reader = open_reader("scenezoo", template / "matterport3d", arguments)
    again = pickle.loads(pickle.dumps(reader))
    assert again.arguments == reader.arguments == arguments
    assert again.ledger_options == {"source": "matterport3d"}
    assert again.read(zoo.HOUSE).labels == zoo.LABELS
    assert again.annotation_hash(zoo.HOUSE) is None


def test_splits_have_our_names(template: Path, tmp_path: Path) -> None:
    pp = SceneZoo(template / "scannetppv2", "ScanNet++")
    assert pp.scan_names("train") == pp.scan_names(None) == [zoo.SCENE]
    assert pp.scan_names("validation") == []
    assert pp.missing("validation") == [zoo.OTHER_SCENE]
    assert pp.missing(None) == ["ca0e09014e", zoo.OTHER_SCENE]
    with pytest.raises(UserError, match=r"no split 'val'; there are: train, validation, test"):
        pp.scan_names("val")
    (words,) = pp.word_lists()
    assert (words.name, words.kind, list(words.words)) == (
        "semantic_classes", "class", ["wall", "floor", "table"],
    )  # fmt: skip
    assert SceneZoo(template / "arkitscenes", "arkitscenes").missing("train") == ["41048262"]
    bare = SceneZoo(zoo.write_matterport(tmp_path).parents[2], "matterport3d", template / "matterport3d")
    assert bare.missing("test") == ["2t7WUuJeko7"]
    assert bare.read(zoo.HOUSE).split == "train"


def test_both_folds_of_arkitscenes_are_read(tmp_path: Path) -> None:
    zoo.write_arkitscenes(tmp_path)
    zoo.write_arkitscenes(tmp_path, "41069021", "Validation")
    zoo.write_arkitscenes_list(tmp_path, zoo.VIDEO, validation="41069021")
    reader = SceneZoo(tmp_path, "arkitscenes")
    assert reader.scan_names(None) == [zoo.VIDEO, "41069021"]
    assert reader.scan_names("validation") == ["41069021"]
    assert reader.missing(None) == []
    assert reader.read("41069021").split == "validation"


def test_without_lists_no_split_is_known(roots: Path) -> None:
    for split in ("train", "val", "test"):
        (roots / "matterport3d" / f"scenes_{split}.txt").unlink()
    reader = SceneZoo(roots / "matterport3d", "matterport3d")
    assert reader.missing(None) == []
    assert reader.read(zoo.HOUSE).split is None
    with pytest.raises(UserError, match=r"no split is known: scenes_train\.txt, .* are not there"):
        reader.scan_names("train")


def test_every_dataset_of_scenezoo_is_read_or_refused() -> None:
    read_here = {name for source in SOURCES for name in (source.name, *source.aliases)}
    for name in scenezoo.list_datasets(include_aliases=True):
        if name in read_here:
            assert find_source(name.upper()).name == scenezoo.get_dataset_info(name).name
        else:
            with pytest.raises(
                UserError, match=r"a reader of its own: open3dsg ingest|nothing to make a graph"
            ):
                find_source(name)


def test_the_table_names_options_that_scenezoo_has(tmp_path: Path) -> None:
    for source in SOURCES:
        files = {option: tmp_path / file for option, file in source.files.items()}
        dataset = scenezoo_package.open_dataset(source, tmp_path, files)
        if source.frames is not None and "source" in source.frames.options:
            assert dataset.spec.frame_source(source.frames.options["source"]).camera_models == ("PINHOLE",)


@pytest.mark.parametrize("module", ["open3d", "plyfile", "fsspec"])
def test_a_package_that_scenezoo_needs_is_named(template: Path, module: str) -> None:
    """In a process of its own: here, all of them are loaded."""
    lines = (
        "import pathlib, sys",
        "sys.modules[sys.argv[1]] = None",
        "from open3dsg.datasets.scenezoo import SceneZoo",
        "from open3dsg.errors import UserError",
        "try:",
        "    SceneZoo(pathlib.Path(sys.argv[2]), 'matterport3d').scan_names('train')",
        "except UserError as error:",
        "    print(error)",
    )
    command = [sys.executable, "-c", "\n".join(lines), module, str(template / "matterport3d")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith(f"this needs the package {module}: pip install"), done.stderr


def test_a_library_of_the_system_that_open3d_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_name: str) -> None:
        raise OSError("libusb-1.0.so.0: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(scenezoo, "get_dataset_info", refuse)
    with pytest.raises(UserError, match=r"scenezoo cannot be loaded \(libusb-1\.0\.so\.0: .*libusb-1\.0-0"):
        SceneZoo(tmp_path, "s3dis")


def test_a_label_table_that_is_missing_is_named(roots: Path) -> None:
    (roots / "matterport3d" / "category_mapping.tsv").unlink()
    with pytest.raises(
        BadFileError, match=r"category_mapping\.tsv is needed: fetch https://\S+ into ROOT, or"
    ):
        read(roots, "matterport3d")


@pytest.mark.parametrize(
    ("name", "file", "told"),
    [
        ("scannetppv2", "scans/mesh_aligned_0.05.ply", r"0a5c013435: Mesh file does not exist: .*0\.05\.ply"),
        ("scannetppv2", "scans/segments_anno.json", r"segments_anno\.json cannot be read: No such file"),
        (
            "scannetppv2",
            "iphone/pose_intrinsic_imu.json",
            r"frames: .*imu\.json cannot be read: No such file",
        ),
        ("scannetppv2", "iphone/rgb.mkv", r"frames: .*rgb\.mkv cannot be read: No such file"),
        ("matterport3d", f"house_segmentations/{zoo.HOUSE}.ply", r"1LXtFkjw3qL: .*house"),
        ("matterport3d", f"undistorted_camera_parameters/{zoo.HOUSE}.conf", r"frames: Cannot identify one"),
        ("arkitscenes", f"{zoo.VIDEO}_3dod_mesh.ply", r"41048190: .*has no downloaded 3DOD mesh"),
        ("arkitscenes", "lowres_wide.traj", r"41048190: frames: .*has no camera trajectory"),
    ],
)
def test_a_file_that_it_cannot_do_without(roots: Path, name: str, file: str, told: str) -> None:
    (path,) = (roots / name).rglob(f"{SCAN[name]}/{file}")
    path.unlink()
    with pytest.raises(BadFileError, match=told):
        read(roots, name)


def test_damaged_files_are_one_line(roots: Path) -> None:
    scans = roots / "scannetppv2" / "data" / zoo.SCENE / "scans"
    whole = (scans / "mesh_aligned_0.05.ply").read_bytes()
    (scans / "mesh_aligned_0.05.ply").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFileError, match=r"mesh_aligned_0\.05\.ply: truncated: at least \d+ bytes"):
        read(roots, "scannetppv2")
    (scans / "mesh_aligned_0.05.ply").write_bytes(whole)
    annotations = (scans / "segments_anno.json").read_text()
    (scans / "segments_anno.json").write_text(annotations[:100])
    with pytest.raises(BadFileError, match=r"0a5c013435: Invalid JSON in .*segments_anno\.json"):
        read(roots, "scannetppv2")
    (scans / "segments_anno.json").write_text(annotations.replace('"objectId"', '"object"'))
    with pytest.raises(
        BadFileError, match=r"0a5c013435: damaged or of another layout \(KeyError: 'objectId'\)"
    ):
        read(roots, "scannetppv2")


@pytest.mark.parametrize("name", SCAN)
@pytest.mark.parametrize(("corners", "corner"), [(3, 320), (3, -1), (7, 0)])
def test_faces_of_points_that_are_not_there(roots: Path, name: str, corners: int, corner: int) -> None:
    """Open3D follows them, and may end the process."""
    (path,) = (roots / name).rglob("*.ply")
    content = bytearray(path.read_bytes())
    face = content.index(b"end_header\n") + len(b"end_header\n") + 15 * len(zoo.instances())
    struct.pack_into("<Bi", content, face, corners, corner)
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=r"\.ply: a face names a vertex that is not there|\.ply: element"):
        read(roots, name)


def test_numbers_that_no_machine_holds_are_one_line(roots: Path) -> None:
    path = roots / "scannetppv2" / "data" / zoo.SCENE / "scans" / "segments.json"
    document = json.loads(path.read_text())
    document["segIndices"][-1] = 10**30
    path.write_text(json.dumps(document))
    with pytest.raises(BadFileError, match=r"0a5c013435: Python int too large"):
        read(roots, "scannetppv2")


def test_annotations_of_another_mesh_are_refused(roots: Path) -> None:
    path = roots / "scannetppv2" / "data" / zoo.SCENE / "scans" / "segments.json"
    document = json.loads(path.read_text())
    document["segIndices"] += [0]
    path.write_text(json.dumps(document))
    with pytest.raises(
        BadFileError, match=r"annotations are of 321 points, its mesh has 320: one of the two"
    ):
        read(roots, "scannetppv2")


def test_an_empty_label_is_none(roots: Path) -> None:
    path = roots / "scannetppv2" / "data" / zoo.SCENE / "scans" / "segments_anno.json"
    path.write_text(path.read_text().replace('"table"', '" "'))
    scan = read(roots, "scannetppv2")
    assert scan.labels == zoo.LABELS | {9: "unknown"}
    assert "label_missing" in kinds(scan)


def test_an_instance_whose_points_are_all_left_out_has_none(roots: Path) -> None:
    folder = roots / "scannetppv2" / "data" / zoo.SCENE / "scans"
    content = (folder / "mesh_aligned_0.05.ply").read_bytes()
    start = content.index(b"end_header\n") + len(b"end_header\n")
    vertex = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    points = np.frombuffer(content, vertex, len(zoo.instances()), start).copy()
    points["xyz"][zoo.instances() == 9] = np.nan
    body = points.tobytes()
    (folder / "mesh_aligned_0.05.ply").write_bytes(content[:start] + body + content[start + len(body) :])
    scan = read(roots, "scannetppv2")
    assert scan.labels == zoo.LABELS
    assert kinds(scan) == ["point_not_finite", "instance_without_points", "frames_without_pose"]
    assert 9 not in cloud_of(scan).instance


def test_the_test_split_may_lack_annotations(roots: Path) -> None:
    root = roots / "scannetppv2"
    (root / "data" / zoo.SCENE / "scans" / "segments_anno.json").unlink()
    (root / "splits" / "nvs_sem_train.txt").write_text("")
    (root / "splits" / "sem_test.txt").write_text(f"{zoo.SCENE}\n")
    scan = read(roots, "scannetppv2")
    assert (scan.split, scan.labels) == ("test", {})
    assert kinds(scan) == ["labels_missing", "frames_without_pose"]
    assert (cloud_of(scan).instance == -1).all()


def test_frames_in_a_video_are_counted_and_left_out(tmp_path: Path) -> None:
    zoo.write_scannetpp(tmp_path, extracted=False)
    scan = SceneZoo(tmp_path, "scannetppv2").read(zoo.SCENE)
    assert scan.frames == ()
    assert kinds(scan) == ["frames_without_pose", "frames_not_extracted"]
    assert "4 frames have no picture, first frame_000000; they are only in iphone/rgb.mkv" in (
        scan.problems[1].detail
    )


@pytest.mark.parametrize("name", SCAN)
def test_a_frame_lacks_a_picture(roots: Path, name: str) -> None:
    frame = read(roots, name).frames[1]
    assert frame.depth_uri is not None
    (roots / name / frame.depth_uri).unlink()
    scan = read(roots, name)
    assert kinds(scan)[-1:] == ["frame_without_depth"]
    assert [f.depth is None for f in scan.frames] == [False, True, False, False]
    (roots / name / frame.image_uri).unlink()
    scan = read(roots, name)
    if name == "arkitscenes":  # its frames are the pictures that are there, counted through
        assert [f.number for f in scan.frames] == [0, 1, 2]
    else:
        assert kinds(scan)[-1:] == ["frames_not_extracted"]
        assert [f.number for f in scan.frames] == [0, 2, 3]


@pytest.mark.parametrize("name", SCAN)
def test_a_damaged_photograph_is_left_out(roots: Path, name: str) -> None:
    frame = read(roots, name).frames[1]
    (roots / name / frame.image_uri).write_bytes(b"")
    scan = read(roots, name)
    assert kinds(scan).count("picture_unreadable") == 1
    assert [f.number for f in scan.frames] == [0, 2, 3]


def test_a_video_that_is_cut_shorter_than_its_poses(roots: Path) -> None:
    zoo.write_video(roots / "scannetppv2" / "data" / zoo.SCENE / "iphone" / "rgb.mkv", 2)
    with pytest.raises(BadFileError, match=r"0a5c013435: frames: Frame indices are outside the source"):
        read(roots, "scannetppv2")


def test_no_frames_are_told(roots: Path) -> None:
    shutil.rmtree(roots / "scannetppv2" / "data" / zoo.SCENE / "iphone")
    scan = read(roots, "scannetppv2")
    assert (scan.frames, kinds(scan)) == ((), ["sequence_missing"])


def test_unreadable_pictures_are_left_out_until_none_is_left(roots: Path) -> None:
    folder = roots / "scannetppv2" / "data" / zoo.SCENE / "iphone" / "depth"
    for number in range(mini.FRAMES - 1):
        (folder / f"frame_{number:06d}.png").write_bytes(b"no picture")
    scan = read(roots, "scannetppv2")
    assert kinds(scan).count("picture_unreadable") == kinds(scan).count("frame_without_depth") == 3
    (folder / f"frame_{mini.FRAMES - 1:06d}.png").write_bytes(b"no picture")
    with pytest.raises(
        BadFileError, match=r"frame_000000\.png is no JPEG or PNG; no depth picture of the scan"
    ):
        read(roots, "scannetppv2")


def test_a_scan_that_is_not_there(template: Path) -> None:
    with pytest.raises(UserError, match=r"no scan 'nowhere'; there are 1: 0a5c013435"):
        SceneZoo(template / "scannetppv2", "scannetppv2").read("nowhere")
    assert SceneZoo(template / "scannetppv2", "arkitscenes").scan_names(None) == []
