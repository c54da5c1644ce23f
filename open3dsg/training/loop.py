"""Training runs, begun or gone on with, and what becomes of them.

The first process makes the run's row, holds its lock and writes; the others read what is to be done from the
row. Lightning Fabric gives each its device, precision and DDP (Li et al., VLDB 2020).
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from open3dsg.db.connect import connect
from open3dsg.errors import UserError
from open3dsg.store.run_names import check_run_name, propose_name
from open3dsg.store.runs import find_run, run_names, run_units
from open3dsg.training.begin import begin_run, last_state
from open3dsg.training.fit import Course, Fit, Moment
from open3dsg.training.link import Link
from open3dsg.training.manifest import TRAIN, VALIDATION, check_manifest, manifest_from
from open3dsg.training.module import check_norm
from open3dsg.training.options import run_options
from open3dsg.training.processes import (
    Place,
    chosen_devices,
    gathered,
    joined_as_peer,
    local_devices,
    make_fabric,
    torchrun_place,
)
from open3dsg.training.records import Records, check_conduct
from open3dsg.training.request import TrainSummary, conduct_from
from open3dsg.training.restore import make_network, plan_of, relation_of, start_network
from open3dsg.training.state import Progress, progress_from
from open3dsg.training.stream import dead_workers_told
from open3dsg.training.switch import StopSwitch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from psycopg import Connection

    from open3dsg.store.runs import StoredRun
    from open3dsg.training.manifest import Manifest
    from open3dsg.training.network.network import SceneGraphNetwork
    from open3dsg.training.options import RunOptions
    from open3dsg.training.request import Conduct, TrainRequest

# How a run ends that a second Ctrl-C cuts off.
_INTERRUPTED = "stopped", "interrupted: what came after its last checkpoint is lost"


def _unheard(_text: str) -> None:
    """Say nothing."""


def _unwatched(_moment: Moment) -> None:
    """Look away."""


@dataclass(frozen=True)
class _Site:
    """Where a run is trained: by which processes, with what."""

    url: str
    place: Place | None  # that torchrun gave this process
    devices: Sequence[str]  # of the processes on this machine
    conduct: Conduct
    workers: int | None  # of each process; None: as the run began

    @property
    def follows(self) -> bool:
        """Return whether another process leads."""
        return self.place is not None and self.place.rank > 0

    def order(self) -> dict[str, Any]:
        """Return what a peer has to be told."""
        return {"url": self.url, "workers": self.workers, "every_steps": self.conduct.every_steps}


def train(
    url: str,
    request: TrainRequest,
    *,
    tell: Callable[[str], None] = _unheard,
    watch: Callable[[Moment], None] = _unwatched,
) -> TrainSummary | None:
    """Train a new run to its end, or until it is told to stop (Ctrl-C, SIGTERM).

    `tell` is called with remarks, `watch` after each batch. Raises UserError for what a user can mend: no
    features, an empty split, a loss that is not finite, rows that go away meanwhile. Once the run has a row,
    that says so too, and `resume` goes on from the last checkpoint.
    """
    site = _site(url, request.conduct, request.options)
    if site.follows:
        return _follow_torchrun(site)
    with connect(url) as connection:
        name = check_run_name(request.name or propose_name(run_names(connection)))
    with Link(url, name) as link:
        run, network = link.do(lambda connection: begin_run(connection, request, name, tell))
        return _lead(link, site, run, network, None, tell, watch)


def resume(
    url: str,
    name: str,
    *,
    conduct: Conduct | None = None,
    workers: int | None = None,
    tell: Callable[[str], None] = _unheard,
    watch: Callable[[Moment], None] = _unwatched,
) -> TrainSummary | None:
    """Go on with a run from its last checkpoint, in mid-epoch too, or from its start where there is none.

    `conduct` and `workers` None: as before. Raises UserError for a run that is finished, or being trained,
    and where what it learns from was dropped or made anew; else as `train`.
    """
    with connect(url) as connection:
        run = find_run(connection, name)
    conduct = conduct or conduct_from(run.options["conduct"])
    site = _site(url, conduct, run_options(run.options), workers)
    if site.follows:
        return _follow_torchrun(site)
    with Link(url, name) as link:
        run = link.do(lambda connection: find_run(connection, name))
        if run.status == "finished":
            raise UserError(
                f"the run {name!r} is finished: `open3dsg train --checkpoint {name}` starts another from it"
            )
        state = link.do(lambda connection: last_state(connection, run))
        network = link.do(lambda connection: _network(connection, run, state, tell))
        return _lead(link, site, run, network, state, tell, watch)


def follow(order: Mapping[str, Any]) -> None:
    """Train as a peer, of whoever gave `order`."""
    with joined_as_peer(order) as place:
        _follow(order, place, order["devices"], StopSwitch(_unheard)).run()


def _site(url: str, conduct: Conduct, options: RunOptions, workers: int | None = None) -> _Site:
    """Return where to train; UserError for what cannot be had here."""
    check_conduct(conduct)
    place = torchrun_place(conduct)
    devices = chosen_devices(conduct) if place is None else local_devices(place)
    world = len(devices) if place is None else place.world
    on_gpus = devices[0] != "cpu"
    check_norm(options.network.norm, world, on_gpus=on_gpus)
    if options.learning.precision == "fp16" and not on_gpus:
        raise UserError("--precision fp16 is for GPUs: on a CPU take bf16 or fp32")
    return _Site(url, place, devices, conduct, workers)


def _network(
    connection: Connection[Any], run: StoredRun, state: Mapping[str, Any] | None, tell: Callable[[str], None]
) -> SceneGraphNetwork:
    """Return the network of a run that goes on: where it has no checkpoint, as it began."""
    plan = plan_of(run)
    if state is not None:
        return make_network(plan)
    return start_network(connection, plan, run_options(run.options).stream.seed, tell)


def _lead(
    link: Link,
    site: _Site,
    run: StoredRun,
    network: SceneGraphNetwork,
    state: Mapping[str, Any] | None,
    tell: Callable[[str], None],
    watch: Callable[[Moment], None],
) -> TrainSummary | None:
    """Train a run as the first of its processes, and note in its row how that ended."""
    began = time.monotonic()
    manifest = manifest_from(link.do(lambda connection: run_units(connection, run)), run.manifest)
    progress = Progress() if state is None else progress_from(state["progress"])
    keep = run_options(run.options).learning.keep
    records = Records(link, run, site.conduct, keep, progress)
    check = partial(link.do, partial(_check_manifest, run=run, manifest=manifest))
    fit: Fit | None = None
    status: str
    message: str | None
    status, message = _INTERRUPTED
    with records, StopSwitch(tell) as switch:
        with suppress(KeyboardInterrupt), _full_memory_told(site), _gathered(site) as place:
            place.shared(run.name)
            course = _course(site.order(), place, site.devices, run, manifest)
            state = place.shared(state)
            fit = Fit(course, network, state, switch, records=records, watch=watch, check=check)
            status, message = fit.run()
        records.note(status, message)
    progress = progress if fit is None else fit.progress
    return TrainSummary(
        run=run.name,
        status=status,
        message=message,
        step=records.saved[0],
        epoch=records.saved[1],
        train_loss=progress.train_loss,
        val_loss=progress.val_loss,
        best_val_loss=progress.best_val_loss,
        best_step=progress.best_step,
        units={part: len(manifest.units[part]) for part in (TRAIN, VALIDATION)},
        left_out=run.options["left_out"],
        seconds=time.monotonic() - began,
        waited_s=0.0 if fit is None else fit.waited_s,
    )


def _gathered(site: _Site) -> AbstractContextManager[Place]:
    return gathered(site.place, site.devices, site.order())


@contextmanager
def _full_memory_told(site: _Site) -> Iterator[None]:
    try:
        with dead_workers_told():
            yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the memory of {site.devices[0]} does not suffice: train anew with a smaller --batch-size and as"
            " much more --accumulate, or with --precision bf16"
        ) from error


def _check_manifest(connection: Connection[Any], run: StoredRun, manifest: Manifest) -> None:
    relation = relation_of(run)
    check_manifest(
        connection, manifest, node_encoder=run.node_encoder, relation=relation, since=run.started_at
    )


def _follow_torchrun(site: _Site) -> TrainSummary | None:
    """Train as a process that torchrun started, but the first; that one tells how it went."""
    with _gathered(site) as place, StopSwitch(_unheard) as switch:
        _follow(site.order(), place, site.devices, switch).run()
    return None


def _follow(order: Mapping[str, Any], place: Place, devices: Sequence[str], switch: StopSwitch) -> Fit:
    """Return the part that another process than the first has in a run, whose name that one tells."""
    with connect(order["url"]) as connection:
        connection.autocommit = True
        run = find_run(connection, place.shared(""))
        manifest = manifest_from(run_units(connection, run), run.manifest)
    course = _course(order, place, devices, run, manifest)
    return Fit(course, make_network(plan_of(run)), place.shared(None), switch)


def _course(
    order: Mapping[str, Any], place: Place, devices: Sequence[str], run: StoredRun, manifest: Manifest
) -> Course:
    options = run_options(run.options)
    if order["workers"] is not None:
        options = replace(options, stream=replace(options.stream, workers=order["workers"]))
    _quieten()
    fabric = make_fabric(place, devices, options.learning.precision)
    return Course(order["url"], run, options, manifest, place, fabric, order["every_steps"])


def _quieten() -> None:
    """Keep Lightning from telling what no user can do anything about."""
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
