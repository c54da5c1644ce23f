"""What a run is pinned to: which units, what changes the hash, and what is refused with which way out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from open3dsg.db import ledger
from open3dsg.errors import UserError
from open3dsg.store.encoders import StoredEncoder, add_revision, find_encoder
from open3dsg.store.removal import delete_scan
from open3dsg.store.scans import find_scan
from open3dsg.store.units import unit_keys
from open3dsg.training.manifest import Manifest, check_manifest, make_manifest, manifest_from
from open3dsg.training.options import Targets
from open3dsg.training.targets import RelationTarget, find_targets, shape_of
from tests.db import trained
from tests.db.pipeline import Database, rows

LATER = datetime(2999, 1, 1, tzinfo=UTC)
ONE, TWO, LAST = (trained.key(scan) for scan in (1, 2, 3))


def targets(
    store: Database, pair_encoder: str | None = trained.CAPTIONS, kind: Targets | None = None
) -> tuple[StoredEncoder, RelationTarget]:
    return find_targets(store, trained.DATASET, trained.NODES, pair_encoder, kind)


def manifest(
    store: Database, found: tuple[StoredEncoder, RelationTarget] | None = None, **changes: Any
) -> Manifest:
    nodes, relation = found or targets(store)
    asked: dict[str, Any] = {
        "dataset": trained.DATASET,
        "train_split": "train",
        "validation_split": "validation",
        "graphs": "subgraph",
        "node_encoder": nodes,
        "relation": relation,
    }
    return make_manifest(store, **(asked | changes))


def check(store: Database, pinned: Manifest, since: datetime = LATER) -> None:
    nodes, relation = targets(store)
    check_manifest(store, pinned, node_encoder=nodes, relation=relation, since=since)


def clock(store: Database) -> datetime:
    [(now,)] = rows(store, "SELECT now()")
    return now  # type: ignore[no-any-return]


def test_the_units_of_two_splits(store: Database) -> None:
    made = manifest(store)
    assert made.as_json() == {"train": {ONE: [1, 2], TWO: [1, 2]}, "validation": {LAST: [1, 2]}}
    assert made.left_out == 0
    again = manifest_from(json.loads(json.dumps(made.as_json(), sort_keys=True)), made.digest)
    assert again == made
    check(store, again)


def test_other_choices_of_units(store: Database) -> None:
    assert manifest(store, graphs="full").as_json()["train"] == {ONE: [-1], TWO: [-1]}
    whole = manifest(store, train_split=None)
    assert list(whole.units["train"]) == unit_keys(store, dataset=trained.DATASET)
    mini = manifest(store, mini=True, validation_split="no such split")
    assert mini.units["train"] == mini.units["validation"] == manifest(store).units["train"]


def test_mini_takes_ten_units(store: Database) -> None:
    for number in range(10, 20):
        scan_id = find_scan(store, ONE).scan_id
        store.execute(
            "INSERT INTO subgraph (scan_id, subgraph_no, method) VALUES (%s, %s, '3dssg')", [scan_id, number]
        )
        store.execute(
            "INSERT INTO subgraph_member (scan_id, subgraph_no, instance_no, label_id)"
            " SELECT scan_id, %s, instance_no, label_id FROM instance WHERE scan_id = %s",
            [number, scan_id],
        )
    mini = manifest(store, mini=True)
    assert [key.subgraph_no for key in mini.units["train"]] == [1, 2, *range(10, 18)]


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE ledger SET stale = true WHERE step = 'observe' AND scan_id = {two}",
        "UPDATE ledger SET stale = true WHERE step = 'graph' AND variant = 'subgraphs' AND scan_id = {two}",
        "DELETE FROM ledger WHERE step = 'observe' AND scan_id = {two}",
        "DELETE FROM ledger WHERE step = 'graph' AND scan_id = {two}",
        "DELETE FROM observation WHERE instance_no = 4 AND scan_id = {two}",
        "UPDATE subgraph SET max_distance_m = 1e-9 WHERE scan_id = {two}",
        "DELETE FROM subgraph_member WHERE scan_id = {two} AND subgraph_no = 2 AND instance_no = 1",
        "SELECT 1",
    ],
)
def test_units_are_those_that_the_view_has_no_reason_against(store: Database, spoil: str) -> None:
    store.execute(spoil.format(two=find_scan(store, TWO).scan_id).encode())
    for full in (False, True):
        of_view = rows(
            store,
            "SELECT dataset || '/' || scan, subgraph FROM v_subgraph"
            " WHERE reason IS NULL AND visible_objects IS NOT NULL"
            f" AND (method = 'full') = {full} ORDER BY 1, 2",
        )
        assert unit_keys(store, full=full) == of_view
        made = manifest(store, train_split=None, graphs="full" if full else "subgraph")
        assert list(made.units["train"]) == of_view


def test_scans_without_features_are_left_out_and_counted(store: Database) -> None:
    store.execute("DELETE FROM node_feature WHERE scan_id = %s", [find_scan(store, TWO).scan_id])
    made = manifest(store)
    assert made.as_json()["train"] == {ONE: [1, 2]}
    assert made.left_out == 2


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            "DELETE FROM node_feature",
            "no features by toy@.*features dump --nodes --encoder toy --dataset 3rscan",
        ),
        ("DELETE FROM scan", r"no scan; it has the splits none"),
        ("UPDATE scan SET split = 'test'", r"split 'train' of dataset 3rscan has no scan; .* splits test$"),
        (
            "DELETE FROM ledger WHERE step = 'observe'",
            "is not observed: run `open3dsg observe --dataset 3rscan",
        ),
        ("DELETE FROM ledger WHERE step = 'graph'", "`open3dsg graph build --dataset 3rscan --split train`"),
        ("DELETE FROM subgraph", "`open3dsg graph build --dataset 3rscan --split train`"),
        ("DELETE FROM observation", "too few objects that a frame shows; `open3dsg graph list"),
    ],
)
def test_an_empty_split(store: Database, spoil: str, told: str) -> None:
    found = targets(store)
    store.execute(spoil.encode())
    with pytest.raises(UserError, match=told):
        manifest(store, found)


def test_a_full_graph_that_is_not_built(store: Database) -> None:
    store.execute("DELETE FROM subgraph WHERE subgraph_no = -1")
    with pytest.raises(UserError, match="graph build --full --dataset 3rscan --split train"):
        manifest(store, graphs="full")


def test_an_unknown_dataset(store: Database) -> None:
    with pytest.raises(UserError, match="no dataset 'nowhere'"):
        manifest(store, dataset="nowhere")


def test_what_is_added_elsewhere_changes_nothing(store: Database) -> None:
    pinned = manifest(store)
    store.execute("INSERT INTO scan (dataset_id, name, split) SELECT dataset_id, 'new', 'train' FROM dataset")
    new = find_scan(store, "new").scan_id
    other = add_revision(store, "other", "r", dimension=4, views="crops", tokens=None, options={})
    for step, variant in (("graph", "subgraphs"), ("features.nodes", pinned_nodes(store))):
        ledger.record(store, new, ledger.Entry(step, 1, {}, variant), {})
    one = find_scan(store, ONE).scan_id
    ledger.record(store, one, ledger.Entry("features.nodes", 1, {}, other.full_name), {})
    check(store, pinned)
    assert manifest(store).digest == pinned.digest


def pinned_nodes(store: Database) -> str:
    return find_encoder(store, trained.NODES).full_name


def test_work_that_is_done_over_is_another_manifest(store: Database) -> None:
    pinned = manifest(store)
    for step, variant in (
        ("graph", "subgraphs"),
        ("observe", ""),
        ("features.nodes", pinned_nodes(store)),
        ("features.captions", find_encoder(store, trained.CAPTIONS).full_name),
    ):
        before, since = manifest(store), clock(store)
        ledger.record(store, find_scan(store, TWO).scan_id, ledger.Entry(step, 1, {}, variant), {})
        assert manifest(store).digest != before.digest
        with pytest.raises(
            UserError, match=f"^{step} of scan {TWO}, .* was done anew since: begin a new run"
        ):
            check(store, before, since)
    with pytest.raises(UserError, match="pinned to"):
        check(store, pinned)


def test_work_that_the_run_does_not_learn_from_changes_nothing(store: Database) -> None:
    """Units of the other kind, captions beside tokens, pairs by the encoder of instances."""
    scan_id = find_scan(store, ONE).scan_id
    tokens = targets(store, trained.TOKENS)
    nodes, relation = tokens
    pinned = manifest(store, tokens)
    full = manifest(store, tokens, graphs="full")
    for step, variant in (
        ("graph", "full"),
        ("features.captions", find_encoder(store, trained.TOKENS).full_name),
        ("features.pairs", pinned_nodes(store)),
        ("annotate", ""),
    ):
        ledger.record(store, scan_id, ledger.Entry(step, 1, {}, variant), {})
    since = clock(store)
    check_manifest(store, pinned, node_encoder=nodes, relation=relation, since=since)
    with pytest.raises(UserError, match="dropped since"):
        check_manifest(store, full, node_encoder=nodes, relation=relation, since=since)


def test_classes_are_pinned_to_the_annotations(store: Database) -> None:
    classes = targets(store, None, "classes")
    pinned, since = manifest(store, classes), clock(store)
    ledger.record(store, find_scan(store, TWO).scan_id, ledger.Entry("annotate", 1, {}), {})
    with pytest.raises(UserError, match=f"^annotate of scan {TWO}, .* was done anew"):
        check_manifest(store, pinned, node_encoder=classes[0], relation=classes[1], since=since)


def test_what_is_gone_is_named(store: Database) -> None:
    pinned, since = manifest(store), clock(store)
    captions = find_encoder(store, trained.CAPTIONS).full_name
    ledger.forget(store, find_scan(store, ONE).scan_id, ["features.captions"], captions)
    with pytest.raises(
        UserError, match=rf"^features.captions of scans .* were dropped since, scan {ONE} has none: begin"
    ):
        check(store, pinned, since)
    ledger.mark_stale(store, find_scan(store, TWO).scan_id, ["graph"])
    with pytest.raises(UserError, match=f"^scan {TWO}, .* its graph is no longer complete: begin"):
        check(store, pinned, since)
    ledger.forget(store, find_scan(store, TWO).scan_id, ["features.nodes"])
    with pytest.raises(UserError, match=f"^scan {TWO}, .* lost its features.nodes since"):
        check(store, pinned, since)
    delete_scan(store, find_scan(store, TWO))
    with pytest.raises(UserError, match=f"subgraph 1 of scan {TWO}, which this run is pinned to, is gone"):
        check(store, pinned)


def test_targets_of_each_encoder(store: Database) -> None:
    kinds = {
        trained.TOKENS: ("tokens", "toy", 6, 17),
        trained.POOLED: ("pooled", "toy", 4, 0),
        trained.CAPTIONS: ("captions", "toywords", 8, 0),
    }
    for name, (kind, words, dimension, tokens) in kinds.items():
        nodes, relation = targets(store, name)
        assert relation.words is not None
        assert (relation.kind, relation.words.name, relation.tokens) == (kind, words, tokens)
        shape = shape_of(nodes, relation)
        assert (shape.node_dimension, shape.relation_dimension, shape.tokens) == (4, dimension, tokens)
    nodes, relation = targets(store, None, "classes")
    assert shape_of(nodes, relation).classes == ("none", "close by", "standing on", "hanging on")
    nodes, relation = targets(store, trained.TOKENS, "pooled")
    assert (relation.kind, shape_of(nodes, relation).relation_dimension) == ("pooled", 6)


def test_tokens_that_are_all_coarse_are_learnt_so(store: Database) -> None:
    store.execute("UPDATE encoder SET tokens = 257 WHERE name = 'toytokens'")
    assert targets(store, trained.TOKENS)[1].tokens == 257
    store.execute("UPDATE pair_tokens SET layout = 'grid17'")
    assert targets(store, trained.TOKENS)[1].tokens == 17
    store.execute("UPDATE pair_tokens SET layout = 'full' WHERE (instance_a, instance_b) = (1, 2)")
    assert targets(store, trained.TOKENS)[1].tokens == 257


@pytest.mark.parametrize(
    ("spoil", "nodes", "pairs", "kind", "told"),
    [
        ("SELECT 1", "toy", None, None, "say --pair-encoder geometry or toy or toytokens"),
        (
            "SELECT 1",
            "toytokens",
            "toy",
            None,
            "no features of instances by toytokens@.*--nodes --encoder toytokens",
        ),
        ("SELECT 1", "toy", "toy", "tokens", "toy@.* gives no tokens"),
        ("SELECT 1", "toy", "geometry", "pooled", "geometry@.* has no features of pairs: take another"),
        ("SELECT 1", "toy", "toy", "captions", "features caption --encoder toy --dataset 3rscan"),
        ("SELECT 1", "toy", "toy", "classes", "leave out --pair-encoder"),
        (
            "DELETE FROM pair_tokens",
            "toy",
            "toytokens",
            "tokens",
            "--pair-encoder toytokens --replace --dataset",
        ),
        (
            "DELETE FROM pair_feature",
            "toy",
            "toytokens",
            None,
            "features dump --pairs --pair-encoder toytokens",
        ),
        ("DELETE FROM relation_caption", "toy", "geometry", None, "features caption --encoder geometry"),
        ("DELETE FROM term_embedding", "toy", "geometry", None, "embeddings, by its sentence encoder of now"),
        (
            "DELETE FROM pair_feature; DELETE FROM relation_caption",
            "toy",
            None,
            None,
            "features or captions of pairs",
        ),
    ],
)
def test_targets_that_are_not_there(
    store: Database, spoil: str, nodes: str, pairs: str | None, kind: Targets | None, told: str
) -> None:
    store.execute(spoil.encode())
    with pytest.raises(UserError, match=told):
        find_targets(store, trained.DATASET, nodes, pairs, kind)


def test_the_only_encoder_of_pairs_is_taken(store: Database) -> None:
    store.execute("DELETE FROM pair_feature")
    assert targets(store, None)[1].kind == "captions"
    assert rows(store, "SELECT count(*) FROM pair_feature") == [(0,)]
