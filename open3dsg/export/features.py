"""Features of the store as the files of Open3DSG; see `open3dsg.datasets.featurefolder` for the layout.

What the store has once is written as often as the files repeat it: an instance in each of its subgraphs, a
pair in both directions. Object features are float32, of unit length; relation features float32, or bfloat16
where they are tokens, as the published code computes them. Where there is no feature NaN is written, and for
relations that are no tokens the embedding of the word 'none'.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.featurefolder import OBJECTS, RELATIONS, VALIDS, Settings
from open3dsg.datasets.graphfolder import read_rows
from open3dsg.datasets.scan import Problem
from open3dsg.db.queries import execute, fetch_value
from open3dsg.encoders.tokens import spread_tokens
from open3dsg.errors import UserError
from open3dsg.export.files import whole_file, write_json
from open3dsg.store.encoders import query_vector
from open3dsg.store.pair_features import read_pair_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.datasets.graphfolder import GraphFile, GraphRows
    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.scans import StoredScan

# What the published folders are called after, where that is not the encoder's own name.
_MODELS = {"openseg": "OpenSeg", "instructblip": "BLIP", "blip2": "BLIP", "lavis": "BLIP"}
_MARK = "open3dsg.json"  # in a folder of files: the three folders may have nothing beside them
_NONE = "none"
_LARGE_BYTES = 2**30  # of the features of a subgraph: more of them are put together on the disk


@dataclass
class Exported:
    """What was written: `counts` of scans, files, and rows; what is odd about them."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class _Folder:
    """A folder of files, and the encoder whose features they hold."""

    path: Path
    encoder: StoredEncoder
    tokens: int | None  # a row; None: it is one vector


class FeatureExport:
    """Writes features into a folder, subgraph by subgraph; files that are there already stay."""

    def __init__(
        self,
        connection: Connection[Any],
        out: Path,
        encoder: StoredEncoder | None,
        pair_encoder: StoredEncoder | None,
        *,
        force: bool,
    ) -> None:
        """Make the folders; with `force` files that are there are written again.

        Raises UserError where `out` cannot be written to, holds features of another encoder, or tokens are
        asked for where objects have vectors.
        """
        self._connection = connection
        self._force = force
        self._objects = None if encoder is None else self._folder(out, OBJECTS, "features.nodes", encoder)
        self._relations = (
            None if pair_encoder is None else self._folder(out, RELATIONS, "features.pairs", pair_encoder)
        )
        self._valids = out / VALIDS
        if self._objects is not None:
            _make(self._valids)
        self._none: NDArray[np.float32] | None = None

    def write_scan(self, scan: StoredScan, graphs: Sequence[GraphFile], done: Exported) -> None:
        """Write the files of a scan's subgraphs, each whole or not at all; `done` is told of each row.

        Raises BadFileError for a subgraph that cannot be read, UserError where files cannot be written.
        """
        todo = [graph for graph in graphs if self._force or self._lacks(graph)]
        done.counts.update(scans=1, subgraphs=len(todo), subgraphs_there=len(graphs) - len(todo))
        if not todo:
            return
        known = {n for n, _ in execute(self._connection, "instance_labels", {"scan_id": scan.scan_id})}
        for graph in todo:
            rows = read_rows(graph)
            done.problems += [
                Problem("instance_missing", f"{graph.name}: the scan has no instance {number}")
                for number in rows.objects
                if number not in known
            ]
            if self._objects is not None:
                self._write_objects(self._objects, scan, graph, rows, done)
            if self._relations is not None:
                self._write_relations(self._relations, scan, graph, rows, done)

    def _lacks(self, graph: GraphFile) -> bool:
        folders = [self._relations.path] if self._relations is not None else []
        if self._objects is not None:
            folders += [self._objects.path, self._valids]
        return not all((folder / f"{graph.name}.pt").exists() for folder in folders)

    def _write_objects(
        self, folder: _Folder, scan: StoredScan, graph: GraphFile, rows: GraphRows, done: Exported
    ) -> None:
        import torch

        asked = {"scan_id": scan.scan_id, "encoder_id": folder.encoder.encoder_id, "numbers": rows.objects}
        found = dict(execute(self._connection, "export_nodes", asked, binary=True).fetchall())
        features = np.full((len(rows.objects), folder.encoder.dimension), np.nan, np.float32)
        for place, number in enumerate(rows.objects):
            if number in found:
                features[place] = found[number].to_numpy()
        valids = np.array([number in found for number in rows.objects], bool)
        _save(torch.from_numpy(features), folder.path / f"{graph.name}.pt")
        _save(torch.from_numpy(valids), self._valids / f"{graph.name}.pt")
        done.counts.update(objects=len(found), objects_absent=len(rows.objects) - len(found))

    def _write_relations(
        self, folder: _Folder, scan: StoredScan, graph: GraphFile, rows: GraphRows, done: Exported
    ) -> None:
        places: dict[tuple[int, int], list[int]] = {}
        for place, (subject, target) in enumerate(rows.pairs):
            places.setdefault((min(subject, target), max(subject, target)), []).append(place)
        features = self._absent_relations(folder, len(rows.pairs))
        there = spread = 0
        for a, b, tokens in read_pair_tokens(self._connection, scan.scan_id, folder.encoder, sorted(places)):
            of_pair = places[a, b]
            features[of_pair] = _row(tokens, folder.tokens).to(features.dtype)
            there += len(of_pair)
            spread += len(of_pair) if folder.tokens not in (None, len(tokens)) else 0
        _save(features, folder.path / f"{graph.name}.pt")
        done.counts.update(relations=there, relations_absent=len(rows.pairs) - there, relations_spread=spread)

    def _absent_relations(self, folder: _Folder, count: int) -> torch.Tensor:
        """Return relation features of which there are none yet."""
        import torch

        if folder.tokens is not None:
            return _no_tokens(folder.path, (count, folder.tokens, folder.encoder.dimension))
        if self._none is None:
            self._none = query_vector(self._connection, folder.encoder, _NONE)
        return torch.from_numpy(np.tile(self._none, (count, 1)))

    def _folder(self, out: Path, kind: str, step: str, encoder: StoredEncoder) -> _Folder:
        """Make the folder of a kind, marked with its encoder."""
        name = f"{encoder.name}@{encoder.revision}"
        tokens = fetch_value(self._connection, "encoder_tokens", {"encoder_id": encoder.encoder_id})
        if tokens is not None and kind == OBJECTS:
            raise UserError(f"{name} embeds no instances: it is for --pair-encoder")
        key = {"step": step, "variant": name}
        told = fetch_value(self._connection, "export_feature_options", key)
        path = out / _settings(encoder.name, told or {}).folder(kind)
        _make(path)
        _check_alone(path, kind, name)
        write_json(path / _MARK, {"encoder": name})
        return _Folder(path, encoder, tokens)


def _check_alone(path: Path, kind: str, name: str) -> None:
    """Raise UserError where a folder may hold files of another encoder, or stands beside one of its kind."""
    beside = [folder.name for folder in path.parent.glob(f"{kind}*") if folder != path]
    if beside:
        raise UserError(
            f"{path.parent}: holds {beside[0]}: give another folder, one set of features has its own"
        )
    if next(path.glob("*.pt"), None) is None:
        return
    try:
        marked = json.loads((path / _MARK).read_text())["encoder"]
    except (OSError, ValueError, KeyError, TypeError):
        marked = "features that were not exported from here"
    if marked != name:
        raise UserError(f"{path}: holds {marked}, not {name}: give another folder")


def _row(tokens: NDArray[np.float32], count: int | None) -> torch.Tensor:
    """Return a pair's row: `count` tokens, laid out anew where fewer are stored; None: one vector."""
    import torch

    if count is None:
        return torch.from_numpy(tokens[0])
    return torch.from_numpy(tokens if len(tokens) == count else spread_tokens(tokens, count))


def _settings(encoder: str, told: Mapping[str, Any]) -> Settings:
    """Return what the name of a folder tells, from what the ledger holds of a scan."""
    if "imported" in told:
        return Settings(**told["imported"])
    seen = told.get("min_visibility")
    model = _MODELS.get(encoder, encoder)
    return Settings(model, told.get("top_k_frames"), told.get("scales", 1), seen, seen)


def _no_tokens(folder: Path, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return tokens of `shape` in bfloat16, all NaN: in memory, or, of a large subgraph, in a mapped file.

    A full graph of 150 instances takes 16 GB. The file has no name in `folder` any more, and lies on the disk
    that the features go to; UserError where that is full.
    """
    import torch

    count = math.prod(shape)
    if 2 * count <= _LARGE_BYTES:
        return torch.full(shape, torch.nan, dtype=torch.bfloat16)
    # Written, not only made as long: where the disk has no room for a mapped page, the process is killed.
    row = torch.full(shape[1:], torch.nan, dtype=torch.bfloat16).view(torch.uint8).numpy().tobytes()
    try:
        with tempfile.NamedTemporaryFile(prefix=".open3dsg-", suffix=".part", dir=folder) as file:
            for _ in range(shape[0]):
                file.write(row)
            file.flush()
            return torch.from_file(file.name, shared=True, size=count, dtype=torch.bfloat16).view(shape)
    except OSError as error:
        size = f"{2 * count / 2**30:,.1f} GiB"
        raise UserError(
            f"{folder}: cannot take {size} of one subgraph's features, and as much beside them while they are"
            f" written: {error.strerror}"
        ) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from error


def _save(tensor: torch.Tensor, path: Path) -> None:
    import torch

    with whole_file(path) as file:
        try:
            torch.save(tensor, file)
        except RuntimeError as error:  # with what the disk said behind it
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
