"""Rooms written as ScanNet: what independent readings of the files say of points, pictures and poses."""

from __future__ import annotations

import csv
import json
import struct
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from open3dsg.datasets.scannet import ScanNet
from open3dsg.datasets.synth.render import Renderer
from open3dsg.datasets.synth.room import Room, build_room
from open3dsg.datasets.synth.scannet_labels import scannet_word
from open3dsg.datasets.synth.write import Order, SynthSummary, Written, room_seed, write_rooms
from open3dsg.datasets.synth.write_scannet import ScanNetLayout
from open3dsg.errors import UserError
from open3dsg.geometry.pixels import PixelGrid

SEED, FRAMES, LOST = 4, 3, 20
NAME, TEST = "scene0000_00", "scene0001_00"


class Read:
    """One scan as its files tell it, read without the project's readers; all in the scan's own world."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "scans" / NAME
        self.pictures = root / "scannet_2d" / NAME
        self.intrinsics = np.loadtxt(root / "scannet_2d" / "intrinsics.txt")
        self.camera = self.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]]
        facts = dict(line.split(" = ") for line in self.text(".txt").splitlines())
        self.T_aligned_scan = np.array(facts["axisAlignment"].split(), float).reshape(4, 4)

    def text(self, ending: str) -> str:
        return (self.folder / f"{NAME}{ending}").read_text()

    def ply(self, ending: str) -> NDArray[np.void]:
        header, body = (self.folder / f"{NAME}{ending}").read_bytes().split(b"end_header\n", 1)
        names = [
            line.split()[2] for line in header.decode().splitlines() if line.startswith("property uchar")
        ]
        label = [("label", "<u2")] if b"ushort label" in header else []
        row = np.dtype([("xyz", "<f4", 3), *((name, "u1") for name in names), *label])
        count = int(header.split(b"element vertex ")[1].split()[0])
        return np.frombuffer(body, row, count)

    @cached_property
    def xyz(self) -> NDArray[np.float64]:
        return np.asarray(self.ply("_vh_clean_2.ply")["xyz"], np.float64)

    @cached_property
    def aligned(self) -> NDArray[np.float64]:
        return moved(self.T_aligned_scan, self.xyz)

    def instances(self, ending: str = ".aggregation.json") -> tuple[NDArray[np.int64], dict[int, str]]:
        """Instance of each vertex, -1 for none, and labels; by the files as ScanNet's documentation says."""
        segments = np.array(json.loads(self.text("_vh_clean_2.0.010000.segs.json"))["segIndices"])
        number = np.full(len(segments), -1)
        labels = {}
        for group in json.loads(self.text(ending))["segGroups"]:
            inside = np.isin(segments, group["segments"])
            assert inside.any()
            assert (number[inside] == -1).all()
            number[inside], labels[group["objectId"]] = group["objectId"], group["label"]
        return number, labels

    def pose(self, frame: int) -> NDArray[np.float64]:
        return np.loadtxt(self.pictures / "pose" / f"{frame}.txt")

    def depth_mm(self, frame: int) -> NDArray[np.uint16]:
        with Image.open(self.pictures / "depth" / f"{frame}.png") as picture:
            assert picture.mode.startswith("I;16")
            return np.asarray(picture)


def nearest_vertex(
    points: NDArray[np.float64], vertices: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distance to the vertex next to each point, and which it is: all pairs, some points at a time."""
    found = []
    for some in np.array_split(points, 16):
        squared = sum((some[:, None, axis] - vertices[None, :, axis]) ** 2 for axis in range(3))
        at = np.argmin(squared, axis=1)
        found.append((np.linalg.norm(some - vertices[at], axis=1), at))
    return np.concatenate([each for each, _ in found]), np.concatenate([each for _, each in found])


def moved(T: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points @ T[:3, :3].T + T[:3, 3])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SynthSummary]:
    out = tmp_path_factory.mktemp("synth") / "rooms"
    return out, write_rooms(out, ScanNetLayout(), scans=2, seed=SEED, frames=FRAMES, report=lambda _: None)


@pytest.fixture(scope="module")
def scan(written: tuple[Path, SynthSummary]) -> Read:
    return Read(written[0])


@pytest.fixture(scope="module")
def room() -> Room:
    return build_room(room_seed(SEED, 0))


def test_the_files_are_those_of_scannet(written: tuple[Path, SynthSummary]) -> None:
    out, summary = written
    mesh, text = "_vh_clean_2.ply", ".txt"
    annotations = (
        *("_vh_clean_2.labels.ply", "_vh_clean_2.0.010000.segs.json"),
        *(".aggregation.json", "_vh_clean.aggregation.json"),
    )
    expected = {f"scans/{NAME}/{NAME}{ending}" for ending in (mesh, text, *annotations)}
    expected |= {f"scans_test/{TEST}/{TEST}{ending}" for ending in (mesh, text)}
    expected |= {f"scannetv2_{split}.txt" for split in ("train", "val", "test")}
    expected |= {"scannetv2-labels.combined.tsv", "scannet_2d/intrinsics.txt"}
    expected |= {
        f"scannet_2d/{name}/{kind}/{number}.{ending}"
        for name in (NAME, TEST)
        for kind, ending in (("color", "jpg"), ("depth", "png"), ("pose", "txt"))
        for number in (0, 20, 40)
    }
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == expected
    splits = [(out / f"scannetv2_{split}.txt").read_text() for split in ("train", "val", "test")]
    assert splits == [f"{NAME}\n", "", f"{TEST}\n"]
    assert "axisAlignment" not in (out / "scans_test" / TEST / f"{TEST}.txt").read_text()
    assert (summary.scans, summary.frames, summary.relationships) == (2, 2 * FRAMES, 0)


def test_instances_are_those_of_the_room_from_zero_and_nobody_annotated_the_ceiling(
    scan: Read, room: Room, written: tuple[Path, SynthSummary]
) -> None:
    number, labels = scan.instances()
    again, words = scan.instances("_vh_clean.aggregation.json")
    np.testing.assert_array_equal(number, again)
    annotated = [instance for instance in room.instances if instance.label != "ceiling"]
    assert labels == words == dict(enumerate(scannet_word(instance.label) for instance in annotated))
    assert 0 < np.mean(number == -1) < 0.2
    assert written[1].instances == len(annotated)
    to_room = room.T_world_room[:3, :3]
    for at, instance in enumerate(annotated):
        local = (instance.mesh.vertices - room.T_world_room[:3, 3]) @ to_room
        local[:, :2] += (room.T_world_room[:3, 3] @ to_room)[:2]  # the world's origin is the room's middle
        points = scan.aligned[number == at]
        assert (points >= local.min(axis=0) - 1e-4).all(), instance.label
        assert (points <= local.max(axis=0) + 1e-4).all(), instance.label


def test_axes_are_the_rooms_after_the_alignment_and_not_before(scan: Read) -> None:
    number, labels = scan.instances()
    floor = next(number for number, label in labels.items() if label == "floor")
    assert abs(scan.aligned[number == floor, 2]).max() < 1e-4
    assert abs(scan.xyz[number == floor, 2]).max() > 0.01
    for wall in (number for number, label in labels.items() if label == "wall"):
        assert np.ptp(scan.aligned[number == wall, :2], axis=0).min() < 0.02
        assert np.ptp(scan.xyz[number == wall, :2], axis=0).min() > 0.2
    turn = scan.T_aligned_scan[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(turn[2], [0, 0, 1])


def test_the_labels_mesh_has_the_same_vertices_with_their_nyu40_class(
    scan: Read, written: tuple[Path, SynthSummary]
) -> None:
    labels = scan.ply("_vh_clean_2.labels.ply")
    np.testing.assert_array_equal(labels["xyz"], scan.ply("_vh_clean_2.ply")["xyz"])
    with (written[0] / "scannetv2-labels.combined.tsv").open(newline="") as file:
        table = {row["raw_category"]: int(row["nyu40id"]) for row in csv.DictReader(file, delimiter="\t")}
    number, words = scan.instances()
    nyu40 = np.array([*(table[words[each]] for each in sorted(words)), 0])[number]
    np.testing.assert_array_equal(labels["label"], nyu40)
    assert {tuple(row) for row in labels[["red", "green", "blue"]][nyu40 == 1].tolist()} == {(174, 199, 232)}


def test_pixels_fall_on_the_thing_they_show(scan: Read, room: Room) -> None:
    """Back-project depth by the written intrinsics and poses; the room itself says what each pixel shows."""
    number, _ = scan.instances()
    annotated = [instance.number for instance in room.instances if instance.label != "ceiling"]
    to_world = np.eye(4)
    to_world[:3, :3], to_world[2, 3] = room.T_world_room[:3, :3], room.T_world_room[2, 3]
    vertices = scan.ply("_vh_clean_2.ply")
    mesh_rgb = np.stack([vertices["red"], vertices["green"], vertices["blue"]], axis=1).astype(float)
    renderer = Renderer(room)
    for frame in (0, 40):
        pose = scan.pose(frame)
        _, shown = renderer.depth(to_world @ scan.T_aligned_scan @ pose, PixelGrid(320, 240, *scan.camera))
        shown, depth_m = shown[::4, ::4], scan.depth_mm(frame)[::4, ::4] / 1000
        rows, columns = np.mgrid[:240:4, :320:4]
        rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(scan.intrinsics[:3, :3]).T
        points = moved(pose, rays * depth_m[..., None])
        with Image.open(scan.pictures / "color" / f"{frame}.jpg") as picture:
            assert picture.size == (320, 240)
            photograph = np.asarray(picture).astype(float)[::4, ::4]
        distances, differences, pixels = [], [], 0
        for at, instance in enumerate(annotated):
            things = np.flatnonzero(number == at)
            here = points[shown == instance]
            distance, nearest = nearest_vertex(here, scan.xyz[things])
            distances.append(distance)
            aligned = nearest_vertex(moved(scan.T_aligned_scan, here), scan.aligned[things])[0]
            np.testing.assert_allclose(aligned, distance, atol=1e-4)
            differences.append(abs(photograph[shown == instance] - mesh_rgb[things[nearest]]).mean(axis=1))
            pixels += len(here)
        assert pixels > 0.9 * shown.size
        assert np.percentile(np.concatenate(distances), [50, 99]) == pytest.approx([0.03, 0.1], abs=0.03)
        assert np.median(np.concatenate(differences)) < 25, "colours of photograph and mesh"


def test_the_sensor_is_level_and_one_frame_has_lost_its_pose(scan: Read) -> None:
    assert (scan.pose(LOST) == -np.inf).all()
    for frame in (0, 40):
        pose = scan.pose(frame)
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-5)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1, abs=1e-5)
        assert pose[2, 1] < -0.7, "the picture's down is the world's down"
        assert abs(pose[2, 0]) < 0.1
    assert scan.depth_mm(LOST).any()


def test_a_stream_holds_the_same_poses_and_depth(scan: Read, tmp_path: Path) -> None:
    write_rooms(
        tmp_path / "s", ScanNetLayout(sens=True), scans=1, seed=SEED, frames=FRAMES, report=lambda _: None
    )
    assert not (tmp_path / "s" / "scannet_2d").exists()
    data = (tmp_path / "s" / "scans" / NAME / f"{NAME}.sens").read_bytes()
    at = 12 + struct.unpack_from("<Q", data, 4)[0]
    np.testing.assert_allclose(struct.unpack_from("<16f", data, at + 128), scan.intrinsics.ravel(), rtol=1e-6)
    assert struct.unpack_from("<ii4IfQ", data, at + 256) == (2, 1, 648, 484, 320, 240, 1000.0, FRAMES)
    at += 256 + struct.calcsize("<ii4IfQ")
    for frame in (0, LOST, 40):
        pose = np.reshape(struct.unpack_from("<16f", data, at), (4, 4))
        np.testing.assert_allclose(pose, scan.pose(frame), atol=1e-6)
        jpeg, depth = struct.unpack_from("<QQ", data, at + 80)
        assert data[at + 96 : at + 98] == b"\xff\xd8"
        picture = np.frombuffer(zlib.decompress(data[at + 96 + jpeg : at + 96 + jpeg + depth]), "<u2")
        np.testing.assert_array_equal(picture.reshape(240, 320), scan.depth_mm(frame))
        at += 96 + jpeg + depth
    assert data[at:] == bytes(8)
    stream = ScanNet(tmp_path / "s", sens_every=1).read(NAME)
    assert [frame.number for frame in stream.frames] == [0, 2]
    assert [problem.kind for problem in stream.problems] == ["pose_not_finite"]


def test_the_reader_of_scannet_reads_what_the_files_say(
    scan: Read, written: tuple[Path, SynthSummary]
) -> None:
    reader = ScanNet(written[0])
    assert reader.scan_names(None) == [NAME, TEST]
    assert (reader.scan_names("train"), reader.scan_names("test")) == ([NAME], [TEST])
    read = reader.read(NAME)
    number, labels = scan.instances()
    assert read.cloud is not None
    np.testing.assert_allclose(read.cloud.xyz_m, scan.aligned, atol=1e-5)
    np.testing.assert_array_equal(read.cloud.instance, number)
    assert read.labels == labels
    assert [problem.kind for problem in read.problems] == ["pose_not_finite"]
    assert [frame.number for frame in read.frames] == [0, 40]
    np.testing.assert_allclose(read.frames[1].T_world_camera, scan.T_aligned_scan @ scan.pose(40), atol=1e-5)
    bare = reader.read(TEST)
    assert bare.cloud is not None
    assert (bare.split, bare.labels, set(bare.cloud.instance.tolist())) == ("test", {}, {-1})


def test_the_same_seed_writes_the_same_bytes_also_after_a_cut(
    written: tuple[Path, SynthSummary], tmp_path: Path
) -> None:
    out, summary = written
    again = tmp_path / "again"

    def stop(_name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rooms(again, ScanNetLayout(), scans=2, seed=SEED, frames=FRAMES, report=stop)
    assert not (again / "scannetv2_train.txt").exists()
    assert (
        write_rooms(again, ScanNetLayout(), scans=2, seed=SEED, frames=FRAMES, report=lambda _: None)
        == summary
    )
    files = [sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file()) for root in (out, again)]
    assert files[0] == files[1]
    for file in files[0]:
        assert (out / file).read_bytes() == (again / file).read_bytes(), file


class Toy:
    """A layout of two folders a scan, of which the second cannot be moved while `broken`."""

    def __init__(self) -> None:
        self.request = {"layout": "toy"}
        self.broken = True
        self.written = 0

    def scan_name(self, _seed: int, index: int, /) -> str:
        return f"scan{index}"

    def write_scan(self, root: Path, room: Room, order: Order) -> Written:
        self.written += 1
        for folder in ("pictures",) if self.broken else ("pictures", "scans"):
            (root / folder / order.name).mkdir(parents=True)
            (root / folder / order.name / "seed").write_text(str(room.seed))
        folders = [f"pictures/{order.name}", f"scans/{order.name}"]
        return Written(order.name, "train", folders, list(room.labels.values()), seen=1, points=2)

    def write_metadata(self, out: Path, written: Sequence[Written]) -> None:
        (out / "list.json").write_text(json.dumps([scan.name for scan in written]))


def test_a_call_that_was_cut_off_between_two_folders_of_a_scan_is_taken_up(tmp_path: Path) -> None:
    layout, out = Toy(), tmp_path / "out"
    with pytest.raises(
        UserError, match="cannot be written: No such file or directory; once it can, the same"
    ):
        write_rooms(out, layout, scans=1, seed=2, report=lambda _: None)
    assert (out / "pictures/scan0").is_dir()
    (out / "pictures/scan0/seed").write_text("of the call that was cut off")
    layout.broken = False
    summary = write_rooms(out, layout, scans=1, seed=2, report=lambda _: None)
    assert layout.written == 2
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {"pictures/scan0/seed", "scans/scan0/seed", "list.json"}
    assert (out / "pictures/scan0/seed").read_text() == "200000"
    assert summary.instances == len(build_room(200_000).instances)
    assert (summary.seen, summary.points, summary.relationships) == (1, 2, 0)


def test_a_call_that_met_a_full_disk_is_taken_up(tmp_path: Path) -> None:
    layout, out = Toy(), tmp_path / "out"
    layout.broken = False

    def fill_the_disk(_name: str) -> None:
        (out / ".unfinished/scan1.json.part").symlink_to("/dev/full")

    with pytest.raises(UserError, match="/out: cannot be written: No space left on device; once it can"):
        write_rooms(out, layout, scans=2, seed=2, report=fill_the_disk)
    (out / ".unfinished/scan1.json.part").unlink()
    assert write_rooms(out, layout, scans=2, seed=2, report=lambda _: None).scans == 2
    assert layout.written == 3
    assert sorted(path.name for path in out.iterdir()) == ["list.json", "pictures", "scans"]
