"""Files of the vectors of all pixels: what goes in comes out, pixel by pixel and band by band."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from open3dsg.encoders.grids import aligned_cells
from open3dsg.export import dense as module
from open3dsg.export.dense import fits_float16, pixel_features, read_made_of, write_dense

HEIGHT, WIDTH, ROWS, COLUMNS, DIMENSION = 40, 61, 23, 9, 5
MADE_OF = {"encoder": "toy@1", "clusters": 3}


@pytest.mark.parametrize("band_bytes", [1, 7 * 2 * COLUMNS * DIMENSION, 1 << 24])
def test_pixels_are_looked_up_as_written_out_in_the_docs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, band_bytes: int
) -> None:
    monkeypatch.setattr(module, "BAND_BYTES", band_bytes)
    path = tmp_path / "picture.jpg.npz"
    grid = np.random.default_rng(0).normal(size=(ROWS, COLUMNS, DIMENSION)).astype(np.float32)
    row_cells, column_cells = aligned_cells(HEIGHT, ROWS), aligned_cells(WIDTH, COLUMNS)
    write_dense(path, grid, row_cells, column_cells, MADE_OF)

    pixels = np.random.default_rng(1).integers(0, (HEIGHT, WIDTH), (50, 2))
    found = pixel_features(path, pixels)
    assert found.dtype == np.float16
    with np.load(path) as file:
        for (y, x), vector in zip(pixels, found, strict=True):
            r = file["row_cells"][y]
            band = file["band_rows"]
            by_hand = file[f"features_{r // band}"][r % band, file["column_cells"][x]]
            np.testing.assert_array_equal(vector, by_hand)
            np.testing.assert_array_equal(vector, grid[row_cells[y], column_cells[x]].astype(np.float16))
    assert read_made_of(path) == MADE_OF


def test_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    grid, cells = np.ones((2, 3, 4), np.float32), aligned_cells(6, 2)
    for name in ("a", "b"):
        write_dense(tmp_path / name, grid, cells, cells, MADE_OF)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_that_is_none_is_made_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    assert read_made_of(path) is None
    write_dense(path, np.ones((2, 3, 4), np.float32), aligned_cells(6, 2), aligned_cells(6, 3), MADE_OF)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[:100], whole[:-40]):
        path.write_bytes(content)
        assert read_made_of(path) is None
    np.savez(path, other=np.zeros(3))
    assert read_made_of(path) is None


@pytest.mark.parametrize(
    ("number", "fits"),
    [(65504.0, True), (-65504.0, True), (65600.0, False), (np.inf, False), (np.nan, False), (1e-9, True)],
)
def test_what_float16_cannot_hold_is_seen(number: float, fits: bool) -> None:
    grid = np.ones((3, 4, 2), np.float32)
    grid[2, 3, 1] = number
    assert fits_float16(grid) is fits
