"""Features of pairs on a miniature: rows against a plain formulation, what is absent, refused or shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.encoders.tokens import PackedTokens, unpack_tokens
from open3dsg.errors import UserError
from open3dsg.steps.features import DumpNodes, DumpPairs, FeatureOptions, PairOptions
from open3dsg.steps.features.estimate import estimate
from tests import miniature as mini
from tests import toy_encoder
from tests.content import content
from tests.db.pipeline import KEY, Database, expected_visible, ingest, observe, rows

ROOM = [thing.number for thing in mini.ROOM if thing.number]
PAIRS = list(combinations(sorted(ROOM), 2))
ONE_SCALE = PairOptions("toy", top_k_frames=2, scales=1)


def share(number: int, frame: int) -> float:
    return expected_visible(number, frame)[0] / mini.GRID**2


def box(number: int, frame: int) -> tuple[int, int, int, int]:
    ys, xs = zip(*expected_visible(number, frame)[1], strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def qualifies(number: int, frame: int, least: float) -> bool:
    """The published rule of one end, its area as a share of 3RScan's pictures."""
    if not expected_visible(number, frame)[0]:
        return False
    x0, y0, x1, y1 = box(number, frame)
    large = 5000 / (224 * 172) * mini.DEPTH_SIZE[0] * mini.DEPTH_SIZE[1]
    return share(number, frame) > least or (x1 - x0) * (y1 - y0) > large


def best_frames(a: int, b: int, top_k: int, least: float) -> list[int]:
    good = [
        frame for frame in range(mini.FRAMES) if qualifies(a, frame, least) and qualifies(b, frame, least)
    ]
    best = sorted(good, key=lambda frame: (-share(a, frame) - share(b, frame), frame))
    return sorted(best[:top_k]) if len(good) > 1 else []


def crop(a: int, b: int, frame: int) -> NDArray[np.uint8]:
    """What the photo shows in the box around both: it has twice the pixels of the depth picture."""
    one, other = box(a, frame), box(b, frame)
    x0, y0 = (2 * min(one[side], other[side]) for side in (0, 1))
    x1, y1 = (2 * max(one[side], other[side]) + 2 for side in (2, 3))
    palette = np.array([*(thing.rgb for thing in mini.ROOM), (0, 0, 0)], np.uint8)
    return palette[mini.cast(frame, mini.IMAGE_SIZE, mini.IMAGE_FOCAL)[1]][y0:y1, x0:x1]


def test_pairs_equal_a_plain_computation(database: Database, graph: None) -> None:
    assert rows(database, "SELECT instance_a, instance_b FROM pair ORDER BY 1, 2") == PAIRS
    summary = DumpPairs(ONE_SCALE)(database, KEY)
    expected = {pair: best_frames(*pair, 2, 0.2) for pair in PAIRS}
    seen = {pair: frames for pair, frames in expected.items() if frames}
    assert len(seen) >= 4
    assert summary.counts["pairs"] == len(seen)
    assert summary.counts["pairs_unseen"] + summary.counts["pairs_unqualified"] == 6 - len(seen)
    found = rows(
        database, "SELECT instance_a, instance_b, embedding, frame_nos, boxes, weights FROM pair_feature"
    )
    assert {(a, b): frames for a, b, _, frames, _, _ in found} == seen
    for a, b, embedding, frames, boxes, weights in found:
        colours = np.array([crop(a, b, frame).reshape(-1, 3).mean(axis=0) / 255 for frame in frames])
        mean = toy_encoder.embed_colours(colours).mean(axis=0)
        np.testing.assert_allclose(embedding.to_numpy(), mean / np.linalg.norm(mean), atol=0.02)
        assert (weights, len(boxes)) == ([1 / len(frames)] * len(frames), 4 * len(frames))
        shapes = [crop(a, b, frame).shape[:2] for frame in frames]
        assert [(y1 - y0, x1 - x0) for x0, y0, x1, y1 in np.reshape(boxes, (-1, 4))] == shapes
    assert rows(database, "SELECT count(*) FROM pair_tokens") == [(0,)]


def test_the_second_crop_shows_an_eighth_more_on_each_side(database: Database, graph: None) -> None:
    """Which is 1.25 times the box, cut off at the edges of the photo."""
    DumpPairs(replace(ONE_SCALE, scales=2))(database, KEY)
    looks = [np.reshape(boxes, (-1, 2, 4)) for (boxes,) in rows(database, "SELECT boxes FROM pair_feature")]
    one, wide = np.concatenate(looks).transpose(1, 0, 2)
    more = (one[:, 2:] - one[:, :2]) / 8
    np.testing.assert_array_equal(wide[:, :2], np.maximum(np.floor(one[:, :2] - more), 0))
    np.testing.assert_array_equal(wide[:, 2:], np.minimum(np.ceil(one[:, 2:] + more), mini.IMAGE_SIZE))


def test_tokens_equal_a_plain_computation(database: Database, graph: None) -> None:
    DumpPairs(PairOptions("toytokens", top_k_frames=4, scales=1))(database, KEY)
    found = rows(
        database,
        "SELECT instance_a, instance_b, f.embedding, f.frame_nos, layout, dtype, packing, tokens, scales"
        " FROM pair_feature f JOIN pair_tokens USING (scan_id, encoder_id, instance_a, instance_b)",
    )
    assert {(a, b): frames for a, b, _, frames, *_ in found} == {
        pair: frames for pair in PAIRS if (frames := best_frames(*pair, 4, 0.1))
    }
    for a, b, embedding, frames, *packed in found:
        tokens = unpack_tokens(PackedTokens(*packed), 6)
        crops = [crop(a, b, frame) for frame in frames]
        mean = toy_encoder.ToyTokens().encode_tokens(crops).mean(axis=0)
        # The photo is a JPEG, and tokens of few pixels feel its edges.
        np.testing.assert_allclose(tokens, mean, atol=0.1)
        assert np.abs(tokens - mean).mean() < 0.01
        pooled = tokens.mean(axis=0)
        np.testing.assert_allclose(embedding.to_numpy(), pooled / np.linalg.norm(pooled), atol=0.002)


@pytest.mark.parametrize(
    ("kept", "layout", "count"),
    [
        ({"tokens": "grid17", "dtype": "int8"}, ("grid17", "int8"), 17),
        ({"dtype": "fp8"}, ("full", "fp8"), 17),
        ({"tokens": "pooled"}, None, 0),
    ],
)
def test_tokens_are_kept_as_asked(
    database: Database, graph: None, kept: dict[str, Any], layout: tuple[str, str] | None, count: int
) -> None:
    DumpPairs(PairOptions("toytokens", scales=1, **kept))(database, KEY)
    found = rows(database, "SELECT DISTINCT layout, dtype FROM pair_tokens")
    assert found == ([] if layout is None else [layout])
    assert rows(database, "SELECT count(*) > 3 FROM pair_feature") == [(True,)]
    if count:
        *_, tokens, _scales = rows(database, "SELECT packing, tokens, scales FROM pair_tokens")[0]
        assert tokens


def test_pairs_need_a_graph_and_observations(database: Database, root: Path, encoders: None) -> None:
    ingest(root)(database, mini.NAME)
    with pytest.raises(UserError, match="has no observations: run `open3dsg observe"):
        DumpPairs(ONE_SCALE)(database, KEY)
    observe()(database, KEY)
    with pytest.raises(UserError, match=f"has no pairs: run `open3dsg graph build --scan {KEY}` first"):
        DumpPairs(ONE_SCALE)(database, KEY)
    with pytest.raises(UserError, match="toypixels does not embed pairs"):
        DumpPairs(replace(ONE_SCALE, encoder="toypixels")).prepare()
    with pytest.raises(UserError, match="toytokens does not embed instances"):
        DumpNodes(FeatureOptions("toytokens")).prepare()


def test_what_is_never_seen_together_is_absent_and_counted(database: Database, graph: None) -> None:
    """Frames 0 and 1 show the table alone, 2 and 3 the picture; frame 0 alone shows the wall."""
    database.execute("DELETE FROM observation WHERE instance_no = 4 AND frame_no > 1")
    database.execute("DELETE FROM observation WHERE instance_no = 7 AND frame_no < 2")
    database.execute("DELETE FROM observation WHERE instance_no = 2 AND frame_no > 0")
    database.execute("UPDATE observation SET visibility_ratio = 0.9")
    counts = DumpPairs(ONE_SCALE)(database, KEY).counts
    assert (counts["pairs"], counts["pairs_unseen"], counts["pairs_unqualified"]) == (2, 2, 2)
    assert rows(database, "SELECT instance_a, instance_b FROM pair_feature ORDER BY 1, 2") == [(1, 4), (1, 7)]
    assert DumpPairs(ONE_SCALE)(database, KEY).skipped
    once = DumpPairs(replace(ONE_SCALE, min_frames=1), replace=True)(database, KEY).counts
    assert (once["pairs"], once["pairs_unseen"], once["pairs_unqualified"]) == (4, 2, 0)
    nodes = DumpNodes(FeatureOptions("toy"))(database, KEY).counts
    assert (nodes["nodes"], nodes["instances_unseen"], nodes["instances_unqualified"]) == (3, 0, 1)


def test_activations_that_are_not_finite_are_refused(
    database: Database, graph: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the pair (1, 4) in frame 1 the encoder makes NaN, of (2, 7) numbers that no half can hold."""
    see = toy_encoder.ToyTokens._tokens
    spoilt = {crop(1, 4, 1).shape: np.nan, crop(2, 7, 1).shape: 70_000.0}
    assert len(spoilt) == 2

    def spoil(self: toy_encoder.ToyTokens, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        tokens = see(self, picture)
        tokens[3] += spoilt.get(picture.shape, 0.0) * 4
        return tokens

    monkeypatch.setattr(toy_encoder.ToyTokens, "_tokens", spoil)
    dump = DumpPairs(PairOptions("toytokens", top_k_frames=4, scales=1))
    summary = dump(database, KEY)
    told = {problem.detail.split(":")[0]: problem for problem in summary.problems}
    assert {problem.kind for problem in summary.problems} == {"embedding_unusable"}
    assert "frame 1: its activations are NaN or infinite" in told[f"{mini.NAME} pair 1-4"].detail
    assert "token 3 has a number beyond 65,504" in told[f"{mini.NAME} pair 2-7"].detail
    found = rows(database, "SELECT instance_a, instance_b FROM pair_feature")
    assert {(1, 4), (2, 7)}.isdisjoint(found)
    assert len(found) + len(told) == len([pair for pair in PAIRS if best_frames(*pair, 4, 0.1)])
    assert rows(
        database, "SELECT jsonb_array_length(problems) FROM ledger WHERE step = 'features.pairs'"
    ) == [(len(told),)]


def test_a_crop_of_two_pairs_is_encoded_once(
    database: Database, graph: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the floor's box holds those of the table and the picture, both pairs have that box."""
    database.execute(
        "UPDATE observation SET visibility_ratio = 0.9,"
        " pixel_box = CASE instance_no WHEN 1 THEN '{2,2,40,30}'::int2[] ELSE '{10,10,20,20}'::int2[] END"
    )
    shown: list[int] = []
    see = toy_encoder.Toy.encode_crops

    def count(self: toy_encoder.Toy, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        shown.append(len(crops))
        return see(self, crops)

    monkeypatch.setattr(toy_encoder.Toy, "encode_crops", count)
    counts = DumpPairs(replace(ONE_SCALE, top_k_frames=9))(database, KEY).counts
    frames = counts["photos"]
    looks = _looks(database)
    assert counts["views"] == sum(looks.values())
    # A frame has two boxes at most: that of the floor, and that of all else.
    assert sum(shown) == counts["crops"] <= 2 * frames
    assert counts["crops"] + counts["crops_shared"] == counts["views"]
    found = {
        (a, b): embedding
        for a, b, embedding in rows(
            database, "SELECT instance_a, instance_b, embedding::text FROM pair_feature"
        )
    }
    assert looks[1, 4] == looks[1, 7] == frames
    assert found[1, 4] == found[1, 7]


def _looks(database: Database) -> dict[tuple[int, int], int]:
    return {
        (a, b): count
        for a, b, count in rows(
            database, "SELECT instance_a, instance_b, cardinality(frame_nos) FROM pair_feature"
        )
    }


def test_observing_again_drops_features_of_pairs(database: Database, graph: None) -> None:
    DumpPairs(PairOptions("toy"))(database, KEY)
    observe(every=2, replace=True)(database, KEY)
    assert rows(database, "SELECT count(*) FROM pair_feature") == [(0,)]
    assert rows(database, "SELECT count(*) FROM ledger WHERE step = 'features.pairs'") == [(0,)]
    assert not DumpPairs(PairOptions("toy"))(database, KEY).skipped


def test_words_of_what_was_seen_go_with_it(database: Database, graph: None) -> None:
    dump = DumpPairs(PairOptions("toytokens"))
    dump(database, KEY)
    database.execute(
        "INSERT INTO relation_caption (scan_id, encoder_id, subject_no, object_no, caption)"
        " SELECT scan_id, encoder_id, instance_b, instance_a, 'seen' FROM pair_feature"
    )
    said = rows(database, "SELECT name || '@' || revision FROM encoder WHERE name = 'toytokens'")[0][0]
    for variant in (said, "geometry@0"):
        database.execute(
            "INSERT INTO ledger (scan_id, step, variant, chunk, step_version, options_hash, options, chunks,"
            " counts, problems)"
            " SELECT scan_id, 'features.captions', %s, 0, 1, '', '{}', 1, '{}', '[]' FROM scan",
            [variant],
        )
    replace(dump, force=True)(database, KEY)
    assert rows(database, "SELECT count(*) FROM relation_caption") == [(0,)]
    stale = rows(database, "SELECT variant FROM ledger WHERE step = 'features.captions' AND stale")
    assert stale == [(said,)]  # what others said stays as it is


@pytest.mark.parametrize("name", ["toy", "toytokens"])
def test_an_estimate_is_what_the_dump_does(database: Database, graph: None, name: str) -> None:
    dump = DumpPairs(PairOptions(name))
    before = content(database)
    planned = estimate(dump, database, [KEY], lambda _scan: None)
    assert content(database) == before
    done = dump(database, KEY).counts
    assert planned.counts["items"] == done["pairs"]
    assert planned.counts["passes"] == done["crops"]
    assert planned.counts["shared"] == done["crops_shared"]
    assert planned.counts["photos"] == done["photos"]
    assert planned.counts["unqualified"] == done["pairs_unqualified"]
    ((stored,),) = rows(
        database,
        "SELECT (SELECT sum(pg_column_size(f)) FROM pair_feature f)"
        " + coalesce((SELECT sum(octet_length(tokens)) FROM pair_tokens), 0)",
    )
    assert 0.5 * stored < planned.counts["bytes"] < 2 * stored
    assert planned.tried > 0
    assert planned.items_at_once is None
    assert planned.seconds is not None
    again = estimate(dump, database, [KEY], lambda _scan: None)
    assert (again.counts["items"], again.counts["scans_done"], again.seconds) == (0, 1, None)


def test_a_batch_that_is_too_large_is_halved_and_said_so(
    database: Database, graph: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = DumpPairs(PairOptions("toy"))
    dump(database, KEY)
    whole = content(database)
    see = toy_encoder.Toy.encode_crops

    def small(self: toy_encoder.Toy, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        if len(crops) > 4:
            raise RuntimeError("CUDA error: out of memory")
        return see(self, crops)

    monkeypatch.setattr(toy_encoder.Toy, "encode_crops", small)
    summary = replace(dump, force=True)(database, KEY)
    assert [problem.kind for problem in summary.problems] == ["batch_halved"]
    assert "went on with 4" in summary.problems[0].detail
    assert content(database) == whole
