"""Steps by name: a step with its options as JSON, and back, so that another process or machine can do it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from open3dsg.errors import UserError
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg import Connection

    from open3dsg.datasets.layouts import Reader
    from open3dsg.steps.features import DumpNodes
    from open3dsg.steps.ingest import Ingest
    from open3dsg.steps.observe import Observe
    from open3dsg.steps.runner import Step

Arguments = dict[str, Any]


class Entry(NamedTuple):
    """One step: its queue, its arguments as JSON and the way back, and the folders that it needs."""

    queue: str
    describe: Callable[[Any], Arguments]
    build: Callable[[Mapping[str, Any]], Any]
    folders: Callable[[Connection[Any], Mapping[str, Any], str], Sequence[Path]]


def describe(step: str, work: Step) -> Arguments:
    """Return the arguments of `work`, as JSON has them, from which `build` makes it again."""
    return _entry(step).describe(work)


def build(step: str, arguments: Mapping[str, Any], chunk: int | None = None) -> Step:
    """Return the step that `describe` was given, or the part of it that does one chunk.

    Raises UserError for a step that this version does not know, and as opening its reader does.
    """
    work: Step = _entry(step).build(arguments)
    return work if chunk is None else _only_chunk(step, work, chunk)


def missing_folder(
    connection: Connection[Any], step: str, arguments: Mapping[str, Any], scan: str
) -> Path | None:
    """Return the first folder that the step needs and this machine lacks, or None."""
    folders = _entry(step).folders(connection, arguments, scan)
    return next((folder for folder in folders if not folder.is_dir()), None)


def default_queue(step: str) -> str:
    """Return the queue that the items of a step go to where no other is asked for."""
    return _entry(step).queue


def step_names() -> Sequence[str]:
    """Return the steps that can be shared out, in the order of the pipeline."""
    return list(ENTRIES)


def _entry(step: str) -> Entry:
    if step not in ENTRIES:
        raise UserError(f"no step {step!r}; this version of open3dsg shares out {', '.join(ENTRIES)}")
    return ENTRIES[step]


def _only_chunk(step: str, work: Step, chunk: int) -> Step:
    from open3dsg.steps.features import DumpNodes

    if not isinstance(work, DumpNodes):
        raise UserError(f"{step} has no chunks")
    return replace(work, chunk=chunk)


def _describe_ingest(work: Ingest) -> Arguments:
    return {
        "layout": work.layout,
        "root": work.root,
        "reader": dict(cast("Reader", work.reader).arguments),
        "dataset": work.dataset,
        "force": work.force,
        "replace": work.replace,
    }


def _build_ingest(arguments: Mapping[str, Any]) -> Ingest:
    from open3dsg.datasets.layouts import open_reader
    from open3dsg.steps.ingest import Ingest

    layout, root = arguments["layout"], arguments["root"]
    reader = open_reader(layout, Path(root), arguments["reader"])
    return Ingest(reader, arguments["dataset"], layout, root, arguments["force"], arguments["replace"])


def _ingest_folders(_connection: Connection[Any], arguments: Mapping[str, Any], _scan: str) -> Sequence[Path]:
    """The root, and what of the reader's arguments is a path: those are absolute."""
    texts = [arguments["root"], *(value for value in arguments["reader"].values() if isinstance(value, str))]
    return [Path(text) for text in texts if Path(text).is_absolute() and not Path(text).is_file()]


def _describe_observe(work: Observe) -> Arguments:
    return {"options": asdict(work.options), "force": work.force, "replace": work.replace}


def _build_observe(arguments: Mapping[str, Any]) -> Observe:
    from open3dsg.geometry.visibility import VisibilityThresholds
    from open3dsg.steps.observe import Observe, ObserveOptions

    options = dict(arguments["options"])
    options["thresholds"] = VisibilityThresholds(**options["thresholds"])
    options["surfaces"] = tuple(options["surfaces"])
    return Observe(ObserveOptions(**options), arguments["force"], arguments["replace"])


def _describe_features(work: DumpNodes) -> Arguments:
    return {"options": asdict(work.options), "force": work.force, "replace": work.replace}


def _build_features(arguments: Mapping[str, Any]) -> DumpNodes:
    from open3dsg.steps.features import DumpNodes, FeatureOptions

    return DumpNodes(FeatureOptions(**arguments["options"]), arguments["force"], arguments["replace"])


def _scan_folders(connection: Connection[Any], _arguments: Mapping[str, Any], scan: str) -> Sequence[Path]:
    return [find_scan(connection, scan).root]


# A new step that is to be shared out is a row here.
ENTRIES: dict[str, Entry] = {
    "ingest": Entry("cpu", _describe_ingest, _build_ingest, _ingest_folders),
    "observe": Entry("cpu", _describe_observe, _build_observe, _scan_folders),
    "features": Entry("gpu", _describe_features, _build_features, _scan_folders),
}
