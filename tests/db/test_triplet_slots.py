"""What may stand at a place of a triplet, asked of a small store with real steps behind it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open3dsg.errors import UserError
from open3dsg.query.slots import ANY, Slot
from open3dsg.query.triplets import TripletFilters, TripletHit, search_triplets
from open3dsg.store.encoders import find_encoder
from tests.db.pipeline import Database
from tests.db.predicted import write_prediction, write_run
from tests.db.trained import CAPTIONS, DATASET, NODES, POOLED, WORDS, name
from tests.toy_encoder import Toy, ToyWords

RED = Slot("text", "red")


def embedding(store: Database, scan: str, instance: int) -> np.ndarray:
    [[found]] = store.execute(
        "SELECT embedding FROM node_feature f JOIN encoder e USING (encoder_id) JOIN scan s USING (scan_id)"
        " WHERE e.name = %s AND s.name = %s AND instance_no = %s",
        (NODES, scan, instance),
    ).fetchall()
    return np.array(found.to_list())


def test_words_are_compared_with_each_place(store: Database) -> None:
    hits = search_triplets(
        store, RED, Slot("text", "close by"), Slot("text", "blue"), k=7, pair_encoder=CAPTIONS
    )
    assert len(hits) == 7
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        red, blue = Toy().encode_text(["red", "blue"])
        said, asked = ToyWords().encode_text([hit.predicate or "", "close by"])
        scores = [
            embedding(store, hit.scan, hit.subject) @ red,
            said @ asked,
            embedding(store, hit.scan, hit.object) @ blue,
        ]
        found = [hit.subject_similarity, hit.predicate_similarity, hit.object_similarity]
        np.testing.assert_allclose(np.array(found, float), scores, atol=2e-3)
        assert abs(hit.score - np.mean(scores)) < 2e-3


def test_pairs_of_one_space_count_in_both_directions(store: Database) -> None:
    hits = search_triplets(store, ANY, RED, ANY, k=1000, pair_encoder=POOLED)
    found = {(hit.scan, hit.subject, hit.object) for hit in hits}
    assert found == {(scan, object_, subject) for scan, subject, object_ in found}
    assert len(found) == len(hits) > 0


def test_an_instance_is_itself_and_like_it_is_what_looks_so(store: Database) -> None:
    here = Slot("instance", f"{DATASET}/{name(1)}/4")
    hits = search_triplets(store, here, ANY, ANY, k=100)
    assert {(hit.scan, hit.subject) for hit in hits} == {(name(1), 4)}
    assert {hit.score for hit in hits} == {0}
    like = search_triplets(store, replace(here, kind="like"), ANY, ANY, k=100)
    assert {hit.scan for hit in like} == {name(1), name(2), name(3)}
    for hit in like:
        expected = embedding(store, hit.scan, hit.subject) @ embedding(store, name(1), 4)
        assert hit.subject_similarity == pytest.approx(expected, abs=2e-3)


def test_a_picture_is_compared_as_the_encoder_sees_it(store: Database, tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    Image.new("RGB", (8, 6), (255, 0, 0)).save(file)
    by_picture = search_triplets(store, ANY, ANY, Slot("image", str(file)), k=9)
    by_word = search_triplets(store, ANY, ANY, RED, k=9)
    assert [hit.object for hit in by_picture] == [hit.object for hit in by_word]
    np.testing.assert_allclose([h.score for h in by_picture], [h.score for h in by_word], atol=2e-3)


def test_labels_are_annotated_ones(store: Database) -> None:
    [[subject, predicate, object_]] = store.execute(
        "SELECT subject_label, predicate, object_label FROM v_relationship LIMIT 1"
    ).fetchall()
    slots = [Slot("label", text.upper()) for text in (subject, predicate, object_)]
    hits = search_triplets(store, *slots, k=100)
    assert {(hit.subject_label, hit.predicate, hit.object_label) for hit in hits} == {
        (subject, predicate, object_)
    }
    told = store.execute(
        "SELECT DISTINCT scan, subject, object FROM v_relationship"
        " WHERE (subject_label, predicate, object_label) = (%s, %s, %s)",
        (subject, predicate, object_),
    ).fetchall()
    assert sorted((hit.scan, hit.subject, hit.object) for hit in hits) == sorted(told)


def test_filters_and_evidence(store: Database) -> None:
    def ask(**filters: object) -> list[TripletHit]:
        return search_triplets(store, RED, ANY, ANY, k=1000, filters=TripletFilters(**filters))  # type: ignore[arg-type]

    everything = ask()
    assert any(hit.frames for hit in everything)
    assert ask(with_evidence=False) == [replace(hit, frames=()) for hit in everything]
    assert ask(scan=name(2)) == [hit for hit in everything if hit.scan == name(2)]
    assert ask(scan=f"{DATASET}/{name(2)}", dataset=DATASET) == ask(scan=name(2))
    near = [hit for hit in everything if hit.distance_m is not None and hit.distance_m <= 0.5]
    assert ask(max_distance_m=0.5) == near
    assert 0 < len(near) < len(everything)
    assert ask(exact=True) == everything


def test_a_run_is_asked_by_its_own_words(store: Database) -> None:
    nodes, words = find_encoder(store, NODES), find_encoder(store, WORDS)
    run = write_run(store, "brave", nodes, words, None)
    told = write_prediction(store, run, words=words)
    store.execute(
        "INSERT INTO node_prediction SELECT scan_id, %s, instance_no, embedding, 'teacher' FROM node_feature"
        " WHERE encoder_id = %s",
        (told.prediction_id, nodes.encoder_id),
    )
    store.execute(
        "INSERT INTO edge_prediction"
        " (scan_id, prediction_id, subject_no, object_no, embedding, phrase_id, origin)"
        " SELECT c.scan_id, %s, c.subject_no, c.object_no, te.embedding, c.phrase_id, 'teacher'"
        " FROM relation_caption c JOIN term_embedding te ON te.term_id = c.phrase_id AND te.encoder_id = %s",
        (told.prediction_id, words.encoder_id),
    )
    said = Slot("text", "close by")
    like = Slot("like", f"{name(1)}/4")
    by_run = search_triplets(store, like, said, RED, k=20, run="brave")
    by_encoders = search_triplets(store, like, said, RED, k=20, pair_encoder=CAPTIONS)
    assert [hit.score for hit in by_run] == pytest.approx([hit.score for hit in by_encoders], abs=1e-6)
    assert {hit.predicate for hit in by_run} == {hit.predicate for hit in by_encoders}
    classes = write_prediction(store, run, "classes")
    with pytest.raises(UserError, match="scores of classes, not for words"):
        search_triplets(store, ANY, said, ANY, run=classes.full_name)


@pytest.mark.parametrize(
    ("slots", "options", "told"),
    [
        ((ANY, RED, ANY), {}, r"several encoders: say --pair-encoder geometry or toy"),
        ((ANY, RED, ANY), {"pair_encoder": "nobody"}, "no features of an encoder 'nobody'"),
        ((ANY, RED, ANY), {"pair_encoder": "toytokens"}, "has nothing of pairs that words are compared with"),
        ((RED, ANY, ANY), {"encoder": "nobody"}, "no features of an encoder 'nobody'"),
        ((RED, ANY, ANY), {"run": "nobody"}, "no prediction 'nobody'"),
        ((RED, ANY, ANY), {"run": "nobody", "encoder": NODES}, "leave out --encoder"),
        ((ANY, Slot("label", "on"), ANY), {"pair_encoder": POOLED}, "leave out --pair-encoder"),
        ((Slot("label", "tabel"), ANY, ANY), {}, "no instance is labelled 'tabel'"),
        ((ANY, Slot("label", "stand"), ANY), {}, "no relation is annotated 'stand'"),
        ((ANY, Slot("like", "a/1"), ANY), {"pair_encoder": POOLED}, "give words, label:PREDICATE"),
        ((ANY, Slot("instance", "a/1"), ANY), {}, "give words, label:PREDICATE"),
        ((Slot("instance", "nowhere/1"), ANY, ANY), {}, "no scan 'nowhere'"),
        ((Slot("instance", f"{name(1)}/99"), ANY, ANY), {}, "has no instance 99"),
        ((Slot("like", f"{name(1)}/99"), ANY, ANY), {}, "has no instance 99"),
        ((Slot("image", "/nowhere.png"), ANY, ANY), {}, "nowhere.png"),
        ((Slot("text", ""), ANY, ANY), {}, "the subject"),
        ((RED, ANY, ANY), {"k": 0}, "-k is 0"),
        ((RED, ANY, ANY), {"filters": TripletFilters(scan="nowhere")}, "no scan 'nowhere'"),
        ((RED, ANY, ANY), {"filters": TripletFilters(dataset="none")}, "no dataset 'none'"),
        ((RED, ANY, ANY), {"filters": TripletFilters(max_distance_m=-1)}, "--max-distance is -1"),
        ((RED, ANY, ANY), {"filters": TripletFilters(max_distance_m=float("nan"))}, "--max-distance is nan"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line(
    store: Database, slots: tuple[Slot, Slot, Slot], options: dict[str, object], told: str
) -> None:
    with pytest.raises(UserError, match=told) as raised:
        search_triplets(store, *slots, **options)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_pictures_of_another_revision_are_refused(store: Database, tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    Image.new("RGB", (8, 6), (255, 0, 0)).save(file)
    store.execute("UPDATE encoder SET revision = 'older' WHERE name = %s", [NODES])
    with pytest.raises(UserError, match=r"red\.png cannot be compared with toy@older"):
        search_triplets(store, Slot("image", str(file)), ANY, ANY)
