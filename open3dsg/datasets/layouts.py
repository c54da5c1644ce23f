"""The layouts that folders of scans come in, and one contract for the readers of them.

A layout is a name that the store keeps beside each dataset; a reader is opened anew from it, its root and its
arguments wherever work is done: in this process, in another one, on another machine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from open3dsg.datasets.attributes import ScanAttributes
    from open3dsg.datasets.scan import Scan


class WordList(NamedTuple):
    """A list of words that comes with a dataset, in its order."""

    name: str  # of the list within its dataset: classes, predicates, nyu40, ...
    kind: Literal["class", "predicate"]
    words: Sequence[str]


class Reader(Protocol):
    """A dataset reader: one scan at a time, by name. It pickles as its root and its arguments."""

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What `open_reader` needs beside the root, as JSON has it."""

    @property
    def ledger_options(self) -> Mapping[str, Any]:
        """Those of the arguments that change what is read of a scan."""

    def scan_names(self, split: str | None) -> Sequence[str]:
        """Return the scans that are there, ascending: of `split`, or all."""

    def missing(self, split: str | None) -> Sequence[str]:
        """Return the scans that the metadata lists, in `split` or at all, and that are not there."""

    def annotation_hash(self, name: str) -> str | None:
        """Return a hash of the scan's subgraphs, or None where there are none."""

    def attributes_of(self, name: str) -> ScanAttributes | None:
        """Return what is said of the scan's instances beside their labels, or None where nothing is."""

    def word_lists(self) -> Sequence[WordList]:
        """Return the lists of classes and predicates that come with the dataset."""

    def read(self, name: str) -> Scan:
        """Read one scan."""


# Layout -> where its reader is; imported when it is opened.
LAYOUTS: Mapping[str, tuple[str, str]] = {
    "3rscan": ("open3dsg.datasets.threerscan", "ThreeRScan"),
    "scannet": ("open3dsg.datasets.scannet", "ScanNet"),
    "rgbd": ("open3dsg.datasets.rgbd", "Rgbd"),
    "scenezoo": ("open3dsg.datasets.scenezoo", "SceneZoo"),
}


def open_reader(layout: str, root: Path, arguments: Mapping[str, Any]) -> Reader:
    """Open the reader of `layout` on `root`.

    Raises UserError for a layout that this version does not know, and as the reader does.
    """
    if layout not in LAYOUTS:
        raise UserError(f"no layout {layout!r}; this version of open3dsg reads {', '.join(LAYOUTS)}")
    module, name = LAYOUTS[layout]
    reader: Reader = getattr(importlib.import_module(module), name)(root, **arguments)
    return reader
