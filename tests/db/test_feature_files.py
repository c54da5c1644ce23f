"""Features as the files of Open3DSG: out of one database, into another, and as published code wrote them."""

from __future__ import annotations

import itertools
import os
import pickle
import re
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pgvector import HalfVector

from open3dsg.datasets.graphfolder import graphs_of
from open3dsg.db.terms import add_vocabulary
from open3dsg.encoders.tokens import TokenFormat, pack_tokens
from open3dsg.errors import BadFileError, UserError
from open3dsg.export.features import Exported, FeatureExport
from open3dsg.query.nodes import search_nodes
from open3dsg.steps.feature_import import ImportFeatures, ImportOptions
from open3dsg.steps.status import scan_statuses
from open3dsg.steps.summary import Summary
from open3dsg.store.encoders import StoredEncoder, add_revision, find_encoder, query_vector
from open3dsg.store.pair_features import PairFeature, read_pair_tokens, write_pair_features
from open3dsg.store.scans import find_scan
from tests import miniature as mini
from tests import open3dsg_files as published
from tests import toy_encoder
from tests.db.pipeline import KEY, Database, ingest, observe, rows

Array = NDArray[np.float32]
HALF, BFLOAT = 2.0**-11, 2.0**-8


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    """Two subgraphs of the miniature, with instances 2 and 4 in both; (2, 7) comes in one direction only."""
    folder = tmp_path / "preprocessed"
    published.write_graph(folder, f"{mini.NAME}-0", [4, 1, 2])
    published.write_graph(folder, f"{mini.NAME}-1", [7, 4, 2], [(7, 4), (4, 7), (2, 7), (2, 4), (4, 2)])
    return folder


OBJECTS = {"0": [4, 1, 2], "1": [7, 4, 2]}
PAIRS = {
    "0": list(itertools.permutations([4, 1, 2], 2)),
    "1": [(7, 4), (4, 7), (2, 7), (2, 4), (4, 2)],
}


@pytest.fixture
def scanned(database: Database, root: Path, encoders: None) -> Database:
    ingest(root)(database, mini.NAME)
    return database


def random_rows(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) + np.float32(0.3)


def unit(vector: Array) -> Array:
    scaled: Array = vector / np.linalg.norm(vector)
    return scaled


def stored_nodes(database: Database, encoder: StoredEncoder) -> dict[int, Array]:
    found = rows(
        database, f"SELECT instance_no, embedding FROM node_feature WHERE encoder_id = {encoder.encoder_id}"
    )
    return {number: embedding.to_numpy().astype(np.float32) for number, embedding in found}


def stored_pairs(database: Database, encoder: StoredEncoder) -> dict[tuple[int, int], Array]:
    scan_id = find_scan(database, KEY).scan_id
    return {(a, b): tokens for a, b, tokens in read_pair_tokens(database, scan_id, encoder)}


def pooled(database: Database, encoder: StoredEncoder) -> dict[tuple[int, int], Array]:
    found = rows(
        database,
        f"SELECT instance_a, instance_b, embedding FROM pair_feature WHERE encoder_id = {encoder.encoder_id}",
    )
    return {(a, b): embedding.to_numpy().astype(np.float32) for a, b, embedding in found}


def write_store(database: Database, form: TokenFormat) -> tuple[StoredEncoder, StoredEncoder]:
    """Features of instances 1, 2 and 4, and of the pairs of 2 with 1 and with 4."""
    scan_id = find_scan(database, KEY).scan_id
    seen = add_revision(database, "toy", "r", dimension=4, views="crops", tokens=None, options={})
    spoken = add_revision(database, "toytokens", "r", dimension=6, views="tokens", tokens=17, options={})
    for number, vector in zip((1, 2, 4), random_rows(1, 3, 4), strict=True):
        database.execute(
            "INSERT INTO node_feature VALUES (%s, %s, %s, %s, '{0}', '{0,0,1,1}', '{1}')",
            [scan_id, seen.encoder_id, number, HalfVector(unit(vector))],
        )
    features = [
        PairFeature(
            a, b, unit(tokens.mean(axis=0)), [0], np.array([[0, 0, 1, 1]]), [1.0], pack_tokens(tokens, form)
        )
        for (a, b), tokens in zip(((1, 2), (2, 4)), random_rows(2, 2, 17, 6), strict=True)
    ]
    write_pair_features(database, scan_id, spoken.encoder_id, features)
    return seen, spoken


def export(
    database: Database, out: Path, graphs: Path, *encoders: StoredEncoder | None, force: bool = False
) -> Exported:
    done = Exported()
    exporting = FeatureExport(database, out, *encoders, force=force)
    exporting.write_scan(find_scan(database, KEY), graphs_of(graphs, mini.NAME), done)
    return done


def bring(folder: Path, graphs: Path, **options: Any) -> ImportFeatures:
    told = {"encoder": "toy", "pair_encoder": "toytokens"} | options
    flags = {flag: told.pop(flag) for flag in ("force", "replace") if flag in told}
    return ImportFeatures(ImportOptions(folder, graphs, **told), **flags)


def kinds(summary: Summary) -> list[str]:
    return sorted(problem.kind for problem in summary.problems)


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


def write_published(folder: Path) -> tuple[dict[int, Array], dict[tuple[int, int], Array]]:
    """Files as --dump_features writes them: rows of any length; instance 7 and the pair (2, 7) are absent."""
    nodes = dict(zip((1, 2, 4), 5 * random_rows(3, 3, 4), strict=True))
    tokens = dict(zip(((1, 2), (1, 4), (2, 4), (4, 7)), 3 * random_rows(4, 4, 17, 6), strict=True))
    for digit in "01":
        name = f"{mini.NAME}-{digit}"
        of_objects = [nodes.get(number, np.full(4, np.nan, np.float32)) for number in OBJECTS[digit]]
        published.write_objects(folder, name, torch.from_numpy(np.stack(of_objects)))
        absent = np.full((17, 6), np.nan, np.float32)
        of_pairs = [tokens.get((min(pair), max(pair)), absent) for pair in PAIRS[digit]]
        published.write_relations(folder, name, torch.from_numpy(np.stack(of_pairs)).bfloat16())
    return nodes, tokens


def test_published_files_become_one_row_an_instance_and_an_unordered_pair(
    scanned: Database, graphs: Path, tmp_path: Path
) -> None:
    nodes, tokens = write_published(tmp_path / "dumped")
    work = bring(tmp_path / "dumped", graphs)
    summary = work(scanned, KEY)
    assert (summary.problems, summary.skipped) == ([], False)
    assert summary.counts == {
        "object_files": 2, "nodes": 3, "nodes_absent": 1, "relation_files": 2, "pairs": 4, "pairs_absent": 1,
    }  # fmt: skip
    seen, spoken = find_encoder(scanned, "toy"), find_encoder(scanned, "toytokens")
    assert seen.revision.startswith("imported-")
    assert (seen.dimension, spoken.dimension) == (4, 6)
    for number, vector in stored_nodes(scanned, seen).items():
        np.testing.assert_allclose(vector, unit(nodes[number]), atol=HALF)
    found = stored_pairs(scanned, spoken)
    assert found.keys() == tokens.keys()
    for pair, grid in found.items():
        rounded = torch.from_numpy(tokens[pair]).bfloat16().float().numpy()
        np.testing.assert_allclose(grid, rounded, rtol=HALF)
        np.testing.assert_allclose(pooled(scanned, spoken)[pair], unit(rounded.mean(axis=0)), atol=HALF)
    assert rows(scanned, "SELECT DISTINCT frame_nos, boxes, weights FROM node_feature") == [([], [], [])]
    assert rows(scanned, "SELECT views, tokens FROM encoder ORDER BY 1") == [("crops", None), ("tokens", 17)]
    assert work(scanned, KEY).skipped
    ((told,),) = rows(scanned, "SELECT options FROM ledger WHERE step = 'features.nodes'")
    assert told["imported"]["top_k_frames"] == 5
    (status,) = scan_statuses(scanned)
    assert {name.split("@")[0]: done.state for name, done in status.features().items()} == {"toy": "done"}


def test_what_was_published_comes_out_again_as_it_went_in(
    scanned: Database, graphs: Path, tmp_path: Path
) -> None:
    write_published(tmp_path / "dumped")
    pickle.loads(pickle.dumps(bring(tmp_path / "dumped", graphs)))(scanned, KEY)
    export(scanned, tmp_path / "out", graphs, *(find_encoder(scanned, name) for name in ("toy", "toytokens")))
    names = [sorted(each.name for each in (tmp_path / folder).iterdir()) for folder in ("dumped", "out")]
    assert names[0] == names[1]
    for digit in "01":
        before, after = (
            published.read_published(tmp_path / folder, f"{mini.NAME}-{digit}")
            for folder in ("dumped", "out")
        )
        scaled = before["objects"] / before["objects"].norm(dim=-1, keepdim=True)
        torch.testing.assert_close(after["objects"], scaled, equal_nan=True, rtol=2 * HALF, atol=1e-6)
        assert torch.equal(after["valids"], before["valids"])
        torch.testing.assert_close(after["relations"], before["relations"], equal_nan=True, rtol=0, atol=0)


def test_imported_features_are_asked_in_words_of_the_installed_encoder(
    scanned: Database, graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_published(tmp_path / "dumped")
    name = f"{mini.NAME}-0"
    colours = toy_encoder.embed_colours(np.array([(0, 0, 1), (1, 0, 0), (0, 1, 0)], float))
    published.write_objects(tmp_path / "dumped", name, torch.from_numpy(colours))
    work = bring(tmp_path / "dumped", graphs, pair_encoder=None)
    work(scanned, KEY)
    add_vocabulary(scanned, "things", "class", ["red", "blue"])
    assert work.close(scanned) == ["embedded 2 terms of class lists"]
    for word, number in (("blue", 4), ("red", 1), ("green", 2)):
        ((hit, *_),) = search_nodes(scanned, [word])
        assert hit.instance == number
    assert rows(scanned, "SELECT 1 FROM v_evidence") == []
    monkeypatch.setattr(toy_encoder.Toy, "revision", "another")
    stored = find_encoder(scanned, "toy")
    assert query_vector(scanned, stored, "red").shape == (4,)  # known already
    with pytest.raises(UserError, match=r"was imported, .* of the revision 0123456789abcdef; those of the"):
        query_vector(scanned, stored, "white")
    monkeypatch.undo()


def test_a_text_side_with_files_of_its_own_needs_no_others(
    scanned: Database, graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_weights(_self: object) -> str:
        raise UserError("no checkpoint at /weights")

    write_published(tmp_path / "dumped")
    monkeypatch.setattr(toy_encoder.Toy, "revision", property(no_weights))
    monkeypatch.setattr(toy_encoder.Toy, "text_revision", "words", raising=False)
    bring(tmp_path / "dumped", graphs, pair_encoder=None)(scanned, KEY)
    search_nodes(scanned, ["red"])
    assert rows(scanned, "SELECT options ->> 'words' FROM encoder") == [("words",)]


def test_without_its_words_an_import_is_still_whole(
    scanned: Database, graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_weights(_self: object, _texts: object) -> Any:
        raise UserError("no checkpoint at /weights")

    write_published(tmp_path / "dumped")
    work = bring(tmp_path / "dumped", graphs, pair_encoder=None)
    work(scanned, KEY)
    add_vocabulary(scanned, "things", "class", ["red", "blue"])
    monkeypatch.setattr(toy_encoder.Toy, "encode_text", no_weights)
    assert work.close(scanned) == [
        "the class lists are not embedded, and no word can be asked: no checkpoint at /weights"
    ]
    (folder,) = (tmp_path / "dumped").glob("export_rel*")
    folder.rename(folder.with_name(published.VECTORS))
    for file in (tmp_path / "dumped" / published.VECTORS).iterdir():
        torch.save(torch.ones(len(PAIRS[file.stem[-1]]), 4), file)
    vectors = bring(tmp_path / "dumped", graphs, encoder=None, pair_encoder="toy")
    with pytest.raises(UserError, match="the word 'none' stands for no feature: no checkpoint at /weights"):
        vectors(scanned, KEY)


def test_what_differs_or_cannot_be_is_reported_and_left_out(
    scanned: Database, graphs: Path, tmp_path: Path
) -> None:
    dumped = tmp_path / "dumped"
    nodes, _ = write_published(dumped)
    second = f"{mini.NAME}-1"
    objects = torch.from_numpy(random_rows(7, 3, 4))  # 7, 4 and 2: 4 differs, 2 is infinite
    objects[2, 1] = torch.inf
    published.write_objects(dumped, second, objects, [False, True, True])
    relations = torch.from_numpy(random_rows(8, 5, 17, 6))
    relations[1] = relations[0]
    relations[1, 3, 3] = torch.nan  # of (4, 7)
    relations[2, 0, 0] = 1e6  # of (2, 7): beyond halves
    published.write_relations(dumped, second, relations)
    published.write_graph(graphs, f"{mini.NAME}-2", [1, 99])
    published.write_objects(dumped, f"{mini.NAME}-2", torch.from_numpy(random_rows(9, 2, 4)))
    published.write_relations(dumped, f"{mini.NAME}-2", torch.full((2, 17, 6), torch.nan))
    published.write_objects(dumped, f"{mini.NAME}-f", objects)
    published.write_graph(graphs, f"{mini.NAME}-3", [1, 2])
    summary = bring(dumped, graphs)(scanned, KEY)
    told = sorted((problem.kind, problem.detail) for problem in summary.problems)
    assert [kind for kind, _ in told] == sorted(
        [
            "feature_not_finite", "feature_not_finite", "features_without_graph", "graph_without_features",
            "graph_without_features", "instance_differs", "instance_differs", "instance_missing",
            "instance_missing", "pair_differs", "pair_differs", "tokens_unusable", "valids_disagree",
        ]
    ), told  # fmt: skip
    seen, spoken = find_encoder(scanned, "toy"), find_encoder(scanned, "toytokens")
    found = stored_nodes(scanned, seen)
    assert found.keys() == {1, 2, 4}
    for number, vector in found.items():
        np.testing.assert_allclose(vector, unit(nodes[number]), atol=HALF)
    pairs = stored_pairs(scanned, spoken)
    assert pairs.keys() == {(1, 2), (1, 4), (2, 4), (4, 7)}
    np.testing.assert_allclose(pairs[4, 7], relations[0].numpy(), rtol=2 * HALF, atol=1e-6)


def test_a_damaged_file_leaves_the_scan_as_it_was(scanned: Database, graphs: Path, tmp_path: Path) -> None:
    dumped = tmp_path / "dumped"
    write_published(dumped)
    work = bring(dumped, graphs)
    (file,) = dumped.glob(f"export_rel*/{mini.NAME}-1.pt")
    whole = file.read_bytes()
    file.write_bytes(whole[:-200])
    with pytest.raises(BadFileError, match=rf"{mini.NAME}-1\.pt: .*copy it or make it again"):
        work(scanned, KEY)
    assert rows(scanned, "SELECT 1 FROM pair_feature") == rows(scanned, "SELECT 1 FROM pair_tokens") == []
    assert len(rows(scanned, "SELECT 1 FROM node_feature")) == 3
    file.write_bytes(whole)
    summary = work(scanned, KEY)
    assert (summary.skipped, summary.counts.get("nodes"), summary.counts["pairs"]) == (False, None, 4)


@pytest.mark.parametrize(
    ("rows_of", "told"),
    [
        (torch.zeros(2, 4), r"has 2 rows, .*data_dict_1\.pkl 3: give the --graphs that it was made from"),
        (torch.zeros(3, 4, dtype=torch.int64), r"holds \(3, 4\) torch\.int64, not a vector of floating"),
        (torch.zeros(3, 2, 4), r"holds \(3, 2, 4\) torch\.float32, not a vector of floating"),
        (torch.zeros(3, 5), r"its rows are \(5,\), those of .*-0\.pt \(4,\): these are of two encoders"),
    ],
)
def test_a_file_of_another_shape_is_refused(
    scanned: Database, graphs: Path, tmp_path: Path, rows_of: torch.Tensor, told: str
) -> None:
    write_published(tmp_path / "dumped")
    torch.save(rows_of, tmp_path / "dumped" / published.OBJECTS / f"{mini.NAME}-1.pt")
    with pytest.raises(BadFileError, match=rf"{mini.NAME}-1\.pt: {told}"):
        bring(tmp_path / "dumped", graphs)(scanned, KEY)
    assert rows(scanned, "SELECT 1 FROM node_feature") == []


def test_valids_are_bools_a_row(scanned: Database, graphs: Path, tmp_path: Path) -> None:
    write_published(tmp_path / "dumped")
    file = tmp_path / "dumped" / published.VALIDS / f"{mini.NAME}-0.pt"
    torch.save(torch.ones(3), file)
    with pytest.raises(BadFileError, match=r"holds \(3,\) torch\.float32, not a bool a row"):
        bring(tmp_path / "dumped", graphs)(scanned, KEY)
    file.unlink()
    with pytest.raises(BadFileError, match=r"-0\.pt: cannot be read"):
        bring(tmp_path / "dumped", graphs)(scanned, KEY)


def test_what_has_to_be_imported_again_is_told_as_such(
    scanned: Database, graphs: Path, tmp_path: Path
) -> None:
    observe()(scanned, KEY)
    write_published(tmp_path / "dumped")
    work = bring(tmp_path / "dumped", graphs, revision="theirs")
    work(scanned, KEY)
    again = "open3dsg features import FEATURES --graphs GRAPHS"
    for step, what, option in (
        ("features.nodes", "features", "--encoder toy"),
        ("features.pairs", "features of pairs", "--pair-encoder toytokens"),
    ):
        scanned.execute("UPDATE ledger SET stale = true WHERE step = %s", [step])
        (status,) = scan_statuses(scanned)
        assert status.missing == f"stale {what}: {again} {option} --revision theirs"
        assert not work(scanned, KEY).skipped
        assert scan_statuses(scanned)[0].missing is None


def test_files_that_came_later_are_added_and_other_options_are_not_taken_by_a_slip(
    scanned: Database, graphs: Path, tmp_path: Path
) -> None:
    dumped = tmp_path / "dumped"
    write_published(dumped)
    late = list(dumped.glob(f"*/{mini.NAME}-1.pt"))
    for file in late:
        file.rename(file.with_suffix(".later"))
    first = bring(dumped, graphs)(scanned, KEY)
    assert (first.counts["nodes"], kinds(first)) == (3, ["graph_without_features"] * 2)
    for file in late:
        file.with_suffix(".later").rename(file)
    assert bring(dumped, graphs)(scanned, KEY).counts["pairs"] == 4
    pooled_only = {"form": TokenFormat("pooled"), "encoder": None}
    with pytest.raises(UserError, match=r"features.pairs was done with other options \(token_dtype fp16"):
        bring(dumped, graphs, **pooled_only)(scanned, KEY)
    assert bring(dumped, graphs, **pooled_only, replace=True)(scanned, KEY).counts["pairs"] == 4
    assert rows(scanned, "SELECT 1 FROM pair_tokens") == []
    assert len(rows(scanned, "SELECT 1 FROM pair_feature")) == 4
    assert bring(dumped, graphs, **pooled_only)(scanned, KEY).skipped
    assert not bring(dumped, graphs, **pooled_only, force=True)(scanned, KEY).skipped


def test_vectors_of_other_length_than_the_store_has_are_refused(
    scanned: Database, graphs: Path, tmp_path: Path
) -> None:
    write_published(tmp_path / "dumped")
    add_revision(scanned, "toy", "mine", dimension=8, views="crops", tokens=None, options={})
    with pytest.raises(
        UserError, match="has 4 numbers an embedding, toy@mine in the store has 8: give another"
    ):
        bring(tmp_path / "dumped", graphs, revision="mine")(scanned, KEY)


def test_options_that_name_nothing_are_refused(tmp_path: Path, encoders: None) -> None:
    with pytest.raises(UserError, match="nothing to import: say --encoder"):
        ImportOptions(tmp_path, tmp_path)
    with pytest.raises(UserError, match="--revision is 'a b': letters"):
        ImportOptions(tmp_path, tmp_path, "toy", revision="a b")
    (tmp_path / published.TOKENS).mkdir()
    with pytest.raises(
        UserError, match=r"lacks export_obj_.* or export_obj_clip_valids: leave --encoder out"
    ):
        bring(tmp_path, tmp_path).sources()
    for folder in (published.OBJECTS, published.VALIDS):
        (tmp_path / folder).mkdir()
    with pytest.raises(UserError, match="the encoder toytokens does not embed instances"):
        bring(tmp_path, tmp_path, encoder="toytokens").sources()
    with pytest.raises(UserError, match="no encoder is called 'toi'"):
        bring(tmp_path, tmp_path, encoder="toi").sources()
