"""Rooms on disk in the layout of a dataset: the reader for the real one sees no difference.

What layouts share is here; `write_3rscan` and `write_scannet` know the files. A scan is written below
OUT/.unfinished, where no reader looks, and moved when it is whole; the files of the whole dataset come last,
so a run that was cut off is seen by their absence. The same call then goes on with the scans that are
missing: OUT/.unfinished says what was asked for and what is done.
"""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from open3dsg.datasets.synth import formats
from open3dsg.datasets.synth.room import Room, build_room
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_UNFINISHED = ".unfinished"
_VALIDATION_EVERY = 5
_SEEN_PIXELS = 80
_SEEN_FRAMES = 2


@dataclass(frozen=True)
class SynthSummary:
    """What was written; `seen` counts the instances that cover more than 80 depth pixels in at least two of
    the frames that the layout's `observe` looks at.
    """

    scans: int
    frames: int
    instances: int
    seen: int
    points: int
    relationships: int
    labels: tuple[str, ...]  # every category that occurs, sorted


@dataclass(frozen=True)
class Order:
    """One scan to write: scan number `index` of a dataset of `scans`, with `frames` frames."""

    name: str
    index: int
    scans: int
    frames: int


@dataclass(frozen=True)
class Written:
    """One scan as far as the files of the whole dataset need it; it goes through JSON and back."""

    name: str
    split: str
    folders: list[str]  # where the scan is below OUT; the last to be moved is the one that readers look for
    labels: list[str]  # of every annotated instance
    seen: int
    points: int
    subgraphs: list[dict[str, Any]] = field(default_factory=list)
    objects: list[dict[str, Any]] = field(default_factory=list)
    rescans: list[dict[str, Any]] = field(
        default_factory=list
    )  # of later visits; the sums above hold these too


class Layout(Protocol):
    """How a dataset names its scans and what files it has."""

    @property
    def request(self) -> Mapping[str, Any]:
        """Name and options of the layout, as JSON has them: with the numbers they decide every byte."""

    def scan_name(self, seed: int, index: int, /) -> str:
        """Name of scan number `index` of a dataset with `seed`. Raises UserError past the last number."""

    def write_scan(self, root: Path, room: Room, order: Order) -> Written:
        """Write one scan below `root`, in the folders that it returns."""

    def write_metadata(self, out: Path, written: Sequence[Written]) -> None:
        """Write the files of the whole dataset into `out`."""


class Sightings:
    """In how many pictures each instance is well seen."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._times: dict[int, int] = {}

    def add(self, instance: NDArray[np.int32]) -> None:
        """Count one picture's instance numbers, (H, W) int32 with negative ones for none."""
        numbers, pixels = np.unique(instance[instance >= 0], return_counts=True)
        for visible in numbers[pixels > _SEEN_PIXELS].tolist():
            self._times[visible] = self._times.get(visible, 0) + 1

    def well_seen(self, instances: Container[int]) -> int:
        """How many of `instances` were seen well, and more than once."""
        return sum(times >= _SEEN_FRAMES for instance, times in self._times.items() if instance in instances)


def is_held_out(index: int) -> bool:
    """Tell whether a scan is of the validation split: of each five another one, since kinds go round.

    Were it always the fifth, all that is validated on would be bathrooms, and none trained on.
    """
    five, place = divmod(index, _VALIDATION_EVERY)
    return place == (five - 1) % _VALIDATION_EVERY


def room_seed(seed: int, index: int) -> int:
    """Seed of the room that scan number `index` of a dataset with `seed` shows."""
    return seed * 100_000 + index


def write_rooms(
    out: Path,
    layout: Layout,
    *,
    scans: int,
    seed: int,
    frames: int = 100,
    report: Callable[[str], None],
) -> SynthSummary:
    """Write `scans` rooms with `frames` RGB-D frames each into the new or empty folder `out`.

    The same arguments give the same bytes, also where a call that was cut off is taken up again by the same
    call. `report` is told the name of each scan that is whole.
    Raises UserError where `out` holds anything else or cannot be written, or a number is out of range.
    """
    for option, value in (("scans", scans), ("frames", frames)):
        if value < 1:
            raise UserError(f"--{option} {value}: at least 1 is needed")
    if seed < 0:
        raise UserError(f"--seed {seed}: a seed is 0 or above")
    layout.scan_name(seed, scans - 1)  # refused before anything is written
    _claim(out, {**layout.request, "scans": scans, "seed": seed, "frames": frames})
    written = []
    with _told(out):
        for index in range(scans):
            order = Order(layout.scan_name(seed, index), index, scans, frames)
            done = _read_record(out, order.name)
            written.append(done or _write_scan(out, layout, build_room(room_seed(seed, index)), order))
            report(order.name)
        layout.write_metadata(out, written)
        shutil.rmtree(out / _UNFINISHED)
    visits = sum(1 + len(scan.rescans) for scan in written)
    return SynthSummary(
        scans=visits,
        frames=visits * frames,
        instances=sum(len(scan.labels) for scan in written),
        seen=sum(scan.seen for scan in written),
        points=sum(scan.points for scan in written),
        relationships=sum(len(graph["relationships"]) for scan in written for graph in scan.subgraphs),
        labels=tuple(sorted({label for scan in written for label in scan.labels})),
    )


def _claim(out: Path, request: Mapping[str, Any]) -> None:
    """Make `out` ours: new, empty, or left unfinished by a call that asked for the same."""
    note = out / _UNFINISHED / "request.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        occupied = next((path for path in out.iterdir() if path != note.parent), None)
        if note.is_file():
            if json.loads(note.read_bytes()) != request:
                raise UserError(
                    f"{out}: holds rooms of another call that was cut off:"
                    " repeat that call, or name a new folder"
                )
            return
        if occupied is not None:
            raise UserError(
                f"{out}: is not empty (it holds {occupied.name!r}); name a new folder, or empty it"
            )
        note.parent.mkdir(exist_ok=True)
        _write_whole(note, request)
    except OSError as error:
        raise UserError(f"{out}: cannot be made or read as a folder: {error.strerror}") from error


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """Raise UserError where a disk is full, or refuses to be written for another reason."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise UserError(
            f"{error.filename or out}: cannot be written: {error.strerror};"
            " once it can, the same call goes on with the rooms that are missing"
        ) from error


def _write_whole(path: Path, content: object) -> None:
    """Write JSON so that a call that is cut off leaves all of it or nothing under this name."""
    partial = path.with_name(f"{path.name}.part")
    formats.write_json(partial, content)
    partial.rename(path)


def _read_record(out: Path, name: str) -> Written | None:
    """Return what an earlier call noted of a scan, if that scan is whole."""
    record = out / _UNFINISHED / f"{name}.json"
    if not record.is_file():
        return None
    written = Written(**json.loads(record.read_bytes()))
    return written if all((out / folder).is_dir() for folder in written.folders) else None


def _write_scan(out: Path, layout: Layout, room: Room, order: Order) -> Written:
    partial = out / _UNFINISHED / order.name
    shutil.rmtree(partial, ignore_errors=True)  # what a call that was cut off had of this scan
    partial.mkdir()
    written = layout.write_scan(partial, room, order)
    _write_whole(out / _UNFINISHED / f"{order.name}.json", asdict(written))
    for folder in written.folders:
        target = out / folder
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)  # moved by a call that was cut off between two folders
        (partial / folder).rename(target)
    shutil.rmtree(partial)
    return written
