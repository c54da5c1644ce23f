"""The processes that train together: this one alone, peers that it starts, or those that torchrun started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy
from torch import distributed
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from open3dsg.training.options import TrainPrecision
    from open3dsg.training.request import Conduct

_Value = TypeVar("_Value")

_TIMEOUT = timedelta(minutes=30)  # of what all do together, a long validation of one of them included
_FAREWELL_S = 10.0  # in which peers that failed end
_PRECISIONS: Mapping[TrainPrecision, Literal["32-true", "16-mixed", "bf16-mixed"]] = {
    "fp32": "32-true",
    "fp16": "16-mixed",
    "bf16": "bf16-mixed",
}
_ANYWHERE = torch.device("cpu")


@dataclass(frozen=True)
class Place:
    """Which of the processes this is, and where it works."""

    device: str  # as torch names it
    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1  # on this machine

    @property
    def on_gpu(self) -> bool:
        """Return whether it works on a GPU, as then all do."""
        return self.device != "cpu"

    def agree(self, *, stop: bool, trouble: str | None) -> bool:
        """Return whether any process was told to stop; UserError, on all, where any is in trouble."""
        if self.world == 1:
            troubles = [trouble]
        else:
            wishes = torch.tensor([stop, trouble is not None], dtype=torch.int32)
            distributed.all_reduce(wishes, distributed.ReduceOp.MAX)
            stop, is_trouble = (bool(wish) for wish in wishes.tolist())
            troubles = [None] * self.world
            if is_trouble:
                distributed.all_gather_object(troubles, trouble)
        for told in troubles:
            if told is not None:
                raise UserError(told)
        return stop

    def summed(self, values: Sequence[float]) -> list[float]:
        """Return the sums of `values` over all processes."""
        if self.world == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(sums)
        return sums.tolist()

    def shared(self, value: _Value) -> _Value:
        """Return what the first process has in the place of `value`."""
        if self.world == 1:
            return value
        held = [value]
        distributed.broadcast_object_list(held, device=_ANYWHERE)
        return held[0]


def local_devices(place: Place) -> tuple[str, ...]:
    """Return the devices of the processes that torchrun started on this machine."""
    return tuple(f"cuda:{number}" if place.on_gpu else "cpu" for number in range(place.local_world))


def torchrun_place(conduct: Conduct) -> Place | None:
    """Return the place that torchrun gave this process; None where it did not start it.

    Each process takes the GPU of its number on its machine, or with --gpus 0 a CPU.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if not all(name in os.environ for name in names):
        return None
    rank, world, local_rank, local_world = (int(os.environ[name]) for name in names)
    if conduct.devices or conduct.gpus not in {None, 0}:
        raise UserError("under torchrun each process has its own device: leave out --devices and --gpus")
    gpus = 0 if conduct.gpus == 0 else torch.cuda.device_count()
    if 0 < gpus < local_world:
        raise UserError(f"torchrun started {local_world} processes here, for {gpus} GPUs: start no more")
    return Place(f"cuda:{local_rank}" if gpus else "cpu", rank, world, local_rank, local_world)


def chosen_devices(conduct: Conduct) -> tuple[str, ...]:
    """Return a device for each process, as --devices and --gpus choose; UserError for one we lack."""
    there = torch.cuda.device_count()
    if not conduct.devices:
        wanted = there if conduct.gpus in {None, -1} else conduct.gpus or 0
        if wanted > there:
            raise UserError(f"--gpus {wanted}: this machine has {there}")
        return tuple(f"cuda:{number}" for number in range(wanted)) or ("cpu",)
    if conduct.gpus is not None:
        raise UserError("--gpus and --devices both say where to work: give one of them")
    named = tuple("cuda:0" if name == "cuda" else name for name in conduct.devices)
    of_gpus = [name for name in named if name != "cpu"]
    known = {f"cuda:{number}" for number in range(there)}
    if len({*of_gpus}) < len(of_gpus) or (of_gpus and "cpu" in named) or not known.issuperset(of_gpus):
        raise UserError(
            f"--devices {','.join(conduct.devices)}: give cpu, once a process, or GPUs of"
            f" {', '.join(sorted(known)) or 'which there is none'}, each once"
        )
    return named


class _Given(ClusterEnvironment):
    """Tells Fabric that the processes are there, and which this is."""

    creates_processes_externally = True
    main_address = "127.0.0.1"  # unused: the processes have found each other
    main_port = 0

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._place.world

    def global_rank(self) -> int:
        return self._place.rank

    def local_rank(self) -> int:
        return self._place.local_rank

    def node_rank(self) -> int:
        return self._place.rank // self._place.local_world

    def set_world_size(self, size: int) -> None:
        """Stay as given."""

    def set_global_rank(self, rank: int) -> None:
        """Stay as given."""


def make_fabric(place: Place, devices: Sequence[str], precision: TrainPrecision) -> Fabric:
    """Return Fabric for this process; `devices` are those of the processes of this machine."""
    chosen: dict[str, Any] = {"accelerator": "cuda" if place.on_gpu else "cpu"}
    if place.on_gpu:
        chosen["devices"] = [int(name.removeprefix("cuda:")) for name in devices]
    else:
        chosen["devices"] = len(devices)
    if place.world > 1:
        chosen["strategy"] = DDPStrategy(gradient_as_bucket_view=True)
        chosen["plugins"] = [_Given(place)]
        chosen["num_nodes"] = place.world // place.local_world
    fabric = Fabric(precision=_PRECISIONS[precision], **chosen)
    fabric.launch()
    return fabric


@contextmanager
def gathered(place: Place | None, devices: Sequence[str], order: Mapping[str, Any]) -> Iterator[Place]:
    """Meet the processes that torchrun started, where it gave a `place`, else start a peer a further device.

    `order` is what a peer is told. Raises UserError where one of them died.
    """
    if place is not None:
        with _joined(place, None):
            yield place
        return
    place = Place(devices[0], world=len(devices), local_world=len(devices))
    if place.world == 1:
        yield place
        return
    with _sharing_cores(place.world), Peers(devices, order) as peers, _joined(place, peers.store):
        try:
            yield place
        except RuntimeError as error:  # what gloo and NCCL raise where another process is gone
            failure = peers.failure()
            if failure is None:
                raise
            raise UserError(failure) from error


@contextmanager
def _sharing_cores(processes: int) -> Iterator[None]:
    """Let torch use this process's share of the cores, as its peers do."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, _share(processes)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _share(processes: int) -> int:
    return max(1, (os.cpu_count() or 1) // processes)


@contextmanager
def _joined(place: Place, store: Store | None) -> Iterator[None]:
    """Meet the others at `store`, or where torchrun says, and part from them in the end."""
    backend = "cpu:gloo,cuda:nccl" if place.on_gpu else "gloo"
    if store is None:
        distributed.init_process_group(backend, timeout=_TIMEOUT)
    else:
        distributed.init_process_group(
            backend, timeout=_TIMEOUT, store=store, rank=place.rank, world_size=place.world
        )
    try:
        yield
    finally:
        distributed.destroy_process_group()


class Peers:
    """Processes of this machine that train with this one. They end when it does, however it ends."""

    def __init__(self, devices: Sequence[str], order: Mapping[str, Any]) -> None:
        """Start one for each device but the first; `order` is what each is told, as JSON."""
        count = len(devices)
        self.store = TCPStore("127.0.0.1", 0, count, is_master=True, timeout=_TIMEOUT, wait_for_workers=False)
        told = {**order, "devices": list(devices), "port": self.store.port}
        self._processes = [_start({**told, "rank": rank}, count) for rank in range(1, count)]

    def __enter__(self) -> Peers:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Let the peers end, and wait for them."""
        for process in self._processes:
            process.communicate()  # closes their standard input

    def failure(self) -> str | None:
        """Say which peer died of what; None where all live on for some seconds."""
        until = time.monotonic() + _FAREWELL_S
        for rank, process in enumerate(self._processes, 1):
            try:
                code = process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue
            if code:
                cause = signal.Signals(-code).name if code < 0 else f"exit status {code}"
                return f"process {rank} of {len(self._processes) + 1} died: {cause}"
        return None


def _start(order: Mapping[str, Any], processes: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "open3dsg.training.peer"],
        stdin=subprocess.PIPE,  # stays open: a peer ends with it
        text=True,
        env={"OMP_NUM_THREADS": str(_share(processes)), **os.environ},
        start_new_session=True,  # Ctrl-C is for this process, which tells the others
    )
    if process.stdin is not None:
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
    return process


@contextmanager
def joined_as_peer(order: Mapping[str, Any]) -> Iterator[Place]:
    """Meet the others as the peer that was given `order`."""
    devices, rank = order["devices"], order["rank"]
    place = Place(devices[rank], rank, len(devices), rank, len(devices))
    store = TCPStore("127.0.0.1", order["port"], len(devices), is_master=False, timeout=_TIMEOUT)
    with _joined(place, store):
        yield place
