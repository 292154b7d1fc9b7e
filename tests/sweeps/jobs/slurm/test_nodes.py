"""The script for the nodes of a job; a successful `wait` needs nodes, and is tested in `tests/slurm`."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.jobs.slurm import nodes

SCRIPT = [sys.executable, "-P", nodes.__file__]


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
        probe.bind((nodes.address(), 0))


def test_an_unknown_interface_is_an_error_that_names_the_others() -> None:
    done = subprocess.run([*SCRIPT, "address", "ib7"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: cluster.interface=ib7: expected one of ")
    assert "lo" in done.stderr


def waiting(log: Path, offset: int = 0) -> subprocess.CompletedProcess[str]:
    """Return the error of `wait` for a head that does not listen."""
    (port,) = nodes.free_ports(1)
    command = [*SCRIPT, "wait", f"127.0.0.1:{port}", "2", "0", str(log), str(offset)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_head_that_never_comes_is_an_error(tmp_path: Path) -> None:
    done = waiting(tmp_path / "none.log")
    assert done.returncode == 1
    assert done.stderr.startswith("error: Ray did not start at 127.0.0.1:")
    (tmp_path / "log").write_text(
        "srun: Job 5 step creation temporarily disabled, retrying (Requested nodes are busy)\n"
    )
    assert "within 0 s: srun: Job 5 step creation temporarily disabled" in waiting(tmp_path / "log").stderr


def test_a_head_that_has_ended_is_reported_with_its_cause_and_not_an_earlier_starts(tmp_path: Path) -> None:
    earlier = " 0: OSError: [Errno 98] Address already in use\n 0: Ray ended on n1, exit code 1\n"
    now = "0: ModuleNotFoundError: No module named 'ray'\n1: fine\n0: Ray ended on n2, exit code 1\n"
    log = tmp_path / "log"
    log.write_text(earlier + now)
    why = "Ray did not start on n2, the job's first node: ModuleNotFoundError: No module named 'ray'"
    assert waiting(log, len(earlier)).stderr == f"error: {why}\n"
    log.write_text(
        "srun: error: Unable to create step for job 5: Memory required is not available\n"
        "The job step ended, exit code 1\n"
    )
    assert "Ray did not start: srun: error: Unable to create step for job 5: Memory" in waiting(log).stderr


GCS = """\
2026-01-01 00:00:01,000\tINFO scripts.py:1043 -- \x1b[37mLocal node IP\x1b[39m: 10.0.0.1
[2026-01-01 00:00:02,000 W 3703 3703] rpc_client.h:153: Failed to connect to GCS at address 10.0.0.1:26379.
Traceback (most recent call last):
  File "node.py", line 1025, in _init_gcs_client
    raise RuntimeError(
RuntimeError: Failed to start GCS.  Last 1 lines of error files:
[2026-01-01 00:00:01,500 C 3707 3707] (gcs_server) grpc_server.cc:134:  An unexpected system state has occurred. \
You have likely discovered a bug in Ray. Check failed: server_ Failed to start the grpc server. The port is 26379.
.Please check /tmp/gcs_server.out for details. Last connection error: None
"""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", ""),
        ("bash: line 1: ray: command not found\n", "bash: line 1: ray: command not found"),
        (
            "a\nTraceback (most recent call last):\n  x\nImportError: cannot import name 'y'\n",
            "ImportError: cannot import name 'y'",
        ),
        (
            GCS,
            "RuntimeError: Failed to start GCS.  Last 1 lines of error files: server_ Failed to start the grpc server. "
            "The port is 26379.",
        ),
        (
            "RuntimeError: Version mismatch: The cluster was started with:\n    Ray: 2.1.0\n",
            "RuntimeError: Version mismatch: The cluster was started with: Ray: 2.1.0",
        ),
        (
            "mktemp: failed to create directory via template: No space left on device\n",
            "mktemp: failed to create directory via template: No space left on device",
        ),
        (
            "FATAL:   could not open image /s.sif: no such file\nsrun: error: n1: task 0: Exited with exit code 255\n",
            "FATAL:   could not open image /s.sif: no such file",
        ),
        ("it began\nand that was all\n", "and that was all"),
    ],
)
def test_the_line_that_a_reader_would_pick(text: str, cause: str) -> None:
    assert nodes.cause(text.splitlines()) == cause


def test_a_node_reaches_the_head_or_says_that_it_cannot() -> None:
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        head.listen()
        nodes.reach(f"127.0.0.1:{head.getsockname()[1]}", 0)
    (port,) = nodes.free_ports(1)
    with pytest.raises(
        ConnectionError,
        match=r"Ray's head at .* could not be reached within .*; cluster.interface chooses another network",
    ):
        nodes.reach(f"127.0.0.1:{port}", 0)


@pytest.mark.parametrize("count", [1, 5])
def test_free_ports_are_distinct(count: int) -> None:
    assert len(set(nodes.free_ports(count))) == count
