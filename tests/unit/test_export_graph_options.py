"""Options of `export graph` that another option, or the format, makes no use of."""

from __future__ import annotations

from pathlib import Path

import pytest

from open3dsg.cli.export_graph import graph
from open3dsg.errors import UserError


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--run", "otter"), "--run goes with scene graphs: name another --format than 3dssg"),
        (("--format", "svg", "--classes", "words"), "--classes goes with --run"),
        (("--format", "svg", "-k", "2"), "-k goes with --run"),
        (("--format", "svg", "--encoder", "toy"), "--encoder goes with --format pyg"),
        (("--format", "svg", "--pair-encoder", "toy"), "--pair-encoder goes with --format pyg"),
        (("--format", "svg", "--full"), "--full goes with --format 3dssg"),
    ],
    ids=str,
)
def test_options_that_are_refused(tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        graph.main([*options, "--out", str(tmp_path / "out")], standalone_mode=False)
    assert not (tmp_path / "out").exists()
