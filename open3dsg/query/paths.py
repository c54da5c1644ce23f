"""Ask for several relations at once: a cup on a table that stands next to a window.

Each triplet is searched by itself, and what is found is joined where it shares an object. The threshold
algorithm (Fagin, Lotem and Naor, Optimal aggregation algorithms for middleware, JCSS 2003) says when no join
of what was not looked at can be better: until then, more of each triplet is looked at.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from open3dsg.db.queries import fetch_value
from open3dsg.errors import UserError
from open3dsg.query.nodes import NodeFilters, check_asked_by, search_nodes
from open3dsg.query.phrases import ANYTHING
from open3dsg.query.predictions import search_predictions
from open3dsg.query.slots import ANY, Slot
from open3dsg.query.triplets import TripletFilters, search_triplets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

    from open3dsg.query.phrases import Reading
    from open3dsg.query.triplets import TripletHit

_FIRST = 256  # hits of each triplet that are looked at first
_MOST = 16_384  # and at last
_DEEPER = 8
_MOST_THINGS = 6

_ScanKey = tuple[str, str]  # dataset and name


@dataclass(frozen=True)
class Chain:
    """A question: what each thing is, and triplets (subject, predicate, object) of places among the things.

    Each triplet but the first has one thing that triplets before it have, and one that they have not. One
    thing, in words, may stand alone.
    """

    things: tuple[Slot, ...]
    triplets: tuple[tuple[int, Slot, int], ...]

    def __post_init__(self) -> None:
        """Raise UserError for triplets that do not hang together."""
        if not self.triplets and [thing.kind for thing in self.things] == ["text"]:
            return
        bound: set[int] = set()
        for place, (subject, _, object_) in enumerate(self.triplets):
            if subject == object_ or (place > 0 and (subject in bound) == (object_ in bound)):
                raise UserError(f"triplet {place + 1} must add one thing to those before it")
            bound |= {subject, object_}
        if bound != set(range(len(self.things))) or len(self.things) > _MOST_THINGS:
            raise UserError(f"each of 2 to {_MOST_THINGS} things must be in a triplet, or one be words")


def path(slots: Sequence[Slot]) -> Chain:
    """Return the chain of things and predicates in turn: thing, predicate, thing, predicate, thing.

    Raises UserError for an even number of slots, or fewer than three.
    """
    if len(slots) < 3 or len(slots) % 2 == 0:
        raise UserError(
            f"{len(slots)} slots are no path: give a thing, then predicate and thing, as often as need be"
        )
    predicates = slots[1::2]
    return Chain(tuple(slots[::2]), tuple((place, slot, place + 1) for place, slot in enumerate(predicates)))


def chain_of(reading: Reading) -> Chain:
    """Return a phrase as a question, all of whose slots are words, or anything.

    Raises UserError for anything alone.
    """
    if reading.things == (ANYTHING,):
        raise UserError("the phrase asks for anything: say what, or how it relates to something")
    return Chain(
        tuple(ANY if thing == ANYTHING else Slot("text", thing) for thing in reading.things),
        tuple((subject, Slot("text", words), object_) for subject, words, object_ in reading.triplets),
    )


@dataclass(frozen=True)
class PathHit:
    """Objects of one scan that fit a chain; `score` is the mean of those of its triplets.

    Of one thing alone it is the similarity.
    """

    dataset: str
    scan: str
    things: tuple[tuple[int, str], ...]  # instance and label of each thing of the chain
    triplets: tuple[TripletHit, ...]
    score: float

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "dataset": self.dataset,
            "scan": self.scan,
            "score": self.score,
            "things": [{"instance": number, "label": label} for number, label in self.things],
            "triplets": [triplet.as_json() for triplet in self.triplets],
        }


@dataclass(frozen=True)
class PathAnswer:
    """The best hits of a chain, best first.

    Not `is_complete`: after looking at the best 16,384 of each triplet, what was not looked at might still
    hold a better one.
    """

    hits: tuple[PathHit, ...]
    is_complete: bool


def search_paths(
    connection: Connection[Any],
    chain: Chain,
    *,
    k: int = 5,
    encoder: str | None = None,
    pair_encoder: str | None = None,
    run: str | None = None,
    filters: TripletFilters | None = None,
) -> PathAnswer:
    """Return the `k` best sets of different objects of one scan that fit a chain.

    Raises UserError as `search_triplets` does, and where one thing alone is asked for with what is of pairs:
    a pair encoder or a distance.
    """
    asked = {"encoder": encoder, "pair_encoder": pair_encoder, "run": run}
    chosen = filters or TripletFilters()
    if not chain.triplets:
        return _search_alone(connection, chain.things[0], k, chosen, **asked)
    looked_at = max(_FIRST, k)
    while True:
        lists = [
            search_triplets(
                connection,
                chain.things[subject],
                predicate,
                chain.things[object_],
                k=looked_at,
                filters=replace(chosen, with_evidence=False),
                **asked,
            )
            for subject, predicate, object_ in chain.triplets
        ]
        found = _Join(chain, lists, k).best()
        is_complete = _is_complete(lists, looked_at, found, k)
        if is_complete or looked_at >= max(_MOST, k):
            break
        looked_at = min(looked_at * _DEEPER, max(_MOST, k))
    hits = (_hit(chain, _with_evidence(connection, joined)) for joined in found)
    return PathAnswer(tuple(hits), is_complete)


def _mean_score(joined: Sequence[TripletHit]) -> float:
    return sum(hit.score for hit in joined) / len(joined)


def _is_complete(
    lists: Sequence[Sequence[TripletHit]], looked_at: int, found: Sequence[Sequence[TripletHit]], k: int
) -> bool:
    """Tell whether no join with a triplet that was not looked at can be among the best `k`."""
    if not all(lists):
        return True
    first = [hits[0].score for hits in lists]
    bounds = [
        (sum(first) - first[place] + hits[-1].score) / len(lists)
        for place, hits in enumerate(lists)
        if len(hits) == looked_at
    ]
    return not bounds or (len(found) == k and _mean_score(found[-1]) >= max(bounds))


class _Join:
    """Choices of a hit a triplet whose shared things are the same objects, all others different.

    Branch and bound: what is begun is given up once the best of each triplet still to come, in that scan,
    could not bring it among the best `k`. All choices of a chain of four would be too many.
    """

    def __init__(self, chain: Chain, lists: Sequence[Sequence[TripletHit]], k: int) -> None:
        """Take the hits of each triplet, best first."""
        self._chain, self._k = chain, k
        self._tables: list[dict[tuple[_ScanKey, int], list[TripletHit]]] = []
        self._best_of: list[dict[_ScanKey, float]] = []
        self._found: list[tuple[float, int, list[TripletHit]]] = []  # a heap, the worst first
        self._number = 0
        bound = {chain.triplets[0][0]}
        for (subject, _, object_), hits in zip(chain.triplets, lists, strict=True):
            self._add_table(hits, by_subject=subject in bound)
            bound |= {subject, object_}
        self._first = lists[0]

    def best(self) -> list[list[TripletHit]]:
        """Return the best `k` choices by their mean score, best first."""
        subject, _, object_ = self._chain.triplets[0]
        for hit in self._first:
            if not self._is_hopeless(_scan_of(hit), 1, hit.score):
                self._extend([hit], {subject: hit.subject, object_: hit.object}, hit.score)
        return [joined for *_, joined in sorted(self._found, key=lambda found: found[:2], reverse=True)]

    def _add_table(self, hits: Sequence[TripletHit], *, by_subject: bool) -> None:
        table: dict[tuple[_ScanKey, int], list[TripletHit]] = defaultdict(list)
        best: dict[_ScanKey, float] = {}
        for hit in hits:
            scan = _scan_of(hit)
            best.setdefault(scan, hit.score)
            table[scan, hit.subject if by_subject else hit.object].append(hit)
        self._tables.append(table)
        self._best_of.append(best)

    def _is_hopeless(self, scan: _ScanKey, place: int, total: float) -> bool:
        """Tell whether a choice up to a triplet, of that total score, cannot be among the best."""
        rest = [best.get(scan) for best in self._best_of[place:]]
        if None in rest:
            return True
        could_be = total + sum(score for score in rest if score is not None)
        return len(self._found) == self._k and could_be <= self._found[0][0]

    def _extend(self, joined: list[TripletHit], objects: dict[int, int], total: float) -> None:
        place = len(joined)
        if place == len(self._tables):
            self._keep(joined, total)
            return
        subject, _, object_ = self._chain.triplets[place]
        by_subject = subject in objects
        scan = _scan_of(joined[0])
        for hit in self._tables[place].get((scan, objects[subject if by_subject else object_]), ()):
            if self._is_hopeless(scan, place + 1, total + hit.score):
                return  # those behind it are no better
            new = hit.object if by_subject else hit.subject
            if new not in objects.values():
                now = {**objects, (object_ if by_subject else subject): new}
                self._extend([*joined, hit], now, total + hit.score)

    def _keep(self, joined: list[TripletHit], total: float) -> None:
        """Keep a choice in place of the worst; of equals the one that was found first."""
        self._number -= 1
        keep = heapq.heappush if len(self._found) < self._k else heapq.heappushpop
        keep(self._found, (total, self._number, joined))


def _scan_of(hit: TripletHit) -> _ScanKey:
    return hit.dataset, hit.scan


def _search_alone(
    connection: Connection[Any],
    thing: Slot,
    k: int,
    filters: TripletFilters,
    *,
    encoder: str | None,
    pair_encoder: str | None,
    run: str | None,
) -> PathAnswer:
    """Return the objects that are most like words, as hits of a chain without triplets."""
    if pair_encoder is not None or filters.max_distance_m is not None:
        raise UserError(
            f"{thing.value!r} says no relation: leave out what is of pairs, a pair encoder or a distance"
        )
    check_asked_by(encoder, run)
    of_nodes = NodeFilters(filters.scan, filters.dataset, None, filters.within, filters.exact)
    if run is None:
        [found] = search_nodes(connection, [thing.value], k=k, encoder=encoder, filters=of_nodes)
    else:
        [found] = search_predictions(connection, [thing.value], run, k=k, filters=of_nodes)
    hits = (PathHit(hit.dataset, hit.scan, ((hit.instance, hit.label),), (), hit.similarity) for hit in found)
    return PathAnswer(tuple(hits), is_complete=True)


def _with_evidence(connection: Connection[Any], joined: Sequence[TripletHit]) -> list[TripletHit]:
    """Return the hits with the frames in which both of their objects are seen."""
    return [
        replace(hit, frames=tuple(fetch_value(connection, "triplet_frames", _ends(hit)))) for hit in joined
    ]


def _ends(hit: TripletHit) -> dict[str, Any]:
    return {"dataset": hit.dataset, "scan": hit.scan, "subject": hit.subject, "object": hit.object}


def _hit(chain: Chain, joined: Sequence[TripletHit]) -> PathHit:
    things: dict[int, tuple[int, str]] = {}
    for (subject, _, object_), hit in zip(chain.triplets, joined, strict=True):
        things[subject] = (hit.subject, hit.subject_label)
        things[object_] = (hit.object, hit.object_label)
    return PathHit(
        joined[0].dataset,
        joined[0].scan,
        tuple(things[place] for place in range(len(chain.things))),
        tuple(joined),
        _mean_score(joined),
    )
