"""The preflight on the frames of a scan: numbers, pictures, cameras, the unit of depth."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import miniature as mini
from tests.checks import SEQUENCE, findings, kinds, only
from tests.scans import replace

ROOM = "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("color.jpg", "frame_without_image"),
        ("depth.pgm", "frame_without_depth"),
        ("pose.txt", "frame_without_pose"),
    ],
)
def test_a_frame_without_one_of_its_files(part: str, kind: str, zipped: bool, healthy: Path) -> None:
    (healthy / SEQUENCE / f"frame-000002.{part}").unlink()
    if zipped:
        mini.zip_sequence(healthy / mini.NAME)
    where = f"{SEQUENCE}.zip" if zipped else SEQUENCE
    told = findings(healthy)
    assert (kind, where) in [(one.kind, one.file) for one in told]
    assert {one.kind for one in told} <= {kind, "frame_count_differs"}
    assert all(one.severity == "warning" for one in told)
    assert "1 frame, such as 2, of 4" in next(one.what for one in told if one.kind == kind)


def test_numbers_with_holes(healthy: Path) -> None:
    for path in (healthy / SEQUENCE).glob("frame-000002.*"):
        path.unlink()
    replace(healthy / SEQUENCE / "_info.txt", "m_frames.size = 4", "m_frames.size = 3")
    finding = only(healthy)
    assert (finding.kind, finding.file) == ("frame_numbers_with_holes", SEQUENCE)
    assert "1 number, such as 2, lacking between frames 0 and 3" in finding.what


def test_numbers_that_go_up_by_tens_have_no_holes(healthy: Path) -> None:
    for path in sorted((healthy / SEQUENCE).glob("frame-*"), reverse=True):
        number = int(path.name[6:12])
        path.rename(path.with_name(f"frame-{10 * number:06d}{path.name[12:]}"))
    assert kinds(healthy) == []


def test_another_number_of_frames_than_declared(healthy: Path) -> None:
    replace(healthy / SEQUENCE / "_info.txt", "m_frames.size = 4", "m_frames.size = 400")
    finding = only(healthy)
    assert finding.kind == "frame_count_differs"
    assert "400" in finding.what


def test_poses_of_other_frames(healthy: Path) -> None:
    for path in (healthy / SEQUENCE).glob("*.pose.txt"):
        path.rename(path.with_name(path.name.replace("frame-0000", "frame-0001")))
    assert {kind for kind, _ in kinds(healthy)} == {
        "frame_without_pose", "frame_without_image", "frame_without_depth", "frame_numbers_with_holes",
        "no_usable_frame",
    }  # fmt: skip


@pytest.mark.parametrize("part", ["color.jpg", "depth.pgm", "pose.txt"])
def test_empty_files_of_frames_are_told_once(part: str, healthy: Path) -> None:
    for number in (1, 3):
        (healthy / SEQUENCE / f"frame-{number:06d}.{part}").write_bytes(b"")
    finding = only(healthy)
    assert (finding.kind, finding.file) == ("empty", f"{SEQUENCE}/frame-000001.{part}")
    assert "as 2 " in finding.what


@pytest.mark.parametrize(
    ("pose", "told"),
    [("nan " * 16, "pose_not_finite"), ("2 0 0", "pose_unreadable"), (ROOM[2:] + " 1", "pose_not_rigid")],
)
def test_a_pose_that_is_none(pose: str, told: str, healthy: Path) -> None:
    for path in (healthy / SEQUENCE).glob("*.pose.txt"):
        path.write_text(pose)
    told_of = findings(healthy)
    assert {one.kind for one in told_of} == {"pose_unusable"}
    assert all(told in one.what for one in told_of)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("part", "content", "kind"),
    [
        ("color.jpg", b"<html>no such file</html>", "wrong_kind"),
        ("color.jpg", b"\xff\xd8\xff\xe0 a JPEG that stops here", "cut_off"),
        ("color.jpg", b"\xff\xd8\xff\xe0 no JPEG \xff\xd9", "damaged"),
        ("depth.pgm", b"P5\n48 36\n65535\n too short", "cut_off"),
        ("depth.pgm", b"not a picture", "damaged"),
    ],
)
def test_a_damaged_picture(part: str, content: bytes, kind: str, zipped: bool, healthy: Path) -> None:
    (healthy / SEQUENCE / f"frame-000001.{part}").write_bytes(content)
    if zipped:
        mini.zip_sequence(healthy / mini.NAME)
    finding = only(healthy)
    assert (finding.kind, finding.severity) == (kind, "error")
    assert finding.file.endswith(f"frame-000001.{part}")
    assert "fewer views" in finding.cost


def test_a_photograph_that_is_a_png_can_be_read(healthy: Path) -> None:
    path = healthy / SEQUENCE / "frame-000002.color.jpg"
    with Image.open(path) as picture:
        picture.load()
        picture.save(path, format="PNG")
    assert kinds(healthy, deep=True) == []


def test_pictures_of_another_size_than_info_says(healthy: Path) -> None:
    for path in (healthy / SEQUENCE).glob("*.color.jpg"):
        Image.new("RGB", (48, 36)).save(path)
    for path in (healthy / SEQUENCE).glob("*.depth.pgm"):
        mini.write_pgm(path, [[1000] * 24] * 18)
    told = findings(healthy)
    assert [one.kind for one in told] == ["picture_size_differs"] * 2
    assert "48 x 36 pixels, its camera is of 96 x 72" in told[0].what


@pytest.mark.parametrize("picture", ["Color", "Depth"])
def test_intrinsics_of_another_size(picture: str, healthy: Path) -> None:
    focal, centre = ("80.0", "47.5") if picture == "Color" else ("40.0", "23.5")
    info = healthy / SEQUENCE / "_info.txt"
    replace(info, f"{picture}Intrinsic = {focal} 0 {centre}", f"{picture}Intrinsic = 320 0 159.5")
    finding = only(healthy)
    assert (finding.kind, finding.file, finding.severity) == (
        "intrinsics_unlikely",
        f"{SEQUENCE}/_info.txt",
        "error",
    )


@pytest.mark.parametrize("shift", ["1", "1000000"])
def test_depth_in_another_unit(shift: str, healthy: Path) -> None:
    replace(healthy / SEQUENCE / "_info.txt", "m_depthShift = 1000", f"m_depthShift = {shift}")
    finding = only(healthy)
    assert (finding.kind, finding.severity) == ("depth_unit_unlikely", "error")


@pytest.mark.parametrize(
    ("old", "new", "kind", "told"),
    [
        ("m_colorWidth = 96", "", "damaged", "'m_colorWidth' is missing"),
        ("m_depthShift = 1000", "m_depthShift = 0", "damaged", "must be above 0"),
        ("Extrinsic = 1 0 0 0", "Extrinsic = 1 0 0 7", "reader_problem", "not the identity"),
    ],
)
def test_info_that_says_what_cannot_be(old: str, new: str, kind: str, told: str, healthy: Path) -> None:
    replace(healthy / SEQUENCE / "_info.txt", old, new)
    told_of = findings(healthy)
    assert {(one.kind, one.file) for one in told_of} == {(kind, f"{SEQUENCE}/_info.txt")}
    assert all(told in one.what for one in told_of)


def test_no_frames(healthy: Path) -> None:
    shutil.rmtree(healthy / SEQUENCE)
    assert kinds(healthy) == [("sequence_missing", SEQUENCE)]


def _too_deep(folder: Path) -> None:
    (folder / "sequence").rename(folder / "inner")
    (folder / "sequence").mkdir()
    (folder / "inner").rename(folder / "sequence/sequence")


def _partly_unpacked(folder: Path) -> None:
    with zipfile.ZipFile(folder / "sequence.zip", "w") as archive:
        for path in (folder / "sequence").iterdir():
            archive.write(path, path.name)
    for path in (folder / "sequence").glob("frame-000003.*"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "kind", "file"),
    [
        (_too_deep, "sequence_too_deep", f"{SEQUENCE}/sequence"),
        (_partly_unpacked, "sequence_partly_unpacked", SEQUENCE),
    ],
)
def test_a_sequence_unpacked_in_a_wrong_way(
    spoil: Callable[[Path], None], kind: str, file: str, healthy: Path
) -> None:
    spoil(healthy / mini.NAME)
    assert (kind, file) in kinds(healthy)


def test_deep_decodes_every_picture(healthy: Path) -> None:
    path = healthy / SEQUENCE / "frame-000001.color.jpg"
    data = path.read_bytes()
    noise = np.random.default_rng(1).integers(0, 256, (72, 96, 3), np.uint8)
    Image.fromarray(noise).save(path, quality=100)  # larger than the others, and so in no sample
    whole = path.read_bytes()
    assert len(whole) > len(data)
    path.write_bytes(whole[: len(whole) // 2])
    assert kinds(healthy) == []
    assert kinds(healthy, deep=True) == [("cut_off", f"{SEQUENCE}/frame-000001.color.jpg")]


def test_files_of_frames_that_are_none(healthy: Path) -> None:
    for number in (0, 2):
        path = healthy / SEQUENCE / f"frame-00000{number}.pose.txt"
        path.unlink()
        path.symlink_to("nowhere")
    told = next(one for one in findings(healthy) if one.severity == "error")
    assert (told.kind, told.file) == ("not_a_file", f"{SEQUENCE}/frame-000000.pose.txt")
    assert "as 2 files of frames are" in told.what


def test_deep_tells_of_frames_that_look_elsewhere(healthy: Path) -> None:
    for path in (healthy / SEQUENCE).glob("*.pose.txt"):
        path.write_text("1 0 0 500\n0 1 0 500\n0 0 1 500\n0 0 0 1\n")
    finding = only(healthy, deep=True)
    assert (finding.kind, finding.severity) == ("depth_disagrees", "error")


def test_deep_tells_of_a_camera_whose_y_goes_up(healthy: Path) -> None:
    shutil.rmtree(healthy / SEQUENCE)
    mini.write_sequence(healthy / mini.NAME, y_up=True)
    finding = only(healthy, deep=True)
    assert (finding.kind, finding.severity) == ("camera_axes_differ", "error")
    assert kinds(healthy, deep=True, camera_axes="y-up") == []


def test_deep_tells_of_a_unit_that_the_quick_look_takes_for_true(healthy: Path) -> None:
    replace(healthy / SEQUENCE / "_info.txt", "m_depthShift = 1000", "m_depthShift = 2000")
    assert kinds(healthy) == []
    finding = only(healthy, deep=True)
    assert (finding.kind, finding.severity) == ("depth_unit_unlikely", "error")
    assert "is 0.5" in finding.what


def test_deep_reads_as_ingest_will(healthy: Path) -> None:
    path = healthy / mini.NAME / "mesh.refined.v2.obj"
    replace(path, "f 1/1/1 2/2/2 3/3/3", "f 1/1/1 2/2/2 9999/3/3")
    assert kinds(healthy) == []
    finding = only(healthy, deep=True)
    assert (finding.kind, finding.severity) == ("scan_unreadable", "error")
    assert "mesh.refined.v2.obj" in finding.what
    edited = healthy / mini.NAME / "labels.instances.annotated.v2.ply"
    replace(path, "9999/3/3", "3/3/3")
    text = edited.read_text().replace(" 255 0 255 4 \n", " 255 0 255 5 \n")
    edited.write_text(text)
    told = findings(healthy, deep=True)
    assert {(one.kind, one.severity) for one in told} == {("reader_problem", "warning")}
    assert any("label_missing" in one.what for one in told)
