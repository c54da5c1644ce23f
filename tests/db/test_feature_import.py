"""Features out of the files of Open3DSG, as published code wrote them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from open3dsg.db.terms import add_vocabulary
from open3dsg.encoders.tokens import TokenFormat
from open3dsg.errors import BadFileError, UserError
from open3dsg.query.nodes import search_nodes
from open3dsg.steps.feature_import import ImportOptions
from open3dsg.steps.status import scan_statuses
from open3dsg.store.encoders import add_revision, find_encoder, query_vector
from tests import miniature as mini
from tests import open3dsg_files as published
from tests import toy_encoder
from tests.db.feature_files import (
    HALF,
    PAIRS,
    bring,
    export,
    kinds,
    pooled,
    random_rows,
    stored_nodes,
    stored_pairs,
    unit,
    write_published,
)
from tests.db.pipeline import KEY, Database, observe, rows


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
