"""The viewer without a browser: level of detail, colours, arrows, text that stays text, jobs, ports."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.cli.ports import check_port
from open3dsg.errors import UserError
from open3dsg.query.graph import GraphEdge, GraphNode, StoredGraph
from open3dsg.view.browser.colours import (
    BACKGROUND,
    instance_colours,
    label_colours,
    paint,
    similarity_colours,
)
from open3dsg.view.browser.comparison import NOTHING, Row, as_table, compare_edges, compare_nodes
from open3dsg.view.browser.evidence import outline
from open3dsg.view.browser.lines import APART_M, arrows, box_lines, cone
from open3dsg.view.browser.serve import is_local, is_own_page
from open3dsg.view.browser.text import html, joined, plain, short
from open3dsg.view.browser.thinning import near_points, progressive_order, spacing_m
from open3dsg.view.browser.worker import Worker

EVIL = '<img src=x onerror="a()">{a()}<script>a()</script>&\'\u202e'


def cells_held(points: np.ndarray, side: float) -> int:
    return len({tuple(cell) for cell in np.floor(points / side).astype(int).tolist()})


def test_every_beginning_covers_the_room() -> None:
    rng = np.random.default_rng(3)
    floor = np.column_stack([rng.random((40_000, 2)) * 8, np.zeros(40_000)])
    heap = rng.random((60_000, 3)) * 0.5  # most points lie in one corner
    points = np.vstack([heap, floor]).astype(np.float32)
    order = progressive_order(points)
    assert sorted(order.tolist()) == list(range(len(points)))
    coarse = points[order[:2_000]]
    assert cells_held(coarse[:, :2], 1.0) == 64  # every square metre of the floor has some
    spread = np.array(
        [((coarse[:, 0] // 2 == x) & (coarse[:, 1] // 2 == y)).sum() for x in (1, 2, 3) for y in (1, 2, 3)]
    )
    assert spread.min() > 0.6 * spread.max()
    at_random = points[rng.permutation(len(points))[:2_000]]
    assert cells_held(coarse, 0.2) > 1.5 * cells_held(at_random, 0.2)


@pytest.mark.parametrize("points", [np.empty((0, 3)), np.ones((1, 3)), np.ones((50, 3)), -np.eye(3)])
def test_few_or_coincident_points_are_ordered_too(points: np.ndarray) -> None:
    assert sorted(progressive_order(points.astype(np.float32)).tolist()) == list(range(len(points)))


def test_near_points_are_the_first_within_the_radius() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((500, 3)).astype(np.float32)
    order = progressive_order(points)
    focus = np.array([0.5, 0.5, 0.5])
    expected = [i for i in order.tolist() if np.linalg.norm(points[i] - focus) <= 0.3]
    assert near_points(points, order, focus, 0.3, 10**6).tolist() == expected
    assert near_points(points, order, focus, 0.3, 5).tolist() == expected[:5]


def test_spacing_is_that_of_each_instance() -> None:
    here, there = (
        np.stack(np.meshgrid(range(n), range(n), [0], indexing="ij"), -1).reshape(-1, 3) for n in (20, 50)
    )
    points = np.vstack([here * 0.05, there * 0.01 + 9, [[50, 50, 50]]]).astype(np.float32)
    instance = np.repeat(np.array([7, -1, 3], np.int32), [len(here), len(there), 1])
    for sample in (100, 10**6):
        numbers, spacing = spacing_m(points, instance, sample)
        assert numbers.tolist() == [-1, 3, 7]
        assert spacing[[0, 2]].tolist() == pytest.approx([0.01, 0.05], rel=1e-3)
    numbers, spacing = spacing_m(points[:3], instance[:3])  # too few to have neighbours
    assert (numbers.tolist(), len(spacing)) == ([7], 1)
    assert not len(spacing_m(points[:0], instance[:0])[0])


def test_points_take_the_colour_of_their_instance() -> None:
    rgb = np.full((5, 3), 255, np.uint8)
    instance = np.array([7, -1, 3, 9, 7], np.int32)
    colours = np.array([[200, 0, 0], [0, 100, 0]], np.uint8)
    painted = paint(rgb, instance, np.array([3, 7], np.int32), colours)
    light = 1.1  # of a white point
    assert painted[0].tolist() == painted[4].tolist() == [0, int(100 * light), 0]
    assert painted[2].tolist() == [int(200 * light), 0, 0]
    for background in (painted[1], painted[3]):
        assert background.tolist() == [min(255, int(channel * light)) for channel in BACKGROUND]
    dark = paint(np.zeros_like(rgb), instance, np.array([3, 7], np.int32), colours)
    assert dark[2].tolist() == [120, 0, 0]


def test_colours_tell_instances_apart_and_call_a_label_the_same_everywhere() -> None:
    assert len(np.unique(instance_colours(range(60)), axis=0)) == 60
    first, second = label_colours(["chair", "table"]), label_colours(["Table", "sofa", "Chair"])
    assert first.tolist() == second[[2, 0]].tolist()
    assert label_colours([]).shape == (0, 3)


def test_similarity_runs_from_dark_to_light() -> None:
    colours = similarity_colours(np.array([0.1, 0.5, 0.3, np.nan, 0.1]))
    light = colours.astype(int) @ [299, 587, 114]
    assert light[0] < light[2] < light[1]
    assert colours[0].tolist() == colours[4].tolist() == [68, 1, 84]
    assert colours[1].tolist() == [253, 231, 37]
    assert colours[3].tolist() == list(BACKGROUND)
    assert similarity_colours(np.array([0.2, 0.2])).tolist() == [[68, 1, 84]] * 2
    assert similarity_colours(np.array([np.nan])).tolist() == [list(BACKGROUND)]


def turned_up(wxyz: np.ndarray) -> np.ndarray:
    """Turn +z by a quaternion, as q k q* written out."""
    w, x, y, z = wxyz
    return np.array([2 * (x * z + w * y), 2 * (y * z - w * x), w * w - x * x - y * y + z * z])


@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 6), min_size=1, max_size=8))
def test_arrows_point_from_subject_to_object(ends: list[tuple[float, ...]]) -> None:
    points = np.array(ends)
    subjects, objects = points[:, :3], points[:, 3:]
    drawn = arrows(subjects, objects)
    for line, head, wxyz, a, b in zip(drawn.lines, drawn.heads, drawn.wxyz, subjects, objects, strict=True):
        assert np.abs(np.linalg.norm(line - [a, b], axis=1)).max() < APART_M + 1e-4
        np.testing.assert_allclose(head, line[0] + 0.6 * (line[1] - line[0]), atol=1e-4)
        assert np.linalg.norm(wxyz) == pytest.approx(1, abs=1e-5)
        if np.linalg.norm(b - a) > 1e-3:
            np.testing.assert_allclose(turned_up(wxyz), (b - a) / np.linalg.norm(b - a), atol=1e-3)


@pytest.mark.parametrize("to", [(2, 0, 0), (0, 0, 3), (1, -2, 0.5), (0, 0, -1)])
def test_both_directions_lie_side_by_side(to: tuple[float, float, float]) -> None:
    here, there = np.zeros((1, 3)), np.array([to], np.float64)
    out, back = arrows(here, there).lines[0], arrows(there, here).lines[0]
    assert np.linalg.norm(out[0] - back[1]) == pytest.approx(2 * APART_M, abs=1e-5)


def test_boxes_have_twelve_edges_along_their_axes() -> None:
    half = np.array([[[1, 0, 0], [0, 2, 0], [0, 0, 3]]], np.float64)
    lines = box_lines(np.array([[10.0, 0, 0]]), half)[0]
    assert lines.shape == (12, 2, 3)
    lengths = sorted(np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1).tolist())
    assert lengths == [2] * 4 + [4] * 4 + [6] * 4
    assert lines.reshape(-1, 3).min(axis=0).tolist() == [9, -2, -3]
    assert len(np.unique(lines.reshape(-1, 3), axis=0)) == 8


def test_a_cone_is_closed_and_points_up() -> None:
    vertices, faces = cone(0.1, 0.4)
    edges = np.sort(np.vstack([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert vertices[vertices[:, 2].argmax()].tolist() == pytest.approx([0, 0, 0.2])
    corners = vertices[faces]
    outwards = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum("ij,ij->i", outwards, corners.mean(axis=1)) > 0).all()


@given(st.text())
def test_text_never_becomes_markup(text: str) -> None:
    markup = html("<b>{}</b>", text).markup
    inside = markup.removeprefix("<b>").removesuffix("</b>")
    assert not set("<>\"'") & set(inside)
    assert "\n" not in inside


def test_markup_of_ours_stays_markup_and_braces_are_no_places() -> None:
    inner = html("<i>{}</i>", EVIL)
    outer = html("<div>{}{}</div>", inner, "{0}").markup
    assert outer.startswith("<div><i>&lt;img src=x onerror=&quot;a()&quot;&gt;{a()}&lt;script&gt;")
    assert outer.endswith("&amp;&#x27;\N{REPLACEMENT CHARACTER}</i>{0}</div>")
    assert joined([inner, inner]).markup == inner.markup * 2


def test_labels_are_one_short_line() -> None:
    assert plain("a\n b\u202ec\x07") == "a b\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}"
    assert short("x" * 100, 10) == "x" * 9 + "…"
    assert short("x" * 10, 10) == "x" * 10


def node(number: int, label: str, predicted: str | None = None, *, corrected: bool = False) -> GraphNode:
    at = (float(number), 0.0, 0.0)
    return GraphNode(
        number, label, "thing", predicted, None if predicted is None else 0.5, corrected, at, at, at,
        None, None, None, 10, {},
    )  # fmt: skip


def edge(subject: int, predicate: str, object_: int) -> GraphEdge:
    return GraphEdge(subject, predicate, object_, "predicted", 0.5, None, None)


def test_two_graphs_differ_in_what_they_call_things() -> None:
    first = StoredGraph(
        "d", "s", None, (node(1, "chair"), node(2, "table"), node(3, "lamp")), (edge(1, "near", 2),)
    )
    second = StoredGraph(
        "d",
        "s",
        "r:student",
        (node(1, "Chair", "Chair"), node(2, "desk", "desk"), node(3, "sun", None)),
        (edge(1, "on", 2), edge(1, "near", 2), edge(2, "under", 1)),
    )
    rows = compare_nodes(first, second)
    assert [(row.first, row.second, row.differs) for row in rows] == [
        ("chair", "Chair", False),
        ("table", "desk", True),
        ("lamp", NOTHING, True),
    ]
    assert [(row.first, row.second) for row in compare_edges(first, second)] == [
        ("near", "near, on"),
        (NOTHING, "under"),
    ]
    corrected = StoredGraph("d", "s", "r:student", (node(3, "sun", None, corrected=True),), ())
    assert [row.second for row in compare_nodes(first, corrected)][2] == "sun"
    told = as_table([*rows, Row(EVIL, "a", "a")], "Objects", "as annotated", "r:student").markup
    assert "Objects: 2 of 4 differ" in told
    assert told.index("table") < told.index("chair")  # what differs comes first
    assert "<img" not in told


def test_a_box_is_outlined_inwards() -> None:
    photo = np.zeros((60, 80, 3), np.uint8)
    drawn = outline(photo, (10, 20, 40, 50), (255, 0, 0))
    painted = drawn[..., 0] > 0
    assert painted[20:50, 10:12].all()
    assert painted.sum() == 30 * 30 - 26 * 26
    assert not photo.any()


def test_of_waiting_jobs_of_a_name_the_newest_runs() -> None:
    worker, done, go = Worker("test"), [], threading.Event()
    finished = threading.Event()
    worker.post("first", lambda: (go.wait(10), None)[1])
    for letter in "abc":
        worker.post("question", lambda letter=letter: done.append(letter))  # type: ignore[misc]
    worker.post("last", finished.set, 0.01)
    go.set()
    assert finished.wait(10)
    assert done == ["c"]
    worker.close()


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=f"cannot listen at 127.0.0.1:{port}: Address already in use: give"
        ):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    for host in ("no.such.host.invalid", "192.0.2.1"):
        with pytest.raises(UserError, match=f"cannot listen at {host}"):
            check_port(host, 0)


OWN: Mapping[str, tuple[str | None, str, str, bool]] = {
    "the page itself": ("http://127.0.0.1:8080", "127.0.0.1:8080", "127.0.0.1", True),
    "through a tunnel": ("http://localhost:9000", "localhost:9000", "127.0.0.1", True),
    "no browser": (None, "127.0.0.1:8080", "127.0.0.1", True),
    "another site": ("https://evil.example", "127.0.0.1:8080", "127.0.0.1", False),
    "another port": ("http://localhost:3000", "localhost:8080", "127.0.0.1", False),
    "another's name for us": ("http://evil.example:8080", "evil.example:8080", "127.0.0.1", False),
    "served to all": ("http://lab.example:8080", "lab.example:8080", "0.0.0.0", True),
    "another site, served to all": ("http://evil.example", "lab.example:8080", "0.0.0.0", False),
    "version 6": ("http://[::1]:8080", "[::1]:8080", "::1", True),
}


@pytest.mark.parametrize("case", OWN)
def test_pages_of_other_sites_get_nothing(case: str) -> None:
    origin, asked, host, is_ours = OWN[case]
    assert is_own_page(origin, asked, host) is is_ours


def test_local_hosts() -> None:
    assert all(map(is_local, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_local, ("0.0.0.0", "::", "192.168.1.5", "lab.example")))
