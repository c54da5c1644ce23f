"""Caption pairs: how an encoder says that instances relate, in both directions; rows of `relation_caption`.

Each phrase is a term, embedded by the encoder's sentence encoder, so that it can be searched and compared
with predicates.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.scan import Problem
from open3dsg.db import ledger
from open3dsg.db.queries import execute
from open3dsg.db.terms import terms_in_use
from open3dsg.encoders.registry import load_text_encoder
from open3dsg.errors import UserError
from open3dsg.steps.runner import process_device
from open3dsg.steps.speakers import load_speaker
from open3dsg.steps.summary import Summary
from open3dsg.store.captions import (
    CAPTIONS,
    captions_there,
    clear_captions,
    phrases_without_embedding,
    write_captions,
)
from open3dsg.store.encoders import activate_encoder, keep_words, register_encoder, words_without_embedding
from open3dsg.store.scans import StoredScan, find_scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.encoders.contract import Precision, WordEncoder
    from open3dsg.steps.speakers import Speaker
    from open3dsg.store.captions import Caption, Pair
    from open3dsg.store.encoders import StoredEncoder

VERSION = 1

_TOGETHER = 1000  # phrases embedded for a transaction


@dataclass(frozen=True)
class CaptionOptions:
    """Which encoder speaks, and how; None is its default, and of rules the only choice."""

    encoder: str
    beams: int | None = None  # of the search for the best caption

    def __post_init__(self) -> None:
        """Refuse a number that makes no sense, naming the option."""
        if self.beams is not None and self.beams < 1:
            raise UserError(f"--beams is {self.beams}: give 1 or more")


@dataclass(frozen=True)
class DumpCaptions:
    """The step bound to its options; call it with a connection and a scan as `dataset/name`."""

    options: CaptionOptions
    force: bool = False
    replace: bool = False
    chunk: int | None = None  # only this one, while others work on the other chunks; None: all
    batch: int | None = None  # captions a pass; it changes no caption, nor does the device
    device: str | None = None
    precision: Precision | None = None

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Caption the pairs of one scan, chunk by chunk; chunks that are done are not done again.

        A `chunk` that the scan has no longer, since it has fewer pairs, has nothing left to do.
        """
        stored, row, entry = self._bind(connection, scan)
        with ledger.work_lock(connection, stored.dataset, stored.name, entry, self.chunk):
            stored = find_scan(connection, stored.key)  # it may have been deleted while we waited
            done = self._done(connection, stored, row, entry)
            begun = not self.force and ledger.is_begun(connection, stored.scan_id, entry)
            work = _Captions(connection, stored, self._speaker(), row, entry, begun)
            return work.run(done) if self.chunk is None else work.run_one(self.chunk, done)

    def prepare(self) -> str:
        """Return the encoder's revision; UserError says what is wrong with it before any scan is begun."""
        encoder = self._speaker().encoder
        _sentences(encoder.text)
        return encoder.revision

    def parts(self, connection: Connection[Any], scan: str) -> Sequence[int | None]:
        """Return the chunks that are left to do, each work for itself; None is a scan of a single chunk."""
        stored, row, entry = self._bind(connection, scan)
        done = self._done(connection, stored, row, entry)
        speaker = self._speaker()
        chunks = max(1, -(-len(speaker.pairs(connection, stored, row)) // speaker.chunk))
        left = [chunk for chunk in range(chunks) if chunk not in done]
        return [None] if left and chunks == 1 else left

    def close(self, connection: Connection[Any]) -> Sequence[str]:
        """Embed what is left, and let the name of an encoder that has captions alone mean this revision.

        Phrases are left where another sentence encoder was chosen since.
        """
        encoder = self._speaker().encoder
        row = register_encoder(connection, encoder)
        _embed_rest(connection, row, encoder.text)
        if encoder.views != "boxes":
            return ()
        remark = activate_encoder(connection, row, "captions")
        return () if remark is None else [remark]

    def _speaker(self) -> Speaker:
        return _speaker(self.options, self.batch, self.device, self.precision, process_device())

    def _bind(self, connection: Connection[Any], scan: str) -> tuple[StoredScan, StoredEncoder, ledger.Entry]:
        stored, speaker = find_scan(connection, scan), self._speaker()
        row = register_encoder(connection, speaker.encoder)
        return (
            stored,
            row,
            ledger.Entry(CAPTIONS, VERSION, speaker.ledger_options, row.full_name),
        )

    def _done(
        self, connection: Connection[Any], stored: StoredScan, row: StoredEncoder, entry: ledger.Entry
    ) -> frozenset[int]:
        """Return the chunks that need not be done; UserError where the scan is not ready for the step."""
        done = frozenset() if self.force else ledger.chunks_done(connection, stored.scan_id, entry)
        if not (done or self.force or self.replace):
            ledger.check_same_options(connection, stored.scan_id, entry)
        self._speaker().check_ready(connection, stored, row)
        return done


@cache
def _speaker(
    options: CaptionOptions,
    batch: int | None,
    device: str | None,
    precision: Precision | None,
    own_device: str | None,
) -> Speaker:
    """One encoder a process: its weights stay loaded from scan to scan."""
    return load_speaker(options.encoder, options.beams, batch, device, precision, own_device)


@cache
def _sentences(name: str) -> WordEncoder:
    """One sentence encoder a process, as above."""
    return load_text_encoder(name)


def embed_phrases(
    connection: Connection[Any], text: str, phrases: Iterable[str]
) -> tuple[StoredEncoder, Sequence[str], NDArray[np.float32]]:
    """Embed the phrases that the sentence encoder `text` has not embedded yet, for `keep_words`."""
    sentences = _sentences(text)
    row = register_encoder(connection, sentences)
    texts = words_without_embedding(connection, row, phrases)
    if not texts:  # to load a model for none takes seconds
        return row, [], np.empty((0, row.dimension), np.float32)
    return row, texts, sentences.encode_text(texts)


def _embed_rest(connection: Connection[Any], row: StoredEncoder, text: str) -> None:
    """Embed the phrases of all captions of an encoder that its sentence encoder `text` has not embedded."""
    sentences = _sentences(text)
    words = register_encoder(connection, sentences)
    phrases = phrases_without_embedding(connection, row, words)
    for start in range(0, len(phrases), _TOGETHER):
        part = phrases[start : start + _TOGETHER]
        embeddings = sentences.encode_text(part)
        with terms_in_use(connection), connection.transaction():
            keep_words(connection, words, part, embeddings)


@dataclass(frozen=True)
class _Captions:
    """One scan of which one encoder speaks."""

    connection: Connection[Any]
    scan: StoredScan
    speaker: Speaker
    row: StoredEncoder
    entry: ledger.Entry
    begun: bool  # rows with these options are there and stay; else all rows give way to new ones

    def run(self, done: frozenset[int]) -> Summary:
        """Write the chunks that are not `done`."""
        chunks = self._chunks()
        if len(done) == len(chunks):
            return Summary(skipped=True)
        counts = Counter(self._unseen())
        begun = self.begun
        for chunk in range(len(chunks)):
            if chunk not in done:
                counts.update(self._fill(chunk, chunks, begun=begun))
                begun = True
        return Summary(counts, self._problems())

    def run_one(self, chunk: int, done: frozenset[int]) -> Summary:
        """Write one chunk while others write others: the first of them clears what all of them replace."""
        chunks = self._chunks()
        if chunk in done or chunk >= len(chunks):
            return Summary(skipped=True)
        counts = self._fill(chunk, chunks, begun=self.begun, beside_others=True)
        return Summary({**counts, **(self._unseen() if chunk == 0 else {})}, self._problems())

    def _problems(self) -> Sequence[Problem]:
        """Tell once that a batch was too large, which is no matter of the ledger: it changed no caption."""
        halved, self.speaker.halved = self.speaker.halved, None
        return [Problem("batch_halved", f"{self.scan.name}: {halved}")] if halved else []

    def _chunks(self) -> Sequence[Sequence[Pair]]:
        """Return the pairs of each chunk; a scan without pairs has an empty one, which can be done."""
        pairs, size = self.speaker.pairs(self.connection, self.scan, self.row), self.speaker.chunk
        return [pairs[at : at + size] for at in range(0, len(pairs), size)] or [[]]

    def _unseen(self) -> Mapping[str, int]:
        return self.speaker.unseen(self.connection, self.scan, self.row)

    def _fill(
        self, chunk: int, chunks: Sequence[Sequence[Pair]], *, begun: bool, beside_others: bool = False
    ) -> Mapping[str, int]:
        """Say what a chunk lacks and write it; unless `begun`, all captions of the encoder go first."""
        scan_id, encoder_id = self.scan.scan_id, self.row.encoder_id
        there = captions_there(self.connection, scan_id, encoder_id) if begun else {}
        kept = [pair for pair in chunks[chunk] if pair in there and pair[::-1] in there]
        lacking = sorted(set(chunks[chunk]) - set(kept))
        said = list(self.speaker.say(self.connection, self.scan, self.row, lacking)) if lacking else []
        words = self._words(caption.phrase for caption in said if caption.phrase is not None)
        with terms_in_use(self.connection), self.connection.transaction():
            if beside_others:  # who may have begun meanwhile
                execute(self.connection, "lock_features", {"scan_id": scan_id, "encoder_id": encoder_id})
                begun = ledger.is_begun(self.connection, scan_id, self.entry)
            gone = _no_longer(there, chunks)
            self._clear([*lacking, *gone] if begun else None)
            keep_words(self.connection, *words)
            return self._write(
                said, [there[end] for pair in kept for end in (pair, pair[::-1])], chunk, chunks
            )

    def _clear(self, pairs: Sequence[Pair] | None) -> None:
        """Drop the captions of `pairs`, or all with what the ledger says of them."""
        if pairs is None:
            ledger.forget(self.connection, self.scan.scan_id, [self.entry.step], self.entry.variant)
        clear_captions(self.connection, self.scan.scan_id, self.row.encoder_id, pairs)

    def _words(self, phrases: Iterable[str]) -> tuple[StoredEncoder, Sequence[str], NDArray[np.float32]]:
        return embed_phrases(self.connection, self.speaker.encoder.text, phrases)

    def _write(
        self, said: Sequence[Caption], kept: Sequence[bool], chunk: int, chunks: Sequence[Sequence[Pair]]
    ) -> Mapping[str, int]:
        """Write the rows of a chunk beside the `kept` ones, and its line in the ledger, in a transaction.

        Returns what was written now; the ledger counts all of the chunk.
        """
        told = [caption for caption in said if caption.text]
        write_captions(self.connection, self.scan.scan_id, self.row.encoder_id, told)
        has_phrase = [caption.phrase is not None for caption in told]
        written = _counts(has_phrase, len(said))
        counts = _counts([*has_phrase, *kept], 2 * len(chunks[chunk]))
        ledger.record(self.connection, self.scan.scan_id, self.entry, counts, chunk=chunk, chunks=len(chunks))
        return written


def _counts(has_phrase: Sequence[bool], asked: int) -> dict[str, int]:
    """Count captions, each with a phrase or not; of the rest of the `asked` directions nothing is said."""
    captions, phrases = len(has_phrase), sum(has_phrase)
    return {
        "captions": captions,
        "phrases": phrases,
        "captions_without_phrase": captions - phrases,
        "directions_without_caption": asked - captions,
    }


def _no_longer(there: Iterable[Pair], chunks: Sequence[Sequence[Pair]]) -> list[Pair]:
    """Return the pairs that captions are `there` of, and that the scan does not have any more."""
    wanted = {pair for chunk in chunks for pair in chunk}
    return sorted({(min(ends), max(ends)) for ends in there} - wanted)
