"""Ray nodes with addresses and files of their own on one machine: a network namespace and a mount namespace each."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.sweep_command import plain_environment

ROOT = Path(__file__).resolve().parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
PORT = 6379
QUICK = ["protocol=classic", "protocol.steps=2", "protocol.burn_in=1", "calibrate=false", "tracking=csv"]


def journal(folder: Path) -> list[dict[str, Any]]:
    """The results of the sweep in that folder so far."""
    path = folder / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def until(true: Callable[[], object]) -> None:
    """Wait until it is so, or fail."""
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


class Machines:
    """A bridge with up to nine machines on it, numbered from 1, the first of them Ray's head and the driver's.

    `driver` is a folder that only the first machine sees. All share one set of core claims, in `claims`: they have the
    same processor.
    """

    def __init__(self, folder: Path) -> None:
        if os.getuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
            pytest.skip("needs root, iproute2 and unshare, for network namespaces")
        mark = secrets.token_hex(2)
        self._name = f"sw{mark}"
        self._net = f"10.{64 + int(mark[:2], 16) % 64}.{int(mark[2:], 16)}"
        self._made: list[int] = []
        self._nodes: dict[int, subprocess.Popen[bytes]] = {}
        self.driver, self.claims = folder / "driver", folder / "claims"
        self._ray = folder / "ray"
        for path in (self.driver, self.claims, self._ray):
            path.mkdir(exist_ok=True)
        kept = plain_environment()
        quick = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3"}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(20)}
        self.env = (
            kept
            | quick
            | token
            | {"TMPDIR": str(self.claims), "MARKS": str(self.claims), "COLUMNS": "200", "RAY_DISABLE_USAGE_STATS": "1"}
        )
        if subprocess.run(_words(f"ip link add {self._name} type bridge"), capture_output=True).returncode != 0:
            pytest.skip("needs the right to make network namespaces and bridges")
        _do(f"ip link set {self._name} up")

    def address(self, number: int) -> str:
        return f"{self._net}.{number}"

    @property
    def cluster(self) -> str:
        return f"{self.address(1)}:{PORT}"

    def start(self, number: int, *options: str, apart: bool = False, **env: str) -> None:
        """Start a Ray node on that machine, the first as the head; `wait` until it is up.

        `apart`: it sees no processes but its own, as a head must that comes back while nodes of an earlier one are
        there: Ray takes their command lines for those of its own machine.
        """
        if number not in self._made:
            self._make(number)
        role = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self._ray}"]
        role = role if number == 1 else [f"--address={self.cluster}"]
        command = [RAY, "start", "--block", *role, f"--node-ip-address={self.address(number)}", *options]
        if number != 1:  # its files are its own, and it does not see the driver's
            hide = " && ".join(f"mount -t tmpfs none {path}" for path in (self._ray, self.driver))
            command = ["unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh", *command]
        if apart:
            command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *command]
        with (self.claims / f"node{number}.txt").open("wb") as output:
            command = ["ip", "netns", "exec", f"{self._name}n{number}", *command]
            node = subprocess.Popen(command, stdout=output, stderr=output, env=self.env | env)
        if (killed := self._nodes.get(number)) is not None:
            killed.wait()
        self._nodes[number] = node

    def have(self, nodes: Mapping[int, Sequence[str]]) -> None:
        """Make the cluster have exactly these nodes, each with its options, whatever it had before."""
        up = {number for number, process in self._nodes.items() if process.poll() is None}
        keep = up & nodes.keys() if 1 in up else set()
        for number in up - keep:
            self.kill(number)
        for number in sorted(nodes.keys() - keep):
            cores = () if any(option.startswith("--num-cpus") for option in nodes[number]) else ("--num-cpus=1",)
            self.start(number, *cores, *nodes[number])
            if number == 1:
                self.wait(1)
        self._wait_until(f"sorted(alive) == {sorted(map(self.address, nodes))}")  # those killed may seem alive yet

    def wait(self, count: int) -> None:
        """Wait until the cluster has exactly that many nodes."""
        self._wait_until(f"len(alive) == {count}")

    def _wait_until(self, condition: str) -> None:
        """Wait until the condition holds for `alive`, the addresses of the cluster's nodes."""
        code = f"""
import time
from ray._raylet import GcsClient
client = GcsClient("{self.cluster}")
while True:
    alive = [node.node_manager_address for node in client.get_all_node_info(timeout=5).values() if node.state == 0]
    if {condition}: break
    time.sleep(0.2)
"""
        until = time.monotonic() + 120
        while self.python(code, check=time.monotonic() > until).returncode != 0:
            time.sleep(0.5)

    def python(self, code: str, *, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run Python code on the first machine."""
        command = ["ip", "netns", "exec", f"{self._name}n1", sys.executable, "-c", code]
        return subprocess.run(command, env=self.env, capture_output=True, timeout=120, check=check)

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command on the first machine."""
        return subprocess.Popen(["ip", "netns", "exec", f"{self._name}n1", *command], env=self.env)

    def sweep(self, *arguments: str, number: int = 1, **env: str) -> subprocess.Popen[str]:
        """Start a sweep on that machine, in the folder `driver`."""
        if number not in self._made:
            self._make(number)
        command = ["ip", "netns", "exec", f"{self._name}n{number}", sys.executable, str(ROOT / "sweeps" / "run.py")]
        return subprocess.Popen(
            [*command, *arguments, "cluster=ray"],
            cwd=self.driver,
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def running(self, number: int, word: str) -> list[int]:
        """Return the processes on that machine whose command line contains the word."""
        found = []
        for pid in self._pids(number):
            with contextlib.suppress(OSError):
                if word in Path(f"/proc/{pid}/cmdline").read_text(errors="replace"):
                    found.append(pid)
        return found

    def kill(self, number: int, *words: str) -> None:
        """Send SIGKILL to everything on that machine, or to commands that contain one of the words."""
        for pid in [pid for word in words or ("",) for pid in self.running(number, word)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._made:
            while pids := self._pids(number):
                self.kill(number)
                time.sleep(0.05 if pids else 0)
            _do(f"ip netns del {self._name}n{number}")
        for process in self._nodes.values():
            process.wait()
        _do(f"ip link del {self._name}")

    def _make(self, number: int) -> None:
        inside, outside, inner = f"{self._name}n{number}", f"{self._name}v{number}", f"{self._name}i{number}"
        for command in (
            f"ip netns add {inside}",
            f"ip link add {outside} type veth peer name {inner}",
            f"ip link set {outside} master {self._name} up",
            f"ip link set {inner} netns {inside} name eth0",
            f"ip -n {inside} link set lo up",
            f"ip -n {inside} addr add {self.address(number)}/24 dev eth0",
            f"ip -n {inside} link set eth0 up",
        ):
            _do(command)
        self._made.append(number)

    def _pids(self, number: int) -> list[int]:
        listed = subprocess.run(_words(f"ip netns pids {self._name}n{number}"), capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split()]


def _words(command: str) -> list[str]:
    return command.split()


def _do(command: str) -> None:
    subprocess.run(_words(command), check=True, capture_output=True)
