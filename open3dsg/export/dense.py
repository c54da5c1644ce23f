"""The vectors of all pixels of one picture, as a file for numpy.

NAME.npz, not compressed: deflating gives 8 % for many seconds. It holds

    features_0, features_1, ...  (up to band_rows, columns, d) float16: bands of rows of the encoder's own
                                 grid, which is coarser than the picture
    band_rows                    rows a band
    row_cells, column_cells      (height,) and (width,) int32: which row and column of the grid each row and
                                 column of the picture takes
    made_of                      JSON: the encoder with its revision, the options, the picture's SHA-256

The vector of pixel (y, x) is thus ``file[f"features_{r // band}"][r % band, file["column_cells"][x]]`` with
``r = file["row_cells"][y]`` and ``band = file["band_rows"]``; `pixel_features` reads many. numpy reads a band
only when it is asked for.
"""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.export.files import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

BAND_BYTES = 16 << 20
LARGEST = 65504.0  # of float16
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError)


def fits_float16(grid: NDArray[np.float32]) -> bool:
    """Return whether all numbers of `grid` (rows, columns, d) are finite and none is beyond float16."""
    return all(bool((np.abs(row) <= LARGEST).all()) for row in grid)


def write_dense(
    path: Path,
    grid: NDArray[np.float32],
    row_cells: NDArray[np.int64],
    column_cells: NDArray[np.int64],
    made_of: Mapping[str, Any],
) -> None:
    """Write `grid`, (rows, columns, d) float32 that fits float16, and where the picture's pixels lie in it.

    A band is converted and written at a time. Raises UserError where the file cannot be written.
    """
    rows, columns, dimension = grid.shape
    band = max(1, BAND_BYTES // (2 * columns * dimension))
    with whole_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        for number, start in enumerate(range(0, rows, band)):
            _write(archive, f"features_{number}", grid[start : start + band].astype(np.float16))
        _write(archive, "band_rows", np.array(band))
        _write(archive, "row_cells", row_cells.astype(np.int32))
        _write(archive, "column_cells", column_cells.astype(np.int32))
        _write(archive, "made_of", np.array(json.dumps(made_of, sort_keys=True)))


def read_made_of(path: Path) -> Mapping[str, Any] | None:
    """Return what `write_dense` was told a file is made of; None where none is there, or a damaged one."""
    try:
        # Opened here: numpy leaves a damaged file open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            made_of: Mapping[str, Any] = json.loads(str(file["made_of"]))
            return made_of
    except _UNREADABLE:
        return None


def pixel_features(path: Path, pixels: NDArray[np.int64]) -> NDArray[np.float16]:
    """Return, (m, d) float16, the vectors of `pixels` (m, 2), rows and columns of the picture."""
    with np.load(path, allow_pickle=False) as file:
        rows, columns = file["row_cells"][pixels[:, 0]], file["column_cells"][pixels[:, 1]]
        bands, within = np.divmod(rows, file["band_rows"])
        found = np.empty((len(pixels), file["features_0"].shape[2]), np.float16)
        for band in np.unique(bands):
            here = bands == band
            found[here] = file[f"features_{band}"][within[here], columns[here]]
    return found


def _write(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    # Without a date, so that the same content is the same file.
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)
