"""What the steps will make of a folder: rows, bytes in the database, and time.

Measured with PostgreSQL 18 on a machine of 2 cores without a GPU, which others used too (load 2 to 7), on
four synthetic rooms (114,017 points, 400 frames, 123 instances) and a real scan of 3RScan (18,496 points, 117
frames, 20 instances), each ingested twice and observed at every 10th and at every frame:

bytes, by `pg_total_relation_size` over rows   28.5 a point, 594 a frame, 630 an instance, 631 an
                                               observation, 1,258 a feature of 384 numbers
observations a frame                           3.7 in the real scan, 10.7 in the rooms
`ingest`, wall clock                           1.2 and 1.6 s for the rooms, whose colours are in their
                                               textures; 0.8 and 1.1 s for the scan, whose colours come from
                                               its photographs
`observe`, wall clock                          2.0 ms a frame over 400 frames, 1.7 ms over 117
`features dump`, seconds of processor          0.088 a view for the encoder rooms; 0.23 for conse, which cuts
                                               a view out three times

The ranges reach around these: rooms differ in how much of them a frame shows, machines in speed, and disks in
how long they keep a processor waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from open3dsg.datasets.check.findings import Finding, finding
from open3dsg.datasets.check.look import Facts

BASIS = "ranges around what was measured on 2 cores without a GPU; --jobs divides the time"


class Range(NamedTuple):
    """From, to."""

    low: float
    high: float

    def times(self, count: float) -> Range:
        """Return the range for `count` such things."""
        return Range(self.low * count, self.high * count)

    def plus(self, other: Range) -> Range:
        """Return the range of both together."""
        return Range(self.low + other.low, self.high + other.high)


@dataclass(frozen=True)
class Estimate:
    """What one step makes."""

    step: str
    rows: Range
    bytes: Range
    seconds: Range

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them, each range as a list of two."""
        return asdict(self)


_POINT_BYTES = Range(20, 32)  # 31 are written where the mesh has normals, which may compress
_FRAME_BYTES = Range(450, 750)
_INSTANCE_BYTES = Range(500, 900)
_OBSERVATIONS = Range(3, 12)  # a frame that is looked at
_OBSERVATION_BYTES = Range(400, 1_500)  # most of it the pixels, more of them in larger pictures
_FEATURE_BYTES = Range(1_100, 2_000)
_VIEWS = 5  # of an instance, as `features dump --top-k-frames` has it unless told otherwise

_POINT_S = Range(8e-6, 25e-6)
_FRAME_S = Range(0.3e-3, 8e-3)
_OBSERVE_FRAME_S = Range(1.5e-3, 6e-3)
_VIEW_S = Range(0.05, 0.4)


def estimate(facts: Iterable[Facts]) -> list[Estimate]:
    """Return what `ingest`, `observe` and `features dump --nodes` make of scans, in this order."""
    every = list(facts)
    points, frames, observed, instances = (
        sum(getattr(one, name) for one in every) for name in ("points", "frames", "observed", "instances")
    )
    blocks = sum(-(-one.points // 65_536) for one in every)
    rows = len(every) + blocks + frames + instances
    observations = _OBSERVATIONS.times(observed)
    return [
        Estimate(
            "ingest",
            Range(rows, rows),
            _POINT_BYTES.times(points)
            .plus(_FRAME_BYTES.times(frames))
            .plus(_INSTANCE_BYTES.times(instances)),
            _POINT_S.times(points).plus(_FRAME_S.times(frames)),
        ),
        Estimate(
            "observe",
            observations,
            Range(observations.low * _OBSERVATION_BYTES.low, observations.high * _OBSERVATION_BYTES.high),
            _OBSERVE_FRAME_S.times(observed),
        ),
        Estimate(
            "features dump --nodes",
            Range(0.6 * instances, instances),
            _FEATURE_BYTES.times(instances),
            _VIEW_S.times(_VIEWS * instances),
        ),
    ]


def disk_finding(estimates: Sequence[Estimate], folder: str, free_bytes: int) -> Finding | None:
    """Hold what all steps write against the free bytes of the disk that the database's `folder` lies on."""
    high = sum(one.bytes.high for one in estimates)
    if high <= free_bytes:
        return None
    low = sum(one.bytes.low for one in estimates)
    what = f"{size(free_bytes)} free, the steps write {size(low)} to {size(high)}"
    return finding("disk_too_small", folder, what, severity="error" if low > free_bytes else "warning")


def size(count: float) -> str:
    """Write a number of bytes with its unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Write a time with its unit."""
    for unit, most in (("s", 60), ("min", 60), ("h", 48)):
        if seconds < most:
            return f"{seconds:.0f} {unit}" if seconds >= 10 else f"{seconds:.1f} {unit}"
        seconds /= 60 if unit != "h" else 24
    return f"{seconds:.1f} days"
