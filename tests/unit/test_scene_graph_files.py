"""Files of scene graphs, read by the programs they are for."""

from __future__ import annotations

import html
import io
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import networkx
import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from open3dsg.errors import UserError
from open3dsg.export.network import as_networkx
from open3dsg.export.pyg import Embeddings
from open3dsg.export.scene_graphs import GRAPH_FORMATS, GraphFormat, graph_bytes, graph_files, write_graph
from open3dsg.query.graph import StoredGraph
from tests import scene_graphs as made

EMPTY = StoredGraph("made", "empty", None, (), ())
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|->|[\w.#]+|[{}\[\]=;,])', re.DOTALL)


def as_read(graph: StoredGraph) -> Any:
    """What JSON makes of a graph: lists of tuples."""
    return json.loads(json.dumps(asdict(graph)))


def test_json_has_every_field() -> None:
    assert json.loads(graph_bytes(made.room(), "json")) == as_read(made.room())
    told = json.loads(graph_bytes(made.odd(made.STORABLE), "json"))
    assert told["nodes"][0]["label"] == made.STORABLE


def test_networkx_reads_node_link_files_back() -> None:
    read = networkx.node_link_graph(json.loads(graph_bytes(made.room(), "networkx")), edges="edges")
    assert isinstance(read, networkx.MultiDiGraph)
    assert read.graph == {"dataset": "made", "scan": "room-1", "prediction": "run:first"}
    assert networkx.utils.graphs_equal(read, as_networkx(made.room()))
    assert read.nodes[4]["attributes"] == {"color": ["brown", "dark"]}
    assert [(a, b, d["predicate"]) for a, b, d in read.edges(7, data=True)] == [
        (7, 4, "standing on"),
        (7, 4, "smaller than"),
    ]
    assert read.edges[4, 1, 0]["origin"] == "predicted"


def test_graphml_is_read_back_with_numbers_as_numbers() -> None:
    read = networkx.read_graphml(
        io.BytesIO(graph_bytes(made.room(), "graphml")), node_type=int, force_multigraph=True
    )
    assert sorted(read) == [1, 4, 7, 30]
    assert read.nodes[4]["label"] == "table"
    assert read.nodes[4]["attribute_color"] == "brown, dark"
    assert [read.nodes[7][f"centroid_{axis}_m"] for axis in "xyz"] == [1.1, 0.5, 0.9]
    assert "centroid_x_m" not in read.nodes[30]
    assert read.nodes[4]["is_corrected"] is False
    assert read.edges[4, 1, 0] == {"predicate": "standing on", "origin": "predicted", "similarity": 0.75}
    assert read.number_of_edges(7, 4) == 2


def test_graphml_has_each_attribute_once() -> None:
    whole = replace(made.room().nodes[0], centroid_m=(0, 0, 0))  # as JSON of the store has 0.0
    content = graph_bytes(replace(made.room(), nodes=(whole, *made.room().nodes[1:])), "graphml")
    keys = ElementTree.fromstring(content).iterfind("{http://graphml.graphdrawing.org/xmlns}key")
    types = [(key.attrib["for"], key.attrib["attr.name"], key.attrib["attr.type"]) for key in keys]
    assert ("node", "centroid_x_m", "double") in types
    assert len({key[:2] for key in types}) == len(types)


def test_graphml_holds_names_that_xml_cannot() -> None:
    read = networkx.read_graphml(io.BytesIO(graph_bytes(made.odd(), "graphml")), node_type=int)
    kept = re.sub("[\x00\x1b\ud800]", "\N{REPLACEMENT CHARACTER}", made.ODD)
    assert read.nodes[2]["label"] == kept
    assert read.edges[2, 3]["predicate"] == kept


def dot_tokens(content: bytes) -> list[str]:
    """The tokens of Graphviz's language, strings as they are drawn; anything else fails."""
    text, tokens, at = content.decode(), [], 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        assert found is not None, text[at : at + 50]
        tokens.append(found[1])
        at = found.end()
    return [_drawn(token) if token.startswith('"') else token for token in tokens]


def _drawn(token: str) -> str:
    told = re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), token[1:-1], flags=re.DOTALL)
    return html.unescape(told)


def test_graphviz_sees_nodes_and_relations() -> None:
    tokens = dot_tokens(graph_bytes(made.room(), "dot"))
    assert tokens[:5] == ["digraph", "{", "label", "=", "room-1"]
    assert tokens[-1] == "}"
    text = " ".join(tokens)
    assert "4 [ label = table\n4 ] ;" in text
    assert "7 -> 4 [ label = smaller than ] ;" in text
    assert text.count("->") == 6


def test_no_name_breaks_out_of_its_string() -> None:
    drawn = re.sub("[\x00\x1b\ud800]", "\N{REPLACEMENT CHARACTER}", made.ODD)
    for name in (made.ODD, 'x"];\n 9 -> 9 [label="', "trailing \\", "\\N \\G &lt;"):
        tokens = dot_tokens(graph_bytes(made.odd(name), "dot"))
        told = drawn if name == made.ODD else name
        assert [token for token in tokens if token in ("->", "{", "}")] == ["{", "->", "}"]
        assert f"{told}\n2" in tokens
        assert tokens[-4:] == [told, "]", ";", "}"]


def test_pytorch_geometric_loads_the_file_without_running_anything(tmp_path: Path) -> None:
    vectors = {4: np.array([0.6, 0.8], np.float32), 7: np.array([1.0, 0.0], np.float32)}
    pairs = {(7, 4): np.array([0.0, 1.0, 0.0], np.float32)}
    write_graph(tmp_path / "room.pt", made.room(), "pyg", Embeddings(vectors, pairs))
    data = Data.from_dict(torch.load(tmp_path / "room.pt", weights_only=True))
    data.validate(raise_on_error=True)
    assert data.num_nodes == 4
    assert data.num_edges == 6
    assert data.instance.tolist() == [1, 4, 7, 30]
    assert [data.labels[at] for at in data.label.tolist()] == ["floor", "table", "cup", "lamp"]
    told = [
        (int(data.instance[a]), data.predicates[p], int(data.instance[b]))
        for (a, b), p in zip(data.edge_index.T.tolist(), data.predicate.tolist(), strict=True)
    ]
    assert told == [(edge.subject, edge.predicate, edge.object) for edge in made.room().edges]
    assert data.has_pos.tolist() == [True, True, True, False]
    torch.testing.assert_close(data.pos[2], torch.tensor([1.1, 0.5, 0.9]))
    torch.testing.assert_close(data.extent[:3], torch.tensor([[0.2, 0.4, 0.6]] * 3))
    assert data.x.tolist() == [[0, 0], pytest.approx([0.6, 0.8]), [1, 0], [0, 0]]
    assert data.has_x.tolist() == [False, True, True, False]
    assert data.edge_attr.tolist() == [[0] * 3, [0, 1, 0], [0, 1, 0], [0] * 3, [0] * 3, [0] * 3]
    assert data.has_edge_attr.tolist() == [False, True, True, False, False, False]


@pytest.mark.parametrize("format_", GRAPH_FORMATS)
def test_a_graph_of_nothing_is_a_file(format_: GraphFormat) -> None:
    assert graph_bytes(EMPTY, format_)
    lonely = replace(made.room(), edges=(), nodes=made.room().nodes[:1])
    assert graph_bytes(lonely, format_)


def test_files_are_named_by_their_scans(tmp_path: Path) -> None:
    files = graph_files(tmp_path / "new", ["made/a räum", "made/b"], "dsg", overwrite=False)
    assert files == {
        "made/a räum": tmp_path / "new" / "a räum.dsg.json",
        "made/b": tmp_path / "new" / "b.dsg.json",
    }
    files["made/b"].write_bytes(b"mine")
    with pytest.raises(UserError, match="is there already: give another --out, or --overwrite"):
        graph_files(tmp_path / "new", ["made/a räum", "made/b"], "dsg", overwrite=False)
    assert graph_files(tmp_path / "new", ["made/b"], "dsg", overwrite=True)
    assert graph_files(tmp_path / "new", ["made/b"], "json", overwrite=False)
    with pytest.raises(UserError, match="made/b and other/b would both be b"):
        graph_files(tmp_path / "new", ["made/b", "other/b"], "json", overwrite=False)


@pytest.mark.parametrize(
    "name", ["..", "../../etc/passwd", ".hidden", "..\\windows", "C:x", "new\nline", "bell\x07", "a/b", ""]
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="has a name that cannot be that of a file"):
        graph_files(tmp_path / "out", [f"made/{name}"], "json", overwrite=True)
    assert not (tmp_path / "out").exists()


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "room.json"
    path.write_bytes(b"before")
    broken = replace(made.room(), nodes=(replace(made.room().nodes[0], similarity=float("nan")),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_graph(path, broken, "json")
    assert [each.name for each in tmp_path.iterdir()] == ["room.json"]
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize(
    ("format_", "package", "extra"),
    [
        ("networkx", "networkx", "graph"),
        ("graphml", "networkx", "graph"),
        ("svg", "networkx", "graph"),
        ("dsg", "spark_dsg", "dsg"),
        ("pyg", "torch", "train"),
    ],
)
def test_a_missing_package_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, format_: GraphFormat, package: str, extra: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(UserError, match=re.escape(f"pip install 'open3dsg[{extra}]'")):
        graph_bytes(made.room(), format_)
