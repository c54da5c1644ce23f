"""What is done for each scan, step by step, and the command that would do what comes next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from open3dsg.db.queries import execute
from open3dsg.errors import UserError
from open3dsg.steps import attributes, captions, graph, ingest, masks, observe
from open3dsg.steps.features import nodes, pairs
from open3dsg.steps.ingest_dsg import GRAPHS
from open3dsg.store.captions import CAPTIONS
from open3dsg.store.geometry import MASKS
from open3dsg.store.graphs import FULL
from open3dsg.store.scans import check_dataset, find_scan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import Connection

State = Literal["done", "partly", "stale", "never"]

VERSIONS = {
    "ingest": ingest.VERSION,
    "annotate": ingest.VERSION,
    attributes.STEP: attributes.VERSION,
    MASKS: masks.VERSION,
    "observe": observe.VERSION,
    graph.STEP: graph.VERSION,
    nodes.STEP: nodes.VERSION,
    pairs.STEP: pairs.VERSION,
    CAPTIONS: captions.VERSION,
}
STEPS = ("ingest", "annotate", "observe", "graph", "features")
# Step -> what it makes, and the command that does, less the encoder's name; first what the next is made of.
_OF_PAIRS = {
    pairs.STEP: ("features of pairs", "features dump --pairs --pair-encoder"),
    CAPTIONS: ("captions", "features caption --encoder"),
}
_FEATURES = "features.nodes"
_SUBGRAPHS = f"{graph.STEP} {graph.SUBGRAPHS}"


@dataclass(frozen=True)
class Progress:
    """How far a step is with a scan, one encoder's features by themselves.

    It is `partly` done where chunks are left, and `stale` where instances changed since or the step now does
    something else: what is there can be used, and running the step brings it up to date. What was `imported`
    came from files, and comes from them again.
    """

    state: State
    finished: str  # when it was last at work
    chunks: int
    of: int
    imported: bool


@dataclass(frozen=True)
class ScanStatus:
    """What the store holds of a scan, what is done for it, and the command that would add what is missing.

    `steps` has the steps that were begun: ingest, annotate, observe, ``graph subgraphs``, ``graph full``, and
    ``features.nodes ENCODER@REVISION``, and so on.
    """

    row: Mapping[str, Any]
    steps: Mapping[str, Progress]
    missing: str | None

    def state(self, step: str) -> State:
        """Return how far one of `STEPS` but features is; of graph, the subgraphs."""
        name = _SUBGRAPHS if step == graph.STEP else step
        return self.steps[name].state if name in self.steps else "never"

    def features(self, encoder: str | None = None) -> Mapping[str, Progress]:
        """Return encoder@revision -> its features: of all encoders, or of one by name or name@revision."""
        variants = {name.split()[1]: done for name, done in self.steps.items() if _FEATURES in name}
        return {
            name: done
            for name, done in variants.items()
            if encoder in (None, name, name.split("@", maxsplit=1)[0])
        }

    def lacks(self, step: str, encoder: str | None = None) -> bool:
        """Tell whether one of `STEPS` is not, or not wholly, done: of features, of one encoder or of any."""
        if step != "features":
            return self.state(step) != "done"
        dumps = self.features(encoder)
        return not dumps or any(done.state != "done" for done in dumps.values())

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {**self.row, "steps": dict(self.steps), "missing": self.missing}


def scan_statuses(
    connection: Connection[Any],
    *,
    dataset: str | None = None,
    split: str | None = None,
    scan: str | None = None,
) -> list[ScanStatus]:
    """Say for each scan what is done and what comes next; UserError for a dataset or scan that is absent."""
    if dataset is not None:
        check_dataset(connection, dataset)
    scan_id = None if scan is None else find_scan(connection, scan).scan_id
    cursor = execute(connection, "scan_rows", {"dataset": dataset, "split": split, "scan_id": scan_id})
    names = [column.name for column in cursor.description or ()]
    return [_status(dict(zip(names, row, strict=True))) for row in cursor]


def check_step(step: str | None, encoder: str | None) -> None:
    """Refuse an encoder where features are not asked for."""
    if encoder is not None and step != "features":
        raise UserError("--encoder goes with --missing features")


def _status(row: dict[str, Any]) -> ScanStatus:
    steps = {
        f"{done['step']} {done['variant']}".strip(): Progress(
            _state(done), done["finished"], done["chunks"], done["of"], done["imported"]
        )
        for done in row.pop("steps")
    }
    layout = row.pop("layout")
    status = ScanStatus(row, steps, None)
    return ScanStatus(row, steps, _missing(status, layout))


def _state(done: Mapping[str, Any]) -> State:
    if done["stale"] or done["version"] != VERSIONS.get(done["step"], done["version"]):
        return "stale"
    return "done" if done["chunks"] == done["of"] else "partly"


def _missing(status: ScanStatus, layout: str) -> str | None:
    if layout == GRAPHS:
        return None  # it has neither points nor frames: there is nothing more to be done
    if status.row["points"] is None:
        return f"geometry: open3dsg ingest {layout} ROOT"
    if status.state("ingest") == "stale":
        return f"stale geometry: open3dsg ingest {layout} ROOT"
    if not status.row["instances"]:
        return "instances: open3dsg masks merge"
    if status.state("observe") != "done":
        stale = "stale " if status.state("observe") == "stale" else ""
        return f"{stale}observations: open3dsg observe"
    return _missing_features(status)


def _missing_features(status: ScanStatus) -> str | None:
    if not status.features():
        return "features: open3dsg features dump --nodes"
    for name, dump in status.features().items():
        command = _command("features dump --nodes --encoder", name, dump)
        if dump.state == "stale":
            return f"stale features: {command}"
        if dump.state == "partly":
            return f"{dump.of - dump.chunks} of {dump.of} chunks of features: {command}"
    return _missing_graph(status)


def _missing_graph(status: ScanStatus) -> str | None:
    """Graphs are not built for everyone; those that are there ought to be up to date."""
    for variant, full in ((graph.SUBGRAPHS, ""), (FULL, " --full")):
        built = status.steps.get(f"{graph.STEP} {variant}")
        if built is not None and built.state != "done":
            return f"{built.state} graph: open3dsg graph build{full}"
    return _missing_pairs(status)


def _missing_pairs(status: ScanStatus) -> str | None:
    """Nor are pairs dumped for everyone."""
    for step, (what, command) in _OF_PAIRS.items():
        for name, done in status.steps.items():
            if name.startswith(f"{step} ") and done.state != "done":
                return f"{done.state} {what}: {_command(command, name.removeprefix(f'{step} '), done)}"
    return None


def _command(command: str, variant: str, done: Progress) -> str:
    """Return what brings the features of `variant`, ENCODER@REVISION, up to date."""
    encoder, _, revision = variant.partition("@")
    if not done.imported:
        return f"open3dsg {command} {encoder}"
    option = command.rpartition(" ")[2]
    return f"open3dsg features import FEATURES --graphs GRAPHS {option} {encoder} --revision {revision}"
