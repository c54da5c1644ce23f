"""Two graphs of one scan side by side: what each calls each object and each relation."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from open3dsg.view.browser.text import html, joined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from open3dsg.query.graph import StoredGraph
    from open3dsg.view.browser.text import Html

NOTHING = "–"
_MOST_ROWS = 400


@dataclass(frozen=True)
class Row:
    """What two graphs say of one thing, `–` where one says nothing."""

    name: str
    first: str
    second: str

    @property
    def differs(self) -> bool:
        """Whether they say something else, in more than upper and lower case."""
        return self.first.casefold() != self.second.casefold()


def compare_nodes(first: StoredGraph, second: StoredGraph) -> list[Row]:
    """Return a row an object, by number, of all that have a place in the room."""
    said = [_called(graph) for graph in (first, second)]
    placed = {
        node.instance: node.annotated_label
        for graph in (first, second)
        for node in graph.nodes
        if node.centroid_m is not None
    }
    return [
        Row(f"{label} {number}", said[0].get(number, NOTHING), said[1].get(number, NOTHING))
        for number, label in sorted(placed.items())
    ]


def compare_edges(first: StoredGraph, second: StoredGraph) -> list[Row]:
    """Return a row a pair and direction of which either graph says something."""
    said = [_predicates(graph) for graph in (first, second)]
    label = {node.instance: node.annotated_label for node in first.nodes}
    return [
        Row(
            f"{label.get(subject, '')} {subject} → {label.get(object_, '')} {object_}",
            said[0].get((subject, object_), NOTHING),
            said[1].get((subject, object_), NOTHING),
        )
        for subject, object_ in sorted({*said[0], *said[1]})
    ]


def as_table(rows: Sequence[Row], what: str, first: str, second: str) -> Html:
    """Write rows as a table, those that differ marked by ≠ and first; how many do is its heading."""
    differing = [row for row in rows if row.differs]
    shown = [*differing, *(row for row in rows if not row.differs)][:_MOST_ROWS]
    left_out = f"; {len(rows) - len(shown)} more are not listed" if len(rows) > len(shown) else ""
    return html(
        '<h4 style="margin:12px 0 4px">{}: {} of {} differ{}</h4>'
        '<table style="border-collapse:collapse;font-size:13px;width:100%">'
        "<tr><th></th><th align=left>{}</th><th align=left>{}</th><th align=left>{}</th></tr>{}</table>",
        what,
        len(differing),
        len(rows),
        left_out,
        what[:-1],
        first,
        second,
        joined(map(_line, shown)),
    )


def _line(row: Row) -> Html:
    style = "background:rgba(255,170,0,.22);font-weight:600" if row.differs else "opacity:.75"
    return html(
        '<tr style="{}"><td style="width:18px">{}</td><td>{}</td><td>{}</td><td>{}</td></tr>',
        style,
        "≠" if row.differs else "",
        row.name,
        row.first,
        row.second,
    )


def _called(graph: StoredGraph) -> Mapping[int, str]:
    """Return what a graph calls its objects; a prediction is silent about those it did not see."""
    if graph.prediction is None:
        return {node.instance: node.label for node in graph.nodes}
    said = (
        (node.instance, node.label if node.is_corrected else node.predicted_label) for node in graph.nodes
    )
    return {number: label for number, label in said if label is not None}


def _predicates(graph: StoredGraph) -> Mapping[tuple[int, int], str]:
    found: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for edge in graph.edges:
        found[edge.subject, edge.object].append(edge.predicate)
    return {pair: ", ".join(sorted(predicates)) for pair, predicates in found.items()}
