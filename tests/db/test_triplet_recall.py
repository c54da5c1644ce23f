"""Search for triplets in a store of 100,000 nodes, by the indexes against all pairs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pgvector import Vector
from psycopg.types.json import Jsonb

from open3dsg.db.connect import connect
from tests.conftest import as_url

pytestmark = pytest.mark.slow

FILE = Path(__file__).parents[2] / "scripts" / "bench" / "_big_store.py"
K, QUESTIONS = 10, 12
# dataset: 90, 8.9, 1 and 0.1 % of the scans; a scan 0.05 %.
FILTERS: list[dict[str, Any]] = [
    {},
    {"dataset": "big-0"},
    {"dataset": "big-1"},
    {"dataset": "big-2"},
    {"dataset": "big-3"},
    {"scan": "scan-77"},
    {"within": [0, 0, 0, 4, 3, 2]},
    {"max_distance": 1.0},
]


def _big_store() -> Any:
    spec = importlib.util.spec_from_file_location("_big_store", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def big(new_database: Any, template: str) -> Iterator[tuple[psycopg.Connection[Any], list[Any]]]:
    """Give a store of 2,000 scans, and questions; few numbers a vector, so that indexes are soon built."""
    made = _big_store()
    store = made.BigStore(made.Size(scans=2000, pairs=100, dimension=48, latent=24))
    with connect(as_url(new_database("big", template=template))) as connection:
        connection.autocommit = True
        store.fill(connection)
        connection.execute("SET open3dsg.index_memory = '500MB'")
        connection.execute("SELECT create_node_index_v1('bignodes'), create_pair_index_v1('bigpairs')")
        yield connection, store.questions(QUESTIONS)


@pytest.mark.parametrize("scored", ["spo", "so", "sp", "p", "s", "lp"])
def test_recall_at_100_000_nodes(big: tuple[psycopg.Connection[Any], list[Any]], scored: str) -> None:
    connection, questions = big
    found = wanted = 0
    for number, question in enumerate(questions):
        filters = dict(FILTERS[number % len(FILTERS)])
        if "l" in scored:
            filters["subject_label"] = f"class {question.subject_class}"
        vectors = [
            Vector(vector) if letter in scored else None
            for letter, vector in zip("spo", question[3:], strict=True)
        ]

        def ask(filters: dict[str, Any], vectors: list[Vector | None] = vectors) -> list[float]:
            rows = connection.execute(
                "SELECT score FROM search_triplets_v1(%s::vector, %s::vector, %s::vector, %s, %s, 'bignodes',"
                " 'bigpairs')",
                (*vectors, K, Jsonb(filters)),
            )
            return [score for (score,) in rows]

        hits, exact = ask(filters), ask({**filters, "exact": True})
        assert len(hits) == len(exact)
        found += sum(score >= exact[-1] - 1e-6 for score in hits)
        wanted += len(exact)
    assert found >= 0.98 * wanted
