"""Search by example against numpy: of features and of predictions, with the own scan and without."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.query.nodes import NodeFilters
from open3dsg.query.similar import similar_instances
from tests.db.nodes import LABELS, PER_SCAN, fill

Nodes = NDArray[np.float32]


@pytest.fixture
def nodes(database: psycopg.Connection[Any]) -> Nodes:
    return fill(database)


def nearest(
    nodes: Nodes, example: int, *, same_scan: bool, label: int | None = None
) -> list[tuple[str, int]]:
    """Rank all others by the cosine, those of the example's scan left out or not."""
    at = np.arange(len(nodes))
    passes = at != example if same_scan else at // PER_SCAN != example // PER_SCAN
    if label is not None:
        passes &= at % PER_SCAN % 4 == label
    halves = nodes.astype(np.float16).astype(np.float64)
    similarity = halves @ halves[example] / np.linalg.norm(halves, axis=1)
    order = np.lexsort((at, -similarity))
    return [(f"scan{number // PER_SCAN}", number % PER_SCAN) for number in order[passes[order]].tolist()]


@pytest.mark.parametrize("same_scan", [False, True])
@pytest.mark.parametrize("example", [0, 777])
def test_the_nearest_of_other_scans_or_of_all(
    database: psycopg.Connection[Any],
    nodes: Nodes,
    example: int,
    same_scan: bool,
) -> None:
    scan, number = f"scan{example // PER_SCAN}", example % PER_SCAN
    hits = similar_instances(database, scan, number, k=30, same_scan=same_scan)
    assert [(hit.scan, hit.instance) for hit in hits] == nearest(nodes, example, same_scan=same_scan)[:30]
    filters = NodeFilters(label=LABELS[2])
    hits = similar_instances(database, scan, number, k=5, filters=filters, same_scan=same_scan)
    expected = nearest(nodes, example, same_scan=same_scan, label=2)[:5]
    assert [(hit.scan, hit.instance) for hit in hits] == expected


def test_what_a_run_predicted(database: psycopg.Connection[Any], nodes: Nodes) -> None:
    database.execute(
        "INSERT INTO run (name, status, options, node_encoder_id, targets, predicates, units, manifest,"
        " code_revision) VALUES ('otter', 'finished', '{}', 1, 'classes', '{on}', '{}', '', '')"
    )
    database.execute(
        "INSERT INTO prediction (run_id, label, source, weight_2d, node_words_id, checkpoint_step,"
        " checkpoint_digest, options, code_revision)"
        " SELECT run_id, 'student', 'student', 0, 1, 1, '', '{}', '' FROM run"
    )
    database.execute(
        "INSERT INTO node_prediction (scan_id, prediction_id, instance_no, embedding, origin)"
        " SELECT scan_id, prediction_id, instance_no, embedding, 'student' FROM node_feature, prediction"
    )
    expected = nearest(nodes, 3 * PER_SCAN + 7, same_scan=False)[:9]
    for _ in range(7):  # from the sixth call on, a statement may be planned for any arguments
        for run, encoder in (("otter", None), (None, "toy")):
            hits = similar_instances(database, "scan3", 7, k=9, run=run, encoder=encoder)
            assert [(hit.scan, hit.instance) for hit in hits] == expected


def test_refusals(database: psycopg.Connection[Any], nodes: Nodes) -> None:
    for scan, number, told in (
        ("scan3", 999, "instance 999 of scan odd/scan3 has nothing to compare by toy@r"),
        ("nowhere", 1, "no scan 'nowhere'"),
    ):
        with pytest.raises(UserError) as error:
            similar_instances(database, scan, number)
        assert told in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no prediction 'nobody'"):
        similar_instances(database, "scan3", 1, run="nobody")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="give an encoder or a prediction"):
        database.execute("SELECT * FROM similar_instances_v1('scan3', 1, 5)")
