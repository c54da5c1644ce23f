"""What is predicted of pairs, by what a run learnt of them.

- Where relations are in a space of words (pooled features of an encoder that embeds words too, and embedded
  captions), student and teacher are compared with words as they are.
- Where they are in the space of a language model (tokens, or the mean of them), that model says how the two
  ends relate, and what it says between their names is embedded by its sentence encoder.
- Where classes were learnt, their scores are kept. Pictures say nothing of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from open3dsg.datasets.scan import Problem
from open3dsg.db.queries import execute
from open3dsg.encoders.tokens import spread_tokens
from open3dsg.errors import UserError
from open3dsg.steps.captions import embed_phrases
from open3dsg.steps.predict_fusion import as_long, unit
from open3dsg.steps.speakers import TokenSpeaker
from open3dsg.store.captions import CAPTIONS
from open3dsg.store.encoders import StoredEncoder, register_encoder
from open3dsg.store.pair_features import pair_looks, read_pair_tokens
from open3dsg.store.predictions import EdgePrediction, as_floats

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.steps.predict_fusion import Fusion, Means
    from open3dsg.store.captions import Pair
    from open3dsg.store.predictions import Source
    from open3dsg.store.scans import StoredScan

PAIRS = "features.pairs"  # the step that the ledger calls so

NewWords = tuple[StoredEncoder, "Sequence[str]", "NDArray[np.float32]"]  # what `keep_words` takes


@dataclass(frozen=True)
class AskedPairs:
    """The directed pairs of a scan, and what is known of them."""

    scan: StoredScan
    pairs: Sequence[Pair]  # subject and object
    student: Means[Pair] | None  # None: the teacher alone is asked
    from_2d: bool  # whether the teacher is asked
    fusion: Fusion
    names: Mapping[int, str]  # what the ends are called, where an encoder speaks


@dataclass(frozen=True)
class SaidOfPairs:
    """Rows to write, with the phrases among them that the store has no embedding of yet."""

    edges: Sequence[EdgePrediction]
    words: NewWords | None = None
    problems: Sequence[Problem] = ()


class RelationWay(Protocol):
    """How one run predicts relations."""

    @property
    def words(self) -> StoredEncoder | None:
        """Whose words they are compared with."""

    @property
    def made_of(self) -> Sequence[tuple[str, str]]:
        """The steps, with their variants in the ledger, from which the teacher knows of pairs."""

    def predict(self, connection: Connection[Any], asked: AskedPairs) -> SaidOfPairs:
        """Predict what student and teacher say something of; the other pairs have no row."""


@dataclass(frozen=True)
class Classes:
    """Scores of the classes that were learnt; None of them for the teacher."""

    words: None = None
    made_of: Sequence[tuple[str, str]] = ()

    def predict(self, connection: Connection[Any], asked: AskedPairs) -> SaidOfPairs:  # noqa: ARG002
        """Give the student's scores."""
        said = ((pair, asked.student.get(pair)) for pair in asked.pairs) if asked.student else ()
        return SaidOfPairs(
            [
                EdgePrediction(*pair, None, scores, None, None, "student")
                for pair, scores in said
                if scores is not None
            ]
        )


@dataclass(frozen=True)
class Silent:
    """Relations that are in no space of words, and of which nobody speaks: nothing can be said of them."""

    encoder: StoredEncoder
    words: None = None
    made_of: Sequence[tuple[str, str]] = ()

    def predict(self, connection: Connection[Any], asked: AskedPairs) -> SaidOfPairs:  # noqa: ARG002
        """Predict nothing, and tell why."""
        why = f"{asked.scan.name}: {self.encoder.full_name} neither embeds words nor speaks"
        return SaidOfPairs((), problems=[Problem("relations_without_words", why)])


@dataclass(frozen=True)
class PooledWords:
    """Pooled features of an encoder that embeds words, too; both directions of a pair share the teacher's."""

    encoder: StoredEncoder
    words: StoredEncoder

    @property
    def made_of(self) -> Sequence[tuple[str, str]]:
        """The dump of pairs."""
        return [(PAIRS, self.encoder.full_name)]

    def predict(self, connection: Connection[Any], asked: AskedPairs) -> SaidOfPairs:
        """Compare directions as they are."""
        key = {"scan_id": asked.scan.scan_id, "encoder_id": self.encoder.encoder_id}
        rows = execute(connection, "pair_embeddings", key, binary=True) if asked.from_2d else ()
        both: dict[Pair, NDArray[np.float32]] = {}
        for a, b, embedding in rows:
            both[a, b] = both[b, a] = as_floats(embedding)
        return SaidOfPairs(list(_fused(asked, both)))


@dataclass(frozen=True)
class EmbeddedCaptions:
    """What an encoder says of pairs, embedded by a sentence encoder; the teacher's rows have its words."""

    encoder: StoredEncoder
    words: StoredEncoder

    @property
    def made_of(self) -> Sequence[tuple[str, str]]:
        """The captions."""
        return [(CAPTIONS, self.encoder.full_name)]

    def predict(self, connection: Connection[Any], asked: AskedPairs) -> SaidOfPairs:
        """Compare directions as they are; a caption without a phrase has none."""
        key = {
            "scan_id": asked.scan.scan_id,
            "encoder_id": self.encoder.encoder_id,
            "words_id": self.words.encoder_id,
        }
        rows = execute(connection, "caption_embeddings", key, binary=True) if asked.from_2d else ()
        said = {(subject, object_): told for subject, object_, *told in rows}
        vectors = {
            pair: as_floats(embedding) for pair, (*_, embedding) in said.items() if embedding is not None
        }
        edges = {(edge.subject, edge.object): edge for edge in _fused(asked, vectors)}
        if asked.student is not None:
            return SaidOfPairs(list(edges.values()))
        bare = EdgePrediction(0, 0, None, None, None, None, "teacher")
        return SaidOfPairs(
            [
                edges.get(pair, bare)._replace(
                    subject=pair[0], object=pair[1], caption=said[pair][0], phrase=said[pair][1]
                )
                for pair in asked.pairs
                if pair in said
            ]
        )


@dataclass(frozen=True)
class Spoken:
    """Tokens that a language model reads, or the mean of them in each place."""

    encoder: StoredEncoder
    speaker: TokenSpeaker
    words: StoredEncoder  # of the sentence encoder
    length: float | None  # to which the student's grids are brought; None: they stay as they are

    @property
    def made_of(self) -> Sequence[tuple[str, str]]:
        """The dump of pairs."""
        return [(PAIRS, self.encoder.full_name)]

    def predict(self, connection: Connection[Any], asked: AskedPairs) -> SaidOfPairs:
        """Have it say how the ends relate, by their names, and embed what is between the names."""
        origins: dict[Pair, Source] = {}
        said = list(self.speaker.speak(self._tokens(connection, asked, origins), asked.names))
        phrases = {caption.phrase for caption in said if caption.phrase is not None}
        new = embed_phrases(connection, self.speaker.encoder.text, phrases)
        vectors = {**word_vectors(connection, self.words, phrases), **dict(zip(new[1], new[2], strict=True))}
        edges = [
            EdgePrediction(
                subject,
                object_,
                None if phrase is None else vectors[phrase],
                None,
                text or None,
                phrase,
                origins[subject, object_],
            )
            for subject, object_, text, phrase in said
        ]
        halved, self.speaker.halved = self.speaker.halved, None
        told = [Problem("batch_halved", f"{asked.scan.name}: {halved}")] if halved else []
        return SaidOfPairs(edges, new, told)

    def _tokens(
        self, connection: Connection[Any], asked: AskedPairs, origins: dict[Pair, Source]
    ) -> Iterator[tuple[Pair, NDArray[np.float32]]]:
        """Yield the tokens of each directed pair, and note where they came from."""
        for pair, teacher in self._seen(connection, asked):
            student = None if asked.student is None else asked.student.get(pair)
            fused = asked.fusion.tokens(None if student is None else self._learnt(student), teacher)
            if fused is not None:
                tokens, origins[pair] = fused
                yield pair, tokens

    def _seen(
        self, connection: Connection[Any], asked: AskedPairs
    ) -> Iterator[tuple[Pair, NDArray[np.float32] | None]]:
        """Yield each directed pair with the tokens that pictures gave: first those that have any."""
        wanted, scan_id = set(asked.pairs), asked.scan.scan_id
        looks = pair_looks(connection, scan_id, self.encoder.encoder_id) if asked.from_2d else {}
        seen = [pair for pair in looks if pair in wanted or pair[::-1] in wanted]
        if seen:
            for a, b, tokens in read_pair_tokens(connection, scan_id, self.encoder, seen):
                grid = self._grid(tokens)
                yield from ((ends, grid) for ends in ((a, b), (b, a)) if ends in wanted)
        for pair in asked.pairs:
            if pair not in looks and pair[::-1] not in looks:
                yield pair, None

    def _learnt(self, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring what the student says, of which only the direction was learnt, to the length of a grid."""
        grid = self._grid(tokens)
        return grid if self.length is None else as_long(grid, self.length)

    def _grid(self, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """Spread what is kept of the tokens, or a single vector, over all places."""
        rows = tokens if tokens.ndim == 2 else tokens[None]
        return spread_tokens(rows, self.speaker.encoder.tokens)


def word_vectors(
    connection: Connection[Any], encoder: StoredEncoder, texts: set[str]
) -> dict[str, NDArray[np.float32]]:
    """Return the embeddings of those of `texts` that the store has, (d,) float32 each."""
    asked = {"encoder_id": encoder.encoder_id, "texts": sorted(texts)}
    rows = execute(connection, "word_vectors", asked, binary=True)
    return {text: as_floats(embedding) for text, embedding in rows}


def spoken(
    connection: Connection[Any], encoder: StoredEncoder, speaker: TokenSpeaker, *, as_learnt: bool
) -> Spoken:
    """Have the `speaker` read the tokens of `encoder`; UserError where it is another revision of it.

    `as_learnt`: what the student says is read whatever its length, as published; else it is brought to the
    mean length of the first grids that are stored, since a model reads long tokens otherwise than short ones.
    """
    installed = register_encoder(connection, speaker.encoder)
    if installed.encoder_id != encoder.encoder_id:
        raise UserError(
            f"the run learnt from {encoder.full_name}, the installed encoder is {installed.full_name}:"
            " install that one again"
        )
    words, _texts, _vectors = embed_phrases(connection, speaker.encoder.text, ())
    length = None if as_learnt else _length(connection, encoder, speaker.encoder.tokens)
    return Spoken(encoder, speaker, words, length)


def _length(connection: Connection[Any], encoder: StoredEncoder, tokens: int) -> float | None:
    """Return the mean length of the first grids of `tokens` tokens in the store; None where it has none."""
    first = execute(connection, "first_pairs", {"encoder_id": encoder.encoder_id}).fetchall()
    lengths = [
        float(np.linalg.norm(spread_tokens(grid, tokens)))
        for scan_id, a, b in first
        for _a, _b, grid in read_pair_tokens(connection, scan_id, encoder, [(a, b)])
    ]
    return float(np.mean(lengths)) if lengths else None


def _fused(asked: AskedPairs, teacher: Mapping[Pair, NDArray[np.float32]]) -> Iterator[EdgePrediction]:
    for pair in asked.pairs:
        student = None if asked.student is None else asked.student.get(pair)
        fused = asked.fusion.vectors(student, teacher.get(pair))
        if fused is not None:
            yield EdgePrediction(*pair, unit(fused[0]), None, None, None, fused[1])
