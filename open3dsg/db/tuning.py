"""Memory settings of PostgreSQL fitted to the machine it runs on.

The server shares the machine with encoders and training, so it takes less than the usual quarter for its own
cache; what it does not take the system uses to keep files in memory, which serves it too.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from open3dsg.errors import UserError

SMALLEST_MEMORY = 256 * 2**20

_MIB = 2**20
_GIB = 2**30
_UNITS = {"K": 2**10, "M": _MIB, "G": _GIB, "T": 2**40}
_UNLIMITED = 2**60  # cgroup v1 writes "no limit" as a number near 2^63


@dataclass(frozen=True)
class Machine:
    """What PostgreSQL may count on: memory, processor cores, the size of /dev/shm, that of the data's disk.

    All but the memory are None where they are not known, as those of a server elsewhere.
    """

    memory_bytes: int
    cores: int | None = None
    shared_memory_bytes: int | None = None
    disk_bytes: int | None = None


def this_machine(folder: Path) -> Machine:
    """Look at this machine, or at our container's share of it; `folder` is on the disk of the data."""
    import psutil

    groups = own_groups()
    shared = Path("/dev/shm")  # noqa: S108 - only its size is read
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else psutil.cpu_count() or 1
    return Machine(
        memory_bytes=min([psutil.virtual_memory().total, *memory_limits(groups)]),
        cores=max(1, min([allowed, *core_limits(groups)])),
        shared_memory_bytes=shutil.disk_usage(shared).total if shared.is_dir() else sys.maxsize,
        disk_bytes=shutil.disk_usage(folder).total,
    )


def fitted(machine: Machine) -> dict[str, str]:
    """Return the server parameters for `machine`, as PostgreSQL writes them.

    ``open3dsg.index_memory`` is ours: the most that one build of a vector index may use. A parallel build
    puts that into /dev/shm, 64 MB in a usual container, so builds are serial where it is short.
    """
    memory = machine.memory_bytes
    maintenance = _between(64 * _MIB, memory // 32, _GIB)
    parameters = {
        "shared_buffers": _size(_between(32 * _MIB, memory // 8, 4 * _GIB)),
        "effective_cache_size": _size(memory // 2),
        "work_mem": _size(_between(4 * _MIB, memory // 512, 64 * _MIB)),
        "maintenance_work_mem": _size(maintenance),
        "open3dsg.index_memory": _size(max(maintenance, memory // 4)),
        "max_wal_size": _size(_between(256 * _MIB, (machine.disk_bytes or 2**40) // 32, 4 * _GIB)),
        "checkpoint_timeout": "15min",
    }
    if machine.cores is not None and machine.shared_memory_bytes is not None:
        parallel = machine.shared_memory_bytes >= 2 * maintenance
        workers = min(machine.cores - 1, 4) if parallel else 0
        parameters["max_parallel_maintenance_workers"] = str(workers)
    return parameters


def parse_memory(text: str) -> int:
    """Read a size such as 512MB or 1.5 GB (units of 1,024); raises UserError for anything else."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)\s*([KMGT])(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise UserError(f"cannot read the size {text!r}: expected a number and a unit, such as 512MB or 16GB")
    size = int(float(found[1]) * _UNITS[found[2].upper()])
    if size < SMALLEST_MEMORY:
        raise UserError(f"{text}: too little memory for PostgreSQL, which is fitted to 256MB or more")
    return size


def sql_lines(parameters: Mapping[str, str], database: str) -> list[str]:
    """Return what an administrator runs in psql to set `parameters`, ending with the reload."""
    quoted = '"' + database.replace('"', '""') + '"'
    # A parameter of ours is unknown to the server's own configuration; that of a database takes it.
    lines = [
        f"ALTER {'SYSTEM' if '.' not in name else f'DATABASE {quoted}'} SET {name} = '{value}';"
        for name, value in parameters.items()
    ]
    return [*lines, "SELECT pg_reload_conf();"]


def own_groups(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Mapping[str, list[Path]]:
    """Return the control groups that hold this process, inner ones first, by controller ('' is cgroup v2).

    In a container the groups named in `own` are often not there, and `root` itself is the container's.
    """
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    groups: dict[str, list[Path]] = {}
    for line in lines:
        _number, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            top = root / controller
            inner = top / path.strip("/")
            above = [folder for folder in inner.parents if folder.is_relative_to(top)]
            groups[controller] = [folder for folder in (inner, *above) if folder.is_dir()]
    return groups


def memory_limits(groups: Mapping[str, list[Path]]) -> Iterator[int]:
    """Give the limits on memory, in bytes, that control groups set."""
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for group in groups.get(controller, []):
            (limit,) = _numbers(group / name, 1)
            if limit is not None and 0 < limit < _UNLIMITED:
                yield limit


def core_limits(groups: Mapping[str, list[Path]]) -> Iterator[int]:
    """Give the limits on processor time that control groups set, in whole cores, at least 1."""
    for group in groups.get("", []):
        quota, period = _numbers(group / "cpu.max", 2)
        if quota is not None and period:
            yield max(1, quota // period)
    for group in groups.get("cpu", []):
        (quota,), (period,) = (_numbers(group / f"cpu.cfs_{name}_us", 1) for name in ("quota", "period"))
        if quota is not None and quota > 0 and period:
            yield max(1, quota // period)


def _numbers(path: Path, count: int) -> list[int | None]:
    """Read the first line of a control file; None stands for "max" and for what is not there."""
    try:
        words = path.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        words = []
    words = (words + ["max"] * count)[:count]
    return [int(word) if re.fullmatch(r"-?[0-9]+", word) else None for word in words]


def _between(least: int, wanted: int, most: int) -> int:
    return min(max(least, wanted), most)


def _size(size: int) -> str:
    """Write a size in whole megabytes as PostgreSQL shows it, in the largest unit that divides it."""
    megabytes = size // _MIB
    for unit, factor in (("TB", 2**20), ("GB", 2**10)):
        if megabytes % factor == 0:
            return f"{megabytes // factor}{unit}"
    return f"{megabytes}MB"
