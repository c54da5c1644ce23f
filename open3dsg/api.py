"""The store from Python: `open3dsg.connect()`, then questions whose answers are dataclasses or data frames.

    import open3dsg

    with open3dsg.connect() as store:
        for hit in store.search("a place to sit", k=3):
            print(hit.label, hit.scan, hit.similarity)
        graph = store.scan("scene0000_00").graph()

Everything that is asked here only reads, but that words which are asked for the first time are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from open3dsg.db.snapshot import snapshot
from open3dsg.errors import UserError
from open3dsg.query.nodes import NodeFilters, NodeHit, check_asked_by, search_nodes
from open3dsg.query.paths import Chain, PathAnswer, chain_of, path, search_paths
from open3dsg.query.phrases import Reading, read_phrase
from open3dsg.query.slots import Place, Slot, parse_slot, split_instance
from open3dsg.query.triplets import TripletFilters, TripletHit, search_triplets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    import pandas as pd
    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.datasets.scan import Cloud
    from open3dsg.query.changes import Changes
    from open3dsg.query.graph import StoredGraph
    from open3dsg.store.scans import StoredScan

_Row = TypeVar("_Row", NodeHit, TripletHit)
_PLACES: tuple[Place, Place, Place] = ("subject", "predicate", "object")


class Hits(list[_Row], Generic[_Row]):
    """Hits, best first; `frame` gives them as a table."""

    def frame(self) -> pd.DataFrame:
        """Return a data frame, a row a hit and a column a field. Raises UserError without pandas."""
        return _frame([vars(hit) for hit in self])


@dataclass(frozen=True)
class Answer:
    """What a phrase was read as, and the objects that fit it, best first."""

    reading: Reading
    paths: PathAnswer


class Store:
    """An open store. Used by one thread at a time; `connect` as often as threads ask."""

    def __init__(self, connection: Connection[Any]) -> None:
        """Take a connection that commits by itself, which is closed with the store."""
        self.connection = connection

    def __enter__(self) -> Store:
        """Return the store."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Close the connection; the embedded server goes on, for others."""
        self.connection.close()

    def scans(self, dataset: str | None = None, split: str | None = None) -> list[str]:
        """Return the scans, annotated ones without geometry too, as `dataset/name`.

        Raises UserError where there are none.
        """
        from open3dsg.store.scans import select_scans

        return select_scans(self.connection, dataset=dataset, split=split, scans=(), bare=True)

    def scan(self, name: str) -> Scan:
        """Return a scan, by name or `dataset/name`; UserError where none or several are called so."""
        from open3dsg.store.scans import find_scan

        return Scan(self.connection, find_scan(self.connection, name))

    def search(
        self,
        text: str,
        k: int = 5,
        *,
        encoder: str | None = None,
        run: str | None = None,
        **filters: Any,
    ) -> Hits[NodeHit]:
        """Return the `k` objects most similar to a text, of features or of what a run predicted.

        `filters` are the fields of `NodeFilters`: scan, dataset, label, within, exact. Raises UserError as
        `search_nodes` does.
        """
        from open3dsg.query.predictions import search_predictions

        check_asked_by(encoder, run)
        chosen = NodeFilters(**filters)
        if run is None:
            [hits] = search_nodes(self.connection, [text], k=k, encoder=encoder, filters=chosen)
        else:
            [hits] = search_predictions(self.connection, [text], run, k=k, filters=chosen)
        return Hits(hits)

    def similar(
        self,
        instance: str,
        k: int = 5,
        *,
        encoder: str | None = None,
        run: str | None = None,
        same_scan: bool = False,
        **filters: Any,
    ) -> Hits[NodeHit]:
        """Return the `k` objects most similar to an instance, `[DATASET/]SCAN/NUMBER`, of other scans.

        With `same_scan` those of its own too; `filters` as for `search`.
        """
        from open3dsg.query.similar import similar_instances

        scan, number = split_instance(instance)
        chosen = NodeFilters(**filters)
        return Hits(
            similar_instances(
                self.connection,
                scan,
                number,
                k=k,
                encoder=encoder,
                run=run,
                filters=chosen,
                same_scan=same_scan,
            )
        )

    def triplets(
        self,
        subject: str | Slot,
        predicate: str | Slot,
        object: str | Slot,  # noqa: A002 - the third place of a triplet
        k: int = 5,
        *,
        encoder: str | None = None,
        pair_encoder: str | None = None,
        run: str | None = None,
        **filters: Any,
    ) -> Hits[TripletHit]:
        """Return the `k` pairs that best fit a triplet; slots are as `parse_slot` reads them.

        `filters` are the fields of `TripletFilters`: scan, dataset, within, max_distance_m, exact. Raises
        UserError as `search_triplets` does.
        """
        slots = [
            _slot(slot, place) for slot, place in zip((subject, predicate, object), _PLACES, strict=True)
        ]
        hits = search_triplets(
            self.connection,
            *slots,
            k=k,
            encoder=encoder,
            pair_encoder=pair_encoder,
            run=run,
            filters=TripletFilters(**filters),
        )
        return Hits(hits)

    def paths(self, slots: Sequence[str | Slot], k: int = 5, **asked: Any) -> PathAnswer:
        """Return the objects that fit a chain: thing, predicate, thing, predicate, thing.

        `asked`: encoder, pair_encoder, run, and filters as for `triplets`.
        """
        chain = path(
            [_slot(slot, _PLACES[1] if place % 2 else _PLACES[2]) for place, slot in enumerate(slots)]
        )
        return self._search(chain, k, asked)

    def ask(self, phrase: str, k: int = 5, **asked: Any) -> Answer:
        """Return what a phrase such as "the mug on the desk near the window" finds, and how it was read.

        A phrase without a relation, such as "a red chair", finds objects. `asked` as for `paths`. Raises
        UserError as `read_phrase` and `search_paths` do.
        """
        reading = read_phrase(phrase)
        return Answer(reading, self._search(chain_of(reading), k, asked))

    def _search(self, chain: Chain, k: int, asked: Mapping[str, Any]) -> PathAnswer:
        whose = {name: asked[name] for name in ("encoder", "pair_encoder", "run") if name in asked}
        filters = TripletFilters(**{name: value for name, value in asked.items() if name not in whose})
        return search_paths(self.connection, chain, k=k, filters=filters, **whose)

    def sql(self, statement: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> pd.DataFrame:
        """Return what a SQL query returns, as a data frame; parameters stand as `%s` or `%(name)s`.

        It may only read. Raises psycopg.Error as the database does.
        """
        with snapshot(self.connection):
            cursor = self.connection.execute(statement.encode(), parameters or None)
            names = [column.name for column in cursor.description or ()]
            rows = cursor.fetchall() if names else []
        return _frame([dict(zip(names, row, strict=True)) for row in rows], names)


class Scan:
    """A scan of an open store."""

    def __init__(self, connection: Connection[Any], stored: StoredScan) -> None:
        """Take the scan's row."""
        self._connection = connection
        self.stored = stored

    @property
    def key(self) -> str:
        """`dataset/name`."""
        return self.stored.key

    def graph(
        self,
        run: str | None = None,
        *,
        classes: str | None = None,
        predicates: str | None = None,
        k: int = 1,
    ) -> StoredGraph:
        """Return the scene graph, annotated or as a run predicts it; arguments are those of `read_graph`."""
        from open3dsg.query.graph import read_graph

        return read_graph(self._connection, self.key, run=run, classes=classes, predicates=predicates, k=k)

    def cloud(self) -> Cloud:
        """Return the points: (N, 3) float32 metres, (N, 3) uint8 colours, (N,) int32 instance or -1."""
        from open3dsg.store.cloud import read_cloud

        return read_cloud(self._connection, self.stored.scan_id, self.stored.name)

    def changes(
        self, other: str, *, transform: NDArray[Any] | None = None, run: str | None = None
    ) -> Changes:
        """Return what changed from this scan to the scan `other`; arguments are those of `scan_changes`."""
        from open3dsg.query.changes import scan_changes

        return scan_changes(self._connection, self.key, other, transform=transform, run=run)


def connect(url: str | None = None) -> Store:
    """Open the database at `url`, or that of the settings, as the commands do.

    The embedded one is started and migrated as needed. Raises UserError where it cannot be used.
    """
    from dataclasses import replace

    from open3dsg.db.connect import open_store
    from open3dsg.settings import load_settings

    settings = load_settings()
    return Store(open_store(settings if url is None else replace(settings, database_url=url)))


def _slot(slot: str | Slot, place: Place) -> Slot:
    return slot if isinstance(slot, Slot) else parse_slot(slot, place)


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> pd.DataFrame:
    try:
        import pandas as pd
    except ImportError as error:
        raise UserError("data frames need pandas: pip install 'open3dsg[frames]'") from error
    return pd.DataFrame(rows, columns=columns)
