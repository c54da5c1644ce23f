"""From the pixels of a photograph to the cells of an encoder's coarser grid, and the mean over pixel sets.

The photograph's size is in pixels, the grid's in cells; a side of the one maps to the same side of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Cells averaged at a time: a band of 768 numbers a cell is 25 MB, whatever the grid.
BAND_CELLS = 1 << 13


def even_cells(pixels: int, cells: int) -> NDArray[np.int64]:
    """Return, (pixels,), which of `cells` equal parts of a side each of its `pixels` lies in."""
    import numpy as np

    return np.arange(pixels) * cells // pixels


def aligned_cells(pixels: int, cells: int) -> NDArray[np.int64]:
    """Return, (pixels,), the nearest of `cells` whose first and last lie on the first and last pixel.

    So does TensorFlow's ``resize_nearest_neighbor`` with ``align_corners=True``, which multiplies in float32
    and rounds halves up; a side of one pixel takes the first cell.
    """
    import numpy as np

    step = np.float32(cells - 1) / np.float32(pixels - 1) if pixels > 1 else np.float32(0)
    places = np.arange(pixels, dtype=np.float32) * step
    # Halves are added in float64: in float32 the number just below a half would be rounded up to it.
    return np.minimum(np.floor(places.astype(np.float64) + 0.5), cells - 1).astype(np.int64)


def check_pixels(pixels: NDArray[np.int64], called: str, size: tuple[int, int]) -> None:
    """Raise ValueError naming `called` unless it is (m, 2), m at least 1, within a picture of `size`."""
    if pixels.ndim != 2 or pixels.shape[1] != 2 or len(pixels) == 0:
        raise ValueError(f"{called} is {pixels.shape}, expected (m, 2) rows and columns, at least one")
    if pixels.min() < 0 or (pixels >= size).any():
        raise ValueError(f"{called} leaves the picture of {size[0]} x {size[1]} pixels")


def pixel_means(
    grid: NDArray[np.float32],
    row_cells: NDArray[np.int64],
    column_cells: NDArray[np.int64],
    pixels: Sequence[NDArray[np.int64]],
) -> NDArray[np.float32]:
    """Return, (n, d) float32, the mean over each of n pixel sets of the vectors that its pixels have.

    `grid`: (rows, columns, d) float32. `row_cells`, (height,), and `column_cells`, (width,), say which cell
    each row and column of the photograph takes. A set is (m, 2) int64 of rows and columns; a pixel named
    twice counts twice. A map of the photograph's own size is never made: a band of the grid is read at a
    time, and added up in float64. Raises ValueError naming its place for a set that is empty or leaves the
    photograph.
    """
    import numpy as np
    from scipy.sparse import csc_array

    size = len(row_cells), len(column_cells)
    for place, each in enumerate(pixels):
        check_pixels(each, f"pixel set {place}", size)
    rows, columns, dimension = grid.shape
    counts = np.array([len(each) for each in pixels], np.int64)
    of_set = np.repeat(np.arange(len(pixels)), counts)
    pixel = np.concatenate(pixels) if pixels else np.zeros((0, 2), np.int64)
    cell = row_cells[pixel[:, 0]] * columns + column_cells[pixel[:, 1]]
    # How many pixels of a set (row) lie in a cell (column): entries of the same place are added up.
    hits = csc_array((np.ones(len(cell), np.float32), (of_set, cell)), (len(pixels), rows * columns))
    total = np.zeros((len(pixels), dimension))
    band = max(1, BAND_CELLS // columns)
    for start in range(0, rows, band):
        part = hits[:, start * columns : (start + band) * columns]
        if part.nnz:
            total += part @ grid[start : start + band].reshape(-1, dimension)
    return (total / counts[:, None]).astype(np.float32)
