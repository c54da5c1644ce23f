"""The files that speak of all scans: 3RScan.json, the lists of splits, and 3DSSG's annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from open3dsg.datasets.annotations import SPLITS, Annotations
from open3dsg.datasets.attributes import OBJECTS, ScanAttributes
from open3dsg.datasets.check.files import damage_of, told_by_reader
from open3dsg.datasets.check.findings import Finding, Severity, finding
from open3dsg.datasets.scan import Problem
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.errors import UserError

_FULL_3DSSG_CLASSES = 528
_NO_SCAN = "`ingest` refuses every scan"
# Told by findings of their own.
_TOLD_OF_LISTS = ("label_not_in_classes", "predicate_mismatch")


def read_lists(root: Path, reader: ThreeRScan) -> tuple[Mapping[str, Sequence[str]], list[Finding]]:
    """Read and check all metadata of a 3RScan root; return the splits and what was found."""
    findings: list[Finding] = []
    if not (root / "3RScan.json").is_file():
        findings.append(finding("metadata_missing", "3RScan.json", "missing"))
    try:
        annotations, splits = reader.annotations, reader.splits
        attributes = reader.attributes
    except UserError as error:
        return {}, [*findings, _refused(root, reader, error)]
    if annotations is None:
        what = "no relationships_*.json here or in the root"
        findings.append(finding("annotations_missing", "3DSSG_subset", what))
    else:
        findings += check_annotations(root, annotations, splits)
    return splits, [*findings, *_check_attributes(attributes)]


def check_scans_there(
    splits: Mapping[str, Sequence[str]], names: Iterable[str], split: str | None
) -> list[Finding]:
    """Hold the scans that are there against those that the metadata lists, in `split` or in all."""
    there = set(names)
    listed = {name for of_split in splits.values() for name in of_split}
    by_case = {name.casefold(): name for name in there}
    misspelt = {
        name: by_case[name.casefold()] for name in sorted(listed - there) if name.casefold() in by_case
    }
    findings = [
        finding("scan_name_case", other, f"the metadata calls it {name}", scan=other)
        for name, other in misspelt.items()
    ]
    for wanted, of_split in sorted(splits.items()):
        absent = sorted(set(of_split) - there - misspelt.keys())
        if absent and split in (None, wanted):
            what = (
                f"{len(absent)} of {len(of_split)} scans of split {wanted} are not there, such as {absent[0]}"
            )
            severity: Severity = "error" if split == wanted else "warning"
            findings.append(finding("scans_not_there", ".", what, severity=severity))
    if splits and split is None:
        unlisted = sorted(there - listed - set(misspelt.values()))
        findings += [
            finding("scan_not_listed", name, "no split lists this scan", scan=name) for name in unlisted
        ]
    return findings + _in_two_splits(splits)


def check_annotations(
    root: Path, annotations: Annotations, splits: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """Check 3DSSG's files against each other; that they can be read is known."""
    folder = annotations.folder
    findings = [
        finding("annotations_missing", _name(root, folder / f"relationships_{split}.json"), "missing")
        for split in SPLITS[:2]
        if splits.get(split) and not (folder / f"relationships_{split}.json").is_file()
    ]
    problems = [problem for scan in annotations.scans.values() for problem in scan.problems]
    findings += _check_classes(root, annotations)
    findings += _check_predicates(root, annotations, problems)
    counts = Counter(problem.kind for problem in problems)
    for kind, count in sorted(counts.items()):
        if kind not in _TOLD_OF_LISTS:
            first = next(problem.detail for problem in problems if problem.kind == kind)
            findings.append(
                finding("annotation_flaw", _name(root, folder), f"{count} {kind}, such as {first}")
            )
    return findings


def _refused(root: Path, reader: ThreeRScan, error: UserError) -> Finding:
    """Blame the file that the message of a reader names first."""
    given = reader.arguments["annotations"]
    for folder in (root, root / "3DSSG", root / "3DSSG_subset", *([] if given is None else [Path(given)])):
        for path in sorted(folder.glob("*.*")) if folder.is_dir() else ():
            if str(error).startswith(f"{path}:"):
                damage = damage_of(path, path.suffix[1:] if path.suffix == ".json" else "text")
                kind, what = damage or told_by_reader(error, path)
                return finding(kind, _name(root, path), what, cost=_NO_SCAN)
    return finding("damaged", ".", str(error), cost=_NO_SCAN)


def _check_attributes(attributes: Mapping[str, ScanAttributes]) -> list[Finding]:
    """Tell of words that are left out; that the file can be read is known."""
    problems = [problem for scan in attributes.values() for problem in scan.problems]
    if not problems:
        return []
    return [
        finding(
            "annotation_flaw", OBJECTS, f"{len(problems)} {problems[0].kind}, such as {problems[0].detail}"
        )
    ]


def _in_two_splits(splits: Mapping[str, Sequence[str]]) -> list[Finding]:
    counts = Counter(name for names in splits.values() for name in names)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if not twice:
        return []
    which = " and ".join(split for split, names in splits.items() if twice[0] in names)
    what = f"{len(twice)} scans are in two splits, such as {twice[0]} in {which}"
    return [finding("scan_in_two_splits", ".", what)]


def _check_classes(root: Path, annotations: Annotations) -> list[Finding]:
    path = annotations.folder / "classes.txt"
    name = _name(root, path)
    used = {
        label
        for scan in annotations.scans.values()
        for graph in scan.subgraphs
        for label in graph.members.values()
    }
    count, lacking = len(annotations.classes), sorted(used - set(annotations.classes))
    if not count:
        return [finding("class_list_missing", name, "missing, or without a line")]
    if damage := damage_of(path, "text"):
        return [finding(damage.kind, name, damage.what, cost="its lines are taken for classes")]
    whole = ": it is the list of the whole 3DSSG" if count == _FULL_3DSSG_CLASSES else ""
    if lacking:
        what = f"has {count} classes{whole}, and lacks {len(lacking)} of {len(used)} labels: {lacking[0]!r}"
        return [finding("class_list_wrong", name, what)]
    findings = []
    if whole:
        what = f"has {count} classes{whole}; the annotations use {len(used)}"
        findings.append(finding("class_list_of_full_3dssg", name, what))
    other = root / "classes.txt"
    if other == path or not other.is_file():
        return findings
    cost = f"only {name} counts"
    if damage := damage_of(other, "text"):
        findings.append(finding(damage.kind, other.name, damage.what, severity="warning", cost=cost))
    elif _lines(other) != list(annotations.classes):
        what = f"has {len(_lines(other))} classes and {name} has {count}, or others"
        findings.append(finding("class_lists_differ", other.name, what, cost=cost))
    return findings


def _check_predicates(root: Path, annotations: Annotations, problems: Sequence[Problem]) -> list[Finding]:
    name = _name(root, annotations.folder / "relationships.txt")
    count = len(annotations.predicates)
    if not count:
        return [
            finding(
                "class_list_missing",
                name,
                "missing, or without a line",
                cost="there is no list of predicates",
            )
        ]
    if damage := damage_of(annotations.folder / "relationships.txt", "text"):
        return [finding(damage.kind, name, damage.what, cost="its lines are taken for predicates")]
    wrong = [problem.detail for problem in problems if problem.kind == "predicate_mismatch"]
    if not wrong:
        return []
    used = {
        word
        for scan in annotations.scans.values()
        for graph in scan.subgraphs
        for _, _, word in graph.relationships
    }
    lacking = sorted(used - set(annotations.predicates))
    lost = f" and lacks {len(lacking)} of {len(used)} in use: {lacking[0]!r}" if lacking else ""
    first = "" if "none" in annotations.predicates else ", without 'none', which comes first as published"
    what = f"has {count} predicates{lost}{first}: {len(wrong)} relations disagree, such as {wrong[0]}"
    severity: Severity = "error" if lacking else "warning"
    return [finding("predicate_list_wrong", name, what, severity=severity)]


def _lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
