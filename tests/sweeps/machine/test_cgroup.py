from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sweeps.machine import cgroup
from tests.support.machine.cgroups import limited

ROOT = Path(__file__).resolve().parents[3]
NO_LIMIT = "9223372036854771712"
V1 = """\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
"""
V2 = "41 31 0:38 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def tree(root: Path, own: str, mounts: str, files: Mapping[str, str], memory_mb: int = 65536) -> Path:
    """A file system with what the kernel would say; `files` lie below /sys/fs/cgroup."""
    texts = {"proc/self/cgroup": own, "proc/self/mountinfo": mounts, "proc/meminfo": f"MemTotal: {memory_mb * 1024} kB"}
    for name, text in (texts | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_version_1_takes_the_least_of_the_group_and_those_above_it(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "5:memory:/slurm/job\n4:cpu,cpuacct:/slurm/job\n1:name=systemd:/user",
        V1,
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "-1",
            "cpu,cpuacct/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/slurm/cpu.cfs_quota_us": "150000",
            "cpu,cpuacct/slurm/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/slurm/cpu.stat": "nr_periods 9\nnr_throttled 2\nthrottled_time 500000000",
            "cpu,cpuacct/slurm/job/cpu.cfs_quota_us": "20000",
            "cpu,cpuacct/slurm/job/cpu.cfs_period_us": "10000",
            "cpu,cpuacct/slurm/job/cpu.stat": "nr_periods 90\nnr_throttled 1\nthrottled_time 250000000",
            "memory/memory.limit_in_bytes": NO_LIMIT,
            "memory/slurm/memory.limit_in_bytes": str(3 * 2**30),
            "memory/slurm/memory.usage_in_bytes": str(2 * 2**30),
            "memory/slurm/memory.stat": f"inactive_file 0\ntotal_inactive_file {2**29}",
            "memory/slurm/job/memory.limit_in_bytes": NO_LIMIT,
            "memory/slurm/job/memory.usage_in_bytes": str(2**30),
            "memory/slurm/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 7",
        },
    )
    assert cgroup.cpu_quota(root) == 1.5
    assert cgroup.throttling(root) == cgroup.Throttling(periods=99, throttles=3, throttled_s=0.75)
    assert cgroup.memory_limit(root) == 3 * 2**30
    assert cgroup.memory_left(root) == 3 * 2**29
    assert cgroup.oom_kills(root) == 7


def test_version_2_takes_the_least_of_the_group_and_those_above_it(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "0::/user.slice/run.scope",
        V2,
        {
            "cgroup.controllers": "cpu memory",
            "cpu.stat": "usage_usec 5",
            "user.slice/cpu.max": "max 100000",
            "user.slice/memory.max": str(4 * 2**30),
            "user.slice/memory.current": str(3 * 2**30),
            "user.slice/memory.stat": "inactive_file 0",
            "user.slice/run.scope/cpu.max": "50000 100000",
            "user.slice/run.scope/cpu.stat": "nr_periods 270\nnr_throttled 53\nthrottled_usec 1500000",
            "user.slice/run.scope/memory.max": "max",
            "user.slice/run.scope/memory.high": str(2 * 2**30),
            "user.slice/run.scope/memory.current": str(2**29),
            "user.slice/run.scope/memory.stat": f"anon 1\ninactive_file {2**28}",
            "user.slice/run.scope/memory.events": "low 0\noom 1\noom_kill 1",
        },
    )
    assert cgroup.cpu_quota(root) == 0.5
    assert cgroup.throttling(root) == cgroup.Throttling(periods=270, throttles=53, throttled_s=1.5)
    assert cgroup.memory_limit(root) == 2 * 2**30
    assert cgroup.memory_left(root) == 2**30  # of the slice, which has less left than the scope
    assert cgroup.oom_kills(root) == 1


CONTAINER = {"cpu.max": "200000 100000", "memory.max": str(2**30), "memory.current": "0"}


@pytest.mark.parametrize(
    ("own", "mounts"),
    [
        ("0::/", V2),  # a namespace of its own
        ("0::/kubepods/pod1/abc", V2),  # none, and the container's group is mounted as if it were the root
        ("0::/docker/abc", V2.replace("0:38 / ", "0:38 /docker/abc ")),  # none, and the mount says which group it is
        ("0::/../other", V2.replace("0:38 / ", "0:38 /.. ")),
    ],
)
def test_within_a_container_what_is_mounted_is_its_group(tmp_path: Path, own: str, mounts: str) -> None:
    root = tree(tmp_path, own, mounts, CONTAINER)
    assert cgroup.cpu_quota(root) == 2
    assert cgroup.memory_limit(root) == 2**30


def test_a_container_of_version_1_knows_of_limits_above_what_is_mounted(tmp_path: Path) -> None:
    mounts = V1.replace("0:29 / ", "0:29 /docker/abc ").replace("0:32 / ", "0:32 /docker/abc ")
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": "250000",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": NO_LIMIT,
        "memory/memory.stat": f"hierarchical_memory_limit {2**30}",
    }
    root = tree(tmp_path, "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc", mounts, files)
    assert cgroup.cpu_quota(root) == 2.5
    assert cgroup.memory_limit(root) == 2**30


def test_on_a_hybrid_system_a_controller_is_where_version_1_has_it(tmp_path: Path) -> None:
    files = {
        "cpu,cpuacct/job/cpu.cfs_quota_us": "100000",
        "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
        "unified/job/cpu.max": "700000 100000",
        "unified/job/memory.max": str(2**30),
    }
    mounts = V1.splitlines(keepends=True)[0] + V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    root = tree(tmp_path, "4:cpu,cpuacct:/job\n0::/job", mounts, files)
    assert cgroup.cpu_quota(root) == 1
    assert cgroup.memory_limit(root) == 2**30


@pytest.mark.parametrize(
    ("own", "mounts", "files"),
    [
        ("", "", {}),
        ("0::/", V2, {"cpu.max": "max 100000", "memory.max": "max", "memory.high": "max"}),
        ("0::/", V2, {"memory.max": str(2**50)}),  # more than the machine has
        ("4:memory:/", V1, {"memory/memory.limit_in_bytes": NO_LIMIT}),
    ],
)
def test_where_nothing_limits_there_is_no_limit(tmp_path: Path, own: str, mounts: str, files: dict[str, str]) -> None:
    root = tree(tmp_path, own, mounts, files)
    assert cgroup.cpu_quota(root) is None
    assert cgroup.memory_limit(root) is None
    assert cgroup.memory_left(root) is None
    assert cgroup.throttling(root) == cgroup.Throttling()
    assert cgroup.oom_kills(root) is None


BUSY = """
import time
from sweeps.machine import cgroup
before = cgroup.throttling()
until = time.process_time() + 0.2
while time.process_time() < until:
    pass
after = cgroup.throttling()
print(cgroup.cpu_quota(), after.throttles - before.throttles, after.throttled_s - before.throttled_s)
print(cgroup.memory_limit(), cgroup.memory_left())
"""


def test_the_kernels_own_limits_are_read_and_its_throttling_counted() -> None:
    with limited(cores=0.25, memory_mb=500) as within:
        done = subprocess.run(
            [*within, sys.executable, "-c", BUSY], cwd=ROOT, capture_output=True, text=True, check=True
        )
    quota, throttles, throttled_s, limit, left = (float(word) for word in done.stdout.split())
    assert quota == 0.25
    assert throttles >= 4  # 0.2 s of work at 0.025 s a period
    assert throttled_s > 0.2
    assert limit == 500 * 2**20
    assert 0.5 * limit < left < limit


GREEDY = """
import os
from sweeps.machine import cgroup
before = cgroup.oom_kills()
if (child := os.fork()) == 0:
    kept = bytearray(400 * 2**20)
    os._exit(0)
print(os.waitpid(child, 0)[1], cgroup.oom_kills() - before)
"""


def test_what_the_kernel_kills_for_want_of_memory_is_counted() -> None:
    with limited(memory_mb=200) as within:
        done = subprocess.run(
            [*within, sys.executable, "-c", GREEDY], cwd=ROOT, capture_output=True, text=True, check=True
        )
    assert done.stdout.split() == ["9", "1"]
