"""Datasets that the package scenezoo reads (ScanNet++, ARKitScenes, Matterport3D, MultiScan, S3DIS, ...).

scenezoo (Zhang 2026, Apache-2.0) knows the files; this reader asks it for a scan's mesh or points, instances
with labels, cameras and poses, and turns them into a `Scan` (scenezoo_surface.py, scenezoo_frames.py). Which
folders are scans, which files their pictures are and how splits are called is in scenezoo_sources.py. The
world is scenezoo's: metres, z-up.

Nothing is fetched: a split list or label table that scenezoo would download is looked for in METADATA and in
the root. Where split lists are missing no split is known; a table that labels need is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from open3dsg.datasets.files import readable, unchanged
from open3dsg.datasets.layouts import WordList, open_reader
from open3dsg.datasets.scan import Frame, Problem, Scan
from open3dsg.datasets.scenezoo_frames import FrameReader
from open3dsg.datasets.scenezoo_package import open_dataset, told_in_one_line
from open3dsg.datasets.scenezoo_sources import Place, find_source
from open3dsg.datasets.scenezoo_surface import SurfaceReader
from open3dsg.errors import UserError

LAYOUT = "scenezoo"
_ANNOTATED = ("train", "validation")


class SceneZoo:
    """A root that scenezoo reads. What belongs to all scans is read when first needed; pickling drops it."""

    def __init__(self, root: Path, source: str, metadata: Path | str | None = None) -> None:
        """Open `root` as the dataset that scenezoo calls `source`.

        `metadata` is the folder of split lists and label tables where it is not the root. Raises UserError
        for a folder that does not exist, for a `metadata` that the dataset has no use for, for a dataset that
        scenezoo does not know, and without scenezoo.
        """
        self._source = find_source(source)
        if metadata is not None and not self._source.files:
            raise UserError(
                f"--metadata: {self._source.name} has no lists or tables beside its ROOT, leave it out"
            )
        self._root = root
        self._metadata = None if metadata is None else Path(metadata)
        for folder in (root, self._metadata):
            if folder is not None and not folder.is_dir():
                raise UserError(f"{folder}: no such folder")
        self._dataset = open_dataset(self._source, root, self._files())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the arguments alone: workers read for themselves what they need."""
        return open_reader, (LAYOUT, self._root, self.arguments)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Return what `open_reader` needs beside the root."""
        return {
            "metadata": None if self._metadata is None else str(self._metadata),
            **self.ledger_options,
        }

    @property
    def ledger_options(self) -> Mapping[str, Any]:
        """Return the arguments that change what is read of a scan."""
        return {"source": self._source.name}

    @cached_property
    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Split -> what scenezoo calls its scenes, present or not, ascending; empty without split lists."""
        needed = {option for option in self._source.files if option.endswith("split_file")}
        instead = any((self._root / file).is_file() for file in self._source.lists_too)
        if not (instead or needed <= self._files().keys()):
            return {}
        with told_in_one_line(f"{self._root}: splits"):
            given = self._dataset.splits
        splits: dict[str, set[str]] = {}
        for theirs, ours in self._source.splits.items():
            names = {name.strip() for name in given.get(theirs, ())} - {""}
            splits.setdefault(ours, set()).update(names)
        return {split: tuple(sorted(names)) for split, names in splits.items() if names}

    @readable()
    def scan_names(self, split: str | None) -> list[str]:
        """Return the scans that are there, ascending: of `split`, or of the whole root.

        Raises UserError for a split that does not exist.
        """
        if split is None:
            return list(self._places)
        listed = set(self._listed(split))
        return [name for name, place in self._places.items() if place.scene in listed]

    @readable()
    def missing(self, split: str | None) -> list[str]:
        """Return the scenes that the splits list, `split` or all, and that are not there."""
        there = {place.scene for place in self._places.values()}
        return [scene for scene in self._listed(split) if scene not in there]

    def annotation_hash(self, name: str) -> str | None:  # noqa: ARG002
        """Return None: none of these datasets comes with scene graphs that are read."""
        return None

    def attributes_of(self, name: str) -> None:
        """Return None: none of these datasets says more of objects than their labels."""

    def word_lists(self) -> Sequence[WordList]:
        """Return the lists of classes that come with the dataset, where their files are there."""
        if not self._source.word_lists:
            return ()
        with told_in_one_line(f"{self._root}: lists of classes"):
            given = self._dataset.metadata
        return [
            WordList(name, "class", words) for name in self._source.word_lists if (words := given.get(name))
        ]

    @readable()
    def read(self, name: str) -> Scan:
        """Read the scan `name`.

        Raises UserError where it is not there or changes meanwhile; BadFileError where a file it cannot do
        without is missing or a file is damaged. What can be left out is left out and told in
        `Scan.problems`.
        """
        place = self._place(name)
        with unchanged(name, place.path):
            return self._read(place)

    def _read(self, place: Place) -> Scan:
        split = next((split for split, scenes in self.splits.items() if place.scene in scenes), None)
        surface = SurfaceReader(self._dataset, self._source, place, annotated=split in _ANNOTATED)
        cloud, labels = surface.read()
        frames, problems = self._frames(place)
        return Scan(
            dataset=self._source.name,
            name=place.name,
            root=self._root,
            cloud=cloud,
            labels=labels,
            split=split,
            frames=frames,
            problems=(*surface.problems, *problems),
        )

    def _frames(self, place: Place) -> tuple[Sequence[Frame], Sequence[Problem]]:
        if self._source.frames is None:
            detail = f"scenezoo gives no frames of {self._source.name}"
            return (), [Problem("sequence_missing", f"{place.name}: {detail}")]
        reader = FrameReader(self._root, place, self._source.frames)
        frames = reader.read(self._dataset)
        return frames, reader.problems

    @cached_property
    def _places(self) -> Mapping[str, Place]:
        return {place.name: place for place in self._source.places(self._root)}

    def _place(self, name: str) -> Place:
        if name in self._places:
            return self._places[name]
        there = list(self._places)
        examples = ", ".join(there[:3]) + (", ..." if len(there) > 3 else "")
        raise UserError(f"{self._root}: no scan {name!r}; there are {len(there)}: {examples}")

    def _files(self) -> dict[str, Path]:
        """Return option of the adapter -> file, of those that are in the metadata folder or the root."""
        folders = [*([] if self._metadata is None else [self._metadata]), self._root]
        found = {
            option: next((folder / file for folder in folders if (folder / file).is_file()), None)
            for option, file in self._source.files.items()
        }
        return {option: path.resolve() for option, path in found.items() if path is not None}

    def _listed(self, split: str | None) -> list[str]:
        if split is None:
            return sorted({scene for scenes in self.splits.values() for scene in scenes})
        if split not in self.splits:
            known = ", ".join(self.splits) or f"no split is known: {self._lists()} not there"
            raise UserError(f"{self._root}: no split {split!r}; there are: {known}")
        return list(self.splits[split])

    def _lists(self) -> str:
        files = [file for option, file in self._source.files.items() if option.endswith("split_file")]
        return f"{', '.join(files)} {'is' if len(files) == 1 else 'are'}" if files else "its lists are"
