"""The files of Open3DSG: found by their names, read in order, refused where they are not what they say."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from open3dsg.datasets.featurefolder import OBJECTS, RELATIONS, Settings, find_features, names_in, read_tensor
from open3dsg.datasets.graphfolder import find_graphs, graphs_of, read_rows
from open3dsg.errors import BadFileError, UserError
from tests import open3dsg_files as published

SCANS = ("scene0000_00", "7272e16c-a01b-20f6-8961-a0927b4a7629")


def test_subgraphs_are_found_and_read_in_their_order(tmp_path: Path) -> None:
    pairs = [(7, 2), (2, 7), (4, 2)]
    for scan in SCANS:
        for digit in "1a0":
            published.write_graph(tmp_path, f"{scan}-{digit}", [7, 2, 4], pairs)
    (tmp_path / SCANS[0] / "data_dict_10.pkl").write_bytes(b"no such name")
    found = find_graphs(tmp_path)
    assert [graph.name for scan in found for graph in found[scan]] == [
        f"{scan}-{digit}" for scan in sorted(SCANS) for digit in "01a"
    ]
    assert graphs_of(tmp_path, SCANS[1]) == found[SCANS[1]]
    assert graphs_of(tmp_path, "another") == []
    rows = read_rows(found[SCANS[0]][0])
    assert (rows.objects, rows.pairs) == ([7, 2, 4], pairs)


def changed(**values: Any) -> dict[str, Any]:
    return published.data_dict("scan-0", [1, 2, 3]) | values


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1], "is no data_dict of Open3DSG"),
        ({"scan_id": "scan-0"}, "is no data_dict of Open3DSG: scan_id, objects_id or pairs are missing"),
        (changed(scan_id="scan-1"), "is of the subgraph 'scan-1', not 'scan-0'"),
        (changed(objects_id=[1, 2, 1]), "objects_id names an object twice"),
        (changed(objects_id=[1.5]), "1.5 is no object number"),
        (changed(objects_id="123"), "objects_id and pairs are lists"),
        (changed(pairs=[[1, 9]]), "pairs name the object 9, which objects_id does not"),
        (changed(pairs=[[1, 1]]), r"\[1, 1\] is no pair of objects"),
        (changed(pairs=[[1, 2, 3]]), r"\[1, 2, 3\] is no pair of objects"),
    ],
)
def test_a_subgraph_that_is_none_is_refused(content: Any, told: str, tmp_path: Path) -> None:
    published.write_graph(tmp_path, "scan-0", [1, 2, 3]).write_bytes(pickle.dumps(content))
    (graph,) = graphs_of(tmp_path, "scan")
    with pytest.raises(BadFileError, match=rf"data_dict_0\.pkl: {told}"):
        read_rows(graph)


def test_numbers_may_be_numpys_own(tmp_path: Path) -> None:
    import numpy as np

    content = changed(objects_id=np.array([1, 2, 3]), pairs=np.array([[1, 2], [3, 1]]))
    published.write_graph(tmp_path, "scan-0", [1, 2, 3]).write_bytes(pickle.dumps(content))
    rows = read_rows(*graphs_of(tmp_path, "scan"))
    assert (rows.objects, rows.pairs) == ([1, 2, 3], [(1, 2), (3, 1)])


def test_a_folder_of_no_subgraphs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent: no such folder; --graphs names that of SCAN/data_dict_H"):
        find_graphs(tmp_path / "absent")
    with pytest.raises(UserError, match=r"holds no SCAN/data_dict_H\.pkl"):
        find_graphs(tmp_path)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (published.OBJECTS, Settings("OpenSeg", 5, 3, 0.3 - 0.1, 0.2 - 0.1)),
        (f"{OBJECTS}ViT-L-14@336px_Topk_3_scales_2_vis_crit_0.3_vis_crit_mask_0.2",
         Settings("ViT-L-14@336px", 3, 2, 0.3, 0.2)),
        (f"{OBJECTS}OpenSeg", Settings("OpenSeg")),
    ],
)  # fmt: skip
def test_the_name_of_a_folder_tells_how_it_was_made(name: str, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    found = find_features(tmp_path)
    assert (found.objects, found.valids, found.relations) == (tmp_path / name, None, None)
    assert found.settings(OBJECTS) == settings
    assert settings.folder(OBJECTS) == name


def test_the_folders_stand_in_the_order_that_the_published_loader_takes_them_for(tmp_path: Path) -> None:
    settings = Settings("BLIP", 5, 3, 0.2, 0.1)
    assert settings.folder(RELATIONS) == "export_rel_clip_emb_clip_BLIP_Topk_5_scales_3_vis_crit_0.2"
    names = [settings.folder(OBJECTS), published.VALIDS, settings.folder(RELATIONS)]
    assert names == sorted(names)


def test_folders_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        find_features(tmp_path / "absent")
    with pytest.raises(UserError, match=r"holds neither export_obj_.* nor export_rel_"):
        find_features(tmp_path)
    for model in ("OpenSeg", "BLIP"):
        (tmp_path / f"{RELATIONS}{model}").mkdir()
    with pytest.raises(UserError, match=r"clip_BLIP and export_rel_clip_emb_clip_OpenSeg: put each set"):
        find_features(tmp_path)


class Runs:
    def __init__(self, done: Path) -> None:
        self.done = done

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (str(self.done),)


def test_tensors_are_read_and_nothing_else(tmp_path: Path) -> None:
    import torch

    tensor = torch.arange(6.0).reshape(2, 3).bfloat16()
    path = tmp_path / "a-0.pt"
    for zipped in (True, False):
        torch.save(tensor, path, _use_new_zipfile_serialization=zipped)
        assert torch.equal(read_tensor(path), tensor)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(BadFileError, match=r"a-0\.pt: .*copy it or make it again"):
            read_tensor(path)
    assert names_in(tmp_path) == ["a-0"]
    torch.save([tensor], path)
    with pytest.raises(BadFileError, match="holds a list, not a tensor"):
        read_tensor(path)
    torch.save(Runs(tmp_path / "done"), path)
    with pytest.raises(BadFileError, match=r"a-0\.pt: would run (posix|nt)\.mkdir, which is refused"):
        read_tensor(path)
    assert not (tmp_path / "done").exists()
    path.write_bytes(b"")
    with pytest.raises(BadFileError, match="is no whole"):
        read_tensor(path)
    path.unlink()
    with pytest.raises(BadFileError, match="No such file"):
        read_tensor(path)


def test_large_files_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr("open3dsg.datasets.featurefolder._LARGE_BYTES", 100)
    tensor = torch.arange(600.0)
    for zipped in (True, False):
        torch.save(tensor, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        assert torch.equal(read_tensor(tmp_path / "a.pt"), tensor)
