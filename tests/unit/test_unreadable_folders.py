"""Folders that may not be looked into: told in one line by the reader of either layout, never a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from open3dsg.datasets.layouts import Reader
from open3dsg.datasets.scannet import ScanNet
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.errors import BadFileError
from tests import miniature as mini
from tests import scannet_miniature as scannet


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Give a function that shuts a folder below `tmp_path`; the test goes on as a user who is not root."""
    folders: list[Path] = []
    user = os.geteuid()

    def shut(folder: Path) -> None:
        folders.append(folder)
        folder.chmod(0)
        if user == 0:
            for parent in {tmp_path, *tmp_path.parents[:-2]} - {folder}:
                parent.chmod(parent.stat().st_mode | 0o55)
            os.seteuid(65534)

    yield shut
    os.seteuid(user)
    for folder in folders:
        folder.chmod(0o755)


def read_listed(reader: Reader, name: str) -> None:
    assert name in reader.scan_names(None)
    reader.read(name)


@pytest.mark.parametrize(
    ("folder", "named"),
    [
        ("scans", "scans"),
        (f"scans/{scannet.NAME}", f"{scannet.NAME}.txt"),
        ("scannet_2d", f"{scannet.NAME}/color"),
        (f"scannet_2d/{scannet.NAME}/color", f"{scannet.NAME}/color"),
    ],
)
def test_scannet(tmp_path: Path, shut: Callable[[Path], None], folder: str, named: str) -> None:
    scannet.write_scan(tmp_path)
    shut(tmp_path / folder)
    reader = ScanNet(tmp_path)
    with pytest.raises(BadFileError, match=f"{named}: cannot be read: Permission denied"):
        read_listed(reader, scannet.NAME)


@pytest.mark.parametrize("folder", [".", mini.NAME, f"{mini.NAME}/sequence"])
def test_3rscan(tmp_path: Path, shut: Callable[[Path], None], folder: str) -> None:
    mini.write_scan(tmp_path)
    shut(tmp_path / folder)
    reader = ThreeRScan(tmp_path)
    with pytest.raises(BadFileError, match=r"cannot be read: Permission denied"):
        read_listed(reader, mini.NAME)


@pytest.mark.parametrize("layout", ["scannet", "3rscan"])
def test_one_shut_folder_of_a_disk_is_not_in_the_way_of_the_scans(
    tmp_path: Path, shut: Callable[[Path], None], layout: str
) -> None:
    name = scannet.NAME if layout == "scannet" else mini.NAME
    if layout == "scannet":
        scannet.write_scan(tmp_path)
    else:
        mini.write_scan(tmp_path)
    (tmp_path / "lost+found").mkdir()
    shut(tmp_path / "lost+found")
    reader: Reader = ScanNet(tmp_path) if layout == "scannet" else ThreeRScan(tmp_path)
    assert sorted(reader.scan_names(None)) == sorted([name, "lost+found"])
    assert reader.read(name).cloud is not None
    with pytest.raises(BadFileError, match=r"lost\+found.*cannot be read: Permission denied"):
        reader.read("lost+found")
