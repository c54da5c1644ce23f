"""Features as the files of Open3DSG: out of one database, and into another."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from open3dsg.encoders.tokens import TokenFormat
from open3dsg.errors import UserError
from open3dsg.store.encoders import add_revision, find_encoder
from open3dsg.store.pair_features import PairFeature, write_pair_features
from open3dsg.store.scans import find_scan
from tests import miniature as mini
from tests import open3dsg_files as published
from tests import toy_encoder
from tests.db.feature_files import (
    BFLOAT,
    HALF,
    OBJECTS,
    PAIRS,
    bring,
    export,
    pooled,
    stored_nodes,
    stored_pairs,
    unit,
    write_store,
)
from tests.db.pipeline import KEY, Database, ingest


@pytest.mark.parametrize("form", [TokenFormat(), TokenFormat("grid17", "int8"), TokenFormat("pooled")])
def test_what_is_exported_and_imported_elsewhere_is_the_same(
    scanned: Database, fresh: Database, root: Path, graphs: Path, tmp_path: Path, form: TokenFormat
) -> None:
    seen, spoken = write_store(scanned, form)
    done = export(scanned, tmp_path / "out", graphs, seen, spoken)
    spread = 6 if form.layout == "pooled" else 0  # grid17 of 17 tokens is all of them
    assert done.counts == {
        "scans": 1, "subgraphs": 2, "subgraphs_there": 0, "objects": 5, "objects_absent": 1,
        "relations": 6, "relations_absent": 5, "relations_spread": spread,
    }  # fmt: skip
    assert done.problems == []
    ingest(root)(fresh, mini.NAME)
    summary = bring(tmp_path / "out", graphs, revision="back")(fresh, KEY)
    assert summary.problems == []
    assert summary.counts == {
        "object_files": 2, "nodes": 3, "nodes_absent": 1, "relation_files": 2, "pairs": 2, "pairs_absent": 3,
    }  # fmt: skip
    back, told = find_encoder(fresh, "toy@back"), find_encoder(fresh, "toytokens@back")
    nodes, again = stored_nodes(scanned, seen), stored_nodes(fresh, back)
    assert nodes.keys() == again.keys() == {1, 2, 4}
    for number, vector in nodes.items():
        np.testing.assert_allclose(again[number], vector, rtol=2 * HALF, atol=1e-6)
    grids, grids_again = stored_pairs(scanned, spoken), stored_pairs(fresh, told)
    assert grids.keys() == grids_again.keys() == {(1, 2), (2, 4)}
    for pair, tokens in grids.items():
        expected = np.repeat(tokens, 17, axis=0) if form.layout == "pooled" else tokens
        np.testing.assert_allclose(grids_again[pair], expected, rtol=BFLOAT, atol=1e-6)
    for pair, vector in pooled(scanned, spoken).items():
        np.testing.assert_allclose(pooled(fresh, told)[pair], vector, atol=BFLOAT)


def test_the_files_are_as_the_published_loader_takes_them(
    scanned: Database, graphs: Path, tmp_path: Path
) -> None:
    seen, spoken = write_store(scanned, TokenFormat())
    export(scanned, tmp_path / "out", graphs, seen, spoken)
    nodes, grids = stored_nodes(scanned, seen), stored_pairs(scanned, spoken)
    for digit in "01":
        files = published.read_published(tmp_path / "out", f"{mini.NAME}-{digit}")
        objects, relations = files["objects"], files["relations"]
        assert (objects.dtype, relations.dtype) == (torch.float32, torch.bfloat16)
        assert objects.shape == (3, 4)
        assert relations.shape == (len(PAIRS[digit]), 17, 6)
        assert files["valids"].tolist() == [number in nodes for number in OBJECTS[digit]]
        for place, number in enumerate(OBJECTS[digit]):
            expected = torch.from_numpy(nodes.get(number, np.full(4, np.nan, np.float32)))
            torch.testing.assert_close(objects[place], expected, equal_nan=True)
        for place, ends in enumerate(PAIRS[digit]):
            tokens = grids.get((min(ends), max(ends)), np.full((17, 6), np.nan, np.float32))
            expected = torch.from_numpy(tokens).bfloat16()
            torch.testing.assert_close(relations[place], expected, equal_nan=True, rtol=0, atol=0)


def load_features_disk(features: Path, data_dict: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What the loader of Open3DSG makes of a folder, with its limits of 9 objects and 72 relations."""
    folders = sorted(os.listdir(features))
    assert len(folders) == 3
    objects, valids, relations = (
        torch.load(features / folder / f"{data_dict['scan_id']}.pt") for folder in folders
    )
    padded = {
        "objects": torch.zeros(9, objects.shape[-1]),
        "valids": torch.zeros(9, dtype=torch.bool),
        "relations": torch.zeros(72, *relations.shape[-2:], dtype=relations.dtype),
    }
    for name, tensor in (("objects", objects), ("valids", valids), ("relations", relations)):
        padded[name][: len(tensor)] = tensor
    return padded


def test_the_published_loader_finds_each_object_and_pair_where_it_looks(
    scanned: Database, graphs: Path, tmp_path: Path
) -> None:
    seen, spoken = write_store(scanned, TokenFormat())
    out = tmp_path / "out"
    export(scanned, out, graphs, seen, spoken)
    subgraph = re.compile(rf"{mini.NAME}-[0-9a-f]\.pt")
    for folder in out.iterdir():
        assert [file.name for file in folder.glob("*.pt") if not subgraph.fullmatch(file.name)] == []
    vectors, grids = stored_nodes(scanned, seen), stored_pairs(scanned, spoken)
    for digit in "01":
        data_dict = published.data_dict(f"{mini.NAME}-{digit}", OBJECTS[digit], PAIRS[digit])
        loaded = load_features_disk(out, data_dict)
        for row, number in enumerate(data_dict["objects_id"]):
            assert bool(loaded["valids"][row]) == (number in vectors)
            if number in vectors:
                assert loaded["objects"][row].tolist() == vectors[number].tolist()
        for row, (subject, target) in enumerate(data_dict["edges"]):  # places among the objects
            a, b = sorted((data_dict["objects_id"][subject], data_dict["objects_id"][target]))
            is_there = not loaded["relations"][row].isnan().any()
            assert is_there == ((a, b) in grids)
            if is_there:
                np.testing.assert_allclose(loaded["relations"][row].float(), grids[a, b], rtol=BFLOAT)


def test_files_that_are_there_stay_and_those_of_others_are_refused(
    scanned: Database, graphs: Path, tmp_path: Path
) -> None:
    seen, spoken = write_store(scanned, TokenFormat())
    out = tmp_path / "out"
    export(scanned, out, graphs, seen, spoken)
    files = sorted(out.glob("*/*.pt"))
    assert len(files) == 6
    files[-1].unlink()
    files[0].write_bytes(b"mine")
    assert export(scanned, out, graphs, seen, spoken).counts["subgraphs"] == 1
    assert files[-1].exists()
    assert files[0].read_bytes() == b"mine"
    assert export(scanned, out, graphs, seen, spoken).counts["subgraphs_there"] == 2
    assert export(scanned, out, graphs, seen, spoken, force=True).counts["subgraphs"] == 2
    assert files[0].read_bytes() != b"mine"
    other = add_revision(scanned, "toy", "s", dimension=4, views="crops", tokens=None, options={})
    with pytest.raises(UserError, match="holds toy@r, not toy@s: give another folder"):
        export(scanned, out, graphs, other, None)
    with pytest.raises(UserError, match="holds export_rel_clip_emb_clip_toytokens: give another folder"):
        export(scanned, out, graphs, None, seen)
    with pytest.raises(UserError, match="toytokens@r embeds no instances: it is for --pair-encoder"):
        export(scanned, tmp_path / "b", graphs, spoken, None)
    assert not list(out.glob("*/*.part"))


def test_a_large_subgraph_is_put_together_on_the_disk(
    scanned: Database, graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, spoken = write_store(scanned, TokenFormat())
    export(scanned, tmp_path / "small", graphs, None, spoken)
    monkeypatch.setattr("open3dsg.export.features._LARGE_BYTES", 0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))  # as where the disk is full
    try:
        with pytest.raises(
            UserError, match=r"cannot take .* GiB of one subgraph's features, .*: File too large"
        ):
            export(scanned, tmp_path / "large", graphs, None, spoken)
        with pytest.raises(UserError, match=rf"{mini.NAME}-0\.pt: cannot be written: File too large"):
            export(scanned, tmp_path / "nodes", graphs, seen, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [file for file in tmp_path.glob("large/*/*") if file.suffix != ".json"]
    export(scanned, tmp_path / "large", graphs, None, spoken)
    folders = [next((tmp_path / name).iterdir()) for name in ("small", "large")]
    for digit in "01":
        small, large = (torch.load(each / f"{mini.NAME}-{digit}.pt", weights_only=True) for each in folders)
        assert large.shape == (len(PAIRS[digit]), 17, 6)
        torch.testing.assert_close(large, small, equal_nan=True, rtol=0, atol=0)
    assert sorted(file.name for file in folders[1].iterdir()) == [
        f"{mini.NAME}-0.pt", f"{mini.NAME}-1.pt", "open3dsg.json",
    ]  # fmt: skip


def test_relations_of_one_vector_are_the_word_none_where_there_is_no_feature(
    scanned: Database, fresh: Database, root: Path, graphs: Path, tmp_path: Path
) -> None:
    seen = add_revision(
        scanned, "toy", toy_encoder.Toy.revision, dimension=4, views="crops", tokens=None, options={}
    )
    vector = unit(np.array([1, -1, 2, 0], np.float32))
    feature = PairFeature(2, 4, vector, [], np.zeros((0, 4), int), [], None)
    write_pair_features(scanned, find_scan(scanned, KEY).scan_id, seen.encoder_id, [feature])
    export(scanned, tmp_path / "out", graphs, None, seen)
    (folder,) = (tmp_path / "out").iterdir()
    none = toy_encoder.Toy().encode_text(["none"])[0]
    written = torch.load(folder / f"{mini.NAME}-1.pt", weights_only=True).numpy()
    assert written.dtype == np.float32
    for row, ends in zip(written, PAIRS["1"], strict=True):
        np.testing.assert_allclose(row, vector if set(ends) == {2, 4} else none, atol=HALF)
    ingest(root)(fresh, mini.NAME)
    summary = bring(tmp_path / "out", graphs, encoder=None, pair_encoder="toy")(fresh, KEY)
    assert (summary.counts["pairs"], summary.counts["pairs_absent"]) == (1, 4)
    ((pair, again),) = pooled(fresh, find_encoder(fresh, "toy")).items()
    assert pair == (2, 4)
    np.testing.assert_allclose(again, vector, atol=2 * HALF)
