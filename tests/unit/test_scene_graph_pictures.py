"""Pictures of scene graphs: what stands on them, and that nothing stands on anything else."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest

from open3dsg.errors import UserError
from open3dsg.export.graph_layout import place_boxes
from open3dsg.export.scene_graphs import graph_bytes
from open3dsg.export.svg import MOST_BOXES
from open3dsg.query.graph import StoredGraph
from tests import scene_graphs as made

SVG = "{http://www.w3.org/2000/svg}"


def drawn(graph: StoredGraph) -> ElementTree.Element:
    return ElementTree.fromstring(graph_bytes(graph, "svg"))


def texts(label: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in label.iter(f"{SVG}text")]


def boxes(picture: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    """Left, top, right, bottom of each label."""
    found = []
    for rect in picture.iterfind(f"{SVG}g/{SVG}rect"):
        x, y, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        found.append((x, y, x + width, y + height))
    return found


def test_each_object_and_each_pair_is_labelled() -> None:
    picture = drawn(made.room())
    labels = [texts(label) for label in picture.iterfind(f"{SVG}g")]
    assert labels[:4] == [["floor", "1"], ["table", "4"], ["cup", "7"], ["lamp", "30"]]
    assert labels[4:] == [
        ["standing on"],
        ["standing on", "smaller than"],
        ["bigger than"],
        ["close by"],  # of both directions, drawn once
    ]
    lines = picture.findall(f"{SVG}polyline")
    assert ["marker-start" in line.attrib for line in lines] == [False, False, False, True]
    told = [label.findtext(f"{SVG}title") for label in picture.iterfind(f"{SVG}g")]
    assert told[0] == "1: floor"
    assert told[4] == "4 standing on 1: predicted, 0.75"
    assert picture.findtext(f"{SVG}title") == "room-1, run:first"


def test_lines_lead_from_the_border_of_the_subject_to_that_of_the_object() -> None:
    picture = drawn(made.room())
    around = boxes(picture)
    line = picture.findall(f"{SVG}polyline")[0]  # table, standing on, floor
    ends = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    for (x, y), (left, top, right, bottom) in ((ends[0], around[1]), (ends[2], around[0])):
        outside = max(left - x, x - right, top - y, y - bottom)
        assert abs(outside) < 0.2
    left, top, right, bottom = around[4]
    assert left < ends[1][0] < right
    assert top < ends[1][1] < bottom


def test_no_label_lies_on_another_however_dense_the_graph() -> None:
    random = np.random.default_rng(1)
    nodes = tuple(
        made.node(number, "a long name of an object"[: 3 + number], (*random.uniform(0, 3, 3),))
        for number in range(14)
    )
    edges = tuple(
        made.edge(a, "standing on" if a < b else "supporting", b)
        for a in range(14)
        for b in range(14)
        if a != b
    )
    found = boxes(drawn(replace(made.room(), nodes=nodes, edges=edges)))
    assert len(found) == 14 + 14 * 13
    for (l1, t1, r1, b1), (l2, t2, r2, b2) in combinations(found, 2):
        assert l1 >= r2 or l2 >= r1 or t1 >= b2 or t2 >= b1


def test_the_same_graph_is_the_same_picture() -> None:
    assert graph_bytes(made.room(), "svg") == graph_bytes(made.room(), "svg")


def test_everything_lies_within_the_picture() -> None:
    picture = drawn(made.room())
    x, y, width, height = map(float, picture.attrib["viewBox"].split())
    for left, top, right, bottom in boxes(picture):
        assert x < left < right < x + width
        assert y < top < bottom < y + height


@pytest.mark.parametrize("name", [made.ODD, "</text><script>alert(1)</script>", "x" * 500, " \n "])
def test_names_are_text_and_short(name: str) -> None:
    picture = drawn(made.odd(name))
    assert {element.tag for element in picture.iter()} == {
        f"{SVG}{tag}" for tag in ("svg", "title", "defs", "marker", "path", "rect", "text", "polyline", "g")
    }
    for label in picture.iterfind(f"{SVG}g"):
        assert all(0 < len(line) <= 32 and "\n" not in line for line in texts(label))
    told = picture.findall(f"{SVG}g")[0].findtext(f"{SVG}title")
    assert told == "2: " + re.sub("[\x00\x1b\ud800]", "\N{REPLACEMENT CHARACTER}", name)


def test_many_predicates_of_a_pair_are_cut_and_told_in_full() -> None:
    edges = tuple(made.edge(1, f"relation {number}", 4) for number in range(9))
    label = drawn(replace(made.room(), edges=edges)).findall(f"{SVG}g")[-1]
    assert texts(label) == ["relation 0", "relation 1", "relation 2", "and 6 more"]
    assert (label.findtext(f"{SVG}title") or "").count("\n") == 8


def test_a_picture_of_too_much_is_refused() -> None:
    nodes = tuple(made.node(number, "place") for number in range(MOST_BOXES + 1))
    with pytest.raises(UserError, match="has 2,001 nodes and 0 labelled edges; a picture of more than 2,000"):
        graph_bytes(replace(made.room(), nodes=nodes, edges=()), "svg")


def test_boxes_that_begin_in_one_place_are_parted() -> None:
    sizes = np.tile([[40.0, 10.0]], (30, 1))
    centres = place_boxes(sizes, [(0, 1)], np.zeros((30, 2)), gap=5.0)
    apart = np.abs(centres[:, None] - centres[None])[np.triu_indices(30, 1)]
    assert ((apart[:, 0] > 44.8) | (apart[:, 1] > 14.8)).all()
