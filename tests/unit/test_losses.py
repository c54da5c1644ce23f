"""Curves of losses: the picture and the line of text."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from open3dsg.errors import UserError
from open3dsg.store.runs import Metric
from open3dsg.view.losses import plot_losses, spark


def curve(name: str, values: list[float]) -> list[Metric]:
    return [Metric(name, step, 0, value) for step, value in enumerate(values)]


def test_bars_are_as_high_as_the_values() -> None:
    assert spark([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert spark([5.0, 3.0]) == "█▁"
    assert spark([2.0]) == spark([2.0, 2.0])[0] == "▁"
    assert spark([1.0, math.nan, 2.0, math.inf]) == "▁ █ "
    assert spark([]) == spark([math.nan]) == ""


def test_more_values_than_bars_are_averaged() -> None:
    assert spark([8, 6, 1, 1, 0, 0], width=3) == "█▂▁"
    assert spark([7, 7, math.nan, 0], width=2) == "█▁"
    assert len(spark(list(range(1000)), width=30)) == 30


def picture_lines(path: Path) -> set[str]:
    """The texts of an SVG, which matplotlib notes beside the outlines of their letters."""
    svg = path.read_text(encoding="utf-8")
    ET.fromstring(svg)
    return {part.partition("-->")[0].strip() for part in svg.split("<!--")[1:]}


def test_training_and_validation_share_a_panel_and_runs_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "losses.svg"
    metrics = [
        *curve("train/loss", [3, 2, 1]),
        *curve("val/loss", [3.5, 2.5]),
        *curve("train/node_loss", [1]),
    ]
    plot_losses({"a $b$": metrics, "_c": curve("train/loss", [math.nan, *[1.0] * 2000])}, path)
    texts = picture_lines(path)
    assert {"loss", "node_loss", "train/loss  a $b$", "val/loss  a $b$", "train/loss  _c"} <= texts
    assert "val/loss  _c" not in texts


def test_a_run_alone_is_drawn_as_png(tmp_path: Path) -> None:
    path = tmp_path / "losses.png"
    plot_losses({"a": curve("train/loss", [3, 2, 1])}, path)
    with Image.open(path) as picture:
        colours = picture.convert("RGB").getcolors(1 << 20) or []
        assert (0xEE, 0x66, 0x77) in {colour for _, colour in colours}, "the first of the palette"


def test_what_cannot_be_drawn_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is nothing to draw: a, b noted no losses yet"):
        plot_losses({"a": [], "b": []}, tmp_path / "losses.png")
    with pytest.raises(UserError, match=r"losses\.txt: a plot is one of \.png, \.svg, \.pdf"):
        plot_losses({"a": curve("train/loss", [1])}, tmp_path / "losses.txt")
    with pytest.raises(UserError, match="there is no folder"):
        plot_losses({"a": curve("train/loss", [1])}, tmp_path / "no" / "losses.png")
    assert list(tmp_path.iterdir()) == []
