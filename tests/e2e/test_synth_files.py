"""Rooms written as 3RScan: the same bytes for the same seed, and read back by the reader of the real data."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open3dsg.datasets.synth.attributes import attributes_of
from open3dsg.datasets.synth.path import camera_path
from open3dsg.datasets.synth.render import Renderer
from open3dsg.datasets.synth.room import build_room
from open3dsg.datasets.synth.write import SynthSummary, room_seed, write_rooms
from open3dsg.datasets.synth.write_3rscan import COLOUR, DEPTH, ThreeRScanLayout
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.errors import UserError

FRAMES = 3


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SynthSummary, list[str]]:
    out = tmp_path_factory.mktemp("synth") / "rooms"
    lines: list[str] = []
    summary = write_rooms(out, ThreeRScanLayout(), scans=2, seed=7, frames=FRAMES, report=lines.append)
    return out, summary, lines


def test_the_same_seed_writes_the_same_bytes(
    rooms: tuple[Path, SynthSummary, list[str]], tmp_path: Path
) -> None:
    out, summary, _ = rooms
    assert (
        write_rooms(
            tmp_path / "again", ThreeRScanLayout(), scans=2, seed=7, frames=FRAMES, report=lambda _: None
        )
        == summary
    )
    files = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert files == sorted(
        p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file()
    )
    for file in files:
        assert (out / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


def test_the_reader_of_3rscan_reads_them_without_a_complaint(
    rooms: tuple[Path, SynthSummary, list[str]],
) -> None:
    out, summary, lines = rooms
    dataset = ThreeRScan(out)
    names = dataset.scan_names(None)
    assert (len(names), len(lines), summary.scans, summary.frames) == (2, 2, 2, 2 * FRAMES)
    for index in range(2):
        name = lines[index]
        scan, room = dataset.read(name), build_room(room_seed(7, index))
        assert scan.problems == ()
        assert scan.labels == room.labels
        assert scan.split == "train"
        assert scan.cloud is not None
        assert scan.cloud.colour_source == "texture"
        assert set(np.unique(scan.cloud.instance).tolist()) == set(room.labels)
        assert 10_000 <= len(scan.cloud.xyz_m) <= 60_000
        assert len(scan.frames) == FRAMES
        assert astuple(scan.frames[0].image) == pytest.approx(astuple(COLOUR), rel=1e-5)
        assert scan.frames[0].depth == DEPTH
        assert scan.subgraphs


def test_the_reader_reads_what_is_said_of_the_things(rooms: tuple[Path, SynthSummary, list[str]]) -> None:
    out, _, lines = rooms
    dataset = ThreeRScan(out)
    for index in range(2):
        room, found = build_room(room_seed(7, index)), dataset.attributes_of(lines[index])
        assert found is not None
        assert found.problems == ()
        assert {number for number, _kind, _word in found.rows} <= set(room.labels)
        assert {kind for _number, kind, _word in found.rows} == {"color", "material"}
        said = {
            (instance.number, kind, word)
            for instance in room.instances
            for kind, words in attributes_of(instance).items()
            for word in words
        }
        assert set(found.rows) == said


def test_points_lie_where_the_depth_pictures_see_them(rooms: tuple[Path, SynthSummary, list[str]]) -> None:
    """Project the points of the PLY with the written pose and intrinsics, compare with the written depth."""
    out, _, _ = rooms
    dataset = ThreeRScan(out)
    scan = dataset.read(dataset.scan_names(None)[0])
    frame = scan.frames[0]
    assert scan.cloud is not None
    assert frame.depth is not None
    assert frame.depth_uri is not None
    with Image.open(out / frame.depth_uri) as picture:
        depth_m = np.asarray(picture).astype(float) * frame.depth_unit_m
    T_camera_world = np.linalg.inv(frame.T_world_camera)
    points = scan.cloud.xyz_m @ T_camera_world[:3, :3].T + T_camera_world[:3, 3]
    points = points[points[:, 2] > 0.3]
    column = np.rint(points[:, 0] / points[:, 2] * frame.depth.fx + frame.depth.cx).astype(int)
    row = np.rint(points[:, 1] / points[:, 2] * frame.depth.fy + frame.depth.cy).astype(int)
    within = (column >= 0) & (column < frame.depth.width) & (row >= 0) & (row < frame.depth.height)
    difference = points[within, 2] - depth_m[row[within], column[within]]
    assert within.sum() > 300
    shifts = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)]
    nearest_m = np.min([np.roll(depth_m, shift, axis=(0, 1)) for shift in shifts], axis=0)
    floating = points[within, 2] - nearest_m[row[within], column[within]]
    # Many points are hidden behind others; none may float before what the pixels around it measured.
    assert np.mean(np.abs(difference) < 0.03) > 0.25
    assert np.mean(floating < -0.05) < 0.005


def test_a_rendering_names_the_instance_of_every_pixel_and_its_depth() -> None:
    room = build_room(2)
    pose = camera_path(room, 20, 0)[10]
    renderer = Renderer(room)
    first, again = renderer.frame(pose, COLOUR), Renderer(room).frame(pose, COLOUR)
    for one, other in (
        (first.rgb, again.rgb),
        (first.depth_m, again.depth_m),
        (first.instance, again.instance),
    ):
        np.testing.assert_array_equal(one, other)
    assert first.rgb.shape == (COLOUR.height, COLOUR.width, 3)
    assert (first.instance >= 0).all()  # a closed room leaves no ray a way out
    assert set(np.unique(first.instance).tolist()) <= set(room.labels)
    rows, columns = np.mgrid[: COLOUR.height, : COLOUR.width]
    camera = np.stack(
        [(columns - COLOUR.cx) / COLOUR.fx, (rows - COLOUR.cy) / COLOUR.fy, np.ones(rows.shape)], -1
    )
    points = (camera * first.depth_m[..., None]) @ pose[:3, :3].T + pose[:3, 3]
    for number in np.unique(first.instance):
        vertices = next(i.mesh.vertices for i in room.instances if i.number == number)
        seen = points[first.instance == number]
        assert (seen >= vertices.min(axis=0) - 0.1).all()
        assert (seen <= vertices.max(axis=0) + 0.1).all()


def test_a_zipped_sequence_holds_the_same_frames(
    rooms: tuple[Path, SynthSummary, list[str]], tmp_path: Path
) -> None:
    out, _, _ = rooms
    layout = ThreeRScanLayout(zip_sequences=True)
    write_rooms(tmp_path / "zipped", layout, scans=1, seed=7, frames=FRAMES, report=lambda _: None)
    name = json.loads((tmp_path / "zipped" / "3RScan.json").read_text())[0]["reference"]
    loose, packed = ThreeRScan(out).read(name), ThreeRScan(tmp_path / "zipped").read(name)
    assert (tmp_path / "zipped" / name / "sequence.zip").is_file()
    assert not (tmp_path / "zipped" / name / "sequence").exists()
    for a, b in zip(loose.frames, packed.frames, strict=True):
        np.testing.assert_array_equal(a.T_world_camera, b.T_world_camera)
    assert packed.problems == ()


def test_a_folder_with_anything_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match=r"is not empty \(it holds 'mine.txt'\)"):
        write_rooms(tmp_path, ThreeRScanLayout(), scans=1, seed=0, frames=1, report=lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("option", "value"), [("scans", 0), ("frames", 0), ("seed", -1)])
def test_numbers_out_of_range_are_refused(tmp_path: Path, option: str, value: int) -> None:
    numbers = {"scans": 1, "frames": 1, "seed": 0} | {option: value}
    scans, frames, seed = numbers["scans"], numbers["frames"], numbers["seed"]
    with pytest.raises(UserError, match=f"--{option} {value}"):
        write_rooms(
            tmp_path / "out", ThreeRScanLayout(), scans=scans, frames=frames, seed=seed, report=lambda _: None
        )
    assert not (tmp_path / "out").exists()


def test_a_call_that_was_cut_off_is_taken_up(
    rooms: tuple[Path, SynthSummary, list[str]], tmp_path: Path
) -> None:
    out, summary, lines = rooms
    again = tmp_path / "again"

    def stop(_name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rooms(again, ThreeRScanLayout(), scans=2, seed=7, frames=FRAMES, report=stop)
    assert not (again / "3RScan.json").exists()
    assert ThreeRScan(again).scan_names(None) == [lines[0]]
    (again / ".unfinished" / lines[1]).mkdir()
    (again / ".unfinished" / lines[1] / "half").write_text("of a file")
    first = (again / lines[0]).stat().st_ino
    with pytest.raises(UserError, match="another call that was cut off"):
        write_rooms(again, ThreeRScanLayout(), scans=3, seed=7, frames=FRAMES, report=stop)
    assert (
        write_rooms(again, ThreeRScanLayout(), scans=2, seed=7, frames=FRAMES, report=lambda _: None)
        == summary
    )
    assert (again / lines[0]).stat().st_ino == first, "what was whole stays"
    for file in (path for path in out.rglob("*") if path.is_file()):
        assert file.read_bytes() == (again / file.relative_to(out)).read_bytes(), file
    assert not (again / ".unfinished").exists()
    with pytest.raises(UserError, match="is not empty"):
        write_rooms(again, ThreeRScanLayout(), scans=2, seed=7, frames=FRAMES, report=lambda _: None)
