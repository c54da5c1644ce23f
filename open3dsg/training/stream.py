"""Batches from the store: a PyTorch dataset whose memory does not grow with the number of units.

What is kept of a unit that is not at work is its key. Workers are forked where the system can: a new process
would import torch first, which takes longer than the first batch may. A forked one inherits connections, but
leaves them alone, and opens its own.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import psycopg
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from open3dsg.db.connect import connect
from open3dsg.db.queries import execute
from open3dsg.errors import UserError
from open3dsg.store.scans import find_scan
from open3dsg.store.unit import UnitKey
from open3dsg.training.augment import augment, unit_generator
from open3dsg.training.batch import Batch, Cursor
from open3dsg.training.examples import ExampleReader
from open3dsg.training.order import batches, epoch_order
from open3dsg.training.spaces import Spaces, empty_halves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.unit import Unit
    from open3dsg.training.batch import SceneGraph
    from open3dsg.training.options import StreamOptions
    from open3dsg.training.spaces import Space
    from open3dsg.training.targets import RelationTarget

PATIENCE_S = 60.0  # that a database may be away
_PAUSE_S = 0.5
_AHEAD = 2  # batches that a worker has ready
_AT_WORK = 2  # batches that a step has: one, and the next while it still has that
_BURIAL_S = 5.0  # within which the system tells of the death of a process
_START = Cursor(0, 0)


class UnitStream(IterableDataset[Batch]):
    """Yields the batches of one process, of what is left of an epoch from `cursor` on.

    Worker w of n makes every n-th batch, and `DataLoader` hands them out in turn: the order does not depend
    on n. Each worker opens a connection of its own when it begins. A connection that is lost is opened again,
    for which the database may take a minute, and the batch is read anew.
    """

    def __init__(
        self,
        url: str,
        keys: Sequence[UnitKey],
        node_encoder: StoredEncoder,
        relation: RelationTarget,
        options: StreamOptions,
        *,
        train: bool,
        rank: int = 0,
        world: int = 1,
        cursor: Cursor = _START,
    ) -> None:
        """Take what to read, of which only `keys` grow with the data.

        Not `train`: in the order of `keys`, never augmented.
        """
        self._url = url
        self._keys = keys
        self._node_encoder = node_encoder
        self._relation = relation
        self._options = options
        self._train = train
        self._rank, self._world = rank, world
        self._cursor = cursor
        self.spaces: Spaces | None = None  # in which workers that are forked now hand batches over

    def __len__(self) -> int:
        """Count the batches that are left, as many for each process."""
        together = self._options.batch_size * self._world
        return max(0, -(-(len(self._keys) - self._cursor.position) // together))

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches. Raises UserError, naming the unit, for rows that are gone.

        A worker yields such an error as its last item: `make_loader` raises it, as one line.
        """
        worker = get_worker_info()
        if worker is None:
            yield from self._batches(0, 1, None)
            return
        try:
            yield from self._batches(worker.id, worker.num_workers, self.spaces)
        except UserError as error:
            yield cast("Batch", error)

    def _batches(self, worker: int, workers: int, spaces: Spaces | None) -> Iterator[Batch]:
        scans = {key.scan for key in self._keys}
        reader = partial(
            ExampleReader,
            node_encoder=self._node_encoder,
            relation=self._relation,
            options=self._options,
            scans=scans,
        )
        with _Link(self._url, reader) as link:
            for number, (places, total, position) in enumerate(self._parts()):
                if number % workers == worker:
                    keys = tuple(self._keys[place] for place in places.tolist())
                    batch = Batch(None, keys, Cursor(self._cursor.epoch, position), total)
                    if keys:
                        space = None if spaces is None else spaces.claim(worker)
                        graph = link.read(keys, partial(self._change, places), space)
                        yield _whole(batch, graph, space)
                    else:
                        yield batch

    def _parts(self) -> Iterator[tuple[NDArray[np.int64], int, int]]:
        count, epoch = len(self._keys), self._cursor.epoch
        return batches(
            epoch_order(count, self._options.seed, epoch) if self._train else np.arange(count),
            batch_size=self._options.batch_size,
            rank=self._rank,
            world=self._world,
            start=self._cursor.position,
        )

    def _change(self, places: NDArray[np.int64], place: int, graph: SceneGraph) -> None:
        if self._train and self._options.augment:
            unit = int(places[place])
            augment(graph, unit_generator(self._options.seed, self._cursor.epoch, unit))


def _whole(rest: Batch, graph: SceneGraph, space: Space | None) -> Batch:
    """Return a batch with its graph, or what the main process finds in its place there."""
    return replace(rest, graph=graph) if space is None else cast("Batch", space.hand_over(graph, rest))


class _Link:
    """A connection of one worker with the reader on it, opened again where it was lost."""

    def __init__(self, url: str, begin: Callable[[Connection[Any]], ExampleReader]) -> None:
        self._url = url
        self._begin = begin
        self._connection: Connection[Any] | None = None

    def __enter__(self) -> _Link:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def read(self, keys: Sequence[UnitKey], change: Any, space: Space | None) -> SceneGraph:
        """Read units as one graph, however often the connection is lost meanwhile; tokens into `space`."""
        empty = empty_halves if space is None else space.empty_halves
        while True:
            try:
                if self._connection is None:
                    self._open(connect(self._url))
                return self._reader.read(keys, change, empty)[1]
            except psycopg.OperationalError as error:
                if self._connection is not None and not self._connection.closed:
                    raise
                self._open(reconnect(self._url, error))

    def _open(self, connection: Connection[Any]) -> None:
        connection.autocommit = True
        self._connection = connection
        self._reader = self._begin(connection)


def reconnect(url: str, error: Exception) -> Connection[Any]:
    """Open a connection in place of one that was lost by `error`, once the database is there again.

    Says so once. Raises UserError where it stays away for a minute.
    """
    told = (str(error).strip() or type(error).__name__).splitlines()[0]
    sys.stderr.write(f"the database went away ({told}): waiting for it\n")
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with suppress(UserError, psycopg.OperationalError):
            return connect(url)
        time.sleep(_PAUSE_S)
    return connect(url)


class _Loader(DataLoader[Batch]):
    """Reads with workers, which hand batches over in memory that is used again where they are forked.

    Raises what a worker handed over in place of a batch: as it is, not as a traceback of the worker's.
    """

    def __init__(self, stream: UnitStream, workers: int, *, forks: bool) -> None:
        super().__init__(
            stream,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=_AHEAD,
            multiprocessing_context="fork" if forks else "spawn",
            worker_init_fn=_begin,
            pin_memory=torch.cuda.is_available(),
        )
        self._stream = stream
        self._forks = forks

    def __iter__(self) -> Any:
        spaces = Spaces(self.num_workers, _AHEAD + _AT_WORK) if self._forks else None
        with _deaths_awaited():
            self._stream.spaces = spaces
            batches = super().__iter__()
            self._stream.spaces = None  # the workers have them, and this process until the last batch
            for item in batches:
                if isinstance(item, UserError):
                    raise item
                yield item


@contextmanager
def _deaths_awaited() -> Iterator[None]:
    """Let PyTorch tell of a worker that died while it handed a batch over.

    A batch lies in memory of which the worker sends the handles. Where it was killed amid that, the broken
    connection is noticed first, and the signal by which PyTorch raises its own error a moment later.
    """
    try:
        yield
    except (OSError, EOFError):
        until = time.monotonic() + _BURIAL_S
        while time.monotonic() < until:  # in naps: the signal wakes only the thread that is given it
            time.sleep(0.1)
        raise


@contextmanager
def dead_workers_told() -> Iterator[None]:
    """Raise UserError where the system killed a process that reads, as it does for want of memory.

    PyTorch tells of it by a signal, so that it is raised wherever the main process is at the time.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise UserError(
            "a process that reads batches was killed, most likely for want of memory: give fewer --workers,"
            " or more shared memory (of a container: --shm-size)"
        ) from error


def make_loader(stream: UnitStream, options: StreamOptions) -> DataLoader[Batch]:
    """Return what reads ahead with `options.workers` processes, or with 0 in this one without.

    Batches are in page-locked memory where there is a GPU.
    """
    if options.workers == 0:
        return DataLoader(stream, batch_size=None)
    forks = "fork" in multiprocessing.get_all_start_methods() and sys.platform == "linux"
    return _Loader(stream, options.workers, forks=forks)


def _begin(_worker: int) -> None:
    """Leave Ctrl-C to the main process, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def read_graphs(
    connection: Connection[Any],
    scan: str,
    node_encoder: StoredEncoder,
    relation: RelationTarget,
    options: StreamOptions,
    *,
    with_targets: bool,
    unseen: bool = False,
) -> Iterator[tuple[UnitKey, Unit, SceneGraph]]:
    """Yield the units of one scan that can be read, for prediction; nothing is augmented.

    `unseen` keeps instances that no frame shows. `connection` commits by itself.
    """
    found = find_scan(connection, scan)
    asked = {"scan_id": found.scan_id, "full": options.graphs == "full", "unseen": unseen}
    numbers = [number for (number,) in execute(connection, "training_scan_units", asked)]
    reader = ExampleReader(
        connection, node_encoder, relation, options, [found.key], with_targets=with_targets, unseen=unseen
    )
    for number in numbers:
        key = UnitKey(found.key, number)
        [unit], graph = reader.read([key])
        yield key, unit, graph
