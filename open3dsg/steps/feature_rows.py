"""What the feature files of one scan hold, instance by instance and pair by pair.

The files of Open3DSG repeat themselves: an instance is in those of all subgraphs that it belongs to, a pair
twice in each. What comes first is kept, and what differs from it is reported.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.featurefolder import read_tensor
from open3dsg.datasets.graphfolder import read_rows
from open3dsg.datasets.scan import Problem
from open3dsg.encoders.tokens import pack_tokens
from open3dsg.errors import BadFileError
from open3dsg.steps.features.target import unit
from open3dsg.store.pair_features import PairFeature

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from open3dsg.datasets.graphfolder import GraphFile, GraphRows
    from open3dsg.encoders.tokens import PackedTokens, TokenFormat

_SAME = 1e-3  # cosine distance up to which rounding and batches of other sizes explain a difference
_NONE = 0.01  # and up to which a relation is the word for there being none: pictures are further from words

Key = int | tuple[int, int]  # an instance, or a pair a < b


@dataclass
class Tally:
    """What is found in the files of a scan: `counts` by item, and the problems."""

    scan: str
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    missing: set[int] = field(default_factory=set)  # instances that the scan has not

    def problem(self, kind: str, detail: str) -> None:
        """Note something that was left out, or that is not as it should be."""
        self.problems.append(Problem(kind, f"{self.scan}: {detail}"))


@dataclass(frozen=True)
class SubgraphFeatures:
    """The features of a subgraph: `tensor` has a row an object or a row a directed pair."""

    graph: GraphFile
    rows: GraphRows
    path: Path
    tensor: torch.Tensor
    valids: NDArray[np.bool_] | None  # (n objects,)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a row: (d,) or (tokens, d)."""
        return tuple(self.tensor.shape[1:])

    def row(self, place: int) -> NDArray[np.float32]:
        """Return one row as float32."""
        numbers: NDArray[np.float32] = self.tensor[place].float().numpy()
        return numbers


def read_subgraphs(
    graphs: Iterable[GraphFile], folder: Path, valids: Path | None, per_row: int
) -> Iterator[SubgraphFeatures]:
    """Read the features of subgraphs, one at a time; a row is of `per_row` axes, 1 a vector and 2 tokens.

    With `valids` rows are objects, else pairs. Raises BadFileError for a file that is not what it must be.
    """
    for graph in graphs:
        rows = read_rows(graph)
        path = folder / f"{graph.name}.pt"
        tensor = read_tensor(path)
        count = len(rows.pairs if valids is None else rows.objects)
        if not tensor.is_floating_point() or tensor.ndim != 1 + per_row or tensor.layout != _strided():
            what = "a vector" if per_row == 1 else "a grid of tokens"
            told = f"{tuple(tensor.shape)} {tensor.dtype}"
            raise BadFileError(f"{path}: holds {told}, not {what} of floating-point numbers a row")
        _check_rows(path, tensor, count, graph)
        yield SubgraphFeatures(graph, rows, path, tensor, _valids(graph, valids, count))


def _strided() -> torch.layout:
    import torch

    return torch.strided


def _valids(graph: GraphFile, folder: Path | None, count: int) -> NDArray[np.bool_] | None:
    if folder is None:
        return None
    path = folder / f"{graph.name}.pt"
    tensor = read_tensor(path)
    if str(tensor.dtype) != "torch.bool" or tensor.ndim != 1:
        raise BadFileError(f"{path}: holds {tuple(tensor.shape)} {tensor.dtype}, not a bool a row")
    _check_rows(path, tensor, count, graph)
    valids: NDArray[np.bool_] = tensor.numpy()
    return valids


def _check_rows(path: Path, tensor: torch.Tensor, count: int, graph: GraphFile) -> None:
    if len(tensor) != count:
        raise BadFileError(
            f"{path}: has {len(tensor)} rows, {graph.path} {count}: give the --graphs that it was made from"
        )


def read_nodes(
    subgraphs: Iterable[SubgraphFeatures], instances: Set[int], tally: Tally
) -> Mapping[int, NDArray[np.float32]]:
    """Return instance -> its (d,) float32 unit embedding, of those among `instances` that have one."""
    kept: dict[int, NDArray[np.float32]] = {}
    differing: set[Key] = set()
    seen: set[int] = set()
    for subgraph in subgraphs:
        tally.counts["object_files"] += 1
        valids = subgraph.valids if subgraph.valids is not None else np.ones(len(subgraph.tensor), bool)
        for place, number in enumerate(subgraph.rows.objects):
            if not _known((number,), instances, subgraph, tally):
                continue
            seen.add(number)
            what, row = f"instance {number}", subgraph.row(place)
            if np.isnan(row).all() == valids[place]:
                tally.problem(
                    "valids_disagree", f"{subgraph.path.name}, {what}: only one says that it is seen"
                )
            if not valids[place]:
                continue
            embedding = _unit(_finite(row, what, subgraph, tally), what, subgraph, tally)
            if embedding is None:
                continue
            if number in kept and _differ(kept[number], embedding):
                differing.add(number)
            kept.setdefault(number, embedding)
    _tell_differing("instance_differs", differing, tally)
    tally.counts.update(nodes=len(kept), nodes_absent=len(seen - kept.keys()))
    return kept


def read_pairs(
    subgraphs: Iterable[SubgraphFeatures],
    instances: Set[int],
    form: TokenFormat,
    none: NDArray[np.float32] | None,
    tally: Tally,
) -> Iterator[PairFeature]:
    """Yield the features of pairs whose ends are both among `instances`, each pair once, as they come.

    `none` is the embedding, (d,) float32, that stands where there is no feature; None: NaN does.
    """
    kept: dict[tuple[int, int], NDArray[np.float32]] = {}  # pooled: to compare what is told again
    differing: set[Key] = set()
    seen: set[tuple[int, int]] = set()
    for subgraph in subgraphs:
        tally.counts["relation_files"] += 1
        for place, ends in enumerate(subgraph.rows.pairs):
            if not _known(ends, instances, subgraph, tally):
                continue
            pair = min(ends), max(ends)
            what = f"pair {pair[0]} and {pair[1]}"
            row = _finite(subgraph.row(place), what, subgraph, tally)
            pooled = _unit(_pooled(row), what, subgraph, tally)
            if pooled is not None and none is not None and not _differ(pooled, none, _NONE):
                pooled = None
            if pair in seen and ((pair in kept) != (pooled is not None) or _differ(kept.get(pair), pooled)):
                differing.add(pair)
            seen.add(pair)
            if pooled is None or pair in kept:
                continue
            tokens, is_kept = _pack(row, form, what, subgraph, tally)
            if is_kept:
                kept[pair] = pooled
                yield PairFeature(*pair, pooled, [], np.zeros((0, 4), np.int32), [], tokens)
    _tell_differing("pair_differs", differing, tally)
    tally.counts.update(pairs=len(kept), pairs_absent=len(seen - kept.keys()))


def _known(numbers: Sequence[int], instances: Set[int], subgraph: SubgraphFeatures, tally: Tally) -> bool:
    """Tell whether the scan has all these instances; each that it has not is noted once."""
    missing = [number for number in numbers if number not in instances]
    for number in missing:
        if number not in tally.missing:
            tally.missing.add(number)
            tally.problem("instance_missing", f"{subgraph.path.name}: the scan has no instance {number}")
    return not missing


def _finite(
    row: NDArray[np.float32], what: str, subgraph: SubgraphFeatures, tally: Tally
) -> NDArray[np.float32] | None:
    """Return the row; None where all of it is NaN, or, which is noted, some of it is not finite."""
    if np.isfinite(row).all():
        return row
    if not np.isnan(row).all():
        tally.problem(
            "feature_not_finite", f"{subgraph.path.name}, {what}: NaN or infinity among its numbers"
        )
    return None


def _pooled(row: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    if row is None or row.ndim == 1:
        return row
    mean: NDArray[np.float32] = row.mean(axis=0)
    return mean


def _unit(
    row: NDArray[np.float32] | None, what: str, subgraph: SubgraphFeatures, tally: Tally
) -> NDArray[np.float32] | None:
    try:
        return None if row is None else unit(row)
    except ValueError as error:
        tally.problem("embedding_unusable", f"{subgraph.path.name}, {what}: {error}")
        return None


def _pack(
    row: NDArray[np.float32] | None, form: TokenFormat, what: str, subgraph: SubgraphFeatures, tally: Tally
) -> tuple[PackedTokens | None, bool]:
    """Return the packed tokens, None where none are kept, and whether the pair can be stored."""
    if row is None or row.ndim == 1:
        return None, True
    try:
        return pack_tokens(row, form), True
    except ValueError as error:
        tally.problem("tokens_unusable", f"{subgraph.path.name}, {what}: {error}")
        return None, False


def _differ(a: NDArray[np.float32] | None, b: NDArray[np.float32] | None, by: float = _SAME) -> bool:
    """Tell whether two unit vectors are further apart than `by`; what is not there does not differ."""
    return a is not None and b is not None and float(a @ b) < 1 - by


def _tell_differing(kind: str, keys: set[Key], tally: Tally) -> None:
    for key in sorted(keys, key=str):
        what = f"pair {key[0]} and {key[1]}" if isinstance(key, tuple) else f"instance {key}"
        tally.problem(kind, f"{what} has several features, the first of which is kept")
