"""What the batch script asks on its nodes; `wait` needs nodes, and runs in `tests/slurm`."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from sweeps.cluster import slurm_nodes

SCRIPT = [sys.executable, "-P", slurm_nodes.__file__]


def test_address_and_two_free_ports_on_one_line() -> None:
    done = subprocess.run([*SCRIPT, "address", "lo"], capture_output=True, text=True, check=True)
    address, *ports = done.stdout.split()
    assert address == "127.0.0.1"
    assert len(set(ports)) == 2
    for port in ports:
        with socket.socket() as probe:
            probe.bind((address, int(port)))


def test_without_an_interface_it_is_an_address_of_this_machine() -> None:
    with socket.socket() as probe:
        probe.bind((slurm_nodes.address(), 0))


def test_an_unknown_interface_is_a_sentence_that_names_the_others() -> None:
    done = subprocess.run([*SCRIPT, "address", "ib7"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: cluster.interface=ib7: expected one of ")
    assert "lo" in done.stderr


def test_a_head_that_never_comes_is_a_sentence() -> None:
    (port,) = slurm_nodes.free_ports(1)
    done = subprocess.run([*SCRIPT, "wait", f"127.0.0.1:{port}", "1", "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: Ray did not start at 127.0.0.1:{port} within 0 s: ")


@pytest.mark.parametrize("count", [1, 5])
def test_free_ports_are_distinct(count: int) -> None:
    assert len(set(slurm_nodes.free_ports(count))) == count
