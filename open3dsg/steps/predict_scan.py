"""What a run says of one scan, from points, from pictures or from both, and its rows."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.scan import Problem
from open3dsg.db import ledger
from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.terms import terms_in_use
from open3dsg.errors import UserError
from open3dsg.steps.predict_fusion import Fusion, Means
from open3dsg.steps.predict_relations import AskedPairs, Spoken
from open3dsg.steps.predict_student import Student
from open3dsg.steps.runner import process_device
from open3dsg.steps.summary import Summary
from open3dsg.store.encoders import embed_vocabularies, keep_words
from open3dsg.store.instances import read_labels
from open3dsg.store.predictions import (
    PREDICT,
    NodePrediction,
    as_floats,
    clear_predictions,
    hold_prediction,
    write_predictions,
)
from open3dsg.store.vocabularies import find_vocabulary, vocabulary_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.steps.predict_options import PredictOptions
    from open3dsg.steps.predict_relations import RelationWay, SaidOfPairs
    from open3dsg.store.captions import Pair
    from open3dsg.store.checkpoints import StoredCheckpoint
    from open3dsg.store.predictions import StoredPrediction
    from open3dsg.store.runs import StoredRun
    from open3dsg.store.scans import StoredScan

VERSION = 1
NODES = "features.nodes"  # the step that the ledger calls so

_NAMELESS = "object"  # what an end of a pair is called of which nothing is known, as published


@dataclass(frozen=True)
class Bound:
    """What was chosen, and what it stands for in the store."""

    options: PredictOptions
    device: str | None
    run: StoredRun
    checkpoint: StoredCheckpoint | None  # None: the teacher alone is asked
    way: RelationWay
    prediction: StoredPrediction


class ScanPrediction:
    """One scan of which one prediction is made."""

    def __init__(self, connection: Connection[Any], scan: StoredScan, bound: Bound) -> None:
        """Find out what the ledger calls it; UserError for a list of classes that is not there."""
        self.connection, self.scan, self.bound, self.options = connection, scan, bound, bound.options
        self.prediction, self.graphs = bound.prediction, bound.prediction.options["graphs"]
        self.classes = self._classes()
        options = {
            **bound.prediction.options,
            "checkpoint": bound.prediction.checkpoint_digest,
            **({} if self.classes is None else {"vocabulary": _hash(self.classes)}),
        }
        self.entry = ledger.Entry(PREDICT, VERSION, options, bound.prediction.full_name)

    def is_done(self, *, replace: bool) -> bool:
        """Tell whether nothing is to be done.

        UserError where it was done with other options, unless that is to be replaced.
        """
        if ledger.chunks_done(self.connection, self.scan.scan_id, self.entry):
            return self._is_current()
        if not replace:
            ledger.check_same_options(self.connection, self.scan.scan_id, self.entry)
        return False

    def run(self) -> Summary:
        """Predict and write; what is read and said before is of no transaction, since it may take hours."""
        numbers, pairs = self._asked()
        student = self._student(numbers, pairs)
        nodes = self._nodes(numbers, None if student is None else student[0])
        said = self.bound.way.predict(
            self.connection,
            AskedPairs(
                self.scan,
                pairs,
                None if student is None else student[1],
                from_2d=self.prediction.source != "student",
                fusion=self._relation_fusion(),
                names=self._names(numbers, nodes),
            ),
        )
        return self._write(nodes, said, len(numbers), len(pairs))

    def _is_current(self) -> bool:
        """Tell whether the prediction is younger than what it was made of."""
        made_of: list[tuple[str, str]] = []
        if self.prediction.source != "student":
            made_of = [(NODES, self.bound.run.node_encoder.full_name), *self.bound.way.made_of]
        asked = {
            "scan_id": self.scan.scan_id,
            "step": PREDICT,
            "variant": self.entry.variant,
            "steps": [step for step, _variant in made_of],
            "variants": [variant for _step, variant in made_of],
        }
        return bool(fetch_value(self.connection, "is_prediction_current", asked))

    def _asked(self) -> tuple[list[int], list[Pair]]:
        """Return the instances of the scan's units and their directed pairs; UserError where it has none."""
        key = {"scan_id": self.scan.scan_id, "full": self.graphs == "full"}
        numbers = [number for (number,) in execute(self.connection, "unit_instances", key)]
        if not numbers:
            full = " --full" if self.graphs == "full" else ""
            raise UserError(
                f"scan {self.scan.key} has no training units: run"
                f" `open3dsg graph build --scan {self.scan.key}{full}` first"
            )
        pairs = execute(self.connection, "unit_instance_pairs", key).fetchall()
        return numbers, sorted([*pairs, *((b, a) for a, b in pairs)])

    def _student(
        self, numbers: Sequence[int], pairs: Sequence[Pair]
    ) -> tuple[Means[int], Means[Pair]] | None:
        if self.bound.checkpoint is None:
            return None
        device = process_device() or self.bound.device
        student = Student(self.connection, self.bound.run, self.bound.checkpoint, device)
        return student.predict(
            self.connection,
            self.scan.key,
            numbers,
            pairs,
            graphs=self.graphs,
            unseen=self.options.unseen,
        )

    def _nodes(self, numbers: Sequence[int], student: Means[int] | None) -> list[NodePrediction]:
        key = {"scan_id": self.scan.scan_id, "encoder_id": self.bound.run.node_encoder.encoder_id}
        teacher: dict[int, NDArray[np.float32]] = {}
        if self.prediction.source != "student":
            rows = execute(self.connection, "node_embeddings", key, binary=True)
            teacher = {number: as_floats(embedding) for number, embedding in rows}
        fusion, nodes = Fusion(self.options.weight), []
        for number in numbers:
            fused = fusion.vectors(None if student is None else student.get(number), teacher.get(number))
            if fused is not None:
                nodes.append(NodePrediction(number, *fused))
        return nodes

    def _relation_fusion(self) -> Fusion:
        weight = self.options.weight
        return Fusion(1 - weight, as_learnt=True) if self.options.published else Fusion(weight)

    def _classes(self) -> tuple[str, Sequence[str]] | None:
        """Return the list of classes by which an encoder that speaks calls instances, and its words."""
        if not isinstance(self.bound.way, Spoken) or self.options.gt_objects:
            return None
        name = self.options.vocabulary or f"{self.scan.dataset}-classes"
        vocabulary = find_vocabulary(self.connection, name)
        return name, [row["word"] for row in vocabulary_words(self.connection, vocabulary)]

    def _names(self, numbers: Sequence[int], nodes: Sequence[NodePrediction]) -> Mapping[int, str]:
        """Return what an encoder that speaks calls the instances."""
        if self.options.gt_objects:
            return read_labels(self.connection, self.scan)
        names = dict.fromkeys(numbers, _NAMELESS)
        if self.classes is None or not nodes:
            return names
        embed_vocabularies(self.connection, self.prediction.node_words, self.classes[0])
        asked = {"vocabulary": self.classes[0], "encoder_id": self.prediction.node_words.encoder_id}
        rows = execute(self.connection, "vocabulary_vectors", asked, binary=True).fetchall()
        words = np.stack([as_floats(embedding) for _term, _wording, embedding in rows])
        words /= np.linalg.norm(words, axis=1, keepdims=True)
        nearest = (np.stack([node.embedding for node in nodes]) @ words.T).argmax(axis=1)
        return names | {node.instance: rows[at][0] for node, at in zip(nodes, nearest, strict=True)}

    def _write(self, nodes: Sequence[NodePrediction], said: SaidOfPairs, numbers: int, pairs: int) -> Summary:
        """Write the rows in the place of those that are there, and the line in the ledger, at once."""
        counts = self._counts(nodes, said, numbers, pairs)
        problems = list(said.problems)
        if not nodes:
            detail = f"{self.scan.name}: neither units that can be read nor features of {self.entry.variant}"
            problems.append(Problem("scan_without_nodes", detail))
        scan_id, prediction_id = self.scan.scan_id, self.prediction.prediction_id
        with terms_in_use(self.connection), self.connection.transaction():
            hold_prediction(self.connection, self.prediction)
            clear_predictions(self.connection, scan_id, prediction_id)
            if said.words is not None:
                keep_words(self.connection, *said.words)
            write_predictions(self.connection, scan_id, prediction_id, nodes, said.edges)
            ledger.record(self.connection, scan_id, self.entry, counts, problems)
        return Summary(counts, problems)

    def _counts(
        self, nodes: Sequence[NodePrediction], said: SaidOfPairs, numbers: int, pairs: int
    ) -> dict[str, int]:
        """Count rows, those that lack their 2D half, and what nothing is known of."""
        counts = {
            "nodes": len(nodes),
            "edges": len(said.edges),
            "nodes_left_out": numbers - len(nodes),
            "edges_left_out": pairs - len(said.edges),
        }
        if self.prediction.source == "fused":
            counts["nodes_without_2d"] = Counter(node.origin for node in nodes)["student"]
            counts["edges_without_2d"] = Counter(edge.origin for edge in said.edges)["student"]
        return counts


def _hash(classes: tuple[str, Sequence[str]]) -> str:
    return hashlib.sha256(json.dumps(classes).encode()).hexdigest()[:16]
