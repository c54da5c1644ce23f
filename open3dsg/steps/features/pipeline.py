"""The items of a block through an encoder: frames in order, sums an item, finished with its last look."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.scan import Problem
from open3dsg.errors import BadFileError
from open3dsg.steps.features.ahead import Ahead
from open3dsg.steps.features.looks import Crop, Pixels, Seen, Unread, look_at_crops, look_at_pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from open3dsg.steps.features.encoding import Caller, Encoded
    from open3dsg.steps.features.looks import Event, FrameViews


class Mean(NamedTuple):
    """What an encoder makes of an item: the mean of its looks, and the looks."""

    item: int
    mean: NDArray[np.float64] | NDArray[np.float32]  # (d,), or (tokens, d), not unit length
    frame_nos: Sequence[int]  # n
    boxes: NDArray[np.int32]  # (n, 4) left, top, right, bottom on the photograph as it is stored


@dataclass
class _Sum:
    """An item under way."""

    left: int  # looks
    total: NDArray[np.float64] | NDArray[np.float32] | None = None
    frame_nos: list[int] = field(default_factory=list)
    boxes: list[NDArray[np.int32]] = field(default_factory=list)
    refusal: str | None = None


@dataclass
class Tally:
    """What was looked at, and the problems met on the way."""

    looks: int = 0
    crops: int = 0  # pictures that the encoder was shown
    crops_shared: int = 0  # looks that needed no picture of their own
    photos: int = 0
    most_open: int = 0  # items with a sum under way
    most_waiting: int = 0  # bytes of pictures decoded ahead
    problems: list[Problem] = field(default_factory=list)


class Gatherer:
    """Takes what a thread reads of photographs, shows it to the encoder, and sums up."""

    def __init__(self, encode: Caller[Any], dtype: DTypeLike, scan: str, name: Callable[[int], str]) -> None:
        """Take the encoder, the numbers of the sums, the scan's name, and what its items are called.

        The encoder takes crops, or photographs each with the pixels of one item.
        """
        self.tally = Tally()
        self._encode_things = encode
        self._scan, self._name = scan, name
        self._dtype = dtype
        self._open: dict[int, _Sum] = {}
        self._done: list[Mean] = []

    def run(
        self,
        frames: Sequence[FrameViews],
        planned: Mapping[int, int],
        root: Path,
        scales: Sequence[float],
        limit: int,
    ) -> Iterator[Mean]:
        """Give each item as soon as its last look is in; those that cannot be used are problems.

        `planned`: item -> its looks. `limit`: bytes of pictures that may wait, and again as many in
        a batch.
        """
        left = dict(planned)
        waiting: list[Crop] = []
        with Ahead(_events(frames, root, scales), limit) as events:
            for event in events:
                self._meet(event, left)
                if isinstance(event, Crop):
                    waiting.append(event)
                    if self._is_full(waiting, limit):
                        self._encode(waiting)
                elif isinstance(event, Pixels):
                    encoded = self._encode_things([(event.picture, pixels) for pixels in event.sets])
                    for place, item in enumerate(event.items):
                        self._add(item, event.frame_no, encoded, place)
                yield from self._finished()
            self._encode(waiting)
            yield from self._finished()
            self.tally.most_waiting = max(self.tally.most_waiting, events.peak)

    def _is_full(self, waiting: Sequence[Crop], limit: int) -> bool:
        enough = len(waiting) >= self._encode_things.batch
        return enough or sum(crop.nbytes for crop in waiting) >= limit

    def _meet(self, event: Event, left: dict[int, int]) -> None:
        """Open the sums of a photograph's items, and note the looks that are lost."""
        if isinstance(event, Seen):
            self.tally.photos += 1
            for item, box in zip(event.items, event.boxes, strict=True):
                entry = self._sum(item, left)
                entry.frame_nos.append(event.frame_no)
                entry.boxes.append(box)
            if event.outside:
                place = f"{self._scan} frame {event.frame_no}"
                detail = f"{place}: {len(event.outside)} views beyond the edge of the photo"
                self.tally.problems.append(Problem("view_outside_photo", detail))
            self._lose(event.outside, left)
        elif isinstance(event, Unread):
            self.tally.problems.append(Problem("image_unreadable", event.reason))
            self._lose(event.items, left)
        self.tally.most_open = max(self.tally.most_open, len(self._open))

    def _sum(self, item: int, left: dict[int, int]) -> _Sum:
        if item not in self._open:
            self._open[item] = _Sum(left.pop(item))
        return self._open[item]

    def _lose(self, items: Sequence[int], left: dict[int, int]) -> None:
        for item in items:
            entry = self._sum(item, left)
            entry.left -= 1
            if not entry.left:
                self._finish(item)

    def _encode(self, waiting: list[Crop]) -> None:
        if not waiting:
            return
        encoded = self._encode_things([crop.picture for crop in waiting])
        self.tally.crops += len(waiting)
        self.tally.crops_shared += sum(len(crop.items) - 1 for crop in waiting)
        for place, crop in enumerate(waiting):
            for item in crop.items:
                self._add(item, crop.frame_no, encoded, place)
        waiting.clear()

    def _add(self, item: int, frame_no: int, encoded: Encoded, place: int) -> None:
        entry = self._open[item]
        self.tally.looks += 1
        entry.left -= 1
        if place in encoded.refused:
            entry.refusal = entry.refusal or f"frame {frame_no}: {encoded.refused[place]}"
        elif entry.total is None:
            entry.total = encoded.rows[place].astype(self._dtype)
        else:
            entry.total += encoded.rows[place]
        if not entry.left:
            self._finish(item)

    def _finish(self, item: int) -> None:
        entry = self._open.pop(item)
        if entry.refusal is not None:
            self.refuse(item, entry.refusal)
        elif entry.total is not None:
            entry.total /= len(entry.frame_nos)
            self._done.append(Mean(item, entry.total, entry.frame_nos, np.stack(entry.boxes)))

    def refuse(self, item: int, reason: str) -> None:
        """Note that an item gets no embedding."""
        self.tally.problems.append(
            Problem("embedding_unusable", f"{self._scan} {self._name(item)}: {reason}")
        )

    def _finished(self) -> Iterator[Mean]:
        done, self._done = self._done, []
        yield from done


def _events(frames: Sequence[FrameViews], root: Path, scales: Sequence[float]) -> Iterator[Event]:
    """Decode each photograph once, and cut out of it what is looked at."""
    with ImageReader(root) as images:
        for views in frames:
            try:
                photo = images.read_image(views.camera.image_uri)
            except BadFileError as error:
                looks = views.items.tolist() * (1 if views.pixels else len(scales))
                yield Unread(views.frame_no, looks, str(error))
                continue
            yield from look_at_pixels(views, photo) if views.pixels else look_at_crops(views, photo, scales)
