"""Whose words the places of a triplet are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from open3dsg.db.queries import execute, fetch_value
from open3dsg.encoders.registry import load_encoder
from open3dsg.errors import UserError
from open3dsg.store.encoders import find_encoder
from open3dsg.store.predictions import find_prediction

if TYPE_CHECKING:
    from psycopg import Connection

    from open3dsg.query.slots import Slot
    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.predictions import StoredPrediction


@dataclass(frozen=True)
class Spaces:
    """Where edges and nodes come from, and the encoders whose words they are compared with."""

    nodes: StoredEncoder | None = None  # None: neither subject nor object is compared
    pairs: StoredEncoder | None = None  # who embedded or captioned pairs, if asked for
    relations: StoredEncoder | None = None  # None: the predicate is not compared
    prediction: StoredPrediction | None = None

    def names(self) -> dict[str, str | None]:
        """Return them as search_triplets_v1 takes them."""
        if self.prediction is not None:
            return {
                "encoder": None,
                "pair_encoder": None,
                "prediction": self.prediction.full_name,
                "words": None,
            }
        return {
            "encoder": None if self.nodes is None else self.nodes.full_name,
            "pair_encoder": None if self.pairs is None else self.pairs.full_name,
            "prediction": None,
            "words": None if self.relations is None else self.relations.full_name,
        }


def find_spaces(
    connection: Connection[Any],
    slots: tuple[Slot, Slot, Slot],
    *,
    encoder: str | None,
    pair_encoder: str | None,
    run: str | None,
) -> Spaces:
    """Find what `search_triplets` compares; UserError for names that are not known or do not go together."""
    subject, predicate, object_ = slots
    if run is not None:
        if encoder is not None or pair_encoder is not None:
            raise UserError("--run asks by its own encoders: leave out --encoder and --pair-encoder")
        return _spaces_of_run(connection, run, predicate)
    nodes = find_encoder(connection, encoder) if subject.is_scored or object_.is_scored else None
    if pair_encoder is not None and predicate.kind == "label":
        raise UserError("a predicate by label: is an annotated one: leave out --pair-encoder")
    if not predicate.is_scored:
        pairs = None if pair_encoder is None else find_encoder(connection, pair_encoder)
        return Spaces(nodes, pairs)
    pairs = find_encoder(connection, pair_encoder or _only_pair_encoder(connection))
    return Spaces(nodes, pairs, _words_of(connection, pairs))


def _spaces_of_run(connection: Connection[Any], run: str, predicate: Slot) -> Spaces:
    prediction = find_prediction(connection, run)
    if predicate.is_scored and prediction.relation_words is None:
        raise UserError(
            f"the relations of {prediction.full_name} are scores of classes, not for words:"
            " leave the predicate open (*), or see `open3dsg show predictions`"
        )
    relations = prediction.relation_words if predicate.is_scored else None
    return Spaces(prediction.node_words, None, relations, prediction)


def _only_pair_encoder(connection: Connection[Any]) -> str:
    names = [name for (name,) in execute(connection, "pair_encoders_to_ask")]
    if not names:
        raise UserError(
            "the store has nothing of pairs that words are compared with: run `open3dsg features caption"
            " --encoder geometry` or `open3dsg features dump --pairs --pair-encoder NAME` first"
        )
    if len(names) > 1:
        raise UserError(f"the store has pairs of several encoders: say --pair-encoder {' or '.join(names)}")
    return str(names[0])


def _words_of(connection: Connection[Any], pairs: StoredEncoder) -> StoredEncoder:
    """Return whose words an encoder's features of pairs, or its captions, are compared with."""
    kind = fetch_value(connection, "pair_encoder_kind", {"encoder_id": pairs.encoder_id})
    if kind is None:
        raise UserError(
            f"{pairs.full_name} has nothing of pairs that words are compared with: run `open3dsg features"
            f" dump --pairs --pair-encoder {pairs.name}` or `features caption --encoder {pairs.name}` first"
        )
    if kind == "features":
        return pairs
    return find_encoder(connection, str(getattr(load_encoder(pairs.name), "text", pairs.name)))
