"""Steps by name: a step with its options as JSON, and back, so that another process or machine can do it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from open3dsg.errors import UserError
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from psycopg import Connection

    from open3dsg.datasets.layouts import Reader
    from open3dsg.steps.captions import DumpCaptions
    from open3dsg.steps.features import DumpNodes, DumpPairs, Running
    from open3dsg.steps.graph import Graph
    from open3dsg.steps.ingest import Ingest
    from open3dsg.steps.masks import MergeMasks
    from open3dsg.steps.observe import Observe
    from open3dsg.steps.predict import Predict
    from open3dsg.steps.runner import Step

Arguments = dict[str, Any]


class Entry(NamedTuple):
    """One step: its queue, its arguments as JSON and the way back, and what a machine lacks for it."""

    queue: str
    describe: Callable[[Any], Arguments]
    build: Callable[[Mapping[str, Any]], Any]
    lacking: Callable[[Connection[Any], Mapping[str, Any], str], str | None]


def describe(step: str, work: Step) -> Arguments:
    """Return the arguments of `work`, as JSON has them, from which `build` makes it again."""
    return _entry(step).describe(work)


def build(step: str, arguments: Mapping[str, Any], chunk: int | None = None) -> Step:
    """Return the step that `describe` was given, or the part of it that does one chunk.

    Raises UserError for a step that this version does not know, and as opening its reader does.
    """
    with _of_this_version(step):
        work: Step = _entry(step).build(arguments)
    return work if chunk is None else _only_chunk(step, work, chunk)


def lacking_here(
    connection: Connection[Any], step: str, arguments: Mapping[str, Any], scan: str
) -> str | None:
    """Say what the step needs and this machine lacks, where another may have it; None: nothing."""
    with _of_this_version(step):
        return _entry(step).lacking(connection, arguments, scan)


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


@contextmanager
def _of_this_version(step: str) -> Iterator[None]:
    """Raise UserError where the block meets arguments that `describe` of this version does not give."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{step} was queued by another version of open3dsg, with other arguments"
            f" ({type(error).__name__}: {error}): submit it again"
        ) from error


def _only_chunk(step: str, work: Step, chunk: int) -> Step:
    from open3dsg.steps.captions import DumpCaptions
    from open3dsg.steps.features import DumpNodes, DumpPairs

    if not isinstance(work, DumpNodes | DumpPairs | DumpCaptions):
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


def _ingest_lacks(_connection: Connection[Any], arguments: Mapping[str, Any], _scan: str) -> str | None:
    """Look for the root, and for what of the reader's arguments is a path: those are absolute."""
    texts = [arguments["root"], *(value for value in arguments["reader"].values() if isinstance(value, str))]
    return _no_folder(
        *(Path(text) for text in texts if Path(text).is_absolute() and not Path(text).is_file())
    )


def _describe_masks(work: MergeMasks) -> Arguments:
    return {
        "folder": str(work.folder),
        "by_scan": work.by_scan,
        "options": asdict(work.options),
        "force": work.force,
        "replace": work.replace,
    }


def _build_masks(arguments: Mapping[str, Any]) -> MergeMasks:
    from open3dsg.geometry.mask_thresholds import MergeThresholds
    from open3dsg.steps.masks import MaskOptions, MergeMasks

    options = MaskOptions(
        arguments["options"]["every"], MergeThresholds(**arguments["options"]["thresholds"])
    )
    folder, by_scan = Path(arguments["folder"]), arguments["by_scan"]
    return MergeMasks(folder, by_scan, options, arguments["force"], arguments["replace"])


def _masks_lack(connection: Connection[Any], arguments: Mapping[str, Any], scan: str) -> str | None:
    return _no_folder(Path(arguments["folder"]), find_scan(connection, scan).root)


def _describe_observe(work: Observe) -> Arguments:
    return {"options": asdict(work.options), "force": work.force, "replace": work.replace}


def _build_observe(arguments: Mapping[str, Any]) -> Observe:
    from open3dsg.steps.observe import Observe, ObserveOptions

    options = ObserveOptions.from_json(arguments["options"])
    return Observe(options, arguments["force"], arguments["replace"])


def _describe_graph(work: Graph) -> Arguments:
    return {"options": asdict(work.options), "force": work.force, "replace": work.replace}


def _build_graph(arguments: Mapping[str, Any]) -> Graph:
    from open3dsg.steps.graph import Graph, GraphOptions

    return Graph(GraphOptions(**arguments["options"]), arguments["force"], arguments["replace"])


def _graph_lacks(_connection: Connection[Any], _arguments: Mapping[str, Any], _scan: str) -> None:
    """Nothing: all that it reads is in the store."""


def _describe_features(work: DumpNodes | DumpPairs) -> Arguments:
    """Tell all but the device, which is the worker's own."""
    running = {name: value for name, value in asdict(work.running).items() if name != "device"}
    return {
        "options": asdict(work.options),
        "revision": work.prepare(),
        "force": work.force,
        "replace": work.replace,
        "running": running,
    }


def _build_features(arguments: Mapping[str, Any]) -> DumpNodes:
    from open3dsg.steps.features import DumpNodes, FeatureOptions

    options = FeatureOptions(**arguments["options"])
    return DumpNodes(options, arguments["force"], arguments["replace"], running=_running(arguments))


def _build_pairs(arguments: Mapping[str, Any]) -> DumpPairs:
    from open3dsg.steps.features import DumpPairs, PairOptions

    options = PairOptions(**arguments["options"])
    return DumpPairs(options, arguments["force"], arguments["replace"], running=_running(arguments))


def _running(arguments: Mapping[str, Any]) -> Running:
    from open3dsg.steps.features import Running

    return Running(**arguments["running"])


def _features_lack(connection: Connection[Any], arguments: Mapping[str, Any], scan: str) -> str | None:
    """Look for the pictures, and for the very encoder."""
    other = _other_encoder(_build_features(arguments), arguments["revision"])
    return other or _observe_lacks(connection, arguments, scan)


def _pairs_lack(connection: Connection[Any], arguments: Mapping[str, Any], scan: str) -> str | None:
    """Look for the same."""
    other = _other_encoder(_build_pairs(arguments), arguments["revision"])
    return other or _observe_lacks(connection, arguments, scan)


def _other_encoder(work: DumpNodes | DumpPairs | DumpCaptions, wanted: str) -> str | None:
    """Say what is wrong with the encoder here: one of other weights would write other features."""
    try:
        revision = work.prepare()
    except UserError as error:
        return str(error)
    if revision == wanted:
        return None
    name = work.options.encoder
    return f"the encoder {name} of this machine is {revision}, not {wanted}: install the same weights"


def _describe_captions(work: DumpCaptions) -> Arguments:
    """Tell all but the device, as above."""
    return {
        "options": asdict(work.options),
        "revision": work.prepare(),
        "force": work.force,
        "replace": work.replace,
        "batch": work.batch,
        "precision": work.precision,
    }


def _build_captions(arguments: Mapping[str, Any]) -> DumpCaptions:
    from open3dsg.steps.captions import CaptionOptions, DumpCaptions

    how = {name: arguments[name] for name in ("force", "replace", "batch", "precision")}
    return DumpCaptions(CaptionOptions(**arguments["options"]), **how)


def _captions_lack(_connection: Connection[Any], arguments: Mapping[str, Any], _scan: str) -> str | None:
    """Look for the very encoder; all else that it reads is in the store."""
    return _other_encoder(_build_captions(arguments), arguments["revision"])


def _describe_predict(work: Predict) -> Arguments:
    """Tell all but the device, as above."""
    return {
        "options": asdict(work.options),
        "force": work.force,
        "replace": work.replace,
        "batch": work.batch,
        "precision": work.precision,
    }


def _build_predict(arguments: Mapping[str, Any]) -> Predict:
    from open3dsg.steps.predict import Predict
    from open3dsg.steps.predict_options import PredictOptions

    how = {name: arguments[name] for name in ("force", "replace", "batch", "precision")}
    return Predict(PredictOptions(**arguments["options"]), **how)


def _predict_lacks(connection: Connection[Any], arguments: Mapping[str, Any], _scan: str) -> str | None:
    """Look for the file of the checkpoint, and for the very encoder that speaks, where there is one."""
    return _build_predict(arguments).lacking_here(connection)


def _observe_lacks(connection: Connection[Any], _arguments: Mapping[str, Any], scan: str) -> str | None:
    return _no_folder(find_scan(connection, scan).root)


def _no_folder(*folders: Path) -> str | None:
    missing = next((folder for folder in folders if not folder.is_dir()), None)
    return None if missing is None else f"{missing} is not on this machine: mount it here"


# A new step that is to be shared out is a row here.
ENTRIES: dict[str, Entry] = {
    "ingest": Entry("cpu", _describe_ingest, _build_ingest, _ingest_lacks),
    "masks": Entry("cpu", _describe_masks, _build_masks, _masks_lack),
    "observe": Entry("cpu", _describe_observe, _build_observe, _observe_lacks),
    "graph": Entry("cpu", _describe_graph, _build_graph, _graph_lacks),
    "features": Entry("gpu", _describe_features, _build_features, _features_lack),
    "pairs": Entry("gpu", _describe_features, _build_pairs, _pairs_lack),
    "captions": Entry("gpu", _describe_captions, _build_captions, _captions_lack),
    "predict": Entry("gpu", _describe_predict, _build_predict, _predict_lacks),
}
