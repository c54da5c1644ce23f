"""What is learnt: whose features of instances, and what of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from open3dsg.db.queries import execute
from open3dsg.encoders.registry import load_encoder
from open3dsg.encoders.tokens import COARSE_TOKENS
from open3dsg.errors import UserError
from open3dsg.store.captions import phrases_without_embedding
from open3dsg.store.encoders import StoredEncoder, find_encoder
from open3dsg.store.scans import check_dataset
from open3dsg.store.units import read_predicates
from open3dsg.training.options import TargetShape

if TYPE_CHECKING:
    from psycopg import Connection

    from open3dsg.training.options import Targets

_DUMP_NODES = "open3dsg features dump --nodes --encoder {}"
_DUMP_PAIRS = "open3dsg features dump --pairs --pair-encoder {}"
_CAPTION = "open3dsg features caption --encoder {}"
_PAIR_VIEWS = ("boxes", "crops", "tokens")  # of encoders that tell of pairs, the first by captions alone


@dataclass(frozen=True)
class RelationTarget:
    """What is learnt of pairs."""

    kind: Targets
    encoder: StoredEncoder | None  # None: of classes
    words: StoredEncoder | None  # whose words the relations are compared with; None: there are none yet
    predicates: tuple[str, ...] = ()  # of classes, in the order of their scores
    tokens: int = 0  # of tokens: how many a pair, 17 where all are stored coarsely


def find_targets(
    connection: Connection[Any],
    dataset: str,
    node_encoder: str | None,
    pair_encoder: str | None,
    kind: Targets | None,
) -> tuple[StoredEncoder, RelationTarget]:
    """Find what a run on `dataset` learns.

    Encoders are given as `name` or `name@revision`; None means the only one there is.
    `kind` None: captions of an encoder of boxes; else tokens where tokens are stored, else pooled features.
    Raises UserError, with the command to run, for an encoder without such features in the dataset.
    """
    check_dataset(connection, dataset)
    nodes = find_encoder(connection, node_encoder)
    if not _facts(connection, dataset, nodes).nodes:
        raise _lacks(dataset, f"features of instances by {nodes.full_name}", _DUMP_NODES.format(nodes.name))
    if kind == "classes":
        if pair_encoder is not None:
            raise UserError("classes are learnt from annotations: leave out --pair-encoder")
        return nodes, RelationTarget("classes", None, None, read_predicates(connection, dataset))
    pairs = _find_pairs(connection, dataset, pair_encoder)
    facts = _facts(connection, dataset, pairs)
    kind = kind or _kind_of(facts)
    _check_there(dataset, pairs, facts, kind)
    if kind == "captions":
        return nodes, RelationTarget(kind, pairs, _words_of_captions(connection, dataset, pairs))
    words = pairs if facts.views == "crops" else _sentences(connection, pairs)
    return nodes, RelationTarget(kind, pairs, words, tokens=_count_tokens(facts) if kind == "tokens" else 0)


def shape_of(node_encoder: StoredEncoder, relation: RelationTarget) -> TargetShape:
    """Return what a network for these targets gives."""
    if relation.kind == "classes":
        return TargetShape(node_encoder.dimension, relation.kind, classes=relation.predicates)
    space = cast("StoredEncoder", relation.words if relation.kind == "captions" else relation.encoder)
    return TargetShape(node_encoder.dimension, relation.kind, space.dimension, relation.tokens)


class _Facts(NamedTuple):
    """What the query `training_encoder` gives: what an encoder is, and whether a dataset has its rows."""

    views: str
    tokens: int  # that it gives of a pair
    nodes: bool
    pairs: bool
    token_rows: bool
    coarse: bool  # all of them have the layout grid17
    captions: bool


def _facts(connection: Connection[Any], dataset: str, encoder: StoredEncoder) -> _Facts:
    asked = {"dataset": dataset, "encoder_id": encoder.encoder_id}
    [row] = execute(connection, "training_encoder", asked)
    return _Facts(*row)


def _find_pairs(connection: Connection[Any], dataset: str, name: str | None) -> StoredEncoder:
    """Find the encoder of pairs; UserError, with the command for its kind, where the store knows none."""
    name = name or _only_pair_encoder(connection, dataset)
    if execute(connection, "encoder_find", {"text": name}).fetchone() is None and "@" not in name:
        views = load_encoder(name).views
        if views not in _PAIR_VIEWS:
            raise UserError(f"{name} has no features of pairs: take another --pair-encoder")
        command = _CAPTION if views == "boxes" else _DUMP_PAIRS
        raise _lacks(dataset, f"features or captions of pairs by {name}", command.format(name))
    return find_encoder(connection, name)


def _only_pair_encoder(connection: Connection[Any], dataset: str) -> str:
    names = [name for (name,) in execute(connection, "training_pair_encoders", {"dataset": dataset})]
    if len(names) == 1:
        return str(names[0])
    if names:
        raise UserError(
            f"dataset {dataset} has pairs of several encoders: say --pair-encoder {' or '.join(names)}"
        )
    raise _lacks(
        dataset,
        "features or captions of pairs",
        f"{_CAPTION.format('geometry')} --dataset {dataset}` or `{_DUMP_PAIRS.format('NAME')}",
    )


def _kind_of(facts: _Facts) -> Targets:
    if facts.views == "boxes":
        return "captions"
    return "tokens" if facts.token_rows else "pooled"


def _check_there(dataset: str, encoder: StoredEncoder, facts: _Facts, kind: Targets) -> None:
    """Raise UserError unless the dataset has rows of this kind."""
    there = {"captions": facts.captions, "tokens": facts.token_rows, "pooled": facts.pairs}
    if there[kind]:
        return
    if kind == "captions":
        command = _CAPTION.format(encoder.name)
    elif facts.views not in _PAIR_VIEWS[1:]:
        raise UserError(f"{encoder.full_name} has no features of pairs: take another --pair-encoder")
    elif kind == "tokens" and facts.views == "crops":
        raise UserError(f"{encoder.full_name} gives no tokens: learn its pooled features")
    else:
        command = _DUMP_PAIRS.format(encoder.name) + (" --replace" if facts.pairs else "")
    what = {"captions": "captions of pairs", "tokens": "tokens of pairs", "pooled": "features of pairs"}[kind]
    raise _lacks(dataset, f"{what} by {encoder.full_name}", command)


def _count_tokens(facts: _Facts) -> int:
    """Return how many tokens are learnt: a coarse grid is not spread again only to be learnt."""
    return COARSE_TOKENS if facts.coarse else facts.tokens


def _words_of_captions(connection: Connection[Any], dataset: str, encoder: StoredEncoder) -> StoredEncoder:
    """Return the sentence encoder of an encoder's captions; UserError where it has not embedded them all."""
    words = _sentences(connection, encoder)
    if words is None or phrases_without_embedding(connection, encoder, words):
        raise _lacks(
            dataset,
            f"embeddings, by its sentence encoder of now, of all that {encoder.full_name} says",
            _CAPTION.format(encoder.name),
        )
    return words


def _sentences(connection: Connection[Any], encoder: StoredEncoder) -> StoredEncoder | None:
    """Return the row of the sentence encoder that an encoder speaks through; None where there is none yet."""
    name = getattr(load_encoder(encoder.name), "text", None)
    row = execute(connection, "encoder_find", {"text": name}).fetchone()
    return None if row is None else StoredEncoder(*row)


def _lacks(dataset: str, what: str, command: str) -> UserError:
    return UserError(f"dataset {dataset} has no {what}: run `{command} --dataset {dataset}` first")
