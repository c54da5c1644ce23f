"""`query triplets`, `path`, `similar` and phrases as people type them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from open3dsg.db.connect import connect
from open3dsg.query.paths import chain_of, search_paths
from open3dsg.query.phrases import read_phrase
from open3dsg.query.similar import similar_instances
from open3dsg.query.slots import ANY, Slot
from open3dsg.query.triplets import TripletHit, search_triplets
from tests.command import Done
from tests.conftest import as_url
from tests.db import trained

Run = Callable[..., Done]
BOTH = ("--encoder", "toy", "--pair-encoder", "toy")
PHRASE = "the red next to the green"


def asked(
    database: psycopg.Connection[Any], subject: Slot, predicate: Slot, object_: Slot
) -> list[TripletHit]:
    return search_triplets(database, subject, predicate, object_, k=3, encoder="toy", pair_encoder="toy")


@pytest.fixture(scope="module")
def full(
    template: str, new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Two scans with features and captions of pairs; tests leave them as they are."""
    url = as_url(new_database("asked_in_triplets", template=template))
    with pytest.MonkeyPatch.context() as patch, connect(url) as connection:
        trained.with_toys(tmp_path_factory.mktemp("encoders"), patch)
        connection.autocommit = True
        trained.trainable(connection, tmp_path_factory.mktemp("scans"))
        for words in (
            "red",
            "green",
            "blue",
            "next to",
            "nothing like it",
        ):  # else the first question keeps them
            asked(connection, Slot("text", words), Slot("text", words), ANY)
        yield url


@pytest.fixture
def database_url(full: str) -> str:
    return full


@pytest.fixture
def variables(variables: dict[str, str]) -> dict[str, str]:
    return variables | {"OPEN3DSG_ENCODERS": trained.SETTINGS}


def test_triplets(run: Run, database: psycopg.Connection[Any]) -> None:
    slots = Slot("text", "red"), Slot("text", "next to"), Slot("text", "green")
    expected = [hit.as_json() for hit in asked(database, *slots)]
    command = ("query", "triplets", "red", "next to", "green", "-k", 3, *BOTH)
    found = run(*command, "--json").json
    assert found == [hit | {"frames": list(hit["frames"])} | _positions(hit) for hit in expected]
    header, *lines = run(*command).out.splitlines()
    names = "score scan subject predicate object of subject of predicate of object distance m frames"
    assert " ".join(header.split()) == names
    assert len(lines) == 3
    for line, hit in zip(lines, expected, strict=True):
        assert line.startswith(f"{hit['score']:.3f}  {hit['dataset']}/{hit['scan']}")
        assert f"{hit['subject']} {hit['subject_label']}" in line
        assert line.endswith(" ".join(map(str, hit["frames"])))


def _positions(hit: dict[str, Any]) -> dict[str, list[float]]:
    return {name: list(hit[name]) for name in ("subject_position", "object_position")}


def test_filters(run: Run) -> None:
    asked = ("query", "triplets", "red", "*", "*", "-k", 99, "--encoder", "toy")
    everything = run(*asked, "--json").json
    one = run(*asked, "--scan", trained.name(2), "--json").json
    assert {hit["scan"] for hit in one} == {trained.name(2)}
    assert len(one) < len(everything) == len(run(*asked, "--dataset", "3rscan", "--json").json)
    middle = sorted(hit["distance_m"] for hit in everything)[len(everything) // 2]
    near = run(*asked, "--max-distance", middle, "--json").json
    assert near == [hit for hit in everything if hit["distance_m"] <= middle]
    done = run(*asked, "--within", 90, 90, 90, 91, 91, 91)
    assert (done.code, done.out, done.err) == (0, "", "no pair passes the filters\n")


def test_paths_and_phrases_are_the_same_question(run: Run, database: psycopg.Connection[Any]) -> None:
    expected = search_paths(database, chain_of(read_phrase(PHRASE)), k=2, encoder="toy", pair_encoder="toy")
    path = run("query", "path", "red", "next to", "green", "-k", 2, *BOTH, "--json").json
    done = run("query", PHRASE, "-k", 2, *BOTH, "--json")
    assert done.err == "read as: red -next to-> green\n"
    assert done.json == {"read_as": "red -next to-> green", "remarks": [], **path}
    assert [hit["score"] for hit in path["hits"]] == [hit.score for hit in expected.hits]
    assert [[thing["instance"] for thing in hit["things"]] for hit in path["hits"]] == [
        [number for number, _ in hit.things] for hit in expected.hits
    ]
    assert run("query", "phrase", PHRASE, "-k", 2, *BOTH).out == run("query", PHRASE, "-k", 2, *BOTH).out
    lines = run("query", "path", "red", "*", "green", "next to", "*", "-k", 1, *BOTH).out.splitlines()
    assert lines[0].startswith(f"1. 3rscan/{trained.name(1)}: ")
    assert len(lines) == 4  # the hit, a header, and two triplets


def test_a_phrase_without_a_relation(run: Run) -> None:
    done = run("query", "the red", "-k", 2, "--encoder", "toy")
    assert done.err.splitlines() == [
        "read as: red",
        "  no relation is said: objects like these words are searched",
    ]
    hits = run("query", "nodes", "red", "-k", 2, "--encoder", "toy", "--json").json
    told = [f"{hit['label']} {hit['instance']}; score {hit['similarity']:.3f}" for hit in hits]
    assert [line.partition(": ")[2] for line in done.out.splitlines()] == told
    nowhere = run("query", "the red", "--encoder", "toy", "--within", 90, 90, 90, 91, 91, 91)
    assert (nowhere.out, nowhere.err.splitlines()[-1]) == ("", "no object passes the filters")


def test_similar(run: Run, database: psycopg.Connection[Any]) -> None:
    asked = ("query", "similar", f"{trained.key(1)}/7", "-k", 2, "--encoder", "toy")
    expected = similar_instances(database, trained.key(1), 7, k=2, encoder="toy")
    assert run(*asked, "--json").json == [hit.as_json() for hit in expected]
    assert {hit.scan for hit in expected} == {trained.name(2)}
    everywhere = run(*asked, "--same-scan", "-k", 99, "--json").json
    assert {hit["scan"] for hit in everywhere} == {trained.name(1), trained.name(2)}
    assert (trained.name(1), 7) not in {(hit["scan"], hit["instance"]) for hit in everywhere}
    assert run(*asked).out.splitlines()[0].split()[:3] == ["query", "similarity", "label"]


HOSTILE = "'; DROP TABLE scan; --"

REFUSED = [
    (("triplets", "", "*", "*"), "the subject is empty"),
    (("triplets", "instance:nowhere/1", "*", "*"), "no scan 'nowhere'"),
    (("triplets", "like:mini-0001/99", "*", "*"), "99"),
    (("triplets", "label:tabel", "*", "*"), "no instance is labelled 'tabel'"),
    (("triplets", "*", "label:nex to", "*"), "no relation is annotated 'nex to'"),
    (("triplets", "image:/nope.png", "*", "*", "--encoder", "toy"), "/nope.png: cannot be read"),
    (("triplets", "red", "on", "*", "--encoder", "toy"), "say --pair-encoder geometry or toy"),
    (("triplets", "red", "*", "*", "--run", "otter"), "no prediction 'otter'"),
    (("triplets", "*", "*", "*", "--run", "otter", "--encoder", "toy"), "leave out --encoder and"),
    (("triplets", "*", "*", "*", "--scan", HOSTILE), "no scan"),
    (("triplets", "*", "*", "*", "--max-distance", "nan"), "--max-distance is nan"),
    (("triplets", "*", "*", "*", "--within", "nan", 0, 0, 1, 1, 1), "give six finite numbers"),
    (("triplets", "*", "*", "*", "-k", 0), "-k"),
    (("triplets", "*", "*", "*", "-k", 99_999_999_999), "give 1 to 2147483647"),
    (("triplets", "*", "*"), "Missing argument 'OBJECT'"),
    (("path", "a", "on"), "2 slots are no path"),
    (("path", *"abcdefghijklm"), "each of 2 to 6 things"),
    (("similar", "12"), "'12' names no instance"),
    (("similar", "mini-0001/99", "--encoder", "toy"), "instance 99 of scan 3rscan/mini-0001 has nothing"),
    (("similar", "mini-0001/99999999999"), "names no instance"),
    (("similar", "mini-0001/7", "--run", "otter", "--encoder", "toy"), "leave out --encoder"),
    (("on the desk",), "there is no thing before 'on'"),
    (("m" * 300 + " on " + "d" * 300,), "the phrase has 604 characters"),
    (("the red", "--max-distance", 1), "says no relation"),
    (("phrase", "something"), "asks for anything"),
    (("nodse", "chair"), "Did you mean 'nodes'? A phrase is one argument"),
    (("the", "mug", "on", "the", "desk"), "A phrase is one argument: open3dsg query"),
    (("",), "No such command ''"),
]


@pytest.mark.parametrize(("arguments", "told"), REFUSED)
def test_what_cannot_be_asked_is_one_line(
    refused: Callable[..., str], arguments: tuple[object, ...], told: str
) -> None:
    assert told in refused("query", *arguments)
