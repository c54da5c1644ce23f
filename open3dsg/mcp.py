"""A server of the Model Context Protocol: agents and robots ask the store, and change nothing.

Each call opens a connection of its own, read-only whatever the login may do: a database that went away
in between is found again by the next call. https://modelcontextprotocol.io
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import psycopg

from open3dsg import __version__
from open3dsg.errors import UserError
from open3dsg.query.slots import parse_slot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp.server import MCPServer

    from open3dsg.api import Store
    from open3dsg.query.graph import GraphEdge, GraphNode
    from open3dsg.query.slots import Place, Slot

_INSTRUCTIONS = """\
A database of 3D scans of rooms as scene graphs: objects with a label, a position in metres (z is up) and an
embedding that any words can be compared with, and relations between them. Similarities are cosines: compare
those of one answer, they mean little by themselves. Names of scans are dataset/name."""
_MOST = 1000  # rows of an answer


def make_server(url: str | None = None) -> MCPServer:
    """Return the server of the database at `url`, or that of the settings. Raises UserError without `mcp`."""
    try:
        from mcp.server import MCPServer
        from mcp.types import ToolAnnotations
    except ImportError as error:
        raise UserError("the package mcp is not installed: pip install 'open3dsg[mcp]'") from error

    server = MCPServer("open3dsg", instructions=_INSTRUCTIONS, version=__version__, log_level="WARNING")
    read_only = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    for tool in _Tools(url).all():
        server.add_tool(tool, annotations=read_only)
    return server


@contextmanager
def open_for_reading(url: str | None) -> Iterator[Store]:
    """Open the store at `url`, or that of the settings, read-only; raise ToolError, in one line, below it."""
    from mcp.server.mcpserver.exceptions import ToolError

    from open3dsg.api import connect

    try:
        with connect(url) as store:
            store.connection.execute("SET default_transaction_read_only = on")
            yield store
    except UserError as error:
        raise ToolError(str(error)) from error
    except psycopg.OperationalError as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ToolError(f"the database went away: {told}") from error


class _Tools:
    """The tools; their docstrings are what agents read."""

    def __init__(self, url: str | None) -> None:
        self._url = url

    def all(self) -> tuple[Any, ...]:
        return (self.list_scans, self.search_nodes, self.search_triplets, self.describe_scan, self.changes)

    def list_scans(self, dataset: str | None = None) -> list[str]:
        """List the scans as dataset/name, of one dataset or all."""
        with open_for_reading(self._url) as store:
            return store.scans(dataset)

    def search_nodes(
        self,
        text: str,
        k: int = 5,
        scan: str | None = None,
        dataset: str | None = None,
        label: str | None = None,
        encoder: str | None = None,
        run: str | None = None,
    ) -> list[dict[str, Any]]:
        """Find the k objects most similar to a text, such as "something to sit on", best first.

        Over all scans, or one scan, dataset or annotated label. `encoder` is needed where the store has
        features of several; `run` (RUN or RUN:LABEL) asks what a trained network predicted instead.
        """
        with open_for_reading(self._url) as store:
            hits = store.search(
                text, _limited(k), encoder=encoder, run=run, scan=scan, dataset=dataset, label=label
            )
            return [hit.as_json() for hit in hits]

    def search_triplets(
        self,
        subject: str,
        predicate: str,
        object: str,  # noqa: A002 - the third place of a triplet
        k: int = 5,
        scan: str | None = None,
        dataset: str | None = None,
        max_distance_m: float | None = None,
        encoder: str | None = None,
        pair_encoder: str | None = None,
        run: str | None = None,
    ) -> list[dict[str, Any]]:
        """Find the k pairs of objects that relate as subject predicate object, such as cup, on, table.

        Each place is words, `label:chair` (as annotated), `instance:dataset/scan/12` (that object),
        `like:dataset/scan/12` (what looks like it), or `*` for anything. Hits have a score, the similarity
        of each place, the distance in metres, positions, and the frames in which both are seen.
        """
        with open_for_reading(self._url) as store:
            hits = store.triplets(
                _slot(subject, "subject"),
                _slot(predicate, "predicate"),
                _slot(object, "object"),
                _limited(k),
                encoder=encoder,
                pair_encoder=pair_encoder,
                run=run,
                scan=scan,
                dataset=dataset,
                max_distance_m=max_distance_m,
            )
            return [hit.as_json() for hit in hits]

    def describe_scan(self, scan: str, run: str | None = None, max_relations: int = 200) -> dict[str, Any]:
        """Describe a scan: its objects with positions in metres, and how they relate.

        As annotated and corrected, or with `run` as a trained network predicts it. Of more relations than
        `max_relations` the first are given, and `relations_left_out` counts the others.
        """
        with open_for_reading(self._url) as store:
            graph = store.scan(scan).graph(run)
        shown = graph.edges[: max(0, max_relations)]
        return {
            "scan": f"{graph.dataset}/{graph.scan}",
            "prediction": graph.prediction,
            "objects": [_object(node) for node in graph.nodes],
            "relations": [_relation(edge) for edge in shown],
            "relations_left_out": len(graph.edges) - len(shown),
        }

    def changes(self, scan_a: str, scan_b: str, run: str | None = None) -> dict[str, Any]:
        """Tell what changed in a room from the visit scan_a to the visit scan_b.

        Objects that appeared, vanished or moved and by how many metres, and relations that changed.
        """
        with open_for_reading(self._url) as store:
            return store.scan(scan_a).changes(scan_b, run=run).as_json()


def _slot(text: str, place: Place) -> Slot:
    slot = parse_slot(text, place)
    if slot.kind == "image":
        raise UserError("image: reads a file of the server, which is not open to agents: use like:")
    return slot


def _limited(count: int) -> int:
    """Return a number of rows that an answer may have; what is less than 1 the search refuses."""
    return min(count, _MOST)


def _object(node: GraphNode) -> dict[str, Any]:
    told = {"instance": node.instance, "label": node.label, "position": node.centroid_m}
    extent = None
    if node.aabb_min_m is not None and node.aabb_max_m is not None:
        extent = [high - low for low, high in zip(node.aabb_min_m, node.aabb_max_m, strict=True)]
    return {**told, "extent": extent, **({"attributes": dict(node.attributes)} if node.attributes else {})}


def _relation(edge: GraphEdge) -> dict[str, Any]:
    return {name: value for name, value in asdict(edge).items() if value is not None}
