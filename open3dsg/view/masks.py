"""The pixels at which each instance was observed, over the photographs that show it best."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.scan import Problem
from open3dsg.errors import BadFileError, UserError
from open3dsg.export.hits import hit_colours
from open3dsg.geometry.pixels import unpack_pixels
from open3dsg.view.album import Album
from open3dsg.view.overlays import frame_box, photo_box, tint_pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from open3dsg.query.sightings import BestSightings, Sighting
    from open3dsg.view.overlays import RGB

INDEX = "masks.json"


@dataclass(frozen=True)
class DrawnMasks:
    """What was drawn: a record a picture, as in the index, by instance; and what was left out."""

    records: Sequence[dict[str, Any]]
    problems: Sequence[Problem]

    @property
    def instances(self) -> int:
        """Return the number of instances that have a picture."""
        return len({record["instance"] for record in self.records})


def draw_masks(best: BestSightings, folder: Path, advance: Callable[[str], None]) -> DrawnMasks:
    """Draw each sighting into `folder`: instance 42 in its best frame is 42.png, in the next 42_2.png.

    Each photograph is decoded once; `advance` is called with each frame. A photograph that cannot be read is
    a problem, and the others go on. Raises UserError where none can be used, or a file not be written.
    """
    best.scan.check_root()
    album = Album(folder, INDEX)
    colours = hit_colours(list(best.labels))
    records: list[dict[str, Any]] = []
    problems: list[Problem] = []
    with ImageReader(best.scan.root) as images:
        for photo, sightings in groupby(best.sightings, key=lambda sighting: sighting.photo):
            try:
                picture = images.read_image(photo.uri)
            except BadFileError as error:
                problems.append(Problem("image_unreadable", str(error)))
            else:
                for sighting in sightings:
                    drawn = _draw(best, sighting, picture, colours[sighting.instance], album)
                    if isinstance(drawn, Problem):
                        problems.append(drawn)
                    else:
                        records.append(drawn)
            advance(f"frame {photo.frame_no}")
    if not records:
        raise UserError(f"none of the photographs of scan {best.scan.key} can be used: {problems[0].detail}")
    records.sort(key=lambda record: (record["instance"], record["place"]))
    album.close(records)
    return DrawnMasks(records, problems)


def _draw(
    best: BestSightings, sighting: Sighting, picture: NDArray[np.uint8], colour: RGB, album: Album
) -> dict[str, Any] | Problem:
    """Draw one instance on its photograph; return what the index says of the picture."""
    number, photo = sighting.instance, sighting.photo
    box = photo_box(sighting.box, photo.depth, photo.image, picture)
    if box is None:
        detail = f"{best.scan.name} frame {photo.frame_no}: instance {number} is beyond the edge of the photo"
        return Problem("view_outside_photo", detail)
    file = f"{number}.png" if sighting.place == 1 else f"{number}_{sighting.place}.png"
    label = best.labels[number]
    tinted = tint_pixels(picture, unpack_pixels(sighting.pixels), photo.depth, photo.image, colour)
    caption = f"{number} {label} {sighting.visibility_ratio:.0%}"
    album.add(file, frame_box(tinted, box, caption, colour))
    return {
        "file": file,
        "scan": best.scan.key,
        "instance": number,
        "label": label,
        "place": sighting.place,
        "frame": photo.frame_no,
        "image_uri": photo.uri,
        "visible_points": sighting.visible_points,
        "unique_pixels": sighting.unique_pixels,
        "visibility_ratio": round(sighting.visibility_ratio, 6),
        "box": list(box),
    }
