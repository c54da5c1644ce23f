"""The preflight from a folder to its findings: a survey of the root, then a look at each scan.

The quick look lists folders and reads the first and last bytes of files: threads share it, since it waits
for the disk. Reading wholly is work, which processes share.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from open3dsg.datasets.check import scannet, threerscan
from open3dsg.datasets.check.deep import check_wholly
from open3dsg.datasets.check.findings import Finding, finding
from open3dsg.datasets.check.lists import check_scans_there
from open3dsg.datasets.check.look import Facts
from open3dsg.datasets.check.survey import Survey
from open3dsg.datasets.layouts import Reader, open_reader
from open3dsg.errors import UserError

_THREADS = 8
_OF_ALL_SCANS = (".json", ".txt", ".tsv")  # files in the root


class _Layout(NamedTuple):
    """How scans of a layout are found, and how one is looked at."""

    survey: Callable[[Path, Mapping[str, Any]], Survey]
    look: Callable[[Survey, str], tuple[list[Finding], Facts]]


LAYOUTS: Mapping[str, _Layout] = {
    "3rscan": _Layout(threerscan.survey, threerscan.look),
    "scannet": _Layout(scannet.survey, scannet.look),
}


@dataclass
class Checked:
    """All findings of a folder, and what the estimate counts."""

    findings: list[Finding]
    facts: dict[str, Facts]

    @property
    def is_ready(self) -> bool:
        """Tell whether every step can run on every scan."""
        return all(finding.severity != "error" for finding in self.findings)


def survey(
    layout: str, root: Path, arguments: Mapping[str, Any], *, split: str | None, scans: Sequence[str]
) -> Survey:
    """Find the scans of a root, of one split or named, and check what speaks of all of them.

    Raises UserError for both, for a split that no list has, and where a folder of `arguments` is absent.
    """
    if scans and split is not None:
        raise UserError("--split chooses scans, --scan names them: give one of the two")
    found = LAYOUTS[layout].survey(root, arguments)
    if not found.folders:
        return found
    if split is not None and split not in found.splits:
        known = ", ".join(found.splits) or "none is known"
        raise UserError(f"{root}: no split {split!r}; there are: {known}")
    chosen = set(found.folders)
    if scans:
        chosen = set(scans)
    elif split is not None:
        chosen = set(found.splits[split])
    for name in sorted(set(scans) - found.folders.keys()):
        what = f"no folder of a scan {name} is here"
        found.findings.append(finding("scans_not_there", ".", what, severity="error", scan=name))
    if not scans:
        found.findings += check_scans_there(found.splits, found.folders, split)
    found.folders = {name: folder for name, folder in sorted(found.folders.items()) if name in chosen}
    if scans or split is not None:
        found.findings = [one for one in found.findings if one.scan is None or one.scan in chosen]
    return found


def check_scans(found: Survey, *, deep: bool, jobs: int, advance: Callable[[str], None]) -> Checked:
    """Look at every scan of a survey; with `deep` also read each wholly, in `jobs` processes.

    `advance` is told each scan as it ends.
    """
    checked = Checked(list(found.findings), {})
    for name, (findings, facts) in _look_at_all(found):
        checked.findings += findings
        checked.facts[name] = facts
        if not deep:
            advance(name)
    if deep:
        told = {one.file for one in checked.findings}
        refused = {one.file for one in checked.findings if one.severity == "error"}
        for findings in _read_wholly(found, jobs, advance):
            checked.findings += [one for one in findings if not _is_told(one, told, refused)]
    checked.findings.sort(key=lambda one: (one.severity, one.scan or "", one.file, one.kind))
    return checked


def _look_at_all(found: Survey) -> Iterator[tuple[str, tuple[list[Finding], Facts]]]:
    """Give what the quick look finds of each scan, as it ends."""
    with ThreadPoolExecutor(_THREADS) as pool:
        look = LAYOUTS[found.layout].look
        futures = {pool.submit(look, found, name): name for name in found.folders}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _is_told(one: Finding, files: set[str], refused: set[str]) -> bool:
    """Tell whether a finding of reading wholly repeats one of the quick look.

    `files` are those that it told of, `refused` those of them that were errors.
    """
    if one.kind == "scan_unreadable":
        return any(file in one.what for file in refused if "/" in file or file.endswith(_OF_ALL_SCANS))
    return one.file in files


def _read_wholly(found: Survey, jobs: int, advance: Callable[[str], None]) -> Iterator[list[Finding]]:
    reader = open_reader(found.layout, found.root, found.arguments)
    if jobs == 1:
        for name in found.folders:
            yield check_wholly(reader, found.root, name)
            advance(name)
        return
    # spawn, not fork: threads of numpy do not survive a fork.
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (reader, found.root)) as pool:
        futures = {pool.submit(_check_in_worker, name): name for name in found.folders}
        try:
            for future in as_completed(futures):
                yield future.result()
                advance(futures[future])
        except BrokenProcessPool as error:
            raise UserError("a process was killed, perhaps for want of memory: give fewer --jobs") from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Worker:
    """What a process keeps from scan to scan: the reader, which keeps what it read of all scans."""

    reader: Reader
    root: Path


def _start_worker(reader: Reader, root: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    _Worker.reader, _Worker.root = reader, root


def _check_in_worker(name: str) -> list[Finding]:
    return check_wholly(_Worker.reader, _Worker.root, name)
