"""`data synth` through the installed command; no database is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import call, environment

NO_DATABASE = "postgresql://nobody@localhost:1/none"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--layout", "scannet", "--zip"), "error: --zip: "),
        (("--sens",), "error: --sens: "),
        (("--layout", "scannet", "--scans", 10_001), "error: --scans: "),
        (("--layout", "scannet", "--rescans", 1), "error: --rescans: "),
    ],
)
def test_an_option_that_does_not_fit_the_layout_is_refused(
    tmp_path: Path, options: tuple[object, ...], line: str
) -> None:
    done = call(environment(tmp_path, NO_DATABASE), "data", "synth", tmp_path / "rooms", *options)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert done.errors[0].startswith(line)
    assert not (tmp_path / "rooms").exists()


@pytest.mark.slow
def test_a_room_is_written_as_scannet_and_its_figures_printed(tmp_path: Path) -> None:
    variables = environment(tmp_path, NO_DATABASE)
    options = ("--layout", "scannet", "--scans", 1, "--frames", 2)
    figures = call(variables, "data", "synth", tmp_path / "a", *options, "--json").json
    assert (figures["scans"], figures["frames"], figures["relationships"]) == (1, 2, 0)
    assert {"floor", "wall", "couch"} <= set(figures["labels"])
    done = call(variables, "data", "synth", tmp_path / "b", *options, "--sens")
    assert done.out.startswith(f"{tmp_path / 'b'}: 1 rooms with {figures['instances']} objects of ")
    assert "relations" not in done.out
    assert (tmp_path / "a" / "scannet_2d" / "intrinsics.txt").is_file()
    assert (tmp_path / "b" / "scans" / "scene0000_00" / "scene0000_00.sens").is_file()
