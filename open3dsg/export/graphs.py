"""Subgraphs of the store as the JSON files of 3DSSG (Wald et al., CVPR 2020), which Open3DSG and others read.

    OUT/
      relationships_SPLIT.json       {"scans": [SUBGRAPH, ...], "neighbors": {SCAN: {"1": [2, ...]}}}
      relationships_SPLIT_full.json  the graphs of whole scans in the same form, their number written as 0
      SPLIT_scans.txt                the scans of both, one a line
      relationships.txt              the predicates; the line number from 0 is the id

SUBGRAPH is as in `open3dsg.datasets.annotations`. Neighbours are those of scans whose graph was built.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from open3dsg.db.queries import execute
from open3dsg.db.snapshot import snapshot
from open3dsg.errors import UserError
from open3dsg.export.files import whole_file
from open3dsg.store.units import read_predicates

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg import Connection

NO_SPLIT = "unsplit"  # stands for the split of scans that have none
_FULL = "_full"  # behind the split in the name of the file of whole scans

_Document = dict[str, Any]


@dataclass(frozen=True)
class GraphFiles:
    """Files to be written, name -> content, and what they hold; `without`: scans that are in none of them."""

    documents: Mapping[str, _Document]
    lists: Mapping[str, Sequence[str]]
    scans: int
    subgraphs: int
    full_graphs: int
    relationships: int
    without: Sequence[str]

    @property
    def names(self) -> list[str]:
        """The names of all files."""
        return [*self.documents, *self.lists]

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        counts = {name: value for name, value in vars(self).items() if name not in ("documents", "lists")}
        return {"files": self.names, **counts}


def read_graph_files(connection: Connection[Any], scans: Sequence[str], *, full: bool) -> GraphFiles:
    """Read the subgraphs of scans, given as `dataset/name`, and if `full` the graphs of whole scans too.

    Raises UserError where the scans are of several datasets, which number predicates differently, and where
    none has a subgraph.
    """
    dataset, names = _one_dataset(scans)
    chosen = {"dataset": dataset, "scans": names}
    with snapshot(connection):
        graphs = [
            _Graph(*row)
            for is_full in ((False, True) if full else (False,))
            for row in execute(connection, "export_graphs", {**chosen, "full": is_full})
        ]
        predicates = read_predicates(connection, dataset)
        neighbours = dict(execute(connection, "export_neighbours", chosen).fetchall())
    if not graphs:
        raise UserError(
            "none of the scans has a subgraph: run `open3dsg graph build`, or `open3dsg ingest 3dssg` for"
            " those of 3DSSG"
        )
    documents = _documents(graphs, {name: number for number, name in enumerate(predicates)}, neighbours)
    splits = sorted({graph.split_name for graph in graphs})
    of_split = {split: sorted({g.scan for g in graphs if g.split_name == split}) for split in splits}
    written = {graph.scan for graph in graphs}
    return GraphFiles(
        documents=documents,
        lists={f"{split}_scans.txt": of_split[split] for split in splits} | {"relationships.txt": predicates},
        scans=len(written),
        subgraphs=sum(not graph.is_full for graph in graphs),
        full_graphs=sum(graph.is_full for graph in graphs),
        relationships=sum(len(graph.relationships) for graph in graphs),
        without=[f"{dataset}/{name}" for name in names if name not in written],
    )


def write_graph_files(folder: Path, content: GraphFiles, *, overwrite: bool) -> None:
    """Write the files into `folder`, which is made where it is not there.

    Raises UserError, before anything is written, for a file that is there already, unless it may be
    overwritten; and where the folder cannot be written to.
    """
    there = [name for name in content.names if (folder / name).exists()]
    if there and not overwrite:
        raise UserError(f"{folder / there[0]}: is there already: give another --out, or --overwrite")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from error
    texts = {name: json.dumps(told, ensure_ascii=False) for name, told in content.documents.items()}
    texts |= {name: "".join(f"{word}\n" for word in words) for name, words in content.lists.items()}
    for name, text in texts.items():
        with whole_file(folder / name) as file:
            file.write(text.encode())


@dataclass(frozen=True)
class _Graph:
    """A row of the query `export_graphs`."""

    scan: str
    split: str | None
    number: int
    objects: Mapping[str, str]
    relationships: Sequence[tuple[int, int, str]]

    @property
    def is_full(self) -> bool:
        return self.number < 0

    @property
    def split_name(self) -> str:
        """The split as part of a file's name; UserError where it cannot be one."""
        name = NO_SPLIT if self.split is None else self.split
        if "/" in name or name.endswith(_FULL):
            raise UserError(
                f"scan {self.scan} is of the split {name!r}, which cannot be part of a file's name"
            )
        return name

    @property
    def file_name(self) -> str:
        return f"relationships_{self.split_name}{_FULL if self.is_full else ''}.json"

    def as_json(self, ids: Mapping[str, int]) -> _Document:
        """Return the subgraph as a file has it; `ids` are those of predicates."""
        triples = [[subject, target, ids[name], name] for subject, target, name in self.relationships]
        number = max(self.number, 0)  # other programs count from 0
        return {"scan": self.scan, "split": number, "objects": self.objects, "relationships": triples}


def _one_dataset(scans: Sequence[str]) -> tuple[str, list[str]]:
    """Return the dataset of scans, and their names in it."""
    datasets, _, names = zip(*(scan.partition("/") for scan in scans), strict=True)
    if len(set(datasets)) > 1:
        several = ", ".join(sorted(set(datasets)))
        raise UserError(f"the scans are of the datasets {several}: choose one with --dataset")
    return datasets[0], list(names)


def _documents(
    graphs: Sequence[_Graph], ids: Mapping[str, int], neighbours: Mapping[str, Mapping[str, Sequence[int]]]
) -> dict[str, _Document]:
    documents: dict[str, _Document] = {}
    for graph in graphs:
        document = documents.setdefault(graph.file_name, {"scans": [], "neighbors": {}})
        document["scans"].append(graph.as_json(ids))
        if graph.scan in neighbours:
            document["neighbors"][graph.scan] = neighbours[graph.scan]
    return documents
