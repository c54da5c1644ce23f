"""What the page tells of a chosen object or relation: words, photographs, corrections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from open3dsg.errors import UserError
from open3dsg.query.viewing import nearest_predicates_predicted, nearest_terms, nearest_terms_predicted
from open3dsg.store.captions import find_captions
from open3dsg.store.corrections import list_corrections
from open3dsg.view.browser.connections import DatabaseAwayError
from open3dsg.view.browser.evidence import Pictures, draw_looks, looks_at_node, looks_at_pair
from open3dsg.view.browser.text import Html, html, joined

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg import Connection

    from open3dsg.query.graph import GraphEdge, GraphNode
    from open3dsg.query.viewing import Term
    from open3dsg.store.captions import StoredCaption
    from open3dsg.store.corrections import Correction
    from open3dsg.view.browser.evidence import Look
    from open3dsg.view.browser.question import Source
    from open3dsg.view.browser.room import Pair, Room

_Found = TypeVar("_Found")

_TERMS = 5  # of a vocabulary
_BLOCK = "padding:2px 10px;font-size:13px;line-height:1.45;overflow-wrap:anywhere"


@dataclass(frozen=True)
class Details:
    """What is told of one object or relation."""

    title: str
    told: Html
    pictures: Pictures
    corrections: Sequence[Correction]  # that stand


@dataclass(frozen=True)
class _Read:
    """What the database has on it, while the connection is there."""

    terms: Sequence[Term]
    captions: Sequence[StoredCaption]
    corrections: Sequence[Correction]
    looks: Sequence[Look]
    notes: Sequence[str]  # why something is not there


def read_node(connection: Connection[Any], room: Room, instance: int, source: Source) -> _Read:
    """Read what there is on an object."""
    notes: list[str] = []
    terms = _tried(lambda: _node_terms(connection, room, instance, source), notes)
    looks = _tried(lambda: looks_at_node(connection, room.scan, instance), notes)
    corrections = [
        one
        for one in list_corrections(connection, room.scan.key)
        if one.kind == "label" and one.instance == instance and one.reverted_at is None
    ]
    return _Read(terms, (), corrections, looks, notes)


def read_edge(connection: Connection[Any], room: Room, pair: Pair, source: Source) -> _Read:
    """Read what there is on a relation of two objects, in this direction."""
    subject, object_ = (room.nodes[end] for end in pair)
    notes: list[str] = []
    terms = _tried(lambda: _edge_terms(connection, room, pair, source), notes)
    ends = (subject.instance, subject.label), (object_.instance, object_.label)
    looks = _tried(lambda: looks_at_pair(connection, room.scan, *ends), notes)
    if not looks:
        notes.append("no frame shows both")
    said = find_captions(connection, room.scan, None, subject.instance)
    corrections = [
        one
        for one in list_corrections(connection, room.scan.key)
        if (one.instance, one.object) == pair and one.reverted_at is None
    ]
    return _Read(terms, [one for one in said if (one.subject, one.object) == pair], corrections, looks, notes)


def tell_node(room: Room, instance: int, read: _Read) -> Details:
    """Put what was read of an object into words and pictures."""
    node = room.nodes[instance]
    pictures = draw_looks(room.scan, read.looks) if read.looks else Pictures((), None, ())
    told = html(
        '<div style="{}"><b style="font-size:15px">{} {}</b><br>{}{}{}</div>',
        _BLOCK,
        node.label,
        instance,
        _names(node),
        _listed("Nearest words", read.terms),
        _notes([*read.notes, *pictures.missing]),
    )
    return Details(f"{node.label} {instance}", told, pictures, read.corrections)


def tell_edge(room: Room, pair: Pair, read: _Read) -> Details:
    """Put what was read of a relation into words and pictures."""
    subject, object_ = (room.nodes[end] for end in pair)
    edges = room.edges.get(pair, ())
    pictures = draw_looks(room.scan, read.looks) if read.looks else Pictures((), None, ())
    told = html(
        '<div style="{}"><b style="font-size:15px">{} {} → {} {}</b><br>{}{}{}{}{}</div>',
        _BLOCK,
        subject.label,
        subject.instance,
        object_.label,
        object_.instance,
        joined(map(_relation, edges))
        if edges
        else html("nothing is said of these two in this direction<br>"),
        _distance(edges),
        _listed("Nearest predicates", read.terms),
        joined(
            html("<i>{}</i>: “{}”<br>", one.encoder.partition("@")[0], one.caption) for one in read.captions
        ),
        _notes([*read.notes, *pictures.missing]),
    )
    return Details(f"{subject.label} {subject.instance} → {object_.label} {object_.instance}", told, pictures,
                   read.corrections)  # fmt: skip


def tell_correction(one: Correction) -> Html:
    """Say who corrected what, and when."""
    what = {True: "is", False: "is not"}[one.holds] if one.kind == "relation" else "is a"
    return html(
        '<div style="{}">Corrected: {} <b>{}</b><br><span style="opacity:.75">by {}, {}</span></div>',
        _BLOCK,
        what,
        one.text,
        one.author,
        f"{one.made_at:%Y-%m-%d %H:%M}",
    )


def _node_terms(connection: Connection[Any], room: Room, instance: int, source: Source) -> list[Term]:
    vocabulary = f"{room.scan.dataset}-classes"
    if source.run is not None:
        return nearest_terms_predicted(connection, room.scan, instance, source.run, vocabulary, _TERMS)
    if source.encoder is None:
        return []
    return nearest_terms(connection, room.scan, instance, source.encoder, vocabulary, _TERMS)


def _edge_terms(connection: Connection[Any], room: Room, pair: Pair, source: Source) -> list[Term]:
    if source.run is None:
        return []
    vocabulary = f"{room.scan.dataset}-predicates"
    return nearest_predicates_predicted(connection, room.scan, *pair, source.run, vocabulary, _TERMS)


def _tried(read: Callable[[], list[_Found]], notes: list[str]) -> list[_Found]:
    """Read what may not be there; why not becomes a note."""
    try:
        return read()
    except DatabaseAwayError:
        raise
    except UserError as error:
        notes.append(str(error))
        return []


def _names(node: GraphNode) -> Html:
    parts = [html("annotated as {}<br>", node.annotated_label)]
    if node.predicted_label is not None:
        parts.append(html("predicted as {} ({})<br>", node.predicted_label, f"{node.similarity or 0:.2f}"))
    if node.point_count:
        parts.append(html("{} points<br>", f"{node.point_count:,}"))
    for kind, words in node.attributes.items():
        parts.append(html("{}: {}<br>", kind, ", ".join(words)))
    return joined(parts)


def _relation(edge: GraphEdge) -> Html:
    told = edge.source if edge.similarity is None else f"{edge.similarity:.2f}, {edge.source}"
    return html("<b>{}</b> ({})<br>", edge.predicate, told)


def _distance(edges: Sequence[GraphEdge]) -> Html:
    known = [edge.distance_m for edge in edges if edge.distance_m is not None]
    return html("{} m apart<br>", f"{known[0]:.2f}") if known else html("")


def _listed(title: str, terms: Sequence[Term]) -> Html:
    if not terms:
        return html("")
    return html("<b>{}</b>: {}<br>", title, ", ".join(f"{one.text} {one.similarity:.2f}" for one in terms))


def _notes(notes: Sequence[str]) -> Html:
    return joined(html('<span style="opacity:.7">Not shown: {}</span><br>', note) for note in notes)
