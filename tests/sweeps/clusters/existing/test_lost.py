"""Sweeps whose Ray cluster is lost, replaced, or cut off."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ray_nodes import QUICK, Machines, journal, until

NETS = """
import os, pathlib, time
import nets

MARKS = pathlib.Path(os.environ["MARKS"])

def gated(gate):
    # all but the first wait for a file
    try:
        (MARKS / f"first-{gate}").touch(exist_ok=False)
    except FileExistsError:
        while not (MARKS / f"go-{gate}").exists():
            time.sleep(0.05)
    return nets.build("tiny")
"""


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with Machines(tmp_path_factory.mktemp("m")) as made:
        (made.driver / "my_nets.py").write_text(NETS)
        yield made


def started(
    machines: Machines, gate: str, batches: str, address: str, *, number: int
) -> tuple[subprocess.Popen[str], Path]:
    """Start a sweep whose trials but the first wait at `gate`; return its driver and folder once it has a result."""
    driver = machines.sweep(
        *("-m", "model._target_=my_nets.gated", f"+model.gate={gate}", batches, "device.cpus=1", *QUICK),
        f"hydra.sweep.dir=multirun/day/{gate}",
        f"cluster.address={address}",
        number=number,
    )
    folder = machines.driver / "multirun" / "day" / gate
    until(lambda: journal(folder))
    return driver, folder


@pytest.mark.timeout(600)
def test_a_sweep_goes_on_with_the_cluster_of_a_head_that_was_started_again(machines: Machines) -> None:
    machines.have({1: (), 2: ()})
    driver, folder = started(machines, "again", "batch=1,2,3", machines.cluster, number=2)
    before = journal(folder)
    machines.kill(1)
    machines.start(1, "--num-cpus=1", apart=True)
    machines.wait(1)
    machines.start(2, "--num-cpus=1")
    (machines.claims / "go-again").touch()
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    assert (
        f"the head of the Ray cluster at {machines.cluster} was started again as a new cluster; reconnecting" in output
    )
    assert "StackTrace" not in output
    after = journal(folder)
    assert after[: len(before)] == before
    assert sorted(line["trial"]["batch"] for line in after) == [1, 2, 3]
    assert {line["status"] for line in after} == {"ok"}


@pytest.mark.timeout(600)
def test_a_sweep_by_ray_client_goes_on_with_the_cluster_of_a_head_that_was_started_again(machines: Machines) -> None:
    for number in (1, 2):
        machines.kill(number)
    machines.start(1, "--num-cpus=1", "--ray-client-server-port=10001")
    machines.wait(1)
    driver, folder = started(machines, "client", "batch=1,2", f"ray://{machines.address(1)}:10001", number=3)
    machines.kill(1)
    machines.start(1, "--num-cpus=1", "--ray-client-server-port=10001", apart=True)
    (machines.claims / "go-client").touch()
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    assert f"the connection to the Ray cluster at {machines.address(1)}:10001 is lost; reconnecting" in output
    assert "ERROR" not in output
    assert sorted(line["trial"]["batch"] for line in journal(folder)) == [1, 2]
