"""The preflight on a ScanNet folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import scannet_miniature as scannet
from tests.checks import check, findings, kinds, only, tree_hash
from tests.scannet_miniature import NAME, TEST, VALIDATION
from tests.scans import replace

SCAN = f"scans/{NAME}"
FRAMES = f"scannet_2d/{NAME}"
CLASSES = "scannet200_classes.txt"


@pytest.fixture(scope="session")
def scannet_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scannet")
    scannet.write_scan(root)
    scannet.write_scan(root, TEST, parent="scans_test", annotated=False)
    scannet.write_metadata(root)
    (root / "scannetv2_val.txt").write_text("")
    (root / CLASSES).unlink()  # the miniature's has not 200
    return root


@pytest.fixture
def healthy(scannet_template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scannet_template, tmp_path / "räume", copy_function=shutil.copyfile))


def test_a_healthy_folder_has_no_finding_and_is_left_as_it_is(healthy: Path) -> None:
    before = tree_hash(healthy)
    checked = check(healthy, "scannet", deep=True)
    assert [str(finding) for finding in checked.findings] == []
    facts = checked.facts[NAME]
    assert (facts.points, facts.frames, facts.observed, facts.instances) == (320, 4, 4, 4)
    assert tree_hash(healthy) == before


def test_sens_files(healthy: Path) -> None:
    shutil.rmtree(healthy / "scannet_2d")
    for name, parent in ((NAME, "scans"), (TEST, "scans_test")):
        scannet.write_sens(healthy / parent / name / f"{name}.sens", scannet.STEP)
    assert kinds(healthy, "scannet") == []
    path = healthy / SCAN / f"{NAME}.sens"
    data = path.read_bytes()
    path.write_bytes(data[:100])
    assert kinds(healthy, "scannet") == [("damaged", f"{SCAN}/{NAME}.sens")]
    path.write_bytes(data[: len(data) // 2])
    (finding,) = findings(healthy, "scannet", deep=True)
    assert (finding.scan, finding.severity) == (NAME, "error")
    path.write_bytes(b"<html>")
    assert ("wrong_kind", f"{SCAN}/{NAME}.sens") in kinds(healthy, "scannet")


@pytest.mark.parametrize(
    ("ending", "severity"),
    [
        ("_vh_clean_2.ply", "error"),
        ("_vh_clean_2.0.010000.segs.json", "error"),
        (".aggregation.json", "error"),
        (".txt", "warning"),
    ],
)
def test_a_missing_file(ending: str, severity: str, healthy: Path) -> None:
    (healthy / SCAN / f"{NAME}{ending}").unlink()
    finding = only(healthy, "scannet")
    assert (finding.kind, finding.file, finding.severity) == ("missing", f"{SCAN}/{NAME}{ending}", severity)


@pytest.mark.parametrize(
    "ending",
    ["_vh_clean_2.ply", "_vh_clean_2.labels.ply", "_vh_clean_2.0.010000.segs.json", ".aggregation.json"],
)
def test_files_of_a_scan(ending: str, healthy: Path) -> None:
    path = healthy / SCAN / f"{NAME}{ending}"
    data = path.read_bytes()
    for content, kind in ((b"", "empty"), (b"PK\x03\x04", "wrong_kind"), (data[: len(data) // 3], "cut_off")):
        path.write_bytes(content)
        finding = only(healthy, "scannet")
        assert (finding.kind, finding.file, finding.severity) == (kind, f"{SCAN}/{path.name}", "error")


@pytest.mark.parametrize("ending", [".txt", "_vh_clean.aggregation.json"])
@pytest.mark.parametrize("content", [b"", b"<html>"])
def test_files_that_are_done_without(ending: str, content: bytes, healthy: Path) -> None:
    (healthy / SCAN / f"{NAME}{ending}").write_bytes(content)
    finding = only(healthy, "scannet")
    assert (finding.file, finding.severity) == (f"{SCAN}/{NAME}{ending}", "warning")
    assert "refuses" not in finding.cost
    assert check(healthy, "scannet", deep=True).is_ready


def test_the_folder_of_the_scans_in_place_of_the_root(healthy: Path) -> None:
    (told,) = [one for one in findings(healthy / "scans", "scannet") if one.kind == "root_inside_scan"]
    assert f"{healthy} was probably meant" in told.what


def test_folders_of_a_system_are_no_scans(tmp_path: Path) -> None:
    for name in ("apt", "ssl"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.conf").touch()
    assert kinds(tmp_path, "scannet") == kinds(tmp_path) == [("root_without_scans", ".")]


def test_preprocessed_points_in_place_of_meshes(tmp_path: Path) -> None:
    folder = tmp_path / "scannet_3d/train"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"scene000{number}_00_vh_clean_2.pth").write_bytes(b"PK\x03\x04")
    finding = only(tmp_path, "scannet")
    assert (finding.kind, finding.file, finding.severity) == ("wrong_kind", "scannet_3d/train", "error")
    assert "3 files" in finding.what
    assert "_vh_clean_2.ply" in finding.remedy or "vh_clean_2.ply" in finding.remedy


def test_a_pth_beside_the_scans_text(healthy: Path) -> None:
    path = healthy / SCAN / f"{NAME}_vh_clean_2.ply"
    path.rename(path.with_suffix(".pth"))
    assert kinds(healthy, "scannet") == [("wrong_kind", f"{SCAN}/{NAME}_vh_clean_2.pth")]


def test_no_frames(healthy: Path) -> None:
    shutil.rmtree(healthy / FRAMES)
    finding = only(healthy, "scannet")
    assert (finding.kind, finding.file, finding.severity) == ("sequence_missing", FRAMES, "error")


@pytest.mark.parametrize("spoil", [lambda path: path.mkdir(), lambda path: path.symlink_to("nowhere")])
def test_a_file_of_a_frame_that_is_none(spoil: Callable[[Path], None], healthy: Path) -> None:
    path = healthy / FRAMES / "pose/20.txt"
    path.unlink()
    spoil(path)
    told = [one for one in findings(healthy, "scannet") if one.severity == "error"]
    assert [(one.kind, one.file) for one in told] == [("not_a_file", f"{FRAMES}/pose/20.txt")]


def test_frames_and_metadata_in_folders_that_are_named(healthy: Path) -> None:
    (healthy / "all").mkdir()
    (healthy / "scannet_2d").rename(healthy / "all/pictures")
    (healthy / "lists").mkdir()
    for path in healthy.glob("scannetv2*"):
        path.rename(healthy / "lists" / path.name)
    named = {"frames": str(healthy / "all/pictures"), "metadata": str(healthy / "lists")}
    assert kinds(healthy, "scannet", deep=True, **named) == []
    named["frames"] = "all/pictures"
    assert kinds(healthy, "scannet", **named) == []


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("color/20.jpg", "frame_without_image"),
        ("depth/20.png", "frame_without_depth"),
        ("pose/20.txt", "frame_without_pose"),
    ],
)
def test_a_frame_without_one_of_its_files(file: str, kind: str, healthy: Path) -> None:
    (healthy / FRAMES / file).unlink()
    assert kinds(healthy, "scannet") == [(kind, FRAMES)]


def test_frames_with_holes_and_too_few(healthy: Path) -> None:
    for part in ("color/20.jpg", "depth/20.png", "pose/20.txt"):
        (healthy / FRAMES / part).unlink()
    assert ("frame_numbers_with_holes", FRAMES) in kinds(healthy, "scannet")
    replace(healthy / SCAN / f"{NAME}.txt", "numColorFrames = 61", "numColorFrames = 900")
    assert ("frame_count_differs", FRAMES) in kinds(healthy, "scannet")


@pytest.mark.parametrize(
    ("file", "spoil", "kind"),
    [
        ("color/40.jpg", lambda path: path.write_bytes(b"<html>"), "wrong_kind"),
        ("color/40.jpg", lambda path: path.write_bytes(path.read_bytes()[:300]), "cut_off"),
        ("depth/40.png", lambda path: path.write_bytes(path.read_bytes()[:50]), "cut_off"),
        ("depth/40.png", lambda path: Image.new("RGB", (48, 36)).save(path), "damaged"),
        ("pose/40.txt", lambda path: path.write_text("-inf " * 16), "pose_unusable"),
    ],
)
def test_a_damaged_file_of_a_frame(file: str, spoil: Callable[[Path], Any], kind: str, healthy: Path) -> None:
    spoil(healthy / FRAMES / file)
    assert kinds(healthy, "scannet") == [(kind, f"{FRAMES}/{file}")]


@pytest.mark.parametrize(
    ("file", "spoil", "told"),
    [
        ("color/20.jpg", lambda path: path.write_bytes(b"\0" * path.stat().st_size), "1 picture_unreadable"),
        ("color/20.jpg", lambda path: _noise(path, (640, 480)), "1 intrinsics_unlikely"),
        ("depth/20.png", lambda path: path.write_bytes(b"\0" * path.stat().st_size), "1 picture_unreadable"),
    ],
)
def test_deep_tells_of_pictures_that_the_reader_leaves_out(
    file: str, spoil: Callable[[Path], Any], told: str, healthy: Path
) -> None:
    path = healthy / FRAMES / file
    if path.suffix == ".png":  # larger than the others, and so in no sample
        _noise(path, (48, 36))
        with Image.open(path) as picture:
            picture.convert("L").save(path)
    else:
        _noise(path, (48, 36))
    spoil(path)
    assert kinds(healthy, "scannet") == []
    problems = [one for one in findings(healthy, "scannet", deep=True) if one.kind == "reader_problem"]
    assert any(one.what.startswith(told) for one in problems), [str(one) for one in problems]


def _noise(path: Path, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path, quality=100)


def test_a_scan_whose_text_has_no_alignment(healthy: Path) -> None:
    for path in (healthy / SCAN / f"{NAME}.txt", healthy / f"scans_test/{TEST}/{TEST}.txt"):
        replace(path, "axisAlignment", "axisOther")
    finding = only(healthy, "scannet", deep=True)  # scans of the test split never have one
    assert (finding.kind, finding.file, finding.severity) == ("missing", f"{SCAN}/{NAME}.txt", "warning")
    assert "axisAlignment" in finding.what


def test_a_sens_file_of_another_film(healthy: Path) -> None:
    shutil.rmtree(healthy / "scannet_2d")
    for name, parent in ((NAME, "scans"), (TEST, "scans_test")):
        scannet.write_sens(healthy / parent / name / f"{name}.sens", scannet.STEP)
    replace(healthy / SCAN / f"{NAME}.txt", "numColorFrames = 61", "numColorFrames = 900")
    finding = only(healthy, "scannet", deep=True)
    assert (finding.kind, finding.file) == ("frame_count_differs", f"{SCAN}/{NAME}.sens")


def test_one_frame_between_the_others_is_no_other_step(healthy: Path) -> None:
    for part, ending in (("color", "jpg"), ("depth", "png"), ("pose", "txt")):
        folder = healthy / FRAMES / part
        shutil.copyfile(folder / f"20.{ending}", folder / f"21.{ending}")
    replace(healthy / SCAN / f"{NAME}.txt", "numColorFrames = 61", "numColorFrames = 70")
    checked = check(healthy, "scannet")
    assert "frame_count_differs" not in [one.kind for one in checked.findings]
    assert checked.facts[NAME].observed == 5  # `observe` looks at all frames of ScanNet


def test_intrinsics_of_pictures_of_another_size(healthy: Path) -> None:
    path = healthy / "scannet_2d/intrinsics.txt"
    path.write_text("577.87 0 319.5 0\n0 577.87 239.5 0\n0 0 1 0\n0 0 0 1\n")
    told = findings(healthy, "scannet", scans=[NAME])
    assert {(one.kind, one.severity) for one in told} == {("intrinsics_unlikely", "error")}
    path.unlink()
    assert {kind for kind, _ in kinds(healthy, "scannet")} == {"missing"}
    path.write_text("no numbers")
    assert {kind for kind, _ in kinds(healthy, "scannet")} == {"damaged"}


@pytest.mark.parametrize("file", ["scannetv2_train.txt", "scannetv2-labels.combined.tsv"])
def test_metadata_that_is_missing(file: str, healthy: Path) -> None:
    (healthy / file).unlink()
    told = findings(healthy, "scannet")
    assert ("metadata_missing", file, "warning") in [(one.kind, one.file, one.severity) for one in told]
    assert all("download_scannet_meta" in one.remedy for one in told if one.kind == "metadata_missing")


def test_the_label_table_of_scannet_1(healthy: Path) -> None:
    (healthy / "scannetv2-labels.combined.tsv").rename(healthy / "scannet-labels.combined.tsv")
    finding = only(healthy, "scannet")
    assert (finding.kind, finding.severity) == ("older_version", "warning")


def test_a_label_table_that_is_none(healthy: Path) -> None:
    (healthy / "scannetv2-labels.combined.tsv").write_text("<html>")
    finding = only(healthy, "scannet")
    assert (finding.kind, finding.file) == ("wrong_kind", "scannetv2-labels.combined.tsv")


def test_a_list_of_scannet200_that_has_not_200(healthy: Path) -> None:
    (healthy / CLASSES).write_text("floor\nwall\n")
    finding = only(healthy, "scannet")
    assert (finding.kind, finding.file, finding.severity) == ("class_list_wrong", CLASSES, "error")


def test_scans_of_one_name_in_two_places(healthy: Path) -> None:
    shutil.copytree(healthy / SCAN, healthy / "scans_test" / NAME)
    told = findings(healthy, "scannet")
    assert ("scan_twice", f"scans_test/{NAME}") in [(one.kind, one.file) for one in told]


def test_scans_of_a_split_that_are_not_there(healthy: Path) -> None:
    (healthy / "scannetv2_val.txt").write_text(f"{VALIDATION}\n")
    finding = only(healthy, "scannet")
    assert (finding.kind, finding.severity) == ("scans_not_there", "warning")


@pytest.mark.parametrize("below", [SCAN, FRAMES])
def test_a_root_that_is_too_low(below: str, healthy: Path) -> None:
    kind = only(healthy / below, "scannet").kind
    assert kind in ("root_inside_scan", "root_without_scans")


def test_a_root_that_is_too_high(healthy: Path) -> None:
    finding = only(healthy.parent, "scannet")
    assert finding.kind == "root_above_scans"
    assert str(healthy) in finding.what
