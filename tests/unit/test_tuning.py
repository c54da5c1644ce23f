import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.db import tuning
from open3dsg.db.tuning import Machine, fitted
from open3dsg.errors import UserError

_MIB, _GIB, _TIB = 2**20, 2**30, 2**40
_SIZES = (
    "shared_buffers",
    "effective_cache_size",
    "work_mem",
    "maintenance_work_mem",
    "open3dsg.index_memory",
)

memories = st.integers(tuning.SMALLEST_MEMORY, 64 * _TIB)
cores = st.integers(1, 512)
machines = st.builds(Machine, memories, cores, st.integers(0, 32 * _TIB), st.integers(_GIB, 1024 * _TIB))


def size(text: str) -> int:
    found = re.fullmatch(r"([0-9]+)(MB|GB|TB)", text)
    assert found is not None, text
    return int(found[1]) * {"MB": _MIB, "GB": _GIB, "TB": _TIB}[found[2]]


@given(machines)
def test_no_machine_gives_away_more_than_a_sane_share(machine: Machine) -> None:
    found = {name: size(fitted(machine)[name]) for name in _SIZES}
    memory = machine.memory_bytes
    assert found["shared_buffers"] <= memory / 8
    assert found["effective_cache_size"] <= memory / 2
    assert found["work_mem"] <= memory / 64
    assert found["maintenance_work_mem"] <= memory / 4
    assert found["open3dsg.index_memory"] <= memory / 4
    # One index build, three vacuums and ten sorts beside the cache.
    used = found["shared_buffers"] + found["open3dsg.index_memory"] + 10 * found["work_mem"]
    if memory >= _GIB:
        assert used + 3 * found["maintenance_work_mem"] <= 0.75 * memory


@given(machines)
def test_every_value_is_one_that_postgresql_takes(machine: Machine) -> None:
    found = fitted(machine)
    assert size(found["maintenance_work_mem"]) >= _MIB
    assert size(found["shared_buffers"]) >= 32 * _MIB
    assert 32 * _MIB <= size(found["max_wal_size"]) <= max(machine.disk_bytes or 0, 8 * 256 * _MIB) / 8
    workers = int(found["max_parallel_maintenance_workers"])
    assert 0 <= workers < max(2, machine.cores or 0)
    if workers:  # what a parallel build puts into /dev/shm
        assert size(found["maintenance_work_mem"]) <= (machine.shared_memory_bytes or 0) / 2


@given(machines, memories)
def test_more_memory_never_gives_less(machine: Machine, other: int) -> None:
    small, large = sorted([machine.memory_bytes, other])
    less, more = fitted(Machine(small, 4)), fitted(Machine(large, 4))
    assert all(size(less[name]) <= size(more[name]) for name in _SIZES)


@given(cores, cores)
def test_more_cores_never_give_fewer_workers(one: int, other: int) -> None:
    few, many = (
        int(fitted(Machine(8 * _GIB, count, 8 * _GIB, _TIB))["max_parallel_maintenance_workers"])
        for count in sorted([one, other])
    )
    assert few <= many


def test_a_machine_of_24_gb() -> None:
    assert fitted(Machine(24 * _GIB, 2, 12 * _GIB, 256 * _GIB)) == {
        "shared_buffers": "3GB",
        "effective_cache_size": "12GB",
        "work_mem": "48MB",
        "maintenance_work_mem": "768MB",
        "open3dsg.index_memory": "6GB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        "max_parallel_maintenance_workers": "1",
    }


def test_index_builds_are_serial_where_shared_memory_is_short() -> None:
    usual_container = Machine(24 * _GIB, 8, 64 * _MIB, 256 * _GIB)
    assert fitted(usual_container)["max_parallel_maintenance_workers"] == "0"


def test_nothing_is_said_about_workers_of_a_machine_elsewhere() -> None:
    assert "max_parallel_maintenance_workers" not in fitted(Machine(64 * _GIB))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("256MB", 256 * _MIB), ("1.5 gb", 1536 * _MIB), ("16G", 16 * _GIB), ("2TiB", 2 * _TIB), (" 1g ", _GIB)],
)
def test_a_size_is_read(text: str, expected: int) -> None:
    assert tuning.parse_memory(text) == expected


@pytest.mark.parametrize(
    "text", ["", "8", "eight GB", "-1GB", "1GBit", "1e9GB", "0GB", "255MB", "nanGB", "8 GB RAM"]
)
def test_no_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"cannot read the size|too little memory"):
        tuning.parse_memory(text)


def test_the_lines_for_an_administrator() -> None:
    assert tuning.sql_lines({"work_mem": "4MB", "open3dsg.index_memory": "1GB"}, 'the "rooms"') == [
        "ALTER SYSTEM SET work_mem = '4MB';",
        'ALTER DATABASE "the ""rooms""" SET open3dsg.index_memory = \'1GB\';',
        "SELECT pg_reload_conf();",
    ]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def limits(folder: Path, own: str, files: dict[str, str]) -> tuple[list[int], list[int]]:
    """Return the limits on memory and cores of control groups laid out in `folder`."""
    write(folder / "cgroup", files)
    (folder / "own").write_text(own)
    found = tuning.own_groups(folder / "cgroup", folder / "own")
    return sorted(tuning.memory_limits(found)), sorted(tuning.core_limits(found))


def test_limits_of_control_groups_version_2_and_those_above(tmp_path: Path) -> None:
    files = {
        "a/memory.max": "8589934592\n",
        "a/cpu.max": "250000 100000\n",
        "a/b/memory.max": "max\n",
        "a/b/cpu.max": "50000 100000\n",
        "other/memory.max": "1\n",
    }
    assert limits(tmp_path, "0::/a/b\n", files) == ([8 * _GIB], [1, 2])


def test_a_container_sees_its_own_group_at_the_top(tmp_path: Path) -> None:
    files = {"memory.max": "1073741824\n", "cpu.max": "max 100000\n"}
    assert limits(tmp_path, "0::/../../system.slice/box\n", files) == ([_GIB], [])


def test_limits_of_control_groups_version_1(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/box/memory.limit_in_bytes": "2147483648\n",
        "cpu/box/cpu.cfs_quota_us": "300000\n",
        "cpu/box/cpu.cfs_period_us": "100000\n",
        "cpu/cpu.cfs_quota_us": "-1\n",
        "cpu/cpu.cfs_period_us": "100000\n",
    }
    own = "9:name=systemd:/\n4:memory:/box\n2:cpu,cpuacct:/box\n0::/\n"
    assert limits(tmp_path, own, files) == ([2 * _GIB], [3])


@pytest.mark.parametrize("content", ["", "\n", "lots\n", "0\n"])
def test_control_files_that_say_nothing_limit_nothing(tmp_path: Path, content: str) -> None:
    assert limits(tmp_path, "0::/\n", {"memory.max": content, "cpu.max": content}) == ([], [])


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert tuning.own_groups(tmp_path / "cgroup", tmp_path / "own") == {}


def test_this_machine_has_what_every_machine_has(tmp_path: Path) -> None:
    machine = tuning.this_machine(tmp_path)
    assert machine.memory_bytes >= tuning.SMALLEST_MEMORY
    assert machine.cores is not None
    assert machine.cores >= 1
    assert machine.disk_bytes is not None
    assert machine.disk_bytes > 0
