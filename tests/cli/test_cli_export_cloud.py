"""`open3dsg export cloud`: the points of a scan as others read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.datasets.ply import read_ply_vertices
from tests import miniature as mini
from tests.command import Done

Run = Callable[..., Done]

KEY = f"3rscan/{mini.NAME}"


@pytest.fixture
def database_url(full_database_url: str) -> str:
    """Every step is done in the database of these tests."""
    return full_database_url


def columns(path: Path, *names: str) -> NDArray[np.float64]:
    vertices = read_ply_vertices(path)
    return np.stack([vertices[name] for name in names], axis=1).astype(np.float64)


def test_a_ply_holds_the_scan(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "räum.ply"
    told = run("export", "cloud", "--scan", mini.NAME, path, "--json").json
    assert told == {
        "file": str(path), "scan": KEY, "points": 320, "instances": 4, "normals": True,
        "bytes": path.stat().st_size,
    }  # fmt: skip
    xyz, numbers, rgb = mini.points()
    np.testing.assert_allclose(columns(path, *"xyz"), xyz, atol=1e-6)
    np.testing.assert_array_equal(columns(path, "red", "green", "blue"), rgb)
    np.testing.assert_array_equal(columns(path, "instance")[:, 0], np.where(numbers == 0, -1, numbers))
    across = np.repeat([thing.across for thing in mini.ROOM], mini.GRID**2)
    np.testing.assert_array_equal(np.abs(columns(path, "nx", "ny", "nz")), np.eye(3)[across])
    header = path.read_bytes().split(b"end_header")[0].decode("ascii")
    for number, label in mini.LABELS.items():
        assert f'comment instance {number} "{label}"\n' in header


def test_an_npz_holds_the_same_without_pickles(run: Run, tmp_path: Path) -> None:
    done = run("export", "cloud", "--scan", KEY, tmp_path / "room.npz")
    assert done.out.startswith(f"{tmp_path / 'room.npz'}: 320 points of 4 instances, with normals, ")
    xyz, numbers, rgb = mini.points()
    with np.load(tmp_path / "room.npz", allow_pickle=False) as arrays:
        np.testing.assert_allclose(arrays["points"], xyz, atol=1e-6)
        np.testing.assert_array_equal(arrays["colors"], rgb)
        np.testing.assert_array_equal(arrays["instance"], np.where(numbers == 0, -1, numbers))
        labels = dict(zip(arrays["label_instances"].tolist(), arrays["labels"].tolist(), strict=True))
    assert labels == mini.LABELS


def test_some_points_in_colours_of_their_instances(run: Run, tmp_path: Path) -> None:
    whole, objects, two = (tmp_path / name for name in ("whole.ply", "objects.ply", "two.ply"))
    export = ("export", "cloud", "--scan", KEY, "--colours", "instance")
    assert run(*export, whole).code == 0
    assert run(*export, objects, "--instances-only", "--json").json["points"] == 256
    assert run(*export, two, "--instance", 7, "--instance", 4, "--json").json["instances"] == 2
    colours: dict[int, set[tuple[float, ...]]] = {}
    for number, *rgb in columns(whole, "instance", "red", "green", "blue").tolist():
        colours.setdefault(int(number), set()).add(tuple(rgb))
    assert {number: len(of_instance) for number, of_instance in colours.items()} == dict.fromkeys(colours, 1)
    assert len(set.union(*colours.values())) == 5
    ((red, green, blue),) = colours[-1]
    assert red == green == blue
    everything = columns(whole, *"xyz", "instance", "red", "green", "blue")
    np.testing.assert_array_equal(
        columns(objects, *"xyz", "instance", "red", "green", "blue"), everything[everything[:, 3] != -1]
    )
    np.testing.assert_array_equal(
        columns(two, *"xyz", "instance", "red", "green", "blue"),
        everything[np.isin(everything[:, 3], (4, 7))],
    )
