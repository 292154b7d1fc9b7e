"""Slurm on this machine, for tests: munged, slurmctld and a slurmd for each of several nodes, all in one folder.

Needs Debian's packages and root: `apt-get install --no-install-recommends slurm-wlm munge`. Nothing outside the folder
is read or written, and every daemon is ended on leaving.

usage: python -m tests.slurm.controller COMMAND ...      runs COMMAND on a Slurm of three nodes
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.ports import free_ports

DAEMONS = ("munged", "slurmctld", "slurmd")
START_S = 30.0

_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/%n
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=10
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
PartitionName=main Nodes=ALL Default=YES State=UP MaxTime=60
"""


def missing() -> str | None:
    """Return why no Slurm can be started here; None: it can."""
    lacking = [name for name in DAEMONS if _program(name) is None]
    if lacking:
        return f"needs {', '.join(lacking)}: apt-get install --no-install-recommends slurm-wlm munge"
    return None if os.geteuid() == 0 else "needs root, to start slurmd"


@contextlib.contextmanager
def slurm(folder: Path, nodes: int = 3) -> Iterator[Mapping[str, str]]:
    """A Slurm of `nodes` nodes of one core each; yields the environment in which its commands find it."""
    with contextlib.ExitStack() as stack:
        # munged wants a folder that everybody may enter and nobody else may write into, all the way up.
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-", dir="/run")))
        own.chmod(0o755)
        conf = own / "slurm.conf"
        environment = {**os.environ, "SLURM_CONF": str(conf)}
        control, *ports = free_ports(1 + nodes)
        host = socket.gethostname()
        text = _CONF.format(host=host, control=control, folder=own)
        for number, port in enumerate(ports, start=1):
            text += f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 State=UNKNOWN\n"
        conf.write_text(text)
        (own / "state").mkdir()
        key = own / "munge.key"
        key.write_bytes(secrets.token_bytes(64))
        key.chmod(0o400)
        stack.callback(_keep_logs, own, folder)
        files = {"key-file": key, "socket": own / "munge.socket", "pid-file": own / "munged.pid"}
        files |= {"log-file": own / "munged.log", "seed-file": own / "munged.seed"}
        munged = [f"--{name}={path}" for name, path in files.items()]
        stack.enter_context(_daemon(["munged", "--foreground", *munged], environment, own))
        _until((own / "munge.socket").exists, "munged")
        stack.enter_context(_daemon(["slurmctld", "-D"], environment, own))
        for number in range(1, nodes + 1):
            (own / f"n{number}").mkdir()
            stack.enter_context(_daemon(["slurmd", "-D", "-N", f"n{number}"], environment, own))
        _until(lambda: _idle(environment) == nodes, "its nodes")
        try:
            yield environment
        finally:
            subprocess.run(["scancel", "--user=root"], env=environment, check=False)
            _until(lambda: _idle(environment) == nodes, "the end of its jobs")


def _idle(environment: Mapping[str, str]) -> int:
    command = ["sinfo", "--noheader", "--states=idle", "--format=%D"]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    return sum(int(count) for count in done.stdout.split())


@contextlib.contextmanager
def _daemon(command: list[str], environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    program = _program(command[0])
    with (folder / f"{command[0]}.out").open("ab") as out:
        process = subprocess.Popen(
            [str(program), *command[1:]], env=dict(environment), stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def _until(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Slurm: {what} did not come within {START_S:g} s")
        time.sleep(0.1)


def _keep_logs(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*source.glob("*.log"), *source.glob("*.out")]:
        shutil.copy(path, folder)


def main() -> int:
    if reason := missing():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as logs, slurm(Path(logs)) as environment:
        return subprocess.run(sys.argv[1:], env=dict(environment), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
