"""The vectors of a made store as those have them who use no database: in memory, and in files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from _big_store import BigStore, Question
from numpy.typing import NDArray

Array = NDArray[Any]


class Memory:
    """All vectors of a store as users of numpy hold them, and as files of one scan each in a folder."""

    def __init__(self, store: BigStore, folder: Path, *, with_pairs: bool) -> None:
        size = store.size
        self.size = size
        self.folder = folder
        self.with_pairs = with_pairs
        self.nodes = np.empty((size.scans * size.nodes, size.dimension), np.float32)
        self.pairs = np.empty((size.scans * size.pairs * with_pairs, size.dimension), np.float32)
        self.ends = np.empty((2, len(self.pairs)), np.int32)  # rows of nodes, a and b
        self.node_class = np.empty(len(self.nodes), np.int16)
        node = pair = 0
        for chunk in store.chunks():
            rows, edges = len(chunk.node), len(chunk.pair) * with_pairs
            self.nodes[node : node + rows] = chunk.node
            self.node_class[node : node + rows] = chunk.node_class
            first = (chunk.pair_scan[:edges] - 1) * size.nodes - 1
            self.ends[:, pair : pair + edges] = first + np.stack([chunk.a, chunk.b])[:, :edges]
            self.pairs[pair : pair + edges] = chunk.pair[:edges]
            self._write(chunk.node, chunk.pair[:edges], int(chunk.scan[0]))
            node, pair = node + rows, pair + edges
        self.scan = 1 + np.arange(len(self.nodes)) // size.nodes
        self.share = np.bincount(self.node_class, minlength=size.classes) / len(self.nodes)

    def _write(self, nodes: Array, pairs: Array, first: int) -> None:
        scans = len(nodes) // self.size.nodes
        for number, (some, others) in enumerate(
            zip(np.split(nodes, scans), np.split(pairs, scans), strict=True), first
        ):
            np.save(self.folder / f"{number}-nodes.npy", some.astype(np.float32))
            if self.with_pairs:
                np.save(self.folder / f"{number}-pairs.npy", others.astype(np.float32))

    def node_scores(self, question: Question, keep: Array | None = None) -> Array:
        scores = self.nodes @ question.subject
        return scores if keep is None else np.where(keep, scores, -np.inf)

    def triplet_scores(self, question: Question, kind: str) -> Array:
        """Score every pair, first from a to b, then from b to a."""
        (a, b), places = self.ends, kind.split("-")
        scores = np.zeros((2, len(self.pairs)), np.float32)
        if places[0] == "text":
            near = self.nodes @ question.subject
            scores += near[[a, b]]
        if places[1] == "text":
            scores += self.pairs @ question.predicate
        if places[2] == "text":
            near = self.nodes @ question.object
            scores += near[[b, a]]
        if places[0] == "label":
            scores[self.node_class[[a, b]] != question.subject_class] = -np.inf
        return (scores / places.count("text")).ravel()

    def load(self, *, pairs: bool) -> float:
        """Read all files as the published script does; return the seconds that took."""
        start = time.perf_counter()
        for kind in ("nodes", "pairs") if pairs else ("nodes",):
            files = [self.folder / f"{number}-{kind}.npy" for number in range(1, self.size.scans + 1)]
            np.concatenate([np.load(file) for file in files])
        return time.perf_counter() - start
