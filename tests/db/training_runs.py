"""Small runs over the store of tests/db/trained.py, each of a second or two on one core."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from open3dsg.db.connect import connect
from open3dsg.training.loop import train
from open3dsg.training.options import LearningOptions, NetworkOptions, RunOptions, StreamOptions, preset
from open3dsg.training.request import TrainRequest, TrainSummary
from tests.db import trained

EPOCHS = 3
_NETWORK: dict[str, Any] = {
    "point_widths": (8, 8, 16),
    "gnn_layers": 1,
    "gconv_dim": 16,
    "hidden_dim": 16,
    "heads": 2,
    "attention_dim": 16,
    "adapter_dim": 8,
    "projector_dim": 16,
}


def options(**changed: Any) -> RunOptions:
    """Return the preset small with a tiny network; options of any part by their names."""
    small = preset("small")
    parts: dict[str, Any] = {
        "network": replace(small.network, **_NETWORK),
        "stream": replace(
            small.stream,
            instance_points=16,
            pair_points=32,
            workers=0,
            batch_size=2,
        ),
        "learning": replace(small.learning, epochs=EPOCHS),
    }
    for name, kind in (("network", NetworkOptions), ("stream", StreamOptions), ("learning", LearningOptions)):
        fields = kind.__dataclass_fields__
        parts[name] = replace(parts[name], **{key: changed.pop(key) for key in [*changed] if key in fields})
    assert not changed, changed
    return RunOptions("small", **parts)


def request(**changed: Any) -> TrainRequest:
    """Ask for a run on captions; fields of the request, or options of any part, by their names."""
    fields = {key: changed.pop(key) for key in [*changed] if key in TrainRequest.__dataclass_fields__}
    asked = TrainRequest(trained.DATASET, trained.NODES, trained.CAPTIONS, options=options(**changed))
    return replace(asked, **fields)


def fill(url: str, folder: Path, scans: int = 3) -> Path:
    """Fill an empty database, and return the folder with the toy encoders; one thread for tiny networks."""
    torch.set_num_threads(1)
    toys = folder / "toys"
    toys.mkdir()
    with pytest.MonkeyPatch.context() as patch, connect(url) as connection:
        connection.autocommit = True
        trained.with_toys(toys, patch)
        trained.trainable(connection, folder, scans)
    return toys


def finish(url: str, **changed: Any) -> TrainSummary:
    """Train a run to its end."""
    summary = train(url, request(**changed))
    assert summary is not None
    assert summary.status == "finished"
    return summary
