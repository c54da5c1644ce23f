from __future__ import annotations

from pathlib import Path

import pytest

from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.errors import BadFileError
from tests import miniature as mini
from tests.miniature import NAME
from tests.scans import check_clean, kinds, replace


@pytest.mark.parametrize(
    ("pose", "kind"),
    [
        ("nan nan nan nan\n" * 3 + "0 0 0 1\n", "pose_not_finite"),
        ("1 0 0 -inf\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "pose_not_finite"),
        ("2 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "pose_not_rigid"),
        ("1 0 0 0\n0 1 0 0\n0 0 -1 0\n0 0 0 1\n", "pose_not_rigid"),
        ("1 0 0 0\n0 1 0 0\n", "pose_unreadable"),
        ("", "pose_unreadable"),
        ("tracking lost", "pose_unreadable"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_bad_pose_costs_its_frame(pose: str, kind: str, zipped: bool, folder: Path, root: Path) -> None:
    (folder / "sequence/frame-000001.pose.txt").write_text(pose)
    if zipped:
        mini.zip_sequence(folder)
    scan = ThreeRScan(root).read(NAME)
    assert kinds(scan) == [kind]
    assert f"{NAME}, frame 000001" in scan.problems[0].detail
    assert [frame.number for frame in scan.frames] == [0, 2, 3]


@pytest.mark.parametrize(
    ("file", "expected", "numbers"),
    [
        ("depth.pgm", ["frame_without_depth"], [0, 1, 2, 3]),
        ("pose.txt", ["frame_without_pose"], [0, 1, 3]),
        ("color.jpg", ["frame_count_differs", "frame_without_image"], [0, 1, 3]),
    ],
)
def test_a_missing_file_of_a_frame(
    file: str, expected: list[str], numbers: list[int], folder: Path, root: Path
) -> None:
    (folder / f"sequence/frame-000002.{file}").unlink()
    scan = ThreeRScan(root).read(NAME)
    assert kinds(scan) == expected
    assert [frame.number for frame in scan.frames] == numbers
    without_depth = [frame.number for frame in scan.frames if frame.depth_uri is None]
    assert without_depth == ([2] if file == "depth.pgm" else [])
    assert all((frame.depth is None) == (frame.depth_uri is None) for frame in scan.frames)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("m_colorWidth = 96", "", "'m_colorWidth' is missing"),
        ("m_colorWidth = 96", "m_colorWidth = wide", "'m_colorWidth' must be 1 finite numbers, is 'wide'"),
        ("m_colorWidth = 96", "m_colorWidth = 2147483648", "a picture may have at most 2147483647 pixels"),
        ("m_depthShift = 1000", "m_depthShift = 0", "'m_depthShift' is 0"),
        ("m_depthHeight = 36", "m_depthHeight = -36", "depth picture must be above 0"),
        ("m_calibrationDepthIntrinsic = 40.0 0", "m_calibrationDepthIntrinsic = 40.0", "must be 16 finite"),
        ("m_calibrationColorIntrinsic = 80.0", "m_calibrationColorIntrinsic = nan", "must be 16 finite"),
    ],
)
def test_damaged_info_is_told(old: str, new: str, message: str, folder: Path, root: Path) -> None:
    replace(folder / "sequence/_info.txt", old, new)
    with pytest.raises(BadFileError, match=message) as error:
        ThreeRScan(root).read(NAME)
    assert f"{NAME}/sequence/_info.txt" in str(error.value)


def test_info_is_read_by_key(folder: Path, root: Path) -> None:
    info = folder / "sequence/_info.txt"
    info.write_text("\n".join(reversed(info.read_text().splitlines())))
    check_clean(ThreeRScan(root).read(NAME))


def test_info_against_the_files(folder: Path, root: Path) -> None:
    replace(folder / "sequence/_info.txt", "m_frames.size = 4", "m_frames.size = 400")
    replace(folder / "sequence/_info.txt", "DepthExtrinsic = 1 0 0 0", "DepthExtrinsic = 1 0 0 0.05")
    assert kinds(ThreeRScan(root).read(NAME)) == ["extrinsic_not_identity", "frame_count_differs"]


def test_info_missing(folder: Path, root: Path) -> None:
    (folder / "sequence/_info.txt").unlink()
    with pytest.raises(BadFileError, match=r"holds no _info\.txt"):
        ThreeRScan(root).read(NAME)


def test_truncated_zip(folder: Path, root: Path) -> None:
    mini.zip_sequence(folder)
    path = folder / "sequence.zip"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadFileError, match="no zip file, or cut off"):
        ThreeRScan(root).read(NAME)
