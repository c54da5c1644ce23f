"""Scene graphs as text of Graphviz (Gansner and North 2000): `dot -Tpdf room.dot`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from open3dsg.export.xml_text import xml_text

if TYPE_CHECKING:
    from open3dsg.query.graph import StoredGraph

_STYLE = '  node [shape=box, style="rounded,filled", fillcolor="#eef2f7", fontname="Helvetica"];'
_EDGES = '  edge [fontname="Helvetica", fontsize=11];'


def dot_bytes(graph: StoredGraph) -> bytes:
    """Return a `digraph` below the scan's name: nodes by instance number, an edge for each relation."""
    lines = ["digraph {", f"  label={_quoted(graph.scan)}; labelloc=t;", _STYLE, _EDGES]
    names = ((node.instance, _quoted(f"{node.label}\n{node.instance}")) for node in graph.nodes)
    lines += [f"  {instance} [label={name}];" for instance, name in names]
    lines += [f"  {edge.subject} -> {edge.object} [label={_quoted(edge.predicate)}];" for edge in graph.edges]
    return "\n".join([*lines, "}\n"]).encode()


def _quoted(text: str) -> str:
    r"""Return a string of Graphviz, which knows \" and \n, escapes such as \N, and entities of HTML."""
    escaped = xml_text(text).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    lines = escaped.replace("\r", "").replace("\n", "\\n")
    return f'"{lines}"'
