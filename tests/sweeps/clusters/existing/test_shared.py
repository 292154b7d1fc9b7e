"""Sweeps on a Ray cluster that others use as well."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.ray_nodes import QUICK, Machines, journal, until

FOREIGN = """
import os, pathlib, sys, time
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

cluster, address, go, cpus = sys.argv[1:]
ray.init(cluster, logging_level=40, log_to_driver=False)

@ray.remote(num_cpus=int(cpus))
def hold():
    (pathlib.Path(os.environ["MARKS"]) / f"held-{address}").touch()
    while not (pathlib.Path(os.environ["MARKS"]) / go).exists():
        time.sleep(0.05)

(node,) = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] == address]
ray.get(hold.options(scheduling_strategy=On(node, soft=False)).remote())
"""


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with Machines(tmp_path_factory.mktemp("m")) as made:
        yield made


def foreign_job(machines: Machines, number: int, go: str, *, cpus: int = 1) -> subprocess.Popen[bytes]:
    """Another user's job, which holds that machine's cores until there is a file `go`."""
    held = machines.claims / f"held-{machines.address(number)}"
    held.unlink(missing_ok=True)
    job = machines.run(sys.executable, "-c", FOREIGN, machines.cluster, machines.address(number), go, str(cpus))
    until(held.exists)
    return job


def printed(driver: subprocess.Popen[str], words: str) -> str:
    """Return what a sweep prints up to and including a line with these words."""
    lines: list[str] = []
    while not (lines and words in lines[-1]):
        line = driver.stdout.readline() if driver.stdout else ""
        assert line, "".join(lines)
        lines.append(line)
    return "".join(lines)


@pytest.mark.timeout(600)
def test_two_sweeps_and_another_job_share_a_cluster_without_idle_nodes(machines: Machines) -> None:
    machines.have({1: (), 2: (), 3: ()})
    job = foreign_job(machines, 2, "go-shared")
    sweeps = [
        machines.sweep(
            *("-m", "model=tiny", "batch=1,2,3,4", f"seed={number}", "device.cpus=1", *QUICK),
            f"hydra.sweep.dir=multirun/day/shared{number}",
            f"cluster.address={machines.cluster}",
        )
        for number in (1, 2)
    ]
    folders = [machines.driver / "multirun" / "day" / f"shared{number}" for number in (1, 2)]
    # One node is left, and its core is enough for each of them to get on.
    until(lambda: all(len(journal(folder)) >= 3 for folder in folders))
    assert {line["host"]["node_ip"] for folder in folders for line in journal(folder)[:3]} == {machines.address(3)}
    (machines.claims / "go-shared").touch()
    job.wait()
    for sweep, folder in zip(sweeps, folders, strict=True):
        output, _ = sweep.communicate(timeout=300)
        assert sweep.returncode == 0, output
        assert sorted(line["trial"]["batch"] for line in journal(folder)) == [1, 2, 3, 4]
        assert all("lost_before" not in line["host"] for line in journal(folder))


@pytest.mark.timeout(600)
def test_a_sweep_waits_for_nodes_that_others_hold_however_long_that_is(machines: Machines) -> None:
    machines.have({1: (), 2: ()})
    jobs = [foreign_job(machines, number, "go-all") for number in (1, 2)]
    driver = machines.sweep(
        *("model=tiny", "device.cpus=1", *QUICK),
        "cluster.wait_s=0.1",
        "hydra.run.dir=outputs/day/all",
        f"cluster.address={machines.cluster}",
    )
    output = printed(driver, "other jobs of the cluster hold ")
    assert "1 trial (cpu 1 core) waits: other jobs of the cluster hold " in output
    (machines.claims / "go-all").touch()
    rest, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output + rest
    for job in jobs:
        job.wait()


@pytest.mark.timeout(600)
def test_a_trial_that_wants_its_node_alone_does_not_start_beside_another_job(machines: Machines) -> None:
    machines.have({1: (), 4: ("--num-cpus=2",), 5: ("--num-cpus=2",)})
    job = foreign_job(machines, 4, "go-alone")
    driver = machines.sweep(
        *("-m", "model=tiny", "batch=1,2", "device.cpus=1", "device.exclusive_node=true", *QUICK),
        "calibrate=true",
        "hydra.sweep.dir=multirun/day/alone",
        f"cluster.address={machines.cluster}",
    )
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    folder = machines.driver / "multirun" / "day" / "alone"
    assert {line["host"]["node_ip"] for line in journal(folder)} == {machines.address(5)}
    assert "could not be calibrated" not in output
    (machines.claims / "go-alone").touch()
    job.wait()


@pytest.mark.timeout(600)
def test_what_waits_behind_one_job_starts_where_another_one_ends(machines: Machines) -> None:
    """Two trials wait, each on its own node; one node becomes free, and both run there."""
    machines.have({1: (), 2: (), 3: ()})  # the first one's only core is the driver's
    first, second = (foreign_job(machines, number, f"go-{number}") for number in (2, 3))
    driver = machines.sweep(
        *("-m", "model=tiny", "batch=1,2", "device.cpus=1", *QUICK),
        "hydra.sweep.dir=multirun/day/moved",
        f"cluster.address={machines.cluster}",
    )
    output = printed(driver, "2 trials (cpu 1 core) wait: other jobs of the cluster hold 2 nodes: ")
    (machines.claims / "go-3").touch()
    second.wait()
    rest, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output + rest
    lines = journal(machines.driver / "multirun" / "day" / "moved")
    assert sorted((line["trial"]["batch"], line["host"]["node_ip"]) for line in lines) == [
        (1, machines.address(3)),
        (2, machines.address(3)),
    ]
    assert all("lost_before" not in line["host"] for line in lines)
    assert first.poll() is None
    (machines.claims / "go-2").touch()
    first.wait()
