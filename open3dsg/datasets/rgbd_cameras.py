"""The cameras of a recording: its intrinsics, and which pictures they are of.

    RECORDING/ or the folder above, for all recordings there
      K.txt, intrinsics.txt, intrinsic.txt,        3x3 or 4x4, or the four numbers fx fy cx cy
      camera-intrinsics.txt
      camera.json, intrinsics.json                 fx, fy, cx, cy, and width and height of the picture; or
                                                   intrinsic_matrix, column by column, as Open3D writes it
      intrinsic/intrinsic_color.txt, ..._depth.txt one of each, as ScanNet's tools write them; also beside
      intrinsic_color.txt or intrinsics_color.txt, ..._depth.txt      the pictures' folders

The centre of pixel 0, 0 is at 0.0, 0.0. Where one camera is given and the two pictures differ in size, it is
that of the one in whose middle its axis is (or whose size it names); the other is taken to show the same
view, larger or smaller, so that its camera is scaled. That is right for depth that was registered to the
photograph, as most exports are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.cameras import camera, fits, read_intrinsics, unlikely
from open3dsg.datasets.files import read_bytes
from open3dsg.datasets.jsonfile import member, read_json, typed
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.pixels import PixelGrid

Size = tuple[int, int]  # width, height

_MATRICES = ("K.txt", "intrinsics.txt", "intrinsic.txt", "camera-intrinsics.txt")
_JSON = ("camera.json", "intrinsics.json")
_PAIRS = ("intrinsic/intrinsic_{}.txt", "intrinsic_{}.txt", "intrinsics_{}.txt")
_SAME_SHAPE = 0.02  # relative difference of width / height


class _Source(NamedTuple):
    """A camera as it was given: its matrix, the size of picture it names, and where it is from."""

    matrix: NDArray[np.float64]
    size: Size | None
    where: str


@dataclass(frozen=True)
class Cameras:
    """The cameras of photographs and depth pictures; `note` says what was scaled, if anything was."""

    image: PixelGrid
    depth: PixelGrid
    note: str | None = None


def parse_intrinsics(text: str) -> NDArray[np.float64]:
    """Return the matrix of `--intrinsics fx,fy,cx,cy`; UserError where it is not that."""
    try:
        fx, fy, cx, cy = (float(word) for word in text.split(","))
    except ValueError:
        fx = fy = cx = cy = np.nan
    if not (np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0):
        raise UserError(f"--intrinsics is {text!r}: give fx,fy,cx,cy in pixels, such as 525,525,319.5,239.5")
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def find_cameras(folders: Sequence[Path], given: str | None, image: Size, depth: Size) -> Cameras:
    """Return the cameras of pictures of these sizes: the one `given`, else out of the first of `folders`.

    Raises BadFileError where there is none, or a file is damaged; UserError where files contradict each other
    or are of pictures of another size.
    """
    if given is not None:
        matrix = parse_intrinsics(given)
        # Believed, even if its axis is in the middle of neither: pictures may be cut.
        own = depth if fits(matrix, *depth) and not fits(matrix, *image) else image
        return _both(camera(matrix, *own, "--intrinsics"), image, depth, "--intrinsics")
    for folder in folders:
        pair = [_pair_file(folder, part) for part in ("color", "depth")]
        if pair[0] is not None and pair[1] is not None:
            photo, other = (_Source(read_intrinsics(path), None, str(path)) for path in pair if path)
            return Cameras(_checked(photo, image, "the photograph"), _checked(other, depth, "depth"))
        sources = [_read(folder / name) for name in (*_MATRICES, *_JSON) if (folder / name).is_file()]
        if any(not np.allclose(source.matrix[:2, :3], sources[0].matrix[:2, :3]) for source in sources[1:]):
            names = " and ".join(Path(source.where).name for source in sources)
            raise UserError(f"{folder}: {names} are of different cameras: give --intrinsics fx,fy,cx,cy")
        if sources:
            own = _own_size(sources[0], image, depth)
            return _both(camera(sources[0].matrix, *own, sources[0].where), image, depth, sources[0].where)
    raise BadFileError(
        f"{folders[0]}: no intrinsics: there is no {', '.join(_MATRICES[:2])}, {_JSON[0]} or"
        " intrinsic_color.txt and intrinsic_depth.txt; or give --intrinsics fx,fy,cx,cy"
    )


def _pair_file(folder: Path, part: str) -> Path | None:
    return next((path for form in _PAIRS if (path := folder / form.format(part)).is_file()), None)


def _read(path: Path) -> _Source:
    if path.suffix == ".json":
        return _read_json(path)
    words = read_bytes(path).replace(b",", b" ").split()
    if len(words) == 4:
        try:
            return _Source(parse_intrinsics(",".join(word.decode() for word in words)), None, str(path))
        except (UserError, UnicodeDecodeError):
            raise BadFileError(f"{path}: its four numbers are no fx fy cx cy") from None
    return _Source(read_intrinsics(path), None, str(path))


def _read_json(path: Path) -> _Source:
    record = read_json(path, dict)
    if "intrinsic_matrix" in record:
        numbers = member(record, "intrinsic_matrix", list, str(path))
        if len(numbers) != 9:
            raise BadFileError(f"{path}: 'intrinsic_matrix' has {len(numbers)} numbers, not 9")
        columns = [_number(value, f"{path}: 'intrinsic_matrix'") for value in numbers]
        matrix = np.array(columns).reshape(3, 3).T
    else:
        fx, fy, cx, cy = (_number(record.get(key), f"{path}: {key!r}") for key in ("fx", "fy", "cx", "cy"))
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if "width" not in record or "height" not in record:
        return _Source(matrix, None, str(path))
    size = member(record, "width", int, str(path)), member(record, "height", int, str(path))
    return _Source(matrix, size, str(path))


def _number(value: object, where: str) -> float:
    if not isinstance(value, int) or isinstance(value, bool):
        return typed(value, float, where)
    try:
        return float(value)
    except OverflowError:
        raise BadFileError(f"{where}: a number was expected that a camera can have") from None


def _own_size(source: _Source, image: Size, depth: Size) -> Size:
    """Return the size of the pictures that a camera is of. Raises UserError where it is of neither's."""
    for size in (image, depth):
        if source.size in (None, size) and fits(source.matrix, *size):
            return size
    said = f" (they are said to be of {source.size[0]}x{source.size[1]})" if source.size else ""
    what = unlikely(source.matrix, *image, "the photograph")
    raise UserError(f"{source.where}: {what}{said}: give --intrinsics fx,fy,cx,cy of these pictures")


def _both(grid: PixelGrid, image: Size, depth: Size, where: str) -> Cameras:
    """Return the cameras of both pictures from that of one."""
    image_grid, depth_grid = _scaled(grid, image, where), _scaled(grid, depth, where)
    if image == depth:
        return Cameras(image_grid, depth_grid)
    own = grid.width, grid.height
    other, of = (depth, "depth pictures") if own == image else (image, "photographs")
    note = (
        f"{where} is taken for pictures of {own[0]}x{own[1]}, and scaled for the {of} of"
        f" {other[0]}x{other[1]}: give intrinsic_color.txt and intrinsic_depth.txt if these show another view"
    )
    return Cameras(image_grid, depth_grid, note)


def _scaled(grid: PixelGrid, size: Size, where: str) -> PixelGrid:
    """Return the camera of the same view in another size."""
    x, y = size[0] / grid.width, size[1] / grid.height
    if abs(x / y - 1) > _SAME_SHAPE:
        raise UserError(
            f"{where}: is of pictures of {grid.width}x{grid.height}, and others are {size[0]}x{size[1]}:"
            " another view; give both cameras, in intrinsic_color.txt and intrinsic_depth.txt"
        )
    cx, cy = (grid.cx + 0.5) * x - 0.5, (grid.cy + 0.5) * y - 0.5
    return PixelGrid(size[0], size[1], grid.fx * x, grid.fy * y, cx, cy)


def _checked(source: _Source, size: Size, what: str) -> PixelGrid:
    if not fits(source.matrix, *size):
        raise UserError(f"{source.where}: {unlikely(source.matrix, *size, what)}")
    return camera(source.matrix, *size, source.where)
