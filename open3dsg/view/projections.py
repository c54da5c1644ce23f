"""One instance in every frame of its scan: how much of it is visible, and its box on the photograph.

Observations are kept of the frames that show an instance well; here every frame is looked at anew, so that
it can be seen why others were not kept. The rule is that of `geometry.visibility`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.depth import read_frame_depth
from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.scan import Problem
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.thresholds import VisibilityThresholds
from open3dsg.view.album import Album
from open3dsg.view.overlays import frame_box, photo_box

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from open3dsg.datasets.scan import Frame
    from open3dsg.geometry.pixels import PixelGrid
    from open3dsg.geometry.visibility import FrameObservations, Observer
    from open3dsg.view.search import Search

INDEX = "frames.json"
_NOT_DRAWN = ("image_unreadable", "view_outside_photo")


@dataclass(frozen=True)
class Projections:
    """A record a frame, as in the index, by falling visibility; and what was left out."""

    records: Sequence[dict[str, Any]]
    pictures: int
    problems: Sequence[Problem]

    @property
    def seen(self) -> int:
        """Return the number of frames in which a point is visible."""
        return sum(record["visible_points"] > 0 for record in self.records)

    @property
    def passing(self) -> int:
        """Return the number of frames that `observe` would keep."""
        return sum(record["passes"] for record in self.records)


def draw_projections(search: Search, folder: Path, advance: Callable[[str], None]) -> Projections:
    """Look from every frame, and draw the box of the subject where a point of it is visible.

    `advance` is called with each frame. A frame whose depth cannot be used is a problem and has no record; a
    photograph that cannot be used is one too, and its record has no file. Raises UserError where none of the
    depth pictures, or of the photographs wanted, can be used.
    """
    from open3dsg.geometry.visibility import Observer  # compiled loops: a second, where they are run

    search.scan.check_root()
    points = search.subject.points_world
    look = _Look(search, Observer(points, np.zeros(len(points), np.int32)), Album(folder, INDEX))
    with ImageReader(search.scan.root) as images:
        for frame in search.frames:
            look.at(frame, images)
            advance(f"frame {frame.number}")
    return look.finish()


class _Look:
    """The looks from one frame after the other, and what came of them."""

    def __init__(self, search: Search, observer: Observer, album: Album) -> None:
        self._search = search
        self._observer = observer
        self._album = album
        self._records: list[dict[str, Any]] = []
        self._problems: list[Problem] = []
        kept = search.thresholds
        self._any_point = VisibilityThresholds(0, 0, 0, kept.depth_tolerance, kept.border)

    def at(self, frame: Frame, images: ImageReader) -> None:
        """Look from a frame."""
        scan, grid = self._search.scan.name, frame.depth
        if frame.depth_uri is None or grid is None:
            self._problems.append(Problem("frame_without_depth", f"{scan} frame {frame.number}"))
            return
        depth_m = read_frame_depth(images, frame.depth_uri, grid, frame.depth_unit_m, scan)
        if isinstance(depth_m, Problem):
            self._problems.append(depth_m)
            return
        seen = self._observe(depth_m, grid, frame, self._any_point)
        record: dict[str, Any] = {
            "file": None,
            "frame": frame.number,
            "image_uri": frame.image_uri,
            "visible_points": 0,
            "unique_pixels": 0,
            "visibility_ratio": 0.0,
            "box": None,
            "passes": False,
        }
        if len(seen.numbers):
            record["visible_points"] = int(seen.visible_points[0])
            record["unique_pixels"] = int(seen.unique_pixels[0])
            record["visibility_ratio"] = round(float(seen.visibility_ratio[0]), 6)
            record["passes"] = len(self._observe(depth_m, grid, frame, self._search.thresholds).numbers) > 0
            self._draw(frame, grid, seen.box[0], record, images)
        self._records.append(record)

    def finish(self) -> Projections:
        """Write the index; UserError where nothing could be looked at, or drawn of what is visible."""
        scan = self._search.scan.key
        if not self._records:
            detail = self._problems[0].detail
            raise UserError(f"none of the depth pictures of scan {scan} can be used: {detail}")
        done = Projections(self._records, self._album.pictures, self._problems)
        if done.seen and not done.pictures:
            detail = next(p.detail for p in self._problems if p.kind in _NOT_DRAWN)
            raise UserError(f"none of the photographs of scan {scan} that show it can be used: {detail}")
        self._records.sort(key=lambda r: (-r["visibility_ratio"], -r["visible_points"], r["frame"]))
        self._album.close(self._records)
        return done

    def _observe(
        self, depth_m: NDArray[np.float32], grid: PixelGrid, frame: Frame, thresholds: VisibilityThresholds
    ) -> FrameObservations:
        surface = np.array([self._search.subject.is_surface])
        return self._observer.observe(depth_m, grid, frame.T_world_camera, thresholds, surface)

    def _draw(
        self,
        frame: Frame,
        grid: PixelGrid,
        pixel_box: NDArray[np.int32],
        record: dict[str, Any],
        images: ImageReader,
    ) -> None:
        """Draw the box on the photograph, and write into the record where it is."""
        try:
            photo = images.read_image(frame.image_uri)
        except BadFileError as error:
            self._problems.append(Problem("image_unreadable", str(error)))
            return
        box = photo_box(pixel_box, grid, frame.image, photo)
        if box is None:
            detail = f"{self._search.scan.name} frame {frame.number}: visible beyond the edge of the photo"
            self._problems.append(Problem("view_outside_photo", detail))
            return
        subject = self._search.subject
        caption = f"{subject.caption} {record['visibility_ratio']:.0%} ({record['visible_points']} points)"
        record["file"], record["box"] = f"frame-{frame.number:06d}.png", list(box)
        self._album.add(record["file"], frame_box(photo, box, caption, subject.colour))
