"""Whether a recording's depth, poses and axes fit together, told before hours go into fusing them.

A few pairs of pictures that the camera took from different places are held against each other: what one
measured, seen from the other, must lie where that measured it. Where it does not, the same is tried with what
people most often get wrong (the unit of depth, the axes of the camera, the direction of the poses, the row of
a picture), and the one that fits is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.scan import Frame, Problem
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.pixels import PixelGrid

# Units a metre in use: metres, centimetres, SUN3D's and other 8-bit exports, millimetres, the quarter
# millimetre, TUM's, the tenth of a millimetre.
SCALES = (1.0, 100.0, 256.0, 1000.0, 4000.0, 5000.0, 10_000.0)

_NEAREST_M, _FURTHEST_M = 0.05, 20.0  # depth of a room lies between, in the middle
_USUAL_M = (0.3, 8.0)
_LOOKED_AT = 5  # pictures, for the unit of depth
_ANCHORS = 12  # pictures that are held against a later one
_WINDOW = 300  # pictures after an anchor among which the later one is looked for
_MOVED_M, _TURNED_RAD = 0.25, 0.45  # enough to tell right from wrong, little enough to see the same things
_TOO_FAR = 6.0  # the sum of both, in these units: another part of the room
_SAMPLES = 5_000  # pixels of a picture
_ENOUGH = 500  # pixels that two views share, in all
_TOLERANCE = 0.03  # of depth: the noise of depth cameras, and edges
# Shares of pixels that agree: right poses leave a twentieth at most, noise and edges; smooth walls let wrong
# ones agree in half. Another reading is the right one where it agrees in most, and halves what does not.
_GOOD, _MOST, _POOR = 0.95, 0.6, 0.7
_SURE = 0.9  # where the given reading lets no picture show what another does
_BETTER = 0.1
_UPRIGHT = 0.7  # of the mean of unit vectors: the cameras' own up, over the recording

Poses = Mapping[int, NDArray[np.float64]]


class Reading(NamedTuple):
    """One way to read a recording: `option` gives it, `poses` are camera to world by frame number."""

    option: str
    poses: Poses
    units_per_metre: float


class _View(NamedTuple):
    raw: NDArray[np.float32]  # (h, w), as in the file
    grid: PixelGrid
    number: int


def check_depth_scale(images: ImageReader, frames: Sequence[Frame], units_per_metre: float) -> None:
    """Raise UserError where depth, in the middle, is nearer or further than a room can be.

    `frames`, one at least, have depth; those that cannot be read count for nothing here.
    """
    places = np.unique(np.linspace(0, len(frames) - 1, _LOOKED_AT).round().astype(int)).tolist()
    few = [view for at in places if (view := _view(images, frames[at])) is not None]
    measured = np.concatenate([np.empty(0), *(view.raw[view.raw > 0] for view in few)])
    if not len(measured):
        return
    middle = float(np.median(measured))
    if _NEAREST_M <= middle / units_per_metre <= _FURTHEST_M:
        return
    likely = [scale for scale in SCALES if _USUAL_M[0] <= middle / scale <= _USUAL_M[1]]
    told = f", such as --depth-scale {' or '.join(f'{scale:g}' for scale in likely)}" if likely else ""
    raise UserError(
        f"{frames[places[0]].depth_uri}: depth is {middle / units_per_metre:.3g} m in the middle, taken as"
        f" {units_per_metre:g} units a metre (the picture holds {middle:g}): give --depth-scale UNITS{told}"
    )


def check_views(
    images: ImageReader,
    frames: Sequence[Frame],
    given: Reading,
    others: Callable[[], Iterable[Reading]],
) -> Problem | None:
    """Hold some frames against each other; None where they agree, or none shows what another does.

    Raises UserError where one of `others` fits, and a Problem, `views_disagree`, where none does.
    """
    pairs = [
        (first, second)
        for a, b in _pairs(frames, given.poses)
        if (first := _view(images, frames[a])) is not None
        and (second := _view(images, frames[b])) is not None
    ]
    measured = np.concatenate([np.empty(0), *(first.raw[first.raw > 0] for first, _second in pairs)])
    share = agreement(pairs, given)
    if not len(measured) or (share is not None and share >= _GOOD):
        return None
    tried = [
        (agreement(pairs, other) or 0.0, other.option)
        for other in others()
        if _may_be(other, given, float(np.median(measured)), share)
    ]
    best, option = max(tried, default=(0.0, ""))
    told = f"pictures of the same place agree on depth in {share or 0:.0%} of their pixels"
    needed = _SURE if share is None else max(_MOST, share + _BETTER, (1 + share) / 2)
    if best >= needed:
        raise UserError(
            f"{told}, and in {best:.0%} with {option}: give that, or the usual value by name to keep it"
        )
    if share is None or share >= _POOR:
        return None
    name = frames[0].image_uri.partition("/")[0]
    return Problem("views_disagree", f"{name}: {told}: are poses, intrinsics and depth of the same pictures?")


def _may_be(other: Reading, given: Reading, middle: float, share: float | None) -> bool:
    """Tell whether another reading is worth a try: its depth is a room's.

    Where the given one lets no picture show what another does, another scale proves nothing: the further away
    things are taken to be, the more the pictures share.
    """
    is_same_scale = other.units_per_metre == given.units_per_metre
    return is_same_scale or (
        share is not None and _USUAL_M[0] <= middle / other.units_per_metre <= _USUAL_M[1]
    )


def check_upright(name: str, frames: Sequence[Frame]) -> Problem | None:
    """Tell, as `world_up_unlikely`, where the cameras mostly stand upright along another axis than z."""
    up = np.mean([-frame.T_world_camera[:3, 1] for frame in frames], axis=0)
    axis = int(np.argmax(np.abs(up)))
    said = ("-" if up[axis] < 0 else "") + "xyz"[axis]
    if abs(up[axis]) < _UPRIGHT or said == "z":
        return None
    detail = f"{name}: the cameras stand upright along {said} and not z: give --world-up {said} if that is up"
    return Problem("world_up_unlikely", detail)


def agreement(pairs: Sequence[tuple[_View, _View]], reading: Reading) -> float | None:
    """Return the share of pixels of the first views that the second ones confirm; None: too few shared."""
    agree = shared = 0
    for first, second in pairs:
        if first.number in reading.poses and second.number in reading.poses:
            for a, b in ((first, second), (second, first)):
                confirmed, seen = _confirmed(a, b, reading)
                agree, shared = agree + confirmed, shared + seen
    return agree / shared if shared >= _ENOUGH else None


def _confirmed(first: _View, second: _View, reading: Reading) -> tuple[int, int]:
    """Return how many pixels of `first` the other view measured at the same depth, and how many at all."""
    points = _points(first, reading.units_per_metre) @ reading.poses[first.number].T
    x, y, z, _ = (points @ np.linalg.inv(reading.poses[second.number]).T).T
    grid = second.grid
    ahead = z > 0
    column = np.rint(grid.fx * x[ahead] / z[ahead] + grid.cx)
    row = np.rint(grid.fy * y[ahead] / z[ahead] + grid.cy)
    inside = (column >= 0) & (column < grid.width) & (row >= 0) & (row < grid.height)
    raw = second.raw[row[inside].astype(np.int64), column[inside].astype(np.int64)]
    measured = raw / reading.units_per_metre
    seen = measured > 0
    close = np.abs(measured - z[ahead][inside]) <= _TOLERANCE * measured
    return int((close & seen).sum()), int(seen.sum())


def _points(view: _View, units_per_metre: float) -> NDArray[np.float64]:
    """Return what some pixels measured, (P, 4) homogeneous, in the camera."""
    step = max(1, round((view.raw.size / _SAMPLES) ** 0.5))
    row, column = np.mgrid[: view.grid.height : step, : view.grid.width : step]
    z = view.raw[::step, ::step] / units_per_metre
    grid = view.grid
    x, y = (column - grid.cx) / grid.fx * z, (row - grid.cy) / grid.fy * z
    points: NDArray[np.float64] = np.stack([x, y, z, np.ones_like(z)], axis=2)[z > 0].astype(np.float64)
    return points


def _view(images: ImageReader, frame: Frame) -> _View | None:
    """Return the depth picture of a frame as it is in the file; None where it cannot be read."""
    if frame.depth_uri is None or frame.depth is None:
        return None
    try:
        raw = images.read_depth_m(frame.depth_uri, 1.0)
    except BadFileError:  # reported when it is fused
        return None
    fits = raw.shape == (frame.depth.height, frame.depth.width)
    return _View(raw, frame.depth, frame.number) if fits else None


def _pairs(frames: Sequence[Frame], poses: Poses) -> list[tuple[int, int]]:
    """Return places of frames and of later ones that look from elsewhere, by little, at the same things."""
    T = np.array([poses[frame.number] for frame in frames])
    pairs: list[tuple[int, int]] = []
    for a in np.unique(np.linspace(0, max(len(frames) - 2, 0), _ANCHORS).astype(int)).tolist():
        later = T[a + 1 : a + 1 + _WINDOW]
        moved = np.linalg.norm(later[:, :3, 3] - T[a, :3, 3], axis=1) / _MOVED_M
        cosine = (np.einsum("nij,ij->n", later[:, :3, :3], T[a, :3, :3]) - 1) / 2
        turned = np.arccos(np.clip(cosine, -1, 1)) / _TURNED_RAD
        apart = np.where((moved > 1) | (turned > 1), moved + turned, np.inf)
        if (apart < _TOO_FAR).any():
            pairs.append((a, a + 1 + int(np.argmin(apart))))
    return pairs
