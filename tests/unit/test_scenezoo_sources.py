"""What is known of scenezoo's datasets without it: names, folders of scans, and what is refused at once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from open3dsg.cli.ingest_scenezoo import ingest_scenezoo
from open3dsg.datasets import scenezoo_package
from open3dsg.datasets.scenezoo import SceneZoo
from open3dsg.datasets.scenezoo_sources import SOURCES, Place, Source, find_source
from open3dsg.errors import UserError

# Of each dataset: what lies in a root, and the scans that are in it.
ROOTS = {
    "scannetppv2": (["data/b/scans", "data/a/dslr", "data/c/other", "splits"], ["a", "b"]),
    "arkitscenes": (
        ["raw/Training/1/lowres_wide", "raw/Validation/2/lowres_wide", "Training/3/lowres_wide"],
        ["1", "2"],
    ),
    "matterport3d": (["v1/scans/x/house_segmentations", "v1/tasks"], ["x"]),
    "multiscan": (["scene_1/scene_1.ply", "other/scene_1.ply"], ["scene_1"]),
    "s3dis": (
        ["Area_1/office_1/Annotations", "Area_1/office_2", "Area_7/x/Annotations"],
        ["Area_1.office_1"],
    ),
    "scenenn": (["016/016.xml", "017/016.xml"], ["016"]),
    "structured3d": (["scene_00007/2D_rendering/12/panorama", "scene_00007/x"], ["scene_00007.12"]),
    "3dfront": (["3D-FRONT/h.json", "3D-FUTURE-model"], ["h"]),
}


def test_a_dataset_that_is_none_is_answered_by_those_there_are() -> None:
    with pytest.raises(
        UserError, match=r"no dataset 'scanet': give scannetppv2, arkitscenes, matterport3d, "
    ):
        find_source("scanet")
    with pytest.raises(UserError, match=r"ScanNet has a reader of its own: open3dsg ingest scannet ROOT"):
        find_source("ScanNet")


def test_the_help_names_them_all() -> None:
    told = ingest_scenezoo.help or ""
    assert [source.name for source in SOURCES if source.name not in told] == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_folders_of_scans(tmp_path: Path, source: Source) -> None:
    files, expected = ROOTS[source.name]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        if Path(file).suffix:
            (tmp_path / file).touch()
        else:
            (tmp_path / file).mkdir()
    found = source.places(tmp_path)
    assert [place.name for place in found] == expected
    assert all(place.path.exists() for place in found)
    assert source.places(tmp_path / "absent") == []


def test_a_room_is_named_by_its_scene() -> None:
    (source,) = (source for source in SOURCES if source.name == "structured3d")
    path = Path("data/scene_00000/2D_rendering/485142")
    assert source.identify(path) == Place("scene_00000.485142", "scene_00000", "485142", path)


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenezoo_package, "VERSION", "9.9")
    with pytest.raises(UserError, match=r"scenezoo 0\.3\.1 is installed, and 9\.9 is needed: pip install"):
        SceneZoo(tmp_path, "s3dis")


def test_folders_that_are_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent: no such folder"):
        SceneZoo(tmp_path / "absent", "s3dis")
    with pytest.raises(UserError, match=r"absent: no such folder"):
        SceneZoo(tmp_path, "matterport3d", tmp_path / "absent")
    for name in ("scannetppv2", "s3dis", "scenenn", "3dfront"):
        with pytest.raises(UserError, match=f"--metadata: {name} has no lists or tables beside its ROOT"):
            SceneZoo(tmp_path, name, tmp_path)


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scenezoo", None)
    with pytest.raises(UserError, match=r"needs the package scenezoo: pip install .*--no-deps scenezoo=="):
        SceneZoo(tmp_path, "s3dis")
