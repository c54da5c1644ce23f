"""Captions of pairs on a miniature: by rules and from tokens, kept, resumed, made anew, and made stale."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.encoders.registry import load_encoder
from open3dsg.encoders.tokens import Layout, TokenFormat, pack_tokens
from open3dsg.errors import UserError
from open3dsg.steps.captions import CaptionOptions, DumpCaptions
from open3dsg.steps.catalogue import build, describe, lacking_here
from open3dsg.steps.features import DumpNodes, FeatureOptions
from open3dsg.steps.graph import Graph, GraphOptions
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.observe import Observe, ObserveOptions
from open3dsg.steps.relabel import Correct
from open3dsg.steps.speakers import load_speaker
from open3dsg.steps.status import scan_statuses
from open3dsg.store.captions import as_caption, find_captions, read_pair_geometry
from open3dsg.store.encoders import find_encoder, register_encoder
from open3dsg.store.pair_features import PairFeature, clear_pair_features, write_pair_features
from open3dsg.store.scans import find_scan
from tests import miniature as mini
from tests import toy_encoder
from tests.content import content
from tests.db.pipeline import KEY, Database, ingest, observe, rows

NUMBERS = sorted(mini.LABELS)
PAIRS = list(combinations(NUMBERS, 2))
RULES = DumpCaptions(CaptionOptions("geometry"))
TOKENS = DumpCaptions(CaptionOptions("toycaptions"))
STRONGEST = {pair: place % 3 for place, pair in enumerate(PAIRS)}  # the colour that a pair's tokens show most


@pytest.fixture(autouse=True)
def _with_toys(encoders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPEN3DSG_ENCODERS", "[geometry]\ntext = 'toy'")


@pytest.fixture
def paired(database: Database, root: Path) -> Database:
    """A scan with all its pairs, each end of which some frame shows."""
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    graph()(database, KEY)
    return database


def graph(**options: Any) -> Graph:
    return Graph(GraphOptions(instance_points=20, pair_points=50, full=True, max_distance_m=None, **options))


def made_tokens(pair: tuple[int, int]) -> NDArray[np.float32]:
    tokens = np.random.default_rng(pair).uniform(0, 0.5, (17, 6)).astype(np.float32)
    tokens[:, STRONGEST[pair]] += 1
    return tokens


def write_tokens(
    database: Database, pairs: list[tuple[int, int]], layout: Layout = "full", name: str = "toycaptions"
) -> None:
    row = register_encoder(database, load_encoder(name))
    scan_id = find_scan(database, KEY).scan_id
    features = []
    for pair in pairs:
        tokens = made_tokens(pair)
        pooled = tokens.mean(axis=0)
        packed = pack_tokens(tokens, TokenFormat(layout))
        unit = pooled / np.linalg.norm(pooled)
        features.append(PairFeature(*pair, unit, [0], np.array([[0, 0, 9, 9]]), [1.0], packed))
    with database.transaction():
        write_pair_features(database, scan_id, row.encoder_id, features)


def phrases(database: Database, encoder: str) -> dict[tuple[int, int], str | None]:
    found = find_captions(database, find_scan(database, KEY), find_encoder(database, encoder), None)
    return {(one.subject, one.object): one.phrase for one in found}


def expected(pair: tuple[int, int]) -> str | None:
    """What the toy says of the tokens that `made_tokens` gives."""
    if mini.LABELS[pair[0]] == "picture":
        return None
    return " ".join(toy_encoder.ToyCaptions.phrases[STRONGEST[tuple(sorted(pair))]].lower().split())  # type: ignore[index]


def test_rules_say_how_things_of_the_room_relate(paired: Database) -> None:
    told = RULES(paired, KEY)
    said = phrases(paired, "geometry")
    assert said[7, 2] == "attached to"  # the picture hangs two centimetres before the wall
    assert said[2, 7] == "holding"
    assert said[4, 1] == "above"
    assert said[1, 4] == "under"
    assert told.counts == {
        "captions": len(said),
        "phrases": len(said),
        "captions_without_phrase": 0,
        "directions_without_caption": 2 * len(PAIRS) - len(said),
    }
    for one in find_captions(paired, find_scan(paired, KEY), None, 7):
        assert 7 in {one.subject, one.object}
        assert one.caption == one.phrase
    assert RULES(paired, KEY).skipped
    assert RULES.parts(paired, KEY) == []


def test_where_nothing_is_said_there_is_no_row(paired: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = "encoder = 'geometry'\ntext = 'toy'\nnear_m = 0\nclose_m = 0"
    monkeypatch.setenv("OPEN3DSG_ENCODERS", f"[quiet]\n{quiet}")
    work = DumpCaptions(CaptionOptions("quiet"))
    told = work(paired, KEY).counts
    said = phrases(paired, "quiet")
    assert 0 < len(said) < 2 * len(PAIRS)
    assert (told["captions"], told["directions_without_caption"]) == (len(said), 2 * len(PAIRS) - len(said))
    assert (told["phrases"], told["captions_without_phrase"]) == (len(said), 0)
    assert work(paired, KEY).skipped
    assert replace(work, force=True)(paired, KEY).counts == told


def test_the_camera_is_that_of_the_frame_that_shows_the_lesser_seen_best(paired: Database) -> None:
    seen = {
        (number, frame): (ratio, points)
        for number, frame, ratio, points in rows(
            paired, "SELECT instance_no, frame_no, visibility_ratio, visible_points FROM observation"
        )
    }
    told = read_pair_geometry(paired, find_scan(paired, KEY).scan_id, PAIRS)
    for at, (a, b) in enumerate(PAIRS):
        both = [frame for frame in range(mini.FRAMES) if (a, frame) in seen and (b, frame) in seen]
        (best, *_) = sorted(
            both,
            key=lambda frame: (
                -min(seen[a, frame][0], seen[b, frame][0]),
                -(seen[a, frame][1] + seen[b, frame][1]),
                frame,
            ),
        )
        np.testing.assert_allclose(told.T_world_camera[at], mini.pose(best), atol=1e-6)
    xyz, numbers, _ = mini.points()
    for at, pair in enumerate(PAIRS):
        a, b = (xyz[numbers == number] for number in pair)
        np.testing.assert_allclose(told.subject_min_m[at], a.min(axis=0), atol=1e-5)
        np.testing.assert_allclose(told.object_max_m[at], b.max(axis=0), atol=1e-5)
        closest = np.linalg.norm(a[:, None] - b[None], axis=2).min()
        assert told.distance_m[at] == pytest.approx(closest, abs=1e-5)


def test_where_no_frame_was_looked_at_there_is_no_left_and_right(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    with pytest.raises(UserError, match=r"has no pairs yet: run `open3dsg graph build --scan"):
        RULES(database, KEY)
    graph()(database, KEY)
    told = read_pair_geometry(database, find_scan(database, KEY).scan_id, PAIRS)
    assert np.isnan(told.T_world_camera).all()
    RULES(database, KEY)
    assert "to the left of" not in phrases(database, "geometry").values()
    observe()(database, KEY)
    assert phrases(database, "geometry") == {}
    assert not RULES(database, KEY).skipped


@pytest.mark.parametrize("layout", ["full", "grid17", "pooled"])
def test_captions_of_tokens_speak_of_both_directions(paired: Database, layout: Layout) -> None:
    write_tokens(paired, PAIRS[1:], layout)
    told = TOKENS(paired, KEY)
    said = phrases(paired, "toycaptions")
    ends = [end for pair in PAIRS[1:] for end in (pair, pair[::-1])]
    assert said == {end: expected(end) for end in ends}
    silent = sum(phrase is None for phrase in said.values())
    assert silent
    assert told.counts == {
        "captions": len(ends),
        "phrases": len(ends) - silent,
        "captions_without_phrase": silent,
        "directions_without_caption": 0,
        "pairs_without_features": 1,
    }
    for phrase, embedding in rows(
        paired,
        "SELECT DISTINCT phrase, te.embedding FROM v_relation_caption v JOIN term t ON t.text = v.phrase"
        " JOIN term_embedding te USING (term_id) JOIN encoder e ON e.encoder_id = te.encoder_id"
        " WHERE e.name = 'toy'",
    ):
        assert phrase in said.values()
        np.testing.assert_allclose(
            embedding.to_numpy(), toy_encoder.Toy().encode_text([phrase])[0], atol=1e-3
        )
    for label, text in rows(paired, "SELECT subject_label, caption FROM v_relation_caption"):
        assert text.startswith(f"the {label}")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many captions the toy was asked for, call by call; chunks are of two pairs."""
    monkeypatch.setattr("open3dsg.steps.speakers.TOKEN_CHUNK", 2)
    sizes: list[int] = []
    caption = toy_encoder.ToyCaptions.caption

    def count(self: Any, tokens: NDArray[np.float32], *rest: Any) -> list[str]:
        sizes.append(len(tokens))
        return caption(self, tokens, *rest)

    monkeypatch.setattr(toy_encoder.ToyCaptions, "caption", count)
    return sizes


def test_it_goes_on_where_it_was_cut_off(paired: Database, asked: list[int]) -> None:
    write_tokens(paired, PAIRS)
    small = replace(TOKENS, batch=3)
    assert small.parts(paired, KEY) == [0, 1, 2]
    first = small(paired, KEY)
    whole = content(paired)
    assert (max(asked), sum(asked)) == (3, 2 * len(PAIRS))
    paired.execute("DELETE FROM ledger WHERE step = 'features.captions' AND chunk = 1")
    paired.execute("DELETE FROM relation_caption WHERE (subject_no, object_no) = (%s, %s)", PAIRS[2])
    asked.clear()
    assert small.parts(paired, KEY) == [1]
    assert small(paired, KEY).counts["captions"] == sum(asked) == 2
    assert content(paired) == whole
    assert small(paired, KEY).skipped
    assert replace(small, force=True)(paired, KEY).counts == first.counts
    assert content(paired) == whole


def test_a_batch_that_does_not_fit_is_halved(
    paired: Database, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tokens(paired, PAIRS)
    whole = replace(TOKENS, batch=12)(paired, KEY)
    expected_rows = content(paired)
    caption = toy_encoder.ToyCaptions.caption

    def cramped(self: Any, tokens: NDArray[np.float32], *rest: Any) -> list[str]:
        if len(tokens) > room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")
        return caption(self, tokens, *rest)

    monkeypatch.setattr(toy_encoder.ToyCaptions, "caption", cramped)
    room = 1
    asked.clear()
    told = replace(TOKENS, batch=10, force=True)(paired, KEY)
    assert told.counts == whole.counts
    assert [problem.kind for problem in told.problems] == ["batch_halved"]
    assert "went on with 1" in told.problems[0].detail
    assert (max(asked), len(asked)) == (1, 2 * len(PAIRS))
    assert content(paired) == expected_rows
    room = 0
    with pytest.raises(UserError, match="out of memory with a single caption: take fewer --beams"):
        replace(TOKENS, batch=9, force=True)(paired, KEY)
    assert content(paired) == expected_rows


def test_chunks_side_by_side_write_what_one_process_writes(paired: Database, asked: list[int]) -> None:
    write_tokens(paired, PAIRS)
    alone = TOKENS(paired, KEY).counts
    whole = content(paired)
    for begin in (
        "DELETE FROM ledger WHERE step = %s",
        "UPDATE ledger SET options_hash = 'x' WHERE step = %s",
    ):
        paired.execute(begin.encode(), ["features.captions"])
        parts = [replace(TOKENS, chunk=chunk, replace=True)(paired, KEY) for chunk in (2, 0, 1)]
        assert sum((Counter(part.counts) for part in parts), Counter()) == Counter(alone)
        assert replace(TOKENS, chunk=3)(paired, KEY).skipped
        assert content(paired) == whole


def test_other_beams_ask_for_replace(paired: Database) -> None:
    write_tokens(paired, PAIRS)
    TOKENS(paired, KEY)
    whole = content(paired)
    other = DumpCaptions(CaptionOptions("toycaptions", beams=2))
    with pytest.raises(UserError, match=r"features.captions was done with other options \(beams 5, now 2\)"):
        other(paired, KEY)
    assert content(paired) == whole
    assert replace(other, replace=True)(paired, KEY).counts["captions"] == 2 * len(PAIRS)
    assert replace(other, batch=1)(paired, KEY).skipped


def test_a_new_name_makes_captions_of_tokens_stale(paired: Database, asked: list[int]) -> None:
    write_tokens(paired, PAIRS)
    TOKENS(paired, KEY)
    RULES(paired, KEY)
    ruled = phrases(paired, "geometry")
    asked.clear()
    counts = Correct({KEY: {4: "desk"}})(paired, KEY).counts
    assert phrases(paired, "geometry") == ruled
    said = phrases(paired, "toycaptions")
    assert all(4 not in ends for ends in said)
    assert len(said) == 6
    assert (counts["captions_kept"], counts["captions_dropped"]) == (len(ruled) + 6, 6)
    assert (counts["pair_features_kept"], counts["pair_features_dropped"]) == (len(PAIRS), 0)
    (status,) = scan_statuses(paired)
    assert status.missing == "features: open3dsg features dump --nodes"
    assert status.steps["features.captions toycaptions@8899aabbccddeeff"].state == "stale"
    DumpNodes(FeatureOptions("toy"))(paired, KEY)
    (status,) = scan_statuses(paired)
    assert status.missing == "stale captions: open3dsg features caption --encoder toycaptions"
    assert RULES(paired, KEY).skipped, "rules know no names"
    assert not TOKENS(paired, KEY).skipped
    assert sum(asked) == 6
    assert scan_statuses(paired)[0].missing is None
    texts = rows(paired, "SELECT caption FROM v_relation_caption WHERE subject = 4 AND caption <> phrase")
    assert texts
    assert all(text.startswith("the desk ") for (text,) in texts)


def test_captions_go_with_what_they_were_made_of(paired: Database, asked: list[int]) -> None:
    write_tokens(paired, PAIRS)
    TOKENS(paired, KEY)
    scan_id = find_scan(paired, KEY).scan_id
    with paired.transaction():
        clear_pair_features(paired, scan_id, find_encoder(paired, "toycaptions").encoder_id, PAIRS[:1])
    assert len(phrases(paired, "toycaptions")) == 2 * (len(PAIRS) - 1)
    asked.clear()
    told = TOKENS(paired, KEY)
    assert (sum(asked), told.counts["pairs_without_features"]) == (0, 1)
    paired.execute("DELETE FROM subgraph WHERE method = '3dssg'")  # whose pairs are not built by distance
    RULES(paired, KEY)
    replace(graph(), options=replace(graph().options, max_distance_m=0.05), replace=True)(paired, KEY)
    RULES(paired, KEY)
    near = {(a, b) for a, b in rows(paired, "SELECT instance_a, instance_b FROM pair")}
    assert {tuple(sorted(ends)) for ends in phrases(paired, "geometry")} == near
    assert 0 < len(near) < len(PAIRS)


def test_phrases_are_embedded_by_the_sentence_encoder_of_now(
    paired: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = (
        "SELECT DISTINCT v.phrase FROM v_relation_caption v JOIN term t ON t.text = v.phrase"
        " JOIN term_embedding te USING (term_id) JOIN encoder e ON e.encoder_id = te.encoder_id"
        " WHERE e.name = 'toypixels'"
    )
    RULES(paired, KEY)
    monkeypatch.setattr("open3dsg.steps.captions._TOGETHER", 2)
    with monkeypatch.context() as other:
        other.setenv("OPEN3DSG_ENCODERS", "[geometry]\ntext = 'toypixels'\n")
        other.setattr(DumpCaptions, "_speaker", lambda _self: load_speaker("geometry"))  # as in a new process
        assert RULES(paired, KEY).skipped
        assert rows(paired, embedded) == []
        assert RULES.close(paired) == ()
        whole = content(paired)
        assert {phrase for (phrase,) in rows(paired, embedded)} == set(phrases(paired, "geometry").values())
        assert RULES.close(paired) == ()
        assert content(paired) == whole


def test_odd_captions_are_stored_as_far_as_they_can_be() -> None:
    long = as_caption(1, 2, "the chair " + "very " * 200 + "near the table", "very " * 200 + "near")
    assert long.phrase is None
    assert len(long.text) > 1000
    odd = as_caption(1, 2, "the chair\0 \ud800on the table", "\0 \ud800on")
    assert (odd.text, odd.phrase) == ("the chair\ufffd \ufffdon the table", "\ufffd \ufffdon")
    assert as_caption(1, 2, "", "  ").phrase is None
    assert as_caption(1, 2, "\U0001f600", "\U0001f600").phrase == "\U0001f600"


@pytest.mark.parametrize(
    ("encoder", "how", "told"),
    [
        ("toytokens", {}, "does not say how instances relate: --encoder geometry does"),
        ("toy", {}, "does not say how instances relate"),
        ("none such", {}, "no encoder is called 'none such'"),
        ("geometry", {"batch": 4}, "speaks by rules: leave out --batch"),
        ("geometry", {"device": "cpu"}, "speaks by rules: leave out --device"),
        ("geometry", {"precision": "fp16"}, "speaks by rules: leave out --precision"),
    ],
)
def test_what_cannot_speak_is_refused_before_any_scan(encoder: str, how: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        DumpCaptions(CaptionOptions(encoder), **how).prepare()


def test_what_is_not_there_yet_is_told(paired: Database) -> None:
    told = r"has no features of pairs by toycaptions@8899.*features dump --pairs --pair-encoder toycaptions"
    with pytest.raises(UserError, match=told):
        TOKENS(paired, KEY)
    with pytest.raises(UserError, match=r"--beams is 0"):
        CaptionOptions("toycaptions", 0)
    with pytest.raises(UserError, match="leave out --beams"):
        DumpCaptions(CaptionOptions("geometry", 5)).prepare()


def test_workers_do_it_with_the_same_encoder(paired: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    work = DumpCaptions(CaptionOptions("toycaptions", 3), force=True, batch=2, precision="bf16")
    told = describe("captions", work)
    assert build("captions", told) == work
    assert build("captions", told, 4) == replace(work, chunk=4)
    assert lacking_here(paired, "captions", told, KEY) is None
    lacking = lacking_here(paired, "captions", told | {"revision": "x"}, KEY)
    assert "install the same weights" in str(lacking)


def test_the_real_bathroom(database: Database, real_data: Path) -> None:
    """What its annotators say of the same pairs; docs/relations.md counts all of them."""
    name = "7272e16c-a01b-20f6-8961-a0927b4a7629"
    root = real_data / "3RScan"
    Ingest(ThreeRScan(root), "3rscan", "3rscan", str(root))(database, name)
    Observe(ObserveOptions())(database, name)
    graph()(database, name)
    RULES(database, name)
    told = find_captions(database, find_scan(database, name), None, None)
    said = {(one.subject_label, one.subject, one.object_label, one.object): one.phrase for one in told}
    annotated = {
        ("toilet", 6, "floor", 5): "standing on",
        ("bath cabinet", 7, "floor", 5): "standing on",
        ("bath cabinet", 8, "floor", 5): "standing on",
        ("towel", 19, "wall", 3): "attached to",
        ("shelf", 30, "wall", 4): "attached to",
        ("mirror", 31, "wall", 4): "attached to",
    }
    assert {pair: said[pair] for pair in annotated} == annotated
    assert said["towel", 33, "shelf", 30] == "lying on"  # annotated: supported by
