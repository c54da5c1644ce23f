"""Scans from one database to another: what belongs to a scan, row by row, under the ids of the other.

Bytes of points, pictures' places, features and tokens go as they are (COPY BINARY); ids of words and encoders
are those of the other database, where missing ones are added. Predictions and evaluations belong to runs,
and stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.types.json import Jsonb

from open3dsg.db import ledger
from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.schema import metadata
from open3dsg.db.snapshot import snapshot
from open3dsg.db.terms import term_ids, terms_in_use
from open3dsg.errors import UserError
from open3dsg.store.encoders import StoredEncoder, activate_encoder, add_revision
from open3dsg.store.predictions import PREDICT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection
    from sqlalchemy import Table

    from open3dsg.store.scans import StoredScan

# Of runs, which are not copied; the scan's own row is made anew.
_LEFT_OUT = ("scan", "node_prediction", "edge_prediction", "evaluation_rank")
_TABLES: Sequence[Table] = [
    table for table in metadata.sorted_tables if "scan_id" in table.columns and table.name not in _LEFT_OUT
]
_Ids = dict[int, int]


@dataclass(frozen=True)
class Copied:
    """What was copied of a scan: table -> rows, of the tables that had some; None: it was there already."""

    rows: Mapping[str, int] | None


def check_target(source: Connection[Any], target: Connection[Any]) -> None:
    """Raise UserError where both are one database."""
    if len({fetch_value(each, "database_identity") for each in (source, target)}) == 1:
        raise UserError("--to is the database that is copied from: give another")


def copy_scan(
    source: Connection[Any], target: Connection[Any], scan: StoredScan, *, replace: bool = False
) -> Copied:
    """Copy one scan in one transaction of the target; both connections commit by themselves.

    A scan of that name that the target has stays as it is; with `replace` it is deleted first. Raises
    UserError where the dataset there is of another layout, an encoder of another dimension, and where
    somebody works on the scan there.
    """
    with (
        ledger.scan_lock_at_once(target, scan.dataset, scan.name),
        terms_in_use(target),
        snapshot(source),
        target.transaction(),
    ):
        there = {"dataset": scan.dataset, "name": scan.name}
        old = fetch_value(target, "scan_find", there)
        if old is not None and not replace:
            return Copied(None)
        if old is not None:
            execute(target, "delete_scan", {"scan_id": old})
        return _Transfer(source, target, scan).run()


class _Transfer:
    """One scan on its way: the ids of words and encoders here and there."""

    def __init__(self, source: Connection[Any], target: Connection[Any], scan: StoredScan) -> None:
        self._source, self._target, self._scan = source, target, scan
        self._terms: _Ids = {}
        self._encoders: _Ids = {}
        self._stored: list[StoredEncoder] = []

    def run(self) -> Copied:
        scan_id = self._add_scan()
        rows = {table.name: self._copy(table, scan_id) for table in _TABLES}
        self._copy_words()
        for encoder in self._stored:
            activate_encoder(self._target, encoder)
        return Copied({name: count for name, count in rows.items() if count})

    def _add_scan(self) -> int:
        """Add the scan, and its dataset where it is not there; return the new id."""
        asked: dict[str, Any] = {"name": self._scan.dataset}
        [(layout, root, arguments)] = execute(self._source, "transfer_dataset", asked).fetchall()
        told = {"name": self._scan.dataset, "layout": layout, "root": root, "arguments": Jsonb(arguments)}
        found = fetch_value(self._target, "transfer_dataset_add", told | {"known": arguments is not None})
        if found != layout:
            raise UserError(
                f"{self._scan.key}: the dataset {self._scan.dataset!r} there has the layout {found}, here"
                f" {layout}: they are not the same"
            )
        [moved] = execute(self._source, "transfer_scan", {"scan_id": self._scan.scan_id}).fetchall()
        names = ("name", "split", "point_count", "colour_source", "reference_name", "t_reference_scan")
        asked = dict(zip(names, moved, strict=True)) | {"dataset": self._scan.dataset}
        return int(fetch_value(self._target, "transfer_scan_add", asked))

    def _copy(self, table: Table, scan_id: int) -> int:
        """Copy the rows of one table; return their number."""
        columns = [column for column in table.columns if column.identity is None]
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
        here, passing = sql.Identifier(table.name), sql.Identifier(f"passing_{table.name}")
        which = sql.SQL(" AND step <> {}").format(PREDICT) if table.name == "ledger" else sql.SQL("")
        # Numbers that a table gives itself are given anew, in the same order: the newest correction counts.
        numbered = [column.name for column in table.columns if column.identity is not None]
        order = sql.SQL(" ORDER BY {}").format(*map(sql.Identifier, numbered)) if numbered else sql.SQL("")
        read = sql.SQL("COPY (SELECT {} FROM {} WHERE scan_id = {}{}{}) TO STDOUT (FORMAT BINARY)")
        made = sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA")
        self._target.execute(made.format(passing, names, here))
        written = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(passing, names)
        with self._source.cursor() as out, self._target.cursor() as into:
            with (
                out.copy(read.format(names, here, self._scan.scan_id, which, order)) as given,
                into.copy(written) as taken,
            ):
                for block in given:
                    taken.write(block)
            count = into.rowcount
        if count:
            values = [self._value(column, passing, scan_id) for column in columns]
            moved = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} AS it").format(
                here, names, sql.SQL(", ").join(values), passing
            )
            self._target.execute(moved)
        return count

    def _value(self, column: Any, passing: sql.Identifier, scan_id: int) -> sql.Composable:
        """Return what stands in a column there: ids by the words and encoders that they name."""
        name = sql.Identifier(column.name)
        if column.name == "scan_id":
            return sql.Literal(scan_id)
        is_term = any(key.column.table.name == "term" for key in column.foreign_keys)
        if not is_term and column.name != "encoder_id":  # which may be part of a longer key
            return sql.SQL("it.{}").format(name)
        distinct = sql.SQL("SELECT DISTINCT {} FROM {} WHERE {} IS NOT NULL").format(name, passing, name)
        used = [number for (number,) in self._target.execute(distinct)]
        known = self._term_ids(used) if is_term else self._encoder_ids(used)
        pairs = Jsonb({str(number): known[number] for number in used})
        return sql.SQL("({}::jsonb ->> it.{}::text)::integer").format(sql.Literal(pairs), name)

    def _term_ids(self, used: Sequence[int]) -> _Ids:
        new = [number for number in used if number not in self._terms]
        texts = dict(execute(self._source, "transfer_terms", {"ids": new}).fetchall())
        there = term_ids(self._target, texts.values())
        self._terms |= {number: there[text] for number, text in texts.items()}
        return self._terms

    def _encoder_ids(self, used: Sequence[int]) -> _Ids:
        new = [number for number in used if number not in self._encoders]
        for number, name, revision, dimension, views, tokens, options in execute(
            self._source, "transfer_encoders", {"ids": new}
        ).fetchall():
            stored = add_revision(
                self._target,
                name,
                revision,
                dimension=dimension,
                views=views,
                tokens=tokens,
                options=options,
            )
            if stored.dimension != dimension:
                raise UserError(
                    f"{self._scan.key}: the other database has {stored.full_name} with {stored.dimension}"
                    f" numbers an embedding, this one with {dimension}: drop one of them"
                )
            self._encoders[number] = stored.encoder_id
            self._stored.append(stored)
        return self._encoders

    def _copy_words(self) -> None:
        """Copy the lists of the dataset that are not there, and the embeddings of all words in use."""
        for vocabulary_id, name, kind in execute(
            self._source, "transfer_vocabularies", {"dataset": self._scan.dataset}
        ).fetchall():
            asked = {"name": name, "kind": kind, "dataset": self._scan.dataset}
            new = fetch_value(self._target, "transfer_vocabulary_add", asked)
            if new is None:
                continue
            listed = execute(self._source, "transfer_vocabulary_terms", {"id": vocabulary_id}).fetchall()
            meant = [number for _, number, _ in listed if number is not None]
            known = self._term_ids([number for number, _, _ in listed] + meant)
            rows = [(known[number], known.get(stands_for), place) for number, stands_for, place in listed]
            terms, stand_for, places = map(list, zip(*rows, strict=True)) if rows else ([], [], [])
            asked = {"id": new, "terms": terms, "stand_for": stand_for, "places": places}
            execute(self._target, "transfer_vocabulary_fill", asked)
        self._copy_embeddings()

    def _copy_embeddings(self) -> None:
        used = {"ids": list(self._terms)}
        embeddings = execute(self._source, "transfer_embeddings", used).fetchall()
        encoders = self._encoder_ids(sorted({encoder for encoder, _, _ in embeddings}))
        asked = {
            "encoders": [encoders[encoder] for encoder, _, _ in embeddings],
            "terms": [self._terms[term] for _, term, _ in embeddings],
            "embeddings": [embedding.to_text() for _, _, embedding in embeddings],
        }
        execute(self._target, "transfer_embeddings_add", asked)
