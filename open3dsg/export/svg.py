"""Scene graphs as pictures: SVG, drawn so that no label lies on another.

Objects are boxes; what is said of one object and another is a text of its own, on the way from the subject to
the object. The layout begins with the room as seen from above, where places are known.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import numpy as np

from open3dsg.errors import UserError
from open3dsg.export.graph_layout import place_boxes
from open3dsg.export.hits import hit_colours
from open3dsg.export.xml_text import xml_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from open3dsg.query.graph import GraphEdge, StoredGraph

MOST_BOXES = 2000  # labels of nodes and edges together: pictures of more are none

_FONT = "Helvetica, Arial, sans-serif"
_NODE_SIZE, _EDGE_SIZE = 15, 12  # of the letters, in pixels
_LINE = 1.3  # height of a line, in letters
_LONGEST = 32  # letters of a line; the rest is in the tooltip
_LINES = 4  # predicates under each other; the tooltip has all
_GAP, _MARGIN, _TITLE = 10.0, 24.0, 42.0
# What an edge says is told by its colour: the source of `GraphEdge`.
_COLOURS = {"annotated": "#333333", "captioned": "#228833", "predicted": "#2b5f91", "corrected": "#b3392f"}


@dataclass(frozen=True)
class _Label:
    """A text on the picture."""

    lines: Sequence[str]
    told: str  # in the tooltip
    letters: int  # their size in pixels
    padding: float
    colour: str
    fill: str | None = None  # of the box around it; None: there is none

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels; letters are taken for a little wider than they are."""
        ems = max(sum(map(_width, line)) for line in self.lines)
        high = len(self.lines) * self.letters * _LINE
        return ems * self.letters + 2 * self.padding, high + self.padding


@dataclass(frozen=True)
class _Link:
    """What is said of one node and another; of both in the same words, it is drawn once."""

    subject: int  # places among the nodes
    object: int
    both_ways: bool
    label: _Label


def svg_bytes(graph: StoredGraph) -> bytes:
    """Return the picture.

    Raises UserError where networkx is missing, and for a graph of more than `MOST_BOXES` labels.
    """
    nodes = _node_labels(graph)
    links = _links(graph)
    labels = [*nodes, *(link.label for link in links)]
    if len(labels) > MOST_BOXES:
        raise UserError(
            f"the graph of {graph.scan} has {len(nodes):,} nodes and {len(links):,} labelled edges; a picture"
            f" of more than {MOST_BOXES:,} cannot be read: take --format graphml"
        )
    sizes = np.array([label.size for label in labels], float).reshape(-1, 2)
    joined = [(len(nodes) + at, end) for at, link in enumerate(links) for end in (link.subject, link.object)]
    centres = place_boxes(sizes, joined, _hints(graph, links), _GAP)
    return "\n".join(_draw(graph, labels, links, centres, sizes)).encode()


def _node_labels(graph: StoredGraph) -> list[_Label]:
    """Return a box a node; those of one label have one colour."""
    kinds = {label: place for place, label in enumerate(sorted({node.label for node in graph.nodes}))}
    colours = hit_colours(list(kinds.values()))
    return [
        _Label(
            lines=[_short(node.label), str(node.instance)],
            told=f"{node.instance}: {node.label}",
            letters=_NODE_SIZE,
            padding=9.0,
            colour="#111111",
            fill=_pale(colours[kinds[node.label]]),
        )
        for node in graph.nodes
    ]


def _links(graph: StoredGraph) -> list[_Link]:
    """Gather what is said of subject and object into one label; of both directions where it is the same."""
    place = {node.instance: at for at, node in enumerate(graph.nodes)}
    said: dict[tuple[int, int], list[GraphEdge]] = {}
    for edge in graph.edges:
        said.setdefault((place[edge.subject], place[edge.object]), []).append(edge)
    links = []
    for (subject, target), edges in said.items():
        back = said.get((target, subject), [])
        same = {edge.predicate for edge in edges} == {edge.predicate for edge in back}
        if not same or subject < target:
            links.append(_Link(subject, target, same, _edge_label(edges)))
    return links


def _edge_label(edges: Sequence[GraphEdge]) -> _Label:
    predicates = list(dict.fromkeys(edge.predicate for edge in edges))
    lines = [_short(predicate) for predicate in predicates[:_LINES]]
    if len(predicates) > _LINES:
        lines[-1] = f"and {len(predicates) - _LINES + 1} more"
    told = (
        f"{edge.subject} {edge.predicate} {edge.object}: {edge.source}"
        + ("" if edge.similarity is None else f", {edge.similarity:.2f}")
        for edge in edges
    )
    return _Label(lines, "\n".join(told), _EDGE_SIZE, 3.0, _COLOURS[edges[0].source])


def _hints(graph: StoredGraph, links: Sequence[_Link]) -> NDArray[np.float64]:
    """Return where nodes and links begin, (N, 2): as seen from above, y up the page; else on a circle."""
    angles = np.linspace(0, 2 * np.pi, len(graph.nodes), endpoint=False)
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    known = [at for at, node in enumerate(graph.nodes) if node.centroid_m is not None]
    if known:
        seen = np.array([(graph.nodes[at].centroid_m or ())[:2] for at in known], float) * (1.0, -1.0)
        reach = np.ptp(seen, axis=0).max() / 2 + 1.0
        places = seen.mean(axis=0) + places * reach
        places[known] = seen
    middles = [(places[link.subject] + places[link.object]) / 2 for link in links]
    return np.concatenate([places, np.array(middles, float).reshape(-1, 2)])


def _draw(
    graph: StoredGraph,
    labels: Sequence[_Label],
    links: Sequence[_Link],
    centres: NDArray[np.float64],
    sizes: NDArray[np.float64],
) -> Iterator[str]:
    """Give the lines of the file: the lines of links first, labels over them."""
    low = (centres - sizes / 2).min(axis=0, initial=0) - _MARGIN - (0, _TITLE)
    high = (centres + sizes / 2).max(axis=0, initial=0) + _MARGIN
    title = _text_of(graph.scan if graph.prediction is None else f"{graph.scan}, {graph.prediction}")
    width = max(high[0] - low[0], len(title) * _NODE_SIZE * 0.7 + 2 * _MARGIN)
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{high[1] - low[1]:.0f}"'
        f' viewBox="{low[0]:.1f} {low[1]:.1f} {width:.1f} {high[1] - low[1]:.1f}" font-family="{_FONT}">'
    )
    yield f"<title>{title}</title>"
    yield from _ARROWS
    yield f'<rect x="{low[0]:.1f}" y="{low[1]:.1f}" width="100%" height="100%" fill="white"/>'
    yield (
        f'<text x="{low[0] + _MARGIN:.1f}" y="{low[1] + _MARGIN + 4:.1f}" font-size="{_NODE_SIZE + 2}"'
        f' font-weight="bold">{title}</text>'
    )
    sources = sorted({edge.source for edge in graph.edges})
    if len(sources) > 1:  # else the colour tells nothing
        told = " ".join(f'<tspan fill="{_COLOURS[source]}">{source}</tspan>' for source in sources)
        place = f'x="{low[0] + _MARGIN:.1f}" y="{low[1] + _MARGIN + 24:.1f}"'
        yield f'<text {place} font-size="{_EDGE_SIZE}">{told}</text>'
    for at, link in enumerate(links, len(graph.nodes)):
        yield _line(link, centres[at], centres, sizes)
    for label, centre, size in zip(labels, centres, sizes, strict=True):
        yield from _draw_label(label, centre, size)
    yield "</svg>\n"


_ARROWS = (
    '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8"'
    ' markerUnits="userSpaceOnUse" orient="auto-start-reverse"><path d="M0 1 L10 5 L0 9 z" fill="#7a8594"/>'
    "</marker></defs>",
)


def _line(
    link: _Link, by: NDArray[np.float64], centres: NDArray[np.float64], sizes: NDArray[np.float64]
) -> str:
    """Draw the way from the border of the subject through the label at `by` to the border of the object."""
    start = _at_border(by, centres[link.subject], sizes[link.subject])
    end = _at_border(by, centres[link.object], sizes[link.object])
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (start, by, end))
    arrows = 'marker-end="url(#arrow)"' + (' marker-start="url(#arrow)"' if link.both_ways else "")
    return f'<polyline points="{points}" fill="none" stroke="#aab3bf" {arrows}/>'


def _at_border(
    outside: NDArray[np.float64], centre: NDArray[np.float64], size: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return where the way from `outside` to `centre` meets the box around that."""
    way = outside - centre
    share = np.min(size / 2 / np.maximum(np.abs(way), 1e-9))
    return centre + way * min(share, 1.0)


def _draw_label(label: _Label, centre: NDArray[np.float64], size: NDArray[np.float64]) -> Iterator[str]:
    x, y = centre - size / 2
    box = f'x="{x:.1f}" y="{y:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}"'
    fill = "white" if label.fill is None else label.fill
    edge = 'fill-opacity="0.9"' if label.fill is None else 'rx="7" stroke="#6b7683"'
    yield f'<g><title>{_text_of(label.told)}</title><rect {box} fill="{fill}" {edge}/>'
    top = centre[1] - (len(label.lines) - 1) * label.letters * _LINE / 2 + label.letters * 0.35
    for row, line in enumerate(label.lines):
        at = f'x="{centre[0]:.1f}" y="{top + row * label.letters * _LINE:.1f}"'
        style = f'font-size="{label.letters}" text-anchor="middle" fill="{label.colour}"'
        yield f"<text {at} {style}>{_text_of(line)}</text>"
    yield "</g>"


def _short(text: str) -> str:
    """Return a text on one line, cut where it is long; it is never empty."""
    line = " ".join(text.split()) or "?"
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def _width(letter: str) -> float:
    """Return how wide a letter is, in ems, at most but for rare ones."""
    if unicodedata.combining(letter):
        return 0.0
    return 1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.85 if letter in "mwMW@%" else 0.6


def _text_of(text: str) -> str:
    return escape(xml_text(text))


def _pale(colour: tuple[int, int, int]) -> str:
    """Return a colour under which black letters can be read."""
    red, green, blue = (round(255 - (255 - part) * 0.35) for part in colour)
    return f"#{red:02x}{green:02x}{blue:02x}"
