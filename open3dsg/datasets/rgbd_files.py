"""Where the parts of a posed RGB-D recording are, and which pictures belong together.

    RECORDING/
      color/ or colour/, rgb/, images/, image/     photographs, JPEG or PNG
      depth/                                       depth pictures, PNG of 16 bits or PGM
      pose/ or poses/, or poses.txt, ...           (rgbd_poses.py)
      K.txt, camera.json, ...                      (rgbd_cameras.py)
      rgb.txt and depth.txt                        TIME FILE a line, as TUM's recordings have them
      associations.txt                             TIME FILE TIME FILE a line: a photograph and its depth
    RECORDING/frame-000000.color.png, .depth.png, .pose.txt        all in one folder, as 7-Scenes has them

A picture's number is the only run of digits in its name (`12.png`, `frame-000012.color.png`); where every
picture has one, photographs and depth pictures of one number belong together, and it is the frame's number.
Otherwise frames are numbered from 0 in the order of their photographs, and the depth picture is the one of
the same time (names such as `1305031102.175304.png`, or the two lists; within 20 ms), else of the same name.
A list of associations goes before both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from open3dsg.datasets.files import readable
from open3dsg.datasets.scan import Problem
from open3dsg.datasets.textfile import read_text
from open3dsg.errors import BadFileError, UserError

COLOUR_FOLDERS = ("color", "colour", "rgb", "images", "image")
DEPTH_FOLDERS = ("depth",)
POSE_PLACES = (
    "pose", "poses", "poses.txt", "pose.txt", "trajectory.txt", "traj.txt", "groundtruth.txt",
)  # fmt: skip
FLAT_POSE = ".pose"  # at the end of a stem, where all parts are in one folder
NEAREST_S = 0.02  # as TUM's own tools associate

_ASSOCIATIONS = ("associations.txt", "association.txt", "associate.txt")
_FLAT_COLOUR, _FLAT_DEPTH = ".color", ".depth"
_PHOTOS = (".jpg", ".jpeg", ".png")
_DEPTHS = (".png", ".pgm")
_ONE_NUMBER = re.compile(r"[^0-9]*([0-9]+)[^0-9]*")
_LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class Places:
    """Names of a recording's parts as the user gave them; None: looked for."""

    colour: str | None = None
    depth: str | None = None
    poses: str | None = None


@dataclass(frozen=True)
class Picture:
    """One photograph with its depth picture, if it has one. `time_s` is None where nothing tells it."""

    number: int
    colour: Path
    depth: Path | None
    time_s: float | None


@dataclass(frozen=True)
class Listing:
    """The pictures of a recording in the order of their numbers; `numbered`: these are in their names."""

    pictures: Sequence[Picture]
    numbered: bool
    problems: Sequence[Problem]


@readable()
def find_recordings(folder: Path, places: Places) -> tuple[Path, str | None]:
    """Return the root of the dataset that `folder` means, and the name of the recording where it is one.

    Raises UserError where it is neither a recording nor holds one.
    """
    folder = Path(os.path.abspath(folder))  # for the name of "."; links stay, unlike with resolve()
    if is_recording(folder, places):
        return folder.parent, folder.name
    if not recording_names(folder, places):
        colour = places.colour or f"{', '.join(COLOUR_FOLDERS[:3])} or {COLOUR_FOLDERS[3]}"
        raise UserError(
            f"{folder}: no recording, nor a folder of recordings: a recording is a folder with photographs in"
            f" {colour} and depth pictures in {places.depth or DEPTH_FOLDERS[0]};"
            " name others with --colour and --depth"
        )
    return folder, None


def recording_names(root: Path, places: Places) -> list[str]:
    """Return the recordings directly below `root`, ascending."""
    return sorted(path.name for path in root.iterdir() if is_recording(path, places))


def is_recording(folder: Path, places: Places) -> bool:
    """Tell whether a folder holds photographs or depth pictures, in folders of their own or as 7-Scenes."""
    names = (*_names(places.colour, COLOUR_FOLDERS), *_names(places.depth, DEPTH_FOLDERS))
    try:
        return any((folder / name).is_dir() for name in names) or _is_flat(folder)
    except PermissionError:  # whether it is one cannot be told: reading it says why
        return True


def find_part(folder: Path, given: str | None, known: Sequence[str], what: str, option: str) -> Path:
    """Return the file or folder of a recording that holds `what`.

    Raises BadFileError where it has none, UserError where it has several that can be told apart by `option`.
    """
    found = [folder / name for name in _names(given, known) if (folder / name).exists()]
    if not found and given is None and _is_flat(folder):
        return folder
    if not found:
        looked_for = given or ", ".join(known)
        raise BadFileError(f"{folder}: no {what}: there is no {looked_for}; name theirs with {option}")
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise UserError(f"{folder}: {what} are in {names}: say which with {option} {found[0].name}")
    return found[0]


def list_pictures(folder: Path, places: Places) -> Listing:
    """List the frames of a recording. Raises BadFileError where photographs or depth are missing wholly.

    Problems: `frame_without_image` (a depth picture without a photograph), `frame_twice`.
    """
    colour_folder = find_part(folder, places.colour, COLOUR_FOLDERS, "photographs", "--colour")
    depth_folder = find_part(folder, places.depth, DEPTH_FOLDERS, "depth pictures", "--depth")
    problems: list[Problem] = []
    photos = _pictures_in(folder, colour_folder, _FLAT_COLOUR, _PHOTOS, problems)
    depths = _pictures_in(folder, depth_folder, _FLAT_DEPTH, _DEPTHS, problems)
    numbers, depth_numbers = _numbers(photos), _numbers(depths)
    numbered = numbers is not None and depth_numbers is not None
    times, depth_times = _times(folder / "rgb.txt", photos), _times(folder / "depth.txt", depths)
    listed = next((path for name in _ASSOCIATIONS if (path := folder / name).is_file()), None)
    if listed is not None:
        times, matched = _associated(listed, photos, depths)
    elif numbers is not None and depth_numbers is not None:
        by_number = {number: path for path, number in depth_numbers.items()}
        matched = {photo: by_number[number] for photo, number in numbers.items() if number in by_number}
    else:
        matched = _matched(photos, times, depths, depth_times)
    if numbers is None or not numbered:
        photos = sorted(photos, key=lambda photo: (times.get(photo, 0.0), photo.name))
        numbers = {photo: place for place, photo in enumerate(photos)}
    pictures = [
        Picture(number, photo, matched.get(photo), times.get(photo))
        for photo, number in sorted(numbers.items(), key=lambda item: item[1])
    ]
    left = sorted(set(depths) - {picture.depth for picture in pictures})
    problems += [_of(folder, path, "frame_without_image", "no photograph belongs to it") for path in left]
    return Listing(pictures, numbered, tuple(problems))


def number_of(stem: str) -> int | None:
    """Return the only number in a name without its ending; None where it has none or several."""
    matched = _ONE_NUMBER.fullmatch(stem)
    number = int(matched[1][:12]) if matched else _LARGEST_NUMBER + 1
    return number if number <= _LARGEST_NUMBER else None


def _names(given: str | None, known: Sequence[str]) -> Sequence[str]:
    return known if given is None else (given,)


def _is_flat(folder: Path) -> bool:
    """Tell whether a folder itself holds photographs that are called as those of 7-Scenes."""
    return any(path.suffix.lower() in _PHOTOS for path in folder.glob(f"[!.]*{_FLAT_COLOUR}.*"))


def _pictures_in(
    recording: Path, folder: Path, flat: str, endings: Sequence[str], problems: list[Problem]
) -> list[Path]:
    """Return the pictures of a folder by name, each stem once; where it is the recording's, those of `flat`.

    Hidden files are none: macOS writes one beside each on foreign disks. Raises BadFileError where there is
    no picture.
    """
    stem_ends = flat if folder == recording else ""
    every = [path for path in sorted(folder.iterdir()) if path.name[0] != "."] if folder.is_dir() else []
    paths = [path for path in every if path.suffix.lower() in endings and path.stem.endswith(stem_ends)]
    by_stem = {path.stem: path for path in reversed(paths)}
    problems += [
        _of(recording, path, "frame_twice", f"{by_stem[path.stem].name} counts")
        for path in paths
        if by_stem[path.stem] != path
    ]
    if not by_stem:
        kinds = " or ".join(ending[1:].upper() for ending in endings)
        others = f", only files such as {every[0].name}: convert them first" if every else ""
        raise BadFileError(f"{folder}: holds no picture in {kinds}{others}")
    return sorted(by_stem.values())


def _numbers(paths: Sequence[Path]) -> dict[Path, int] | None:
    """Return path -> number where each has one of its own, else None."""
    numbers = {path: number for path in paths if (number := number_of(path.stem)) is not None}
    return numbers if len(set(numbers.values())) == len(paths) else None


def _times(list_file: Path, paths: Iterable[Path]) -> dict[Path, float]:
    """Return path -> seconds, from a list of TIME FILE lines, else from names that are numbers."""
    listed = _listed_times(list_file) if list_file.is_file() else {}
    times: dict[Path, float] = {}
    for path in paths:
        told = listed.get(path.name) if listed else _seconds(path.stem)
        if told is not None:
            times[path] = told
    return times


def _listed_times(path: Path) -> dict[str, float]:
    """Return file name -> seconds; raises BadFileError for a line that is no TIME FILE."""
    times: dict[str, float] = {}
    for place, line in enumerate(read_text(path).split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        seconds = _seconds(words[0])
        if seconds is None or len(words) != 2:
            raise BadFileError(f"{path}: line {place} is not a time in seconds and a file: {line[:80]!r}")
        times[words[1].rpartition("/")[2]] = seconds
    return times


def _associated(
    path: Path, photos: Sequence[Path], depths: Sequence[Path]
) -> tuple[dict[Path, float], dict[Path, Path]]:
    """Return the times of the photographs that a list of associations names, and their depth pictures.

    ICL-NUIM's lists name depth first: a path that begins with its folder tells. Raises BadFileError for a
    line that is no TIME FILE TIME FILE, and where it names no pictures that are there.
    """
    by_name, depth_by_name = {photo.name: photo for photo in photos}, {depth.name: depth for depth in depths}
    times: dict[Path, float] = {}
    matched: dict[Path, Path] = {}
    for place, line in enumerate(read_text(path).split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 4 or None in (_seconds(words[0]), _seconds(words[2])):
            raise BadFileError(f"{path}: line {place} is not TIME FILE TIME FILE: {line[:80]!r}")
        named = [(float(time), PurePosixPath(file)) for time, file in (words[:2], words[2:])]
        (time_s, file), (_, other) = sorted(
            named, key=lambda one: one[1].parent.name == depths[0].parent.name
        )
        photo, depth = by_name.get(file.name), depth_by_name.get(other.name)
        if photo is not None:
            times[photo] = time_s
        if photo is not None and depth is not None:
            matched[photo] = depth
    if not matched:
        raise BadFileError(f"{path}: names no photograph and depth picture that are here")
    return times, matched


def _seconds(word: str) -> float | None:
    return float(word) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", word) else None


def _matched(
    photos: Sequence[Path],
    times: Mapping[Path, float],
    depths: Sequence[Path],
    depth_times: Mapping[Path, float],
) -> dict[Path, Path]:
    """Return photograph -> depth picture: by time where both have times, else by name."""
    if len(times) == len(photos) and depth_times:
        at = nearest(list(times.values()), list(depth_times.values()))
        timed = list(depth_times)
        return {photo: timed[place] for photo, place in zip(times, at, strict=True) if place is not None}
    by_stem = {path.stem: path for path in depths}
    return {photo: by_stem[photo.stem] for photo in photos if photo.stem in by_stem}


def nearest(times_s: Sequence[float], among_s: Sequence[float]) -> list[int | None]:
    """Return, for each time, the place of the nearest of `among_s`; None where it is over 20 ms away."""
    order = np.argsort(among_s, kind="stable")
    ascending = np.asarray(among_s, np.float64)[order]
    wanted = np.asarray(times_s, np.float64)
    after = np.clip(np.searchsorted(ascending, wanted), 0, len(ascending) - 1)
    before = np.maximum(after - 1, 0)
    closer = np.abs(ascending[before] - wanted) <= np.abs(ascending[after] - wanted)
    place = np.where(closer, before, after)
    near = np.abs(ascending[place] - wanted) <= NEAREST_S
    return [int(order[at]) if is_near else None for at, is_near in zip(place, near, strict=True)]


def _of(recording: Path, path: Path, kind: str, what: str) -> Problem:
    return Problem(kind, f"{recording.name}, {path.relative_to(recording).as_posix()}: {what}")
