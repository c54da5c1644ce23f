"""ScanNet's file formats as the rooms are written in them, each read back by a few lines of another kind."""

from __future__ import annotations

import csv
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open3dsg.datasets.synth import formats_scannet
from open3dsg.datasets.synth.formats_sens import SensFile
from open3dsg.datasets.synth.scanned import ScannedMesh
from open3dsg.datasets.synth.scannet_labels import LABEL_IDS, NYU40, scannet_word
from open3dsg.datasets.synth.write import Sightings, write_rooms
from open3dsg.datasets.synth.write_scannet import ScanNetLayout
from open3dsg.encoders.rooms_words import USES
from open3dsg.errors import UserError
from open3dsg.geometry.pixels import PixelGrid

# Two triangles of instance 4 and one of instance 7, which shares no corner with them.
MESH = ScannedMesh(
    vertices=np.arange(21.0).reshape(7, 3),
    normals=np.tile([0.0, 0, 1], (7, 1)),
    triangles=np.array([[0, 1, 2], [1, 2, 3], [4, 5, 6]]),
    face_rgb=np.array([[10, 20, 30], [20, 40, 61], [255, 0, 1]], dtype=np.uint8),
    instance=np.array([4, 4, 4, 4, 7, 7, 7], dtype=np.int32),
    segment=np.array([0, 0, 0, 3, 4, 4, 4]),
)


def test_a_mesh_is_a_binary_ply_of_rows_without_padding(tmp_path: Path) -> None:
    rgb, labels = formats_scannet.vertex_colours(MESH), np.arange(7, dtype=np.uint16)
    assert rgb.tolist() == [[10, 20, 30], *[[15, 30, 46]] * 2, [20, 40, 61], *[[255, 0, 1]] * 3]
    formats_scannet.write_mesh(tmp_path / "a.ply", MESH.vertices, rgb, MESH.triangles, labels)
    header, body = (tmp_path / "a.ply").read_bytes().split(b"end_header\n", 1)
    assert header.split()[:3] == [b"ply", b"format", b"binary_little_endian"]
    assert len(body) == 7 * 18 + 3 * 13
    assert struct.unpack("<3f4BH", body[18:36]) == (3.0, 4.0, 5.0, 15, 30, 46, 255, 1)
    assert struct.unpack("<B3i", body[-13:]) == (3, 4, 5, 6)
    formats_scannet.write_mesh(tmp_path / "b.ply", MESH.vertices, rgb, MESH.triangles)
    assert len((tmp_path / "b.ply").read_bytes().split(b"end_header\n", 1)[1]) == 7 * 16 + 3 * 13


def test_instances_are_numbered_from_zero_and_the_rest_is_unlabelled() -> None:
    words = {7: "chair"}
    assert formats_scannet.nyu40_of(MESH, words).tolist() == [0, 0, 0, 0, 5, 5, 5]
    low, high = (
        formats_scannet.aggregation_of("scene0001_00", MESH, words | {4: "wall"}, full_mesh=full)
        for full in (False, True)
    )
    assert low["segGroups"] == [
        {"id": 0, "objectId": 0, "segments": [4], "label": "chair"},
        {"id": 1, "objectId": 1, "segments": [0, 3], "label": "wall"},
    ]
    assert high["segGroups"][1]["segments"] == [3, 0]
    assert low["segmentsFile"] == high["segmentsFile"] == "scannet.scene0001_00_vh_clean_2.0.010000.segs.json"
    assert formats_scannet.segments_of("scene0001_00", MESH)["segIndices"] == [0, 0, 0, 3, 4, 4, 4]


def test_every_category_of_the_rooms_has_a_row_in_the_label_table() -> None:
    text = formats_scannet.label_table(["couch", "wall", "couch"]).decode()
    rows = {row["raw_category"]: row for row in csv.DictReader(text.splitlines(), delimiter="\t")}
    assert {scannet_word(label) for label in USES} == set(rows)
    assert list(rows)[:2] == ["couch", "wall"]
    assert all(len(row) == 17 and None not in row.values() for row in rows.values())
    assert {int(row["nyu40id"]) for row in rows.values()} == set(NYU40) - {0}
    known = {"wall": "1 1 12 Wall", "couch": "6 6 9 Sofa", "tv": "33 25 11 TV", "pot": "1234 40 7 Objects"}
    columns = ("id", "nyu40id", "eigen13id", "eigen13class")
    assert {word: " ".join(rows[word][column] for column in columns) for word in known} == known
    assert (rows["couch"]["count"], rows["couch"]["nyu40class"], rows["bed"]["count"]) == ("2", "sofa", "0")
    assert len({number for number, _ in LABEL_IDS.values()}) == len(LABEL_IDS)


def test_facts_are_sorted_and_a_test_scan_has_no_alignment() -> None:
    camera = PixelGrid(640, 480, 577.870605, 577.870605, 319.5, 239.5)
    aligned = formats_scannet.facts_of(camera, camera, 40, "kitchen", np.arange(16.0).reshape(4, 4)).decode()
    lines = aligned.splitlines()
    assert lines == sorted(lines)
    facts = dict(line.split(" = ") for line in lines)
    assert [float(value) for value in facts["axisAlignment"].split()] == list(range(16))
    assert (facts["fx_depth"], facts["my_color"]) == ("577.870605", "239.500000")
    assert (facts["numColorFrames"], facts["sceneType"]) == ("40", "Kitchen")
    bare = formats_scannet.facts_of(camera, camera, 40, "kitchen", None).decode().splitlines()
    assert set(lines) - set(bare) == {line for line in lines if line.startswith(("axis", "scene"))}


def test_a_stream_holds_header_frames_and_no_motion(tmp_path: Path) -> None:
    colour, depth = PixelGrid(8, 6, 7.0, 7.5, 3.5, 2.5), PixelGrid(4, 3, 3.5, 3.75, 1.5, 1.0)
    pose = np.arange(16.0).reshape(4, 4)
    picture = np.arange(12, dtype=np.uint16).reshape(3, 4) * 300
    stream = SensFile(tmp_path / "a.sens", colour, depth, 2)
    stream.add(0, pose, b"first", picture)
    stream.add(3, np.full((4, 4), -np.inf), b"second!", picture + 1)
    stream.close()
    with (tmp_path / "a.sens").open("rb") as file:

        def take(layout: str) -> tuple[Any, ...]:
            return struct.unpack("<" + layout, file.read(struct.calcsize("<" + layout)))

        assert take("IQ") == (4, 15)
        assert file.read(15) == b"StructureSensor"
        assert take("16f") == (7, 0, 3.5, 0, 0, 7.5, 2.5, 0, 0, 0, 1, 0, 0, 0, 0, 1)
        assert take("16f")[::5] == (1, 1, 1, 1)
        assert take("16f")[:6] == (3.5, 0, 1.5, 0, 0, 3.75)
        assert take("16f")[::5] == (1, 1, 1, 1)
        assert take("iiIIIIfQ") == (2, 1, 8, 6, 4, 3, 1000.0, 2)
        for number, jpeg, shift in ((0, b"first", 0), (3, b"second!", 1)):
            assert take("16f") == (tuple(range(16)) if number == 0 else (-np.inf,) * 16)
            colour_us, depth_us, jpeg_size, depth_size = take("QQQQ")
            assert colour_us == depth_us == number * 1_000_000 // 30
            assert file.read(jpeg_size) == jpeg
            unpacked = struct.unpack("<12H", zlib.decompress(file.read(depth_size)))
            assert unpacked == tuple(300 * pixel + shift for pixel in range(12))
        assert file.read() == bytes(8)


def test_names_end_at_four_digits(tmp_path: Path) -> None:
    assert ScanNetLayout().scan_name(3, 9_999) == "scene9999_00"
    with pytest.raises(UserError, match="10000 are the most"):
        write_rooms(tmp_path / "out", ScanNetLayout(), scans=10_001, seed=0, report=lambda _: None)
    assert not (tmp_path / "out").exists()


def test_an_instance_is_well_seen_in_two_pictures_of_more_than_80_pixels() -> None:
    sightings = Sightings()
    for pixels in ((81, 81, 200), (80, 81, 0), (81, 0, 0)):
        sightings.add(np.repeat(np.array([1, 2, 3, -1], dtype=np.int32), [*pixels, 500]))
    assert sightings.well_seen({1, 2, 3}) == 2
    assert sightings.well_seen({2, 3}) == 1
