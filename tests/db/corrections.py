"""What tests of scans that are read again share: all steps at once, and corrections of the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from open3dsg.steps.features import DumpNodes, FeatureOptions
from tests import miniature as mini
from tests.db.pipeline import Database, ingest, observe
from tests.scans import edit_json

DUMP = DumpNodes(FeatureOptions("toy", top_k_frames=3, scales=2))
DUMP_PIXELS = DumpNodes(FeatureOptions("toypixels"))
PLY, SEMSEG = "labels.instances.annotated.v2.ply", "semseg.v2.json"

Change = Callable[[Path], None]


def run_all(database: Database, root: Path, name: str = mini.NAME) -> None:
    ingest(root)(database, name)
    for step in (observe(), DUMP, DUMP_PIXELS):
        step(database, f"3rscan/{name}")


def rename(number: int, label: str) -> Change:
    def change(folder: Path) -> None:
        def edit(groups: Any) -> None:
            (group,) = (group for group in groups["segGroups"] if group["objectId"] == number)
            group["label"] = label

        edit_json(folder / SEMSEG, edit)

    return change


def renumber(new_numbers: Callable[[list[int]], list[int]]) -> Change:
    """Change the object numbers of the points, which the PLY gives one a line."""

    def change(folder: Path) -> None:
        lines = (folder / PLY).read_text().splitlines()
        first = lines.index("end_header") + 1
        points = [line.split() for line in lines[first : first + len(mini.ROOM) * mini.GRID**2]]
        numbers = new_numbers([int(point[-1]) for point in points])
        told = [" ".join([*point[:-1], str(number)]) for point, number in zip(points, numbers, strict=True)]
        (folder / PLY).write_text("\n".join([*lines[:first], *told, *lines[first + len(told) :]]) + "\n")

    return change


def split_the_floor(numbers: list[int]) -> list[int]:
    """A third of instance 1 becomes the new instance 3."""
    floor = [at for at, number in enumerate(numbers) if number == 1]
    moved = set(floor[: len(floor) // 3])
    return [3 if at in moved else number for at, number in enumerate(numbers)]


def lose_the_picture(numbers: list[int]) -> list[int]:
    return [0 if number == 7 else number for number in numbers]


def give_to_the_table(numbers: list[int]) -> list[int]:
    wall = [at for at, number in enumerate(numbers) if number == 2]
    return [4 if at in wall[-10:] else number for at, number in enumerate(numbers)]


def label_the_new(folder: Path) -> None:
    edit_json(
        folder / SEMSEG,
        lambda groups: groups["segGroups"].append({"id": 3, "objectId": 3, "label": "rug", "segments": []}),
    )


def both(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


CHANGES: dict[str, tuple[Change, set[int]]] = {
    "a label": (rename(4, "desk"), set()),
    "a label to a surface": (rename(4, "Floor"), {4}),
    "a label from a surface": (rename(2, "partition"), {2}),
    "from surface to surface": (rename(2, "floor"), set()),
    "a new instance": (both(renumber(split_the_floor), label_the_new), {1, 3}),
    "an instance gone": (renumber(lose_the_picture), {7}),
    "points given away": (renumber(give_to_the_table), {2, 4}),
    "all at once": (
        both(renumber(split_the_floor), label_the_new, renumber(lose_the_picture), rename(4, "wall")),
        {1, 3, 4, 7},
    ),
}
