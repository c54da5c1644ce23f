"""Predict: what a run says of scans, from points, from pictures or from both; rows of its predictions.

A node or a pair that several training units hold gets the mean of what is said of it in each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from open3dsg.db import ledger
from open3dsg.encoders.registry import load_encoder, load_text_encoder
from open3dsg.errors import UserError
from open3dsg.steps.predict_relations import (
    Classes,
    EmbeddedCaptions,
    PooledWords,
    Silent,
    Spoken,
    spoken,
)
from open3dsg.steps.predict_scan import Bound, ScanPrediction
from open3dsg.steps.runner import process_device
from open3dsg.steps.speakers import TokenSpeaker, load_speaker
from open3dsg.steps.summary import Summary
from open3dsg.store.checkpoint_files import locate
from open3dsg.store.checkpoints import find_checkpoint
from open3dsg.store.encoders import embed_vocabularies, register_encoder
from open3dsg.store.predictions import (
    NewPrediction,
    find_prediction,
    register_prediction,
)
from open3dsg.store.runs import find_run
from open3dsg.store.scans import find_scan
from open3dsg.store.vocabularies import find_vocabulary, list_vocabularies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

    from open3dsg.encoders.contract import Precision
    from open3dsg.steps.predict_options import PredictOptions
    from open3dsg.steps.predict_relations import RelationWay
    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.runs import StoredRun


@dataclass(frozen=True)
class Predict:
    """The step bound to its options; call it with a connection and a scan as `dataset/name`."""

    options: PredictOptions
    force: bool = False
    replace: bool = False
    batch: int | None = None  # captions a pass; it changes no caption, nor does the device
    device: str | None = None
    precision: Precision | None = None  # of the encoder that speaks

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Predict the nodes and edges of one scan, unless the ledger says that it is done.

        It is done again where what it was made of was made anew since.
        """
        stored, bound = find_scan(connection, scan), self._bind(connection)
        with ledger.scan_lock(connection, stored.dataset, stored.name):
            stored = find_scan(connection, stored.key)  # it may have been deleted while we waited
            work = ScanPrediction(connection, stored, bound)
            done = not self.force and work.is_done(replace=self.replace)
            return Summary(skipped=True) if done else work.run()

    def settle(self, connection: Connection[Any]) -> Predict:
        """Return the step bound to one checkpoint, however far the run goes on meanwhile.

        Raises UserError for what is wrong with its options, before any scan is begun: a run or a checkpoint
        that is not there, an encoder that cannot be made, a prediction of that label that was made otherwise.
        """
        bound = self._bind(connection)
        if bound.checkpoint is None:
            return self
        return replace(self, options=replace(self.options, checkpoint=str(bound.checkpoint.step)))

    def lacking_here(self, connection: Connection[Any]) -> str | None:
        """Say what this machine lacks, the checkpoint's file or the encoder that speaks; None: nothing."""
        try:
            run = find_run(connection, self.options.run)
            self._way(connection, run)
            if not self.options.from_2d:
                checkpoint = find_checkpoint(connection, run, self.options.checkpoint or "best")
                if checkpoint.uri is not None and locate(checkpoint.uri) is None:
                    return f"{checkpoint.uri} is not on this machine: mount it here"
        except UserError as error:
            return str(error)
        return None

    def parts(self, connection: Connection[Any], scan: str) -> Sequence[None]:
        """Return what is left to do of a scan, each work for itself: all of it at once, or nothing."""
        stored, bound = find_scan(connection, scan), self._bind(connection)
        done = not self.force and ScanPrediction(connection, stored, bound).is_done(replace=self.replace)
        return [] if done else [None]

    def close(self, connection: Connection[Any]) -> Sequence[str]:
        """Embed the lists of classes and of predicates, so that SQL can compare with them."""
        prediction = find_prediction(connection, f"{self.options.run}:{self.options.called}")
        words = prediction.relation_words
        try:
            embed_vocabularies(connection, prediction.node_words)
            if words is not None:
                for vocabulary in list_vocabularies(connection):
                    if vocabulary.kind == "predicate":
                        embed_vocabularies(connection, words, vocabulary.name)
        except UserError as error:  # what was predicted stands
            return [f"not all vocabularies are embedded: {error}"]
        return ()

    def _bind(self, connection: Connection[Any]) -> Bound:
        options = self.options
        run = find_run(connection, options.run)
        checkpoint = (
            None if options.from_2d else find_checkpoint(connection, run, options.checkpoint or "best")
        )
        way = self._way(connection, run)
        if options.vocabulary is not None:
            find_vocabulary(connection, options.vocabulary)  # UserError before anything is written
        new = NewPrediction(
            run_id=run.run_id,
            run=run.name,
            label=options.called,
            source=options.source,
            weight_2d=options.weight,
            node_words=_node_words(connection, run, options.node_model),
            relation_words=way.words,
            checkpoint_step=None if checkpoint is None else checkpoint.step,
            checkpoint_digest=None if checkpoint is None else checkpoint.digest,
            options={
                "published": options.published,
                "graphs": options.graphs or run.options["stream"]["graphs"],
                "unseen": options.unseen,
                **self._speaking(way),
            },
        )
        prediction = register_prediction(connection, new, replace=self.replace)
        return Bound(options, self.device, run, checkpoint, way, prediction)

    def _way(self, connection: Connection[Any], run: StoredRun) -> RelationWay:
        """Choose how relations are predicted; UserError for options that are of no use to it."""
        way = self._find_way(connection, run)
        options = self.options
        if not isinstance(way, Spoken):
            unused = {
                "--n-beams": options.beams,
                "--gt-objects": options.gt_objects or None,
                "--vocabulary": options.vocabulary,
                "--batch": self.batch,
                "--precision": self.precision,
            }
            for option, value in unused.items():
                if value is not None:
                    raise UserError(
                        f"no encoder speaks of the relations that {run.name} learnt: leave out {option}"
                    )
        return way

    def _find_way(self, connection: Connection[Any], run: StoredRun) -> RelationWay:
        encoder, words = run.relation_encoder, run.words_encoder
        if encoder is None:
            return Classes()
        if run.targets == "captions" and words is not None:
            return EmbeddedCaptions(encoder, words)
        if words is not None and words.encoder_id == encoder.encoder_id:
            return PooledWords(encoder, words)
        speaker = _speaker(
            encoder.name, self.options.beams, self.batch, self.device, self.precision, process_device()
        )
        if speaker is None:
            return Silent(encoder)
        return spoken(connection, encoder, speaker, as_learnt=self.options.published)

    def _speaking(self, way: RelationWay) -> Mapping[str, Any]:
        """Return the options that change what an encoder says, if one speaks."""
        if not isinstance(way, Spoken):
            return {}
        names = "labels" if self.options.gt_objects else self.options.vocabulary or "classes of the dataset"
        return {**way.speaker.ledger_options, "names": names}


@cache
def _speaker(
    name: str,
    beams: int | None,
    batch: int | None,
    device: str | None,
    precision: Precision | None,
    own_device: str | None,
) -> TokenSpeaker | None:
    """Make the encoder that speaks, one a process; None where it does not."""
    if not hasattr(load_encoder(name), "caption"):
        return None
    speaker = load_speaker(name, beams, batch, device, precision, own_device)
    return speaker if isinstance(speaker, TokenSpeaker) else None


def _node_words(connection: Connection[Any], run: StoredRun, name: str | None) -> StoredEncoder:
    """Return the encoder whose words the nodes are compared with; UserError where it is of another space."""
    if name is None:
        return run.node_encoder
    words = register_encoder(connection, load_text_encoder(name))
    if words.dimension != run.node_encoder.dimension:
        raise UserError(
            f"--node-model {name} embeds words as {words.dimension} numbers, the nodes of {run.name} have"
            f" {run.node_encoder.dimension}: take the words of {run.node_encoder.name}, or its like"
        )
    return words
