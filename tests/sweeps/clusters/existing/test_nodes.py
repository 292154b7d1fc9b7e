"""Sweeps on Ray clusters of several nodes, each with its own address, files and environment."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sweeps.clusters.existing import head_state, nodes
from sweeps.clusters.existing.head_state import Head, NodeState
from sweeps.clusters.existing.nodes import RayFleet
from sweeps.clusters.local import ray_on_this_machine
from sweeps.machine.node import Node
from sweeps.plan.node_inputs import Wanted
from tests.support.machine.cgroups import limited
from tests.support.ray_nodes import QUICK, Machines, journal, until

ROOT = Path(__file__).resolve().parents[4]

NETS = """
import os, pathlib, time
import psutil
import nets
from sweeps.worker import this_trial

MARKS = pathlib.Path(os.environ["MARKS"])

def wait_for(name):
    while not (MARKS / name).exists():
        time.sleep(0.05)
    return nets.build("tiny")

def late():
    # waits for the late machine to have a trial
    (address,) = [a.address for a in psutil.net_if_addrs()["eth0"] if a.address.count(".") == 3]
    (this_trial.files() / "note.txt").write_text(address)
    print("built on", address)
    (MARKS / f"on-{address}").touch()
    return wait_for("on-" + os.environ["LATE"])

def gated(gate):
    # all but the first wait for a file
    try:
        (MARKS / f"first-{gate}").touch(exist_ok=False)
    except FileExistsError:
        return wait_for(f"go-{gate}")
    return nets.build("tiny")
"""
THIRD = ("--labels=zone=b", '--resources={"fast": 1}')


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with Machines(tmp_path_factory.mktemp("m")) as machines:
        machines.env["LATE"] = machines.address(4)
        (machines.driver / "my_nets.py").write_text(NETS)
        (machines.driver / "secret.env").write_text("not for others")
        yield machines


@pytest.mark.timeout(600)
def test_nodes_come_and_go_and_the_sweep_finishes(machines: Machines) -> None:
    machines.have({1: (), 2: ("--labels=zone=a",), 3: THIRD})
    driver = machines.sweep(
        *("-m", "model._target_=my_nets.late", "batch=1,2,3,4,5", "device.cpus=1", *QUICK),
        "hydra.sweep.dir=multirun/day/come_and_go",
        f"cluster.address={machines.cluster}",
    )
    until((machines.claims / f"on-{machines.address(2)}").exists)
    machines.start(4, "--num-cpus=1")
    machines.kill(2)
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    folder = machines.driver / "multirun" / "day" / "come_and_go"
    lines = journal(folder)
    assert sorted(line["trial"]["batch"] for line in lines) == [1, 2, 3, 4, 5]
    ran = {line["trial_id"]: line["host"]["node_ip"] for line in lines}
    assert {machines.address(3), machines.address(4)} <= set(ran.values())
    assert machines.address(1) not in ran.values()  # its only core is the driver's while there are others
    retried = [line for line in lines if "lost_before" in line["host"]]
    assert retried
    for line in retried:
        assert machines.address(2) in line["host"]["lost_before"]
        assert line["host"]["node_ip"] != machines.address(2)
    assert "is tried again: " in output
    for trial_id, address in ran.items():
        place = folder / "trials" / trial_id
        assert (place / "files" / "note.txt").read_text() == address
        assert f"built on {address}" in (place / "log.txt").read_text()
        assert "Forward across 2 steps" in (place / "log.txt").read_text()
    until(lambda: not machines.running(3, "sweeps.worker.forkserver"))


def test_a_device_that_no_node_has_is_reported_for_every_node(machines: Machines) -> None:
    machines.have({1: (), 3: THIRD})
    driver = machines.sweep(
        *("model=tiny", "device.cpus=3", "batch=0", "device.accelerator=H100", "+device.node_labels.zone=c"),
        f"cluster.address={machines.cluster}",
    )
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 2, output
    joined = output.replace("\n", " ")
    assert "batch=0: expected" in joined
    assert "no node of the cluster can provide it" in joined
    assert f"{machines.address(3)} (" in joined
    assert "asks for 3 cores and " in joined
    assert "device.accelerator=H100 and " in joined
    assert "device.node_labels.zone=c and " in joined
    assert "has 'b'" in joined
    assert not list(machines.driver.glob("outputs/*/*"))


@pytest.mark.timeout(600)
def test_a_killed_head_ends_the_sweep_and_a_new_cluster_completes_it(machines: Machines) -> None:
    machines.have({1: (), 3: THIRD})
    driver = machines.sweep(
        *("-m", "model._target_=my_nets.gated", "+model.gate=head", "batch=1,2,3", "device.cpus=1", *QUICK),
        "cluster.wait_s=3",
        "hydra.sweep.dir=multirun/day/killed",
        f"cluster.address={machines.cluster}",
    )
    folder = machines.driver / "multirun" / "day" / "killed"
    until(lambda: journal(folder))
    machines.kill(1, "gcs_server", "raylet/raylet")
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 1, output
    assert f"the head of the Ray cluster at {machines.cluster} has not answered for" in output
    assert "Traceback" not in output
    before = journal(folder)
    assert len(before) == 1
    assert (folder / "report.html").is_file()
    machines.kill(1)
    machines.kill(3)
    (machines.claims / "go-head").touch()
    machines.start(1, "--num-cpus=1")
    machines.wait(1)
    # From a machine that is no node of it, through Ray Client.
    client = f"cluster.address=ray://{machines.address(1)}:10001"
    driver = machines.sweep("resume=latest", client, "calibrate=false", "tracking=csv", number=6)
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    after = journal(folder)
    assert after[: len(before)] == before
    assert sorted(line["trial"]["batch"] for line in after) == [1, 2, 3]
    assert {line["host"]["node_ip"] for line in after[len(before) :]} == {machines.address(1)}


def test_a_killed_driver_leaves_nothing_on_the_nodes(machines: Machines) -> None:
    machines.have({1: ()})
    (machines.claims / "first-driver").touch()
    driver = machines.sweep(
        *("model._target_=my_nets.gated", "+model.gate=driver", "device.cpus=1", *QUICK),
        f"cluster.address={machines.cluster}",
    )
    until(lambda: list(machines.driver.glob("outputs/*/*/trials/*/log.txt")))
    assert machines.running(1, "sweeps.worker.forkserver")
    driver.kill()
    driver.communicate()
    until(lambda: not machines.running(1, "sweeps.worker.forkserver"))


def test_a_node_with_another_tensorflow_is_one_error_before_the_first_trial(machines: Machines, tmp_path: Path) -> None:
    faked = tmp_path / "tensorflow-2.19.0.dist-info"
    faked.mkdir()
    (faked / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorflow\nVersion: 2.19.0\n")
    machines.have({1: ()})
    machines.start(5, "--num-cpus=1", PYTHONPATH=str(tmp_path))
    machines.wait(2)
    driver = machines.sweep("model=tiny", f"cluster.address={machines.cluster}")
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 2, output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "tensorflow: the driver has " in line
    assert f"{machines.address(5)} (" in line
    assert line.endswith("has 2.19.0")
    assert "mlflow.db" not in [path.name for path in machines.driver.iterdir()]


def named(process: psutil.Process, name: str) -> bool:
    with contextlib.suppress(psutil.Error):  # another test's, that has ended
        return " ".join(process.cmdline()).startswith(name)
    return False


class ThisRay(Head):
    """The connection to the Ray that this process has started."""

    def __init__(self) -> None:
        import ray

        super().__init__()
        self.home: str | None = ray.get_runtime_context().get_node_id()
        host_name, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self.endpoint = host_name, int(port)

    def cut_off(self) -> bool:
        return False

    def reopen(self) -> None:
        raise AssertionError("it is not lost")


@pytest.fixture
def stopped_agent() -> Iterator[tuple[RayFleet, list[str]]]:
    """A fleet of this machine whose agent waits for ever, as one does that loads from a dead disk."""
    warnings: list[str] = []
    with ray_on_this_machine(Node(cpus=1)):
        fleet = RayFleet(ThisRay(), Wanted(), wait_s=5, driver_core=False, warn=warnings.append)
        assert fleet.query() == []
        (agent,) = [each for each in psutil.Process().children(recursive=True) if named(each, "ray::Agent")]
        agent.suspend()
        fleet.warm()
        try:
            yield fleet, warnings
        finally:
            agent.kill()


def test_a_node_that_does_not_answer_is_given_up(
    stopped_agent: tuple[RayFleet, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, warnings = stopped_agent
    fleet.look()
    assert fleet.waits_for_nodes
    monkeypatch.setattr(nodes, "_ANSWER_S", 0.0)
    fleet.look()
    assert not fleet.waits_for_nodes
    assert fleet.slots == []
    assert len(warnings) == 1
    assert warnings[0].endswith("gets no trials: it does not answer")


def test_without_the_clusters_token_nothing_runs(machines: Machines) -> None:
    machines.have({1: ()})
    driver = machines.sweep("model=tiny", f"cluster.address={machines.cluster}", RAY_AUTH_TOKEN="wrong" * 8)
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 2, output
    assert "the cluster requires a token: set RAY_AUTH_TOKEN" in output


ABOUT = """
import json, os
os.environ["OMP_NUM_THREADS"] = "1"  # as Ray does in its workers
from sweeps.plan.node_inputs import Wanted
from sweeps.clusters.existing.node_agent import Agent
print(json.dumps(Agent().about(Wanted())))
"""


def test_a_node_reports_the_limits_and_settings_of_its_own_container() -> None:
    with limited(cores=1.5, memory_mb=900) as within:
        env = os.environ | {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}
        command = [*within, sys.executable, "-c", ABOUT]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    offers = {"CPU": 64.0}
    state = NodeState(
        node_id="a", address="10.0.0.2", hostname="n2", offers=offers, free=offers, labels={}, leaving=False
    )
    node = head_state.node(state, json.loads(done.stdout))
    assert node.kind == "1 core; the container's quota is 1.5 and its memory limit is 900 MB"
    assert node.room_mb == 900
    assert "XLA_FLAGS" in node.variables
    assert "OMP_NUM_THREADS" not in node.variables


def test_missing_inputs_are_reported_for_all_nodes_before_anything_runs(machines: Machines, tmp_path: Path) -> None:
    """The driver's folder is empty on the other nodes, and what its PYTHONPATH adds is only there."""
    machines.have({1: (), 2: ("--labels=zone=a",), 3: THIRD})
    (machines.driver / "w.npy").write_bytes(b"weights")
    (tmp_path / "only_here.py").write_text("import nets, no_such_package\ndef net(): return nets.build('tiny')\n")
    driver = machines.sweep(
        *("-m", "model._target_=only_here.net", "model.weights=w.npy", "batch=1,2", *QUICK),
        "hydra.sweep.dir=multirun/day/lacking",
        f"cluster.address={machines.cluster}",
        PYTHONPATH=str(tmp_path),
    )
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 2, output
    joined = " ".join(output.split())
    second, third = machines.address(2), machines.address(3)
    names = [rf"{address} \([^)]*\)" for address in (second, third)]
    either = rf"({names[0]}, {names[1]}|{names[1]}, {names[0]})"
    assert re.search(rf"{machines.driver}/w\.npy: expected on every node\. Missing on: {either}\.", joined), output
    assert joined.count("model._target_=only_here.net: expected a callable that can be imported on ") == 1, output
    assert "There is no module 'only_here'" in joined
    assert "have to be installed on the nodes" in joined
    assert not (machines.driver / "multirun" / "day" / "lacking").exists()
