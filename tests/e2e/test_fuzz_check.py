"""The preflight on spoiled files: findings of one line, never a crash; without an error all can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.layouts import open_reader
from tests import miniature as mini
from tests import scannet_miniature as scannet
from tests.checks import check, write_healthy
from tests.e2e.test_fuzz_readers import FUZZ, bounded, files_of, spoil
from tests.mutations import mutations

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["3rscan", "zip", "scannet", "sens"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, str]:
    """Layout, root and scan."""
    root = tmp_path_factory.mktemp(request.param)
    if request.param in ("3rscan", "zip"):
        write_healthy(root)
        if request.param == "zip":
            mini.zip_sequence(root / mini.NAME)
        return "3rscan", root, mini.NAME
    sens = request.param == "sens"
    scannet.write_scan(root, frames=None if sens else "scannet_2d", sens=sens)
    scannet.write_metadata(root)
    (root / "scannet200_classes.txt").unlink()
    return "scannet", root, scannet.NAME


@FUZZ
@given(data=st.data())
def test_spoiled_files(data: Any, place: tuple[str, Path, str]) -> None:
    layout, root, scan = place
    path = root / data.draw(st.sampled_from(files_of(root)))
    whole = spoil(path, data.draw(mutations()))
    try:
        with bounded():
            quick, deep = check(root, layout), check(root, layout, deep=True)
        for finding in (*quick.findings, *deep.findings):
            assert "\n" not in str(finding)
            assert len(str(finding)) < 1500
        if deep.is_ready:
            _read_all(layout, root, scan)
    finally:
        path.write_bytes(whole)


def _read_all(layout: str, root: Path, scan: str) -> None:
    with ImageReader(root) as images:
        for frame in open_reader(layout, root, {}).read(scan).frames:
            images.read_image(frame.image_uri)
            if frame.depth_uri is not None:
                images.read_depth_m(frame.depth_uri, frame.depth_unit_m)
