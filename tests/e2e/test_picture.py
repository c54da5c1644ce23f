"""The picture of answers: something is drawn, in the colours of the hits, where the hit is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open3dsg.datasets.scan import Cloud
from open3dsg.errors import UserError
from open3dsg.export.hits import hit_colours
from open3dsg.query.nodes import NodeHit
from open3dsg.view.picture import Panel, draw_answers


def room() -> Cloud:
    """A floor of 4 x 3 m, and a box of 0.5 m (instance 5) on it at x = 3, y = 2."""
    random = np.random.default_rng(3)
    floor = random.uniform((0, 0, 0), (4, 3, 0.01), (20_000, 3))
    box = random.uniform((2.75, 1.75, 0), (3.25, 2.25, 0.5), (5_000, 3))
    return Cloud(
        xyz_m=np.vstack([floor, box]).astype(np.float32),
        rgb=np.full((25_000, 3), 200, np.uint8),
        instance=np.repeat(np.array([1, 5], np.int32), (20_000, 5_000)),
    )


def test_hits_are_drawn_in_their_colours(tmp_path: Path) -> None:
    hit = NodeHit("s", 5, "a $box$", 0.75, (3.0, 2.0, 0.25), "d", "box <&> $x$")
    draw_answers([Panel(hit.query, room(), [hit])] * 3, tmp_path / "answers.png")
    picture = np.asarray(Image.open(tmp_path / "answers.png").convert("RGB")).astype(int)
    assert picture.shape[0] > 1000, "three panels take two rows"
    assert picture.shape[1] > 1500
    colour = np.array(hit_colours([5])[5])
    near = np.abs(picture - colour).sum(axis=2) < 60
    for rows, columns in ((slice(0, 690), slice(0, 900)), (slice(0, 690), slice(900, None))):
        assert near[rows, columns].sum() > 1500
    assert not near[700:, 950:].any(), "the fourth place is empty"


def test_nothing_to_draw_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no answers to draw"):
        draw_answers([], tmp_path / "answers.png")
