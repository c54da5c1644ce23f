"""Features on a miniature: embeddings against a plain formulation, resuming, replacing, failing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open3dsg.encoders.registry import load_node_encoder
from open3dsg.errors import UserError
from open3dsg.query.nodes import search_nodes
from open3dsg.steps.features import DumpNodes, FeatureOptions
from open3dsg.steps.status import scan_statuses
from open3dsg.store.encoders import activate_encoder, find_encoder
from tests import miniature as mini
from tests import toy_encoder
from tests.db.pipeline import KEY, Database, content, expected_visible, ingest, observe, rows

NONE = {"crops_shared": 0, "instances_unseen": 0, "instances_unqualified": 0}


def test_observe_resumes_replaces_and_forgets_features(
    database: Database, root: Path, encoders: None
) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    dump = DumpNodes(FeatureOptions("toy"))
    assert dump(database, KEY).counts["nodes"] == 4
    assert observe()(database, KEY).skipped
    assert len(content(database)["features"]) == 4
    assert not observe(every=2, replace=True)(database, KEY).skipped
    after = content(database)
    assert {row[2] for row in after["observations"]} == {0, 2}
    assert after["features"] == []
    assert [row[1] for row in after["ledger"]] == ["annotate", "ingest", "observe"]
    assert not dump(database, KEY).skipped
    assert not observe(every=2, force=True)(database, KEY).skipped


def colour_seen(number: int, frames: list[int]) -> np.ndarray[Any, Any]:
    """The toy embedding of an instance: the mean over frames of the mean colour of its box."""
    total = np.zeros(4)
    palette = np.array([*(thing.rgb for thing in mini.ROOM), (0, 0, 0)], float)
    for frame in frames:
        _, pixels = expected_visible(number, frame)
        ys, xs = zip(*pixels, strict=True)
        _, things = mini.cast(frame, mini.IMAGE_SIZE, mini.IMAGE_FOCAL)
        # The photo has twice the pixels: depth pixel x covers photo columns 2 x and 2 x + 1.
        crop = palette[things[2 * min(ys) : 2 * max(ys) + 2, 2 * min(xs) : 2 * max(xs) + 2]]
        total += toy_encoder.embed_colours(crop.reshape(-1, 3).mean(axis=0)[None] / 255)[0]
    return total / np.linalg.norm(total)


def test_embeddings_equal_the_mean_over_the_best_frames(
    database: Database, root: Path, encoders: None
) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    summary = DumpNodes(FeatureOptions("toy", top_k_frames=2, scales=1))(database, KEY)
    assert summary.counts == {"nodes": 4, "views": 8, "crops": 8, "photos": 4, **NONE}
    for number, embedding, frames, boxes, weights in rows(
        database, "SELECT instance_no, embedding, frame_nos, boxes, weights FROM node_feature"
    ):
        best = sorted(range(4), key=lambda frame: (-expected_visible(number, frame)[0], frame))[:2]
        assert sorted(frames) == sorted(best)
        assert (len(boxes), weights) == (8, [0.5, 0.5])
        np.testing.assert_allclose(embedding.to_numpy(), colour_seen(number, best), atol=0.02)
    evidence = rows(database, "SELECT instance, frame, box, image_uri FROM v_evidence WHERE instance = 4")
    assert len(evidence) == 2
    assert all(uri.endswith(f"frame-{frame:06d}.color.jpg") for _, frame, _, uri in evidence)


def test_pixel_encoders_see_the_pixels_themselves(database: Database, root: Path, encoders: None) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    DumpNodes(FeatureOptions("toypixels"))(database, KEY)
    for number, embedding in rows(database, "SELECT instance_no, embedding FROM node_feature"):
        (rgb,) = [thing.rgb for thing in mini.ROOM if thing.number == number]
        own = toy_encoder.embed_colours(np.array([rgb]) / 255)[0]
        # Pixels at the rim may show what is beside the instance.
        assert embedding.to_numpy() @ own > 0.99


def test_features_resume_at_the_chunk_and_follow_their_options(
    database: Database, root: Path, encoders: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("open3dsg.steps.features.nodes.CHUNK", 1)
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    dump = DumpNodes(FeatureOptions("toy"))
    assert dump(database, KEY).counts["nodes"] == 4
    whole = content(database)
    database.execute("DELETE FROM ledger WHERE chunk IN (1, 3)")
    database.execute("DELETE FROM node_feature WHERE instance_no IN (2, 7)")
    (status,) = scan_statuses(database)
    assert status.missing == ("2 of 4 chunks of features: open3dsg features dump --nodes --encoder toy")
    assert dump(database, KEY).counts["nodes"] == 2
    assert content(database) == whole
    assert dump(database, KEY).skipped
    other = FeatureOptions("toy", scales=1)
    with pytest.raises(
        UserError, match=r"features.nodes was done with other options \(scales 3, now 1\).*--replace"
    ):
        DumpNodes(other)(database, KEY)
    assert content(database) == whole
    replaced = DumpNodes(other, replace=True)(database, KEY).counts
    assert replaced == {"nodes": 4, "views": 16, "crops": 16, "photos": 16, **NONE}
    after = content(database)
    assert [row[3] for row in after["ledger"] if row[1] == "features.nodes"] == [0, 1, 2, 3]
    assert DumpNodes(other, force=True)(database, KEY).counts["nodes"] == 4
    assert content(database) == after


def test_a_later_revision_takes_the_name_once_it_has_as_many_nodes(
    database: Database, root: Path, encoders: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini.write_scan(root, "second")
    for name in (mini.NAME, "second"):
        ingest(root)(database, name)
        observe()(database, f"3rscan/{name}")
        DumpNodes(FeatureOptions("toy"))(database, f"3rscan/{name}")
    monkeypatch.setattr(toy_encoder.Toy, "revision", "a later one")
    monkeypatch.setattr("open3dsg.steps.features.nodes.node_encoder", load_node_encoder)
    for name, takes_over in ((mini.NAME, False), ("second", True)):
        DumpNodes(FeatureOptions("toy"))(database, f"3rscan/{name}")
        remark = activate_encoder(database, find_encoder(database, "toy@a later one"))
        assert (remark is None) is takes_over
        assert (find_encoder(database, "toy").revision == "a later one") is takes_over


def test_words_are_answered_for_those_who_may_only_read(
    database: Database, root: Path, encoders: None
) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    DumpNodes(FeatureOptions("toy"))(database, KEY)
    database.execute("SET default_transaction_read_only = on")
    for _ in range(2):
        [[hit]] = search_nodes(database, ["red"], k=1)
        assert hit.label == "picture"
    database.execute("SET default_transaction_read_only = off")
    assert rows(database, "SELECT count(*) FROM term WHERE text = 'red'") == [(0,)]


def test_a_scan_of_which_nothing_can_be_read_is_not_done(
    database: Database, root: Path, encoders: None
) -> None:
    ingest(root)(database, mini.NAME)
    sequence = root / mini.NAME / "sequence"
    sequence.rename(root / "away")
    with pytest.raises(UserError, match=r"none of 4 depth pictures can be read: .*frame-000000\.depth\.pgm"):
        observe()(database, KEY)
    (root / "away").rename(sequence)
    assert observe()(database, KEY).counts["frames"] == 4
    for photo in sequence.glob("*.jpg"):
        photo.rename(photo.with_suffix(".away"))
    with pytest.raises(UserError, match=r"none of the photographs .* can be used: .*frame-00000"):
        DumpNodes(FeatureOptions("toy"))(database, KEY)
    assert scan_statuses(database)[0].missing == "features: open3dsg features dump --nodes"


def test_features_need_observations(database: Database, root: Path, encoders: None) -> None:
    ingest(root)(database, mini.NAME)
    with pytest.raises(
        UserError, match=f"scan {KEY} has no observations: run `open3dsg observe --scan {KEY}`"
    ):
        DumpNodes(FeatureOptions("toy"))(database, KEY)


def test_a_broken_photo_is_counted_and_the_others_are_used(
    database: Database, root: Path, encoders: None
) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    (root / mini.NAME / "sequence" / "frame-000001.color.jpg").write_bytes(b"no picture")
    summary = DumpNodes(FeatureOptions("toy", scales=1))(database, KEY)
    assert [problem.kind for problem in summary.problems] == ["image_unreadable"]
    assert "frame-000001.color.jpg" in summary.problems[0].detail
    assert {
        frame for (frames,) in rows(database, "SELECT frame_nos FROM node_feature") for frame in frames
    } == {0, 2, 3}
