"""Scene graphs made by hand: a small room, and names that no file likes."""

from __future__ import annotations

from open3dsg.query.graph import EdgeSource, GraphEdge, GraphNode, Point, StoredGraph

AXES = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)  # a quarter turn about z, a unit axis a row
ODD = 'a "quoted" \\ \N{SNOWMAN} <b>&amp;\n\x00\x1b]8;; 雪 \ud800'
STORABLE = ODD.replace("\x00", "").replace("\ud800", "")  # what a database can hold of it


def node(
    instance: int,
    label: str,
    centre: Point | None = None,
    *,
    turned: bool = False,
    attributes: dict[str, tuple[str, ...]] | None = None,
) -> GraphNode:
    """A node, around `centre` a box of 0.2 x 0.4 x 0.6 m; `turned`: with an oriented one, too."""
    half = (0.1, 0.2, 0.3)
    is_turned = turned and centre is not None
    return GraphNode(
        instance=instance,
        label=label,
        annotated_label=label,
        predicted_label=None,
        similarity=None,
        is_corrected=False,
        centroid_m=centre,
        aabb_min_m=None if centre is None else _plus(centre, half, -1),
        aabb_max_m=None if centre is None else _plus(centre, half, 1),
        obb_centre_m=centre if is_turned else None,
        obb_axes=AXES if is_turned else None,
        obb_lengths_m=(0.4, 0.2, 0.6) if is_turned else None,
        point_count=0 if centre is None else 12,
        attributes=attributes or {},
    )


def edge(
    subject: int,
    predicate: str,
    target: int,
    source: EdgeSource = "annotated",
    similarity: float | None = None,
) -> GraphEdge:
    return GraphEdge(subject, predicate, target, source, similarity, None, None)


def room() -> StoredGraph:
    """Four objects, one of them without geometry; two relations of one pair, one in both directions."""
    return StoredGraph(
        dataset="made",
        scan="room-1",
        prediction="run:first",
        nodes=(
            node(1, "floor", (0.0, 0.0, 0.0)),
            node(4, "table", (1.0, 0.5, 0.4), attributes={"color": ("brown", "dark")}),
            node(7, "cup", (1.1, 0.5, 0.9), turned=True),
            node(30, "lamp"),
        ),
        edges=(
            edge(4, "standing on", 1, similarity=0.75, source="predicted"),
            edge(7, "standing on", 4),
            edge(7, "smaller than", 4),
            edge(4, "bigger than", 7),
            edge(4, "close by", 30),
            edge(30, "close by", 4),
        ),
    )


def odd(text: str = ODD) -> StoredGraph:
    """A graph whose labels, predicate, attribute and names are `text`."""
    return StoredGraph(
        text,
        text,
        text,
        (node(2, text, (0.0, 1.0, 2.0), attributes={text: (text,)}), node(3, text)),
        (edge(2, text, 3),),
    )


def _plus(point: Point, by: Point, sign: int) -> Point:
    x, y, z = (one + sign * other for one, other in zip(point, by, strict=True))
    return x, y, z
