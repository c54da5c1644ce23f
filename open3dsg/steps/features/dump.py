"""A dump with one encoder, chunk by chunk: each is a commit, and is never done again."""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from open3dsg.datasets.scan import Problem
from open3dsg.db import ledger
from open3dsg.db.queries import execute
from open3dsg.errors import UserError
from open3dsg.steps.features.chunks import SIZE, chunks_left, count_chunks, forget_other_sizes
from open3dsg.steps.features.encoding import caller_of
from open3dsg.steps.features.options import plan_memory
from open3dsg.steps.features.pipeline import Gatherer
from open3dsg.steps.features.views import frames_of
from open3dsg.steps.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from open3dsg.steps.features.options import Room, Running
    from open3dsg.steps.features.pipeline import Mean, Tally
    from open3dsg.steps.features.target import Target
    from open3dsg.steps.features.views import Views

_Row = TypeVar("_Row")

_FINISHING = 4  # items that may wait to be packed while the encoder goes on


@dataclass(frozen=True)
class _Seen(Generic[_Row]):
    """What was seen of a chunk."""

    results: Mapping[int, _Row]  # place of the item -> what is stored of it
    looks: int  # behind them
    tally: Tally


class Dump(Generic[_Row]):
    """One target, chunk by chunk."""

    def __init__(
        self, target: Target[_Row], entry: ledger.Entry, running: Running, size: int, *, force: bool
    ) -> None:
        """Take how the ledger calls the work, how it is run, and the items a chunk."""
        self.target = target
        self._connection = target.connection
        self._entry = entry
        self._max_memory = running.max_memory
        self._size = size
        self._force = force
        self._caller = caller_of(target.encoder, running.batch)
        # Rows with these options are there and stay; else all rows give way to new ones.
        self._begun = not force and ledger.is_begun(self._connection, target.scan.scan_id, entry)

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return count_chunks(len(self.target.items), self._size)

    def left(self) -> Sequence[int]:
        """Return the chunks that are not done."""
        if self._force:
            return range(self.chunks)
        scan_id, count = self.target.scan.scan_id, len(self.target.items)
        return chunks_left(self._connection, scan_id, self._entry, count, self._size)

    def lacking(self, chunk: int) -> tuple[range, Views, Mapping[int, int]]:
        """Return the places of a chunk's items, their views, and those that need no look with their looks."""
        places = range(chunk * self._size, min((chunk + 1) * self._size, len(self.target.items)))
        views = self.target.views(places)
        return places, views, self._kept(places, views) if self._begun else {}

    def run(self) -> Summary:
        """Write the chunks that are left."""
        left = self.left()
        if not left:
            return Summary(skipped=True)
        counts: Counter[str] = Counter()
        problems: list[Problem] = []
        for chunk in left:
            part = self._fill(chunk)
            counts.update(part.counts)
            problems += part.problems
        return self._summary(counts, problems)

    def run_one(self, chunk: int) -> Summary:
        """Write one chunk while others write others: the first of them clears what all of them replace."""
        if chunk not in self.left():
            return Summary(skipped=True)
        part = self._fill(chunk, beside_others=True)
        return self._summary(part.counts, part.problems)

    def _summary(self, counts: Mapping[str, int], problems: Sequence[Problem]) -> Summary:
        told = [] if self._caller.halved is None else [Problem("batch_halved", self._caller.halved)]
        return Summary(counts, [*problems, *told], encoder_seconds=self._caller.seconds)

    def _fill(self, chunk: int, *, beside_others: bool = False) -> Summary:
        """Look at what a chunk lacks and write it; where nothing is begun, all rows go first."""
        target = self.target
        places, views, kept = self.lacking(chunk)
        seen = self._look(places, views, kept)
        with self._connection.transaction():
            begun = self._begun
            if beside_others:  # who may have begun meanwhile
                execute(self._connection, "lock_features", target.key)
                begun = ledger.is_begun(self._connection, target.scan.scan_id, self._entry)
            if not begun:
                ledger.forget(self._connection, target.scan.scan_id, [self._entry.step], self._entry.variant)
            target.clear([place for place in places if place not in kept] if begun else None)
            counts = self._write(seen, views, kept, chunk)
        self._begun = True
        return Summary(counts, seen.tally.problems)

    def _kept(self, places: range, views: Views) -> Mapping[int, int]:
        """Return the items that need no look, with the number of looks behind each.

        They have been looked at in every view: one that a view was missing for is looked at again, so that
        what is told of a chunk is the same as if all of it were done now.
        """
        a_view = self.target.looks_a_view
        stored = self.target.looks(places)
        return {
            place: looks
            for place, looks in stored.items()
            if looks == a_view * views.count.get(place - places.start, 0)
        }

    def _look(self, places: range, views: Views, kept: Mapping[int, int]) -> _Seen[_Row]:
        """Look at a chunk, in blocks that fit the memory; UserError where no photo at all can be used."""
        target = self.target
        dtype = np.float32 if target.encoder.views == "tokens" else np.float64
        gatherer = Gatherer(
            self._caller, dtype, target.scan.name, lambda item: target.name(places.start + item)
        )
        lacking = views.of_items([place - places.start for place in places if place not in kept])
        results: dict[int, _Row] = {}
        looks = 0
        for mean, row in self._finished(self._means(gatherer, places, lacking), places.start, gatherer):
            results[places.start + mean.item] = row
            looks += len(mean.frame_nos)
        tally = gatherer.tally
        if len(lacking.item) and not tally.looks and not kept:
            raise UserError(
                f"none of the photographs of scan {target.scan.key} can be used: {tally.problems[0].detail}"
            )
        return _Seen(results, looks, tally)

    def _means(self, gatherer: Gatherer, places: range, lacking: Views) -> Iterator[Mean]:
        """Give the means of the items of some views, block by block."""
        target = self.target
        numbers = target.items[places.start : places.stop] if target.encoder.views == "pixels" else None
        items = sorted(lacking.count)
        if not items:
            return
        room = self.room(len(items))
        for at in range(0, len(items), room.items):
            part = lacking.of_items(items[at : at + room.items])
            planned = {item: count * target.looks_a_view for item, count in part.count.items()}
            frames = frames_of(self._connection, target.scan, part, numbers)
            yield from gatherer.run(frames, planned, target.scan.root, target.scales, room.pictures)

    def room(self, items: int) -> Room:
        """Return what of a chunk with so many items to look at fits the memory at once."""
        target = self.target
        bytes_each = 4 if target.encoder.views == "tokens" else 8
        return plan_memory(
            self._max_memory,
            items=items,
            sum_bytes=prod(target.sum_shape) * bytes_each,
            stored_bytes=target.stored_bytes,
        )

    def _finished(self, means: Iterator[Mean], first: int, gatherer: Gatherer) -> Iterator[tuple[Mean, _Row]]:
        """Make rows of means in a thread, so that the encoder need not wait for tokens to be packed."""
        with ThreadPoolExecutor(1, "finish") as finisher:
            waiting: deque[tuple[Mean, Future[_Row]]] = deque()

            def finish() -> Iterator[tuple[Mean, _Row]]:
                mean, future = waiting.popleft()
                try:
                    yield mean, future.result()
                except ValueError as error:
                    gatherer.refuse(mean.item, str(error))

            for mean in means:
                waiting.append((mean, finisher.submit(self.target.result, first + mean.item, mean)))
                if len(waiting) > _FINISHING:
                    yield from finish()
            while waiting:
                yield from finish()

    def _write(
        self, seen: _Seen[_Row], views: Views, kept: Mapping[int, int], chunk: int
    ) -> Mapping[str, int]:
        """Write the rows of a chunk beside the `kept` ones, and its line in the ledger, in a transaction.

        Returns what was done now; the ledger counts all of the chunk.
        """
        target, tally = self.target, seen.tally
        written = target.write([seen.results[place] for place in sorted(seen.results)])
        absent = {
            f"{target.absent}_unseen": views.unseen,
            f"{target.absent}_unqualified": views.unqualified,
        }
        counts = {
            target.kept: written + len(kept),
            "views": seen.looks + sum(kept.values()),
            **absent,
            SIZE: self._size,
        }
        scan_id = target.scan.scan_id
        forget_other_sizes(self._connection, scan_id, self._entry, self._size)
        ledger.record(
            self._connection, scan_id, self._entry, counts, tally.problems, chunk=chunk, chunks=self.chunks
        )
        work = {"photos": tally.photos, "crops": tally.crops, "crops_shared": tally.crops_shared}
        return {target.kept: written, "views": seen.looks, **absent, **work}
