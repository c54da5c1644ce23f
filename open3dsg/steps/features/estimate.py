"""What a dump would do, before it is done: items, encoder passes, bytes, and a guess at the time."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from open3dsg.datasets.images import ImageReader
from open3dsg.errors import BadFileError, UserError
from open3dsg.steps.features.encoding import caller_of
from open3dsg.steps.features.looks import Crop, Pixels, cut, look_at_crops, look_at_pixels
from open3dsg.steps.features.views import frames_of
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg import Connection

    from open3dsg.steps.features.dump import Dump
    from open3dsg.steps.features.looks import FrameViews
    from open3dsg.steps.features.step import DumpStep
    from open3dsg.steps.features.views import Views

_ROW_BYTES = 140  # of a row and its three arrays, beside what is in them
_LOOK_BYTES = 28  # a frame number, a box and a weight, each element of an array with its width
_TRIED = 8  # crops encoded to see how long one takes
_FRAMES_TRIED = 8  # of which one must be readable

COUNTED = ("scans", "scans_done", "items", "unseen", "unqualified", "passes", "shared", "photos", "bytes")


@dataclass
class Estimate:
    """What is left to do of a dump.

    `counts` has the names of `COUNTED`: among them `passes`, the crops that the encoder would be shown, or
    the photographs where it sees pixels; `shared`, the looks that need no crop of their own; `bytes`, what
    would be stored, tokens before they are packed.
    """

    step: str
    encoder: str
    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)
    items_at_once: int | None = None  # whose sums fit --max-memory, where those of a chunk do not
    tried: int = 0  # passes that were really run
    seconds_a_pass: float | None = None  # of these; None: there were none to run

    @property
    def seconds(self) -> float | None:
        """The time that the encoder would be at work."""
        return None if self.seconds_a_pass is None else self.seconds_a_pass * self.counts["passes"]

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "step": self.step,
            "encoder": self.encoder,
            **{name: self.counts[name] for name in COUNTED},
            "items_at_once": self.items_at_once,
            "passes_tried": self.tried,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "failures": dict(sorted(self.failures.items())),
        }


def estimate(
    step: DumpStep[Any, Any],
    connection: Connection[Any],
    scans: Sequence[str],
    advance: Callable[[str], None],
) -> Estimate:
    """Say what `step` would do for `scans`; nothing is written, but a few pictures are encoded."""
    encoder = step.encoder()
    found = Estimate(step.step, f"{encoder.name}@{encoder.revision}")
    with connection.transaction(force_rollback=True):  # planning adds the encoder's row
        for scan in scans:
            try:
                _count_scan(found, step, connection, scan)
            except UserError as error:
                found.failures[scan] = str(error)
            advance(scan)
    return found


def _count_scan(found: Estimate, step: DumpStep[Any, Any], connection: Connection[Any], scan: str) -> None:
    find_scan(connection, scan).check_root()
    dump = step.plan(connection, scan)
    left = dump.left()
    found.counts.update({"scans": 1, "scans_done": int(not left)})
    for chunk in left:
        places, views, kept = dump.lacking(chunk)
        found.counts.update({"unseen": views.unseen, "unqualified": views.unqualified})
        items = sorted(item for item in views.count if places.start + item not in kept)
        if not items:
            continue
        room = dump.room(len(items))
        if room.items < len(items):
            found.items_at_once = min(found.items_at_once or room.items, room.items)
        for at in range(0, len(items), room.items):
            block = views.of_items(items[at : at + room.items])
            _count_block(found, dump, block)
            if not found.tried:
                _try(found, dump, places, block)


def _count_block(found: Estimate, dump: Dump[Any], block: Views) -> None:
    target = dump.target
    frames = frames_of(target.connection, target.scan, block, None)
    looks = len(block.item) * target.looks_a_view
    sees_pixels = target.encoder.views == "pixels"
    passes = len(frames) if sees_pixels else sum(_crops(frame, target.scales) for frame in frames)
    stored = len(block.count) * (target.stored_bytes + _ROW_BYTES) + looks * _LOOK_BYTES
    found.counts.update(
        {
            "items": len(block.count),
            "passes": passes,
            "shared": 0 if sees_pixels else looks - passes,
            "photos": len(frames),
            "bytes": stored,
        }
    )


def _crops(frame: FrameViews, scales: Sequence[float]) -> int:
    """Count the crops of a frame, if its photograph is as large as its camera says: it is not read."""
    image = frame.camera.image
    return len(cut(frame, (image.height, image.width), scales).first)


def _try(found: Estimate, dump: Dump[Any], places: range, block: Views) -> None:
    """Time the encoder on a few crops, or on one photograph; the first call loads its weights."""
    target = dump.target
    sees_pixels = target.encoder.views == "pixels"
    numbers = target.items[places.start : places.stop] if sees_pixels else None
    encode = caller_of(target.encoder, _TRIED)
    with ImageReader(target.scan.root) as images:
        for frame in islice(frames_of(target.connection, target.scan, block, numbers), _FRAMES_TRIED):
            things = _things(frame, images, target.scales)
            if things:
                shown = things if sees_pixels else things[:_TRIED]
                encode(shown)
                started = time.monotonic()
                encode(shown)
                found.tried = 1 if sees_pixels else len(shown)
                found.seconds_a_pass = (time.monotonic() - started) / found.tried
                return


def _things(frame: FrameViews, images: ImageReader, scales: Sequence[float]) -> list[Any]:
    """Return what the encoder would be shown of a frame; nothing where its photograph cannot be read."""
    try:
        photo = images.read_image(frame.camera.image_uri)
    except BadFileError:
        return []  # as the dump itself will report
    things: list[Any] = []
    for event in look_at_pixels(frame, photo) if frame.pixels else look_at_crops(frame, photo, scales):
        if isinstance(event, Crop):
            things.append(event.picture)
        elif isinstance(event, Pixels):
            things += [(event.picture, pixels) for pixels in event.sets]
    return things
