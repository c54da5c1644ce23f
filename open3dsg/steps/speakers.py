"""Who says how instances relate: from the geometry of pairs, or from the tokens of what was seen of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from open3dsg.encoders.contract import PairGeometry
from open3dsg.encoders.memory import empty_gpu_cache, is_out_of_memory
from open3dsg.encoders.phrases import phrase_between
from open3dsg.encoders.registry import load_encoder
from open3dsg.encoders.tokens import spread_tokens
from open3dsg.errors import UserError
from open3dsg.store.captions import (
    Caption,
    as_caption,
    count_pairs_without_features,
    is_step_done,
    read_pair_geometry,
)
from open3dsg.store.graphs import stored_pairs
from open3dsg.store.instances import read_labels
from open3dsg.store.pair_features import pair_looks, read_pair_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.encoders.contract import BoxEncoder, Captioner, Precision
    from open3dsg.store.captions import Pair
    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.scans import StoredScan

BEAMS = 5  # as published
BATCH = 8
# Pairs a commit: of rules thousands take a second, of a language model a few dozen a minute.
BOX_CHUNK, TOKEN_CHUNK = 4096, 64


class Speaker(Protocol):
    """An encoder that speaks, and where it looks."""

    halved: str | None  # that a batch did not fit the memory, if one did not

    @property
    def chunk(self) -> int:
        """How many pairs are written at a time."""

    @property
    def encoder(self) -> BoxEncoder | Captioner:
        """The encoder itself."""

    @property
    def ledger_options(self) -> Mapping[str, Any]:
        """What changes what it says, beside its revision."""

    def check_ready(self, connection: Connection[Any], scan: StoredScan, row: StoredEncoder) -> None:
        """Raise UserError, with the command to run, where what it looks at is not there yet."""

    def pairs(self, connection: Connection[Any], scan: StoredScan, row: StoredEncoder) -> Sequence[Pair]:
        """Return the pairs that it can speak of, ascending."""

    def unseen(self, connection: Connection[Any], scan: StoredScan, row: StoredEncoder) -> Mapping[str, int]:
        """Count the pairs of the scan that it cannot speak of."""

    def say(
        self, connection: Connection[Any], scan: StoredScan, row: StoredEncoder, pairs: Sequence[Pair]
    ) -> Iterator[Caption]:
        """Speak of each pair in both directions."""


@dataclass
class BoxSpeaker:
    """Looks at the boxes of pairs, and at the camera that shows them best."""

    encoder: BoxEncoder
    halved: str | None = None

    @property
    def chunk(self) -> int:
        """How many pairs are written at a time."""
        return BOX_CHUNK

    @property
    def ledger_options(self) -> Mapping[str, Any]:
        """Nothing: the numbers of its rules are in its revision."""
        return {}

    def check_ready(self, connection: Connection[Any], scan: StoredScan, row: StoredEncoder) -> None:  # noqa: ARG002
        """Pairs come from the graph, cameras from observations, where there are any."""
        ready = is_step_done(connection, scan.scan_id, "graph")
        if ready is not True:
            lacks = "has no pairs yet" if ready is None else "lacks pairs of changed instances"
            full = "" if ready is None else ", and with --full if the graph of the whole scan is built"
            raise UserError(
                f"scan {scan.key} {lacks}: run `open3dsg graph build --scan {scan.key}` first{full}"
            )
        if is_step_done(connection, scan.scan_id, "observe") is False:
            raise UserError(
                f"scan {scan.key} lacks observations of changed instances: run"
                f" `open3dsg observe --scan {scan.key}` first"
            )

    def pairs(self, connection: Connection[Any], scan: StoredScan, row: StoredEncoder) -> Sequence[Pair]:  # noqa: ARG002
        """Return all pairs of the scan."""
        return [(a, b) for a, b in stored_pairs(connection, scan.scan_id).tolist()]

    def unseen(
        self,
        connection: Connection[Any],  # noqa: ARG002
        scan: StoredScan,  # noqa: ARG002
        row: StoredEncoder,  # noqa: ARG002
    ) -> Mapping[str, int]:
        """None: all pairs have boxes."""
        return {}

    def say(
        self,
        connection: Connection[Any],
        scan: StoredScan,
        row: StoredEncoder,  # noqa: ARG002
        pairs: Sequence[Pair],
    ) -> Iterator[Caption]:
        """Speak of all pairs at once; the phrase is all that is said, and nothing is said of some."""
        geometry = read_pair_geometry(connection, scan.scan_id, pairs)
        for way, ends in ((geometry, pairs), (_turned(geometry), [(b, a) for a, b in pairs])):
            for (subject, object_), phrase in zip(ends, self.encoder.relate(way), strict=True):
                yield as_caption(subject, object_, phrase, phrase or None)


def _turned(pairs: PairGeometry) -> PairGeometry:
    """Return the pairs in the other direction."""
    return replace(
        pairs,
        subject_min_m=pairs.object_min_m,
        subject_max_m=pairs.object_max_m,
        object_min_m=pairs.subject_min_m,
        object_max_m=pairs.subject_max_m,
    )


@dataclass
class TokenSpeaker:
    """Has a language model read the stored tokens of pairs, with the labels of the instances as names.

    Where a batch does not fit its memory, `batch` is halved for good.
    """

    encoder: Captioner
    precision: Precision
    beams: int
    batch: int  # captions a pass
    halved: str | None = None

    @property
    def chunk(self) -> int:
        """How many pairs are written at a time."""
        return TOKEN_CHUNK

    @property
    def ledger_options(self) -> Mapping[str, Any]:
        """The beams and the precision; how many captions go together changes nothing."""
        return {"beams": self.beams, "precision": self.precision}

    def check_ready(self, connection: Connection[Any], scan: StoredScan, row: StoredEncoder) -> None:
        """Tokens come from the dump of pairs, or were written without a step."""
        ready = is_step_done(connection, scan.scan_id, "features.pairs", row.full_name)
        if ready is None:
            ready = bool(pair_looks(connection, scan.scan_id, row.encoder_id)) or None
        if ready is not True:
            has = "has no" if ready is None else "does not have all"
            raise UserError(
                f"scan {scan.key} {has} features of pairs by {row.full_name}: run"
                f" `open3dsg features dump --pairs --pair-encoder {row.name} --scan {scan.key}` first"
            )

    def pairs(self, connection: Connection[Any], scan: StoredScan, row: StoredEncoder) -> Sequence[Pair]:
        """Return the pairs that have a feature."""
        return list(pair_looks(connection, scan.scan_id, row.encoder_id))

    def unseen(self, connection: Connection[Any], scan: StoredScan, row: StoredEncoder) -> Mapping[str, int]:
        """Count the pairs that have none."""
        count = count_pairs_without_features(connection, scan.scan_id, row.encoder_id)
        return {"pairs_without_features": count}

    def say(
        self, connection: Connection[Any], scan: StoredScan, row: StoredEncoder, pairs: Sequence[Pair]
    ) -> Iterator[Caption]:
        """Speak of pairs, which are called by their labels."""
        asked = (
            (ends, spread_tokens(tokens, self.encoder.tokens))
            for a, b, tokens in read_pair_tokens(connection, scan.scan_id, row, pairs)
            for ends in ((a, b), (b, a))
        )
        return self.speak(asked, read_labels(connection, scan))

    def speak(
        self, asked: Iterator[tuple[Pair, NDArray[np.float32]]], labels: Mapping[int, str]
    ) -> Iterator[Caption]:
        """Speak of pairs, subject first, by their (tokens, dimension) tokens, `batch` captions at a time.

        `labels` are the names that instances are called by.
        """
        waiting: list[tuple[Pair, NDArray[np.float32]]] = []
        while waiting := waiting + list(islice(asked, max(0, self.batch - len(waiting)))):
            together = waiting[: self.batch]
            names = [(labels[subject], labels[object_]) for (subject, object_), _tokens in together]
            texts = self._caption(np.stack([tokens for _ends, tokens in together]), names)
            if texts is None:
                continue
            for (ends, _tokens), of, text in zip(together, names, texts, strict=True):
                phrase = phrase_between(text, *of)
                yield as_caption(*ends, text, None if phrase is None else " ".join(phrase.lower().split()))
            waiting = waiting[len(together) :]

    def _caption(self, tokens: NDArray[np.float32], names: Sequence[tuple[str, str]]) -> Sequence[str] | None:
        """Caption n pairs of names; None, and half the batch from now on, where they do not fit the memory.

        Raises UserError where a single caption does not.
        """
        subjects, objects = zip(*names, strict=True)
        try:
            return self.encoder.caption(tokens, subjects, objects, self.beams)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(names) == 1:
                raise UserError(
                    f"the encoder {self.encoder.name} is out of memory with a single caption: take fewer"
                    " --beams, another --device or a lower --precision"
                ) from error
        empty_gpu_cache()
        self.batch = len(names) // 2
        self.halved = f"out of memory with {len(names)} captions at once: went on with {self.batch} (--batch)"
        return None


def load_speaker(
    name: str,
    beams: int | None = None,
    batch: int | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    own_device: str | None = None,
) -> Speaker:
    """Make the encoder called `name`; UserError where it says nothing of pairs, else as `load_encoder`.

    None stands for the default. `own_device` is that of this process, and goes before `device`. UserError,
    too, for an option that a `BoxEncoder` has no use for.
    """
    encoder = load_encoder(name, own_device or device, precision or "fp32")
    if encoder.views == "boxes":
        unused = {"--beams": beams, "--batch": batch, "--device": device, "--precision": precision}
        for option, value in unused.items():
            if value is not None:
                raise UserError(
                    f"the encoder {name} speaks by rules: leave out {option}, which it has no use for"
                )
        return BoxSpeaker(encoder)
    if encoder.views == "tokens" and hasattr(encoder, "caption"):
        speaks = cast("Captioner", encoder)  # a TokenEncoder that has `caption`
        return TokenSpeaker(speaks, precision or "fp32", beams or BEAMS, batch or BATCH)
    raise UserError(
        f"the encoder {name} does not say how instances relate: --encoder geometry does, by rules,"
        " and instructblip, from the tokens of pairs"
    )
