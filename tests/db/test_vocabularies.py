"""Vocabularies: lists of words kept exactly, embedded by encoders, dropped without what others use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from open3dsg.datasets.layouts import WordList
from open3dsg.encoders.registry import load_encoder
from open3dsg.errors import UserError
from open3dsg.store.encoders import embed_vocabularies, query_vector, register_encoder
from open3dsg.store.vocabularies import (
    add_word_lists,
    drop_vocabulary,
    find_vocabulary,
    list_vocabularies,
    remarks,
    set_vocabulary,
    vocabulary_words,
)
from tests import miniature as mini
from tests import toy_encoder
from tests.db.pipeline import KEY, Database, ingest, observe, rows


def words(database: Database, name: str) -> list[tuple[int | None, str]]:
    return [
        (row["position"], row["word"]) for row in vocabulary_words(database, find_vocabulary(database, name))
    ]


def test_a_list_is_kept_in_its_order(database: Database) -> None:
    assert set_vocabulary(database, "rooms", "class", ["sofa", "bed", "arm chair"]) == "added"
    assert words(database, "rooms") == [(0, "sofa"), (1, "bed"), (2, "arm chair")]
    assert set_vocabulary(database, "rooms", "class", ["sofa", "bed", "arm chair"]) == "unchanged"
    (found,) = list_vocabularies(database)
    assert (found.name, found.kind, found.dataset, found.terms, found.embedded) == (
        "rooms",
        "class",
        None,
        3,
        {},
    )


@pytest.mark.parametrize(
    ("kind", "others"), [("class", ["bed", "sofa"]), ("class", ["sofa"]), ("predicate", ["sofa", "bed"])]
)
def test_other_words_need_a_word(database: Database, kind: str, others: list[str]) -> None:
    set_vocabulary(database, "rooms", "class", ["sofa", "bed"])
    with pytest.raises(UserError, match=r"'rooms' already, of 2 words \(class\).*--replace"):
        set_vocabulary(database, "rooms", kind, others)  # type: ignore[arg-type]
    assert words(database, "rooms") == [(0, "sofa"), (1, "bed")]
    assert set_vocabulary(database, "rooms", kind, others, replace=True) == "replaced"  # type: ignore[arg-type]
    assert words(database, "rooms") == list(enumerate(others))
    assert find_vocabulary(database, "rooms").kind == kind


RELATIONS = ["left", "to the left of", "on", "leftish"]
LEFT = {"to the left of": "left", "leftish": "left"}


def meanings(database: Database, name: str) -> dict[str, str]:
    found = vocabulary_words(database, find_vocabulary(database, name))
    return {row["word"]: row["stands_for"] for row in found if row["stands_for"] is not None}


def test_wordings_are_part_of_what_a_list_holds(database: Database) -> None:
    assert set_vocabulary(database, "wordings", "predicate", RELATIONS, stands_for=LEFT) == "added"
    assert words(database, "wordings") == list(enumerate(RELATIONS))
    assert meanings(database, "wordings") == LEFT
    assert (find_vocabulary(database, "wordings").terms, find_vocabulary(database, "wordings").wordings) == (
        4,
        2,
    )
    assert set_vocabulary(database, "wordings", "predicate", RELATIONS, stands_for=LEFT) == "unchanged"
    for others in ({}, {"to the left of": "left"}, {**LEFT, "leftish": "on"}):
        with pytest.raises(UserError, match="'wordings' already, of 4 words"):
            set_vocabulary(database, "wordings", "predicate", RELATIONS, stands_for=others)
        assert meanings(database, "wordings") == LEFT
    outcome = set_vocabulary(
        database, "wordings", "predicate", RELATIONS, stands_for={"on": "left"}, replace=True
    )
    assert outcome == "replaced"
    assert meanings(database, "wordings") == {"on": "left"}


@pytest.mark.parametrize("others", [{"right": "left"}, {"on": "right"}, {"on": "left", "leftish": "on"}])
def test_meanings_outside_the_list_are_a_mistake_of_the_caller(
    database: Database, others: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="not in the list"):
        set_vocabulary(database, "wordings", "predicate", RELATIONS, stands_for=others)
    assert list_vocabularies(database) == []


def test_wordings_are_embedded_and_go_with_their_list(database: Database, encoders: None) -> None:
    set_vocabulary(database, "wordings", "predicate", RELATIONS, stands_for=LEFT)
    set_vocabulary(database, "other", "predicate", ["left"])
    toy = register_encoder(database, load_encoder("toy"))
    assert embed_vocabularies(database, toy, "wordings") == 4
    assert drop_vocabulary(database, "wordings") == {"words": 4, "words_kept": 1}
    assert rows(database, "SELECT text FROM term") == [("left",)]


def test_a_list_with_wordings_gives_way_to_a_datasets_own(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    add_word_lists(database, "3rscan", [WordList("relations", "predicate", RELATIONS)])
    database.execute(
        "UPDATE vocabulary_term SET stands_for = (SELECT term_id FROM term WHERE text = 'left')"
        " WHERE term_id = (SELECT term_id FROM term WHERE text = 'leftish')"
    )
    add_word_lists(database, "3rscan", [WordList("relations", "predicate", RELATIONS)])
    assert meanings(database, "3rscan-relations") == {}


def test_lists_of_a_dataset_follow_its_files(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    # A word that comes again keeps its first place, and the places of others do not move.
    add_word_lists(database, "3rscan", [WordList("classes", "class", ["bed", "sofa", "bed", "lamp"])])
    assert words(database, "3rscan-classes") == [(0, "bed"), (1, "sofa"), (3, "lamp")]
    add_word_lists(database, "3rscan", [WordList("classes", "class", ["lamp", "bed"])])
    assert words(database, "3rscan-classes") == [(0, "lamp"), (1, "bed")]
    assert find_vocabulary(database, "3rscan-classes").dataset == "3rscan"
    with pytest.raises(UserError, match="came with dataset '3rscan' and follows its files"):
        set_vocabulary(database, "3rscan-classes", "class", ["x"], replace=True)


def test_a_list_of_ones_own_is_not_overwritten_by_a_dataset(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    set_vocabulary(database, "3rscan-classes", "class", ["mine"])
    with pytest.raises(UserError, match="open3dsg vocab drop 3rscan-classes"):
        add_word_lists(database, "3rscan", [WordList("classes", "class", ["theirs"])])
    assert words(database, "3rscan-classes") == [(0, "mine")]


def test_asked_words_are_no_list_to_write_to(database: Database, encoders: None) -> None:
    toy = register_encoder(database, load_encoder("toy"))
    with pytest.raises(UserError, match="'queries' is the vocabulary of asked words"):
        set_vocabulary(database, "queries", "class", ["x"])
    query_vector(database, toy, "red")
    with pytest.raises(UserError, match="'queries' is the vocabulary of asked words"):
        set_vocabulary(database, "queries", "class", ["x"], replace=True)
    assert find_vocabulary(database, "queries").embedded == {"toy@0123456789abcdef": 1}
    assert drop_vocabulary(database, "queries") == {"words": 1, "words_kept": 0}
    assert rows(database, "SELECT * FROM term_embedding") == []
    query_vector(database, toy, "red")
    assert words(database, "queries") == [(None, "red")]


def test_a_list_is_embedded_some_words_at_a_time(
    database: Database, encoders: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("open3dsg.store.encoders._TOGETHER", 2)
    sizes: list[int] = []
    encode = toy_encoder.Toy.encode_text

    def count(self: toy_encoder.Toy, texts: Sequence[str]) -> NDArray[np.float32]:
        sizes.append(len(texts))
        return encode(self, texts)

    monkeypatch.setattr(toy_encoder.Toy, "encode_text", count)
    set_vocabulary(database, "relations", "predicate", ["red", "green", "blue", "white", "on"])
    set_vocabulary(database, "other", "class", ["chair"])
    toy = register_encoder(database, load_encoder("toy"))
    assert embed_vocabularies(database, toy, "relations") == 5
    assert sizes == [2, 2, 1]
    assert embed_vocabularies(database, toy, "relations") == 0
    assert find_vocabulary(database, "relations").embedded == {"toy@0123456789abcdef": 5}
    assert find_vocabulary(database, "other").embedded == {}
    assert embed_vocabularies(database, toy) == 1, "without a name, lists of classes"


def test_nodes_are_classified_by_an_added_list(database: Database, root: Path, encoders: None) -> None:
    from open3dsg.steps.features import DumpNodes, FeatureOptions

    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    DumpNodes(FeatureOptions("toypixels"))(database, KEY)
    set_vocabulary(database, "colours", "class", ["red", "green", "blue", "white"])
    classify = "SELECT label, rank, term FROM classify_nodes_v1('toypixels', 'colours', 2)"
    with pytest.raises(psycopg.errors.NoDataFound, match="4 terms of vocabulary colours have no embedding"):
        database.execute(classify.encode())
    embed_vocabularies(database, register_encoder(database, load_encoder("toypixels")), "colours")
    found = rows(database, classify)
    best = {label: term for label, rank, term in found if rank == 1}
    colours = list(toy_encoder.COLOURS)
    words = toy_encoder.embed_colours(np.array(list(toy_encoder.COLOURS.values()), float))
    for label, embedding in rows(
        database,
        "SELECT label, embedding FROM node_feature f JOIN v_node n"
        " ON (n.scan_id, n.instance) = (f.scan_id, f.instance_no)",
    ):
        assert best[label] == colours[int((words @ embedding.to_numpy()).argmax())]
    assert best["picture"] == "red"
    assert len(found) == 8


def test_words_that_others_use_stay(database: Database, root: Path, encoders: None) -> None:
    ingest(root)(database, mini.NAME)
    set_vocabulary(database, "one", "class", ["table", "sofa", "standing on", "bed"])
    set_vocabulary(database, "two", "class", ["sofa"])
    toy = register_encoder(database, load_encoder("toy"))
    embed_vocabularies(database, toy)
    assert drop_vocabulary(database, "one") == {"words": 4, "words_kept": 3}
    assert rows(database, "SELECT text FROM term WHERE text = 'bed'") == []
    assert len(rows(database, "SELECT * FROM term_embedding")) == 3
    assert words(database, "two") == [(0, "sofa")]
    with pytest.raises(UserError, match="no vocabulary 'one' in the store; it has two"):
        drop_vocabulary(database, "one")


@pytest.mark.parametrize(
    ("name", "kind", "count", "told"),
    [
        ("3dssg_classes", "class", 160, None),
        (
            "3dssg_classes",
            "class",
            528,
            "528 words; the published list of 3dssg has 160 (528 is 3RScan's whole",
        ),
        ("3DSSG", "class", 159, "159 words; the published list of 3dssg has 160"),
        ("3dssg", "predicate", 40, None),
        ("scannet200", "class", 20, "the published list of scannet200 has 200"),
        ("scannet20", "class", 20, None),
        ("kitchen", "class", 528, None),
    ],
)
def test_lists_of_the_wrong_length_are_told(name: str, kind: str, count: int, told: str | None) -> None:
    found = remarks(name, kind, count)
    assert len(found) == (0 if told is None else 1)
    assert told is None or told in found[0]
