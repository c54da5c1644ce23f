"""The scene-graph annotations of 3DSSG (Wald et al., CVPR 2020), as split into subgraphs for training.

    FOLDER/
      relationships_train.json        {"scans": [SUBGRAPH, ...]}
      relationships_validation.json   SUBGRAPH: {"scan": name, "split": number of the subgraph in its scan,
      relationships_test.json                    "objects": {"1": "floor", ...},
                                                 "relationships": [[subject, object, id, "name"], ...]}
      classes.txt                     object labels, one a line
      relationships.txt               predicates, one a line; the line number from 0 is the id

Any of the three JSON files will do, and the lists may be absent; what they would be checked against is then
not checked. The published files have flaws. Each is reported as a Problem of its scan:

=============================  ==========================================================================
`relationship_object_missing`  a relation names an object that its subgraph lacks: left out
`relationship_self`            a relation of an object with itself: left out
`relationship_duplicate`       the same subject, object and predicate again in one subgraph: left out
`predicate_mismatch`           a predicate that relationships.txt lacks or has under another id: kept, and
                               the name counts, not the id
`label_not_in_classes`         an object label that classes.txt lacks: kept
`label_changes`                an object has another label in an earlier subgraph of its scan: kept
`subgraph_duplicate`           a subgraph number again in the same scan: left out
`scan_in_two_splits`           a scan in two of the files: the first in the order above counts
=============================  ==========================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open3dsg.datasets.attributes import ScanAttributes, find_objects, read_attributes
from open3dsg.datasets.jsonfile import member, read_json, typed
from open3dsg.datasets.layouts import WordList
from open3dsg.datasets.paths import check_scan_name
from open3dsg.datasets.scan import Problem, Scan, Subgraph
from open3dsg.datasets.textfile import read_text
from open3dsg.errors import BadFileError, UserError

SPLITS = ("train", "validation", "test")


@dataclass
class ScanAnnotation:
    """What the annotations say of one scan."""

    split: str
    subgraphs: list[Subgraph] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def labels(self) -> dict[int, str]:
        """Object number -> label over all subgraphs; where they differ, the first counts."""
        return {
            number: label
            for subgraph in reversed(self.subgraphs)
            for number, label in subgraph.members.items()
        }


@dataclass(frozen=True)
class Annotations:
    """All annotations of one folder; `classes` and `predicates` are empty where their file is absent."""

    folder: Path
    scans: Mapping[str, ScanAnnotation]
    classes: tuple[str, ...]
    predicates: tuple[str, ...]

    def hash_of(self, scan: str) -> str | None:
        """Return a hash, 16 hex digits, of what they say of a scan; None where they lack it."""
        annotation = self.scans.get(scan)
        if annotation is None:
            return None
        content = [
            (graph.number, sorted(graph.members.items()), sorted(graph.relationships))
            for graph in sorted(annotation.subgraphs, key=lambda graph: graph.number)
        ]
        return hashlib.sha256(repr(content).encode()).hexdigest()[:16]

    def word_lists(self) -> list[WordList]:
        """Return the lists that are there, as a dataset's reader gives them."""
        lists = (
            WordList("classes", "class", self.classes),
            WordList("predicates", "predicate", self.predicates),
        )
        return [words for words in lists if words.words]


def has_annotations(folder: Path) -> bool:
    """Tell whether `folder` holds any of the relationship files."""
    return any(_relationship_file(folder, split).is_file() for split in SPLITS)


def read_annotations(folder: Path) -> Annotations:
    """Read the annotations in `folder`.

    Raises UserError where there are none, BadFileError for a file that cannot be read as the module tells.
    """
    if not has_annotations(folder):
        names = ", ".join(_relationship_file(folder, split).name for split in SPLITS)
        raise UserError(f"{folder}: holds none of {names}; name the folder of the 3DSSG annotations")
    classes = _read_list(folder / "classes.txt")
    predicates = _read_list(folder / "relationships.txt")
    reader = _SubgraphReader(frozenset(classes), {name: number for number, name in enumerate(predicates)})
    scans: dict[str, ScanAnnotation] = {}
    for split in SPLITS:
        path = _relationship_file(folder, split)
        if path.is_file():
            _read_relationship_file(path, split, reader, scans)
    return Annotations(folder=folder, scans=scans, classes=classes, predicates=predicates)


class AnnotationReader:
    """Gives the scans of a folder of annotations, without geometry, as a dataset's reader gives scans."""

    def __init__(self, folder: Path, dataset: str) -> None:
        """Read the annotations in `folder`; raises as `read_annotations` does."""
        self.annotations = read_annotations(folder)
        objects = find_objects([folder])
        self._attributes = {} if objects is None else read_attributes(objects)
        self._dataset = dataset

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Return nothing: the folder is all there is."""
        return {}

    @property
    def ledger_options(self) -> Mapping[str, Any]:
        """Return nothing: no argument changes what is read of a scan."""
        return {}

    def annotation_hash(self, name: str) -> str | None:
        """Return the hash of the scan's subgraphs, or None where the annotations lack it."""
        return self.annotations.hash_of(name)

    def attributes_of(self, name: str) -> ScanAttributes | None:
        """Return the attributes of the scan's instances, or None where `objects.json` lacks it."""
        return self._attributes.get(name)

    def word_lists(self) -> Sequence[WordList]:
        """Return the classes and predicates."""
        return self.annotations.word_lists()

    def read(self, name: str) -> Scan:
        """Return the scan with `cloud` None, no frames, and its labels from the subgraphs."""
        annotation = self.annotations.scans[name]
        return Scan(
            dataset=self._dataset,
            name=name,
            root=self.annotations.folder,
            cloud=None,
            labels=annotation.labels,
            split=annotation.split,
            subgraphs=tuple(annotation.subgraphs),
            problems=tuple(annotation.problems),
        )


def _relationship_file(folder: Path, split: str) -> Path:
    return folder / f"relationships_{split}.json"


def _read_list(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())


def _read_relationship_file(
    path: Path, split: str, reader: _SubgraphReader, scans: dict[str, ScanAnnotation]
) -> None:
    """Add the scans of one file to `scans`."""
    refused: set[str] = set()
    for index, record in enumerate(member(read_json(path, dict), "scans", list, str(path))):
        where = f"{path}: scans[{index}]"
        name = check_scan_name(member(record, "scan", str, where), where)
        annotation = scans.setdefault(name, ScanAnnotation(split))
        if annotation.split != split:
            if name not in refused:
                refused.add(name)
                detail = f"{name}: in the {annotation.split} and the {split} split; {annotation.split} counts"
                annotation.problems.append(Problem("scan_in_two_splits", detail))
            continue
        reader.add(record, name, annotation, where)


@dataclass(frozen=True)
class _SubgraphReader:
    """Turns one record of a relationship file into a Subgraph and Problems."""

    classes: frozenset[str]
    predicate_ids: Mapping[str, int]

    def add(self, record: dict[str, Any], name: str, annotation: ScanAnnotation, where: str) -> None:
        number = member(record, "split", int, where)
        place = f"{name}, subgraph {number}"
        if any(subgraph.number == number for subgraph in annotation.subgraphs):
            annotation.problems.append(Problem("subgraph_duplicate", f"{place}: again, left out"))
            return
        members = self._members(record, place, annotation, where)
        relationships = self._relationships(record, members, place, annotation.problems, where)
        annotation.subgraphs.append(Subgraph(number, members, relationships))

    def _members(
        self, record: dict[str, Any], place: str, annotation: ScanAnnotation, where: str
    ) -> dict[int, str]:
        members: dict[int, str] = {}
        known = annotation.labels
        for key, value in member(record, "objects", dict, where).items():
            if not (key.isascii() and key.isdecimal() and len(key) < 20 and int(key) < 2**31):
                raise BadFileError(f"{where}: object number {key[:100]!r} is no number from 0 to 2^31 - 1")
            number, label = int(key), typed(value, str, f"{where}: label of object {key}")
            if self.classes and label not in self.classes:
                detail = f"{place}: object {number} is {label!r}, which classes.txt lacks; kept"
                annotation.problems.append(Problem("label_not_in_classes", detail))
            if known.get(number, label) != label:
                detail = f"{place}: object {number} is {label!r}, {known[number]!r} in an earlier subgraph"
                annotation.problems.append(Problem("label_changes", detail))
            members[number] = label
        return members

    def _relationships(
        self,
        record: dict[str, Any],
        members: dict[int, str],
        place: str,
        problems: list[Problem],
        where: str,
    ) -> tuple[tuple[int, int, str], ...]:
        kept: dict[tuple[int, int, str], None] = {}
        for index, row in enumerate(member(record, "relationships", list, where)):
            match row:
                case [int(subject), int(target), int(predicate_id), str(predicate)]:
                    relationship = (subject, target, predicate)
                case _:
                    raise BadFileError(
                        f"{where}: relationships[{index}] is {row!r}, not [subject, object, id, name]"
                    )
            told = f"{place}: {subject} {predicate!r} {target}"
            if subject not in members or target not in members:
                problems.append(Problem("relationship_object_missing", f"{told}: no such object, left out"))
            elif subject == target:
                problems.append(Problem("relationship_self", f"{told}: with itself, left out"))
            elif relationship in kept:
                problems.append(Problem("relationship_duplicate", f"{told}: again, left out"))
            else:
                kept[relationship] = None
                if self.predicate_ids and self.predicate_ids.get(predicate) != predicate_id:
                    detail = (
                        f"{told}: id {predicate_id} is not its line in relationships.txt; the name counts"
                    )
                    problems.append(Problem("predicate_mismatch", detail))
        return tuple(kept)
