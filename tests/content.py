"""Everything a database holds, by name: to compare two of them whose ids and times differ."""

from __future__ import annotations

from typing import Any

import psycopg

Rows = list[tuple[Any, ...]]

# What stands for a column of this name; None leaves it out.
NAMES = {
    "scan_id": "SELECT d.name || '/' || s.name FROM scan s JOIN dataset d USING (dataset_id)"
    " WHERE s.scan_id = it.scan_id",
    "dataset_id": "SELECT d.name FROM dataset d WHERE d.dataset_id = it.dataset_id",
    "encoder_id": "SELECT e.name || '@' || e.revision FROM encoder e WHERE e.encoder_id = it.encoder_id",
    "vocabulary_id": "SELECT v.name FROM vocabulary v WHERE v.vocabulary_id = it.vocabulary_id",
    "term_id": "SELECT t.text FROM term t WHERE t.term_id = it.term_id",
    "label_id": "SELECT t.text FROM term t WHERE t.term_id = it.label_id",
    "predicate_id": "SELECT t.text FROM term t WHERE t.term_id = it.predicate_id",
    "phrase_id": "SELECT t.text FROM term t WHERE t.term_id = it.phrase_id",
    "finished_at": None,
}


def content(database: psycopg.Connection[Any]) -> dict[str, Rows]:
    """Return table -> its rows as text in a fixed order, with names in place of ids, and no times."""
    columns: dict[str, list[str]] = {}
    for table, column in database.execute(
        "SELECT table_name, column_name"
        " FROM information_schema.columns JOIN pg_tables ON tablename = table_name"
        " WHERE schemaname = 'public' ORDER BY table_name, ordinal_position"
    ):
        columns.setdefault(table, []).append(column)
    assert {"scan", "instance", "observation", "node_feature", "ledger"} <= columns.keys()
    return {
        table: database.execute(_query(table, of_table)).fetchall() for table, of_table in columns.items()
    }


def row_counts(database: psycopg.Connection[Any]) -> dict[str, int]:
    """Return table -> its number of rows, of every table there is."""
    return {table: len(rows) for table, rows in content(database).items()}


def _query(table: str, columns: list[str]) -> bytes:
    told = [NAMES.get(column, f'SELECT it."{column}"::text') for column in columns]
    parts = [f"({query})" for query in told if query is not None]
    order = ", ".join(str(place) for place in range(1, len(parts) + 1))
    return f'SELECT {", ".join(parts)} FROM "{table}" AS it ORDER BY {order}'.encode()
