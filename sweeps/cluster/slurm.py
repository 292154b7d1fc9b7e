"""A sweep as one Slurm job: the text of its batch script, and its submission.

One allocation, no job array: the script starts Ray on every node through srun and runs the sweep on the first node, and
Ray schedules inside. The sweep's plan is in its folder already, so the job is `resume=FOLDER`, for the first submission
and for each one after it.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from sweeps.cluster import command_line
from sweeps.errors import SweepError
from sweeps.forkserver import ROOT
from sweeps.ranges import at_least
from tracking.printable import printable

COMMAND = "sbatch"
SCRIPT = "job.sh"
_START_S = 300
"""Longest time that nodes may take to join Ray, seconds."""
_EARLY_S = 60
"""Slurm may send the signal before the time limit earlier by as much, seconds."""
_ID = re.compile(r"[A-Za-z0-9._-]+")
_TIME = re.compile(r"\d+|(\d+-)?\d+(:\d+){0,2}")


@dataclass
class Options:
    """What `cluster=slurm` takes; `conf/cluster/slurm.yaml` says what each one means."""

    name: str = "slurm"
    nodes: int = 1
    cpus: Optional[int] = None  # noqa: UP045 - OmegaConf reads the annotation at run time
    gpus: int = 0
    gpu_type: Optional[str] = None  # noqa: UP045
    memory: Optional[str] = None  # noqa: UP045
    time: Optional[str] = None  # noqa: UP045
    partition: Optional[str] = None  # noqa: UP045
    account: Optional[str] = None  # noqa: UP045
    sbatch: list[str] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)
    venv: Optional[str] = None  # noqa: UP045
    container: Optional[str] = None  # noqa: UP045
    interface: Optional[str] = None  # noqa: UP045
    stop_s: int = 120


def problems(options: Options) -> list[str]:
    """What is wrong with the options, a sentence each."""
    found = at_least("cluster.", vars(options), {"nodes": 1, "cpus": 1, "gpus": 0, "stop_s": 0})
    if options.gpu_type is not None and options.gpus == 0:
        found.append(f"cluster.gpu_type={options.gpu_type}: expected cluster.gpus with it. Received: cluster.gpus=0.")
    if options.time is not None and not _TIME.fullmatch(options.time):
        found.append(f"cluster.time={options.time}: expected minutes, [DAYS-]HOURS:MINUTES:SECONDS or DAYS-HOURS.")
    elif options.time is not None and options.stop_s > 0 and 0 < _seconds(options.time) <= options.stop_s + _EARLY_S:
        least = f"more than cluster.stop_s={options.stop_s} and the {_EARLY_S} s that Slurm may signal early"
        found.append(f"cluster.time={options.time}: expected {least}. Received: {_seconds(options.time)} s.")
    if options.venv is not None and options.container is not None:
        found.append("cluster.venv, cluster.container: expected one of them. Received: both.")
    lines = {key: value for key, value in vars(options).items() if isinstance(value, str) and printable(value) != value}
    found += [f"cluster.{key}: expected one line. Received: {value!r}." for key, value in lines.items()]
    wrong = [line for line in options.sbatch if not line.startswith("-") or printable(line) != line]
    return found + [f"cluster.sbatch: expected options such as --qos=high. Received: {line!r}." for line in wrong]


def _seconds(time: str) -> int:
    """A time limit as Slurm takes it, in seconds; 0: none."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    # One number is minutes, two are minutes and seconds; after days, it begins with hours.
    hours, minutes, seconds = [*parts, 0, 0][:3] if dash or len(parts) == 3 else ([0, *parts, 0])[:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def folder_problems(sweep_id: str, folder: Path) -> list[str]:
    """What Slurm's own lines of the script, which no shell reads, cannot hold, as problems."""
    found = []
    if any(sign in str(folder) for sign in '"\\'):
        words = "a name without quotation marks and backslashes, which Slurm's lines of a script cannot hold"
        found.append(f"the sweep's folder: expected {words}. Received: {folder}.")
    if not _ID.fullmatch(sweep_id):
        found.append(f"sweep_id: expected letters, digits, '.', '_' and '-'. Received: {printable(sweep_id)}.")
    return found


def script(options: Options, *, sweep_id: str, folder: Path, cwd: Path, arguments: Sequence[str]) -> str:
    """The batch script that runs the sweep in `folder` with these further arguments of the command line."""
    setup = list(options.setup)
    if options.container is None:
        setup.append(f'export PATH={shlex.quote(options.venv or sys.prefix)}/bin:"$PATH"')
    inside = f"{options.container} " if options.container else ""
    values = {
        "directives": "\n".join(f"#SBATCH {line}" for line in _directives(options, sweep_id, folder)),
        "cwd": shlex.quote(str(cwd)),
        "setup": "\n".join(setup) or ":",
        "nodes": f"{inside}python -P {shlex.quote(str(ROOT / 'sweeps' / 'cluster' / 'slurm_nodes.py'))}",
        "interface": shlex.quote(options.interface or ""),
        "ray": f"{inside}ray",
        "log": shlex.quote(f"{_pattern(folder)}/ray-%j.log"),
        "start_s": _START_S,
        "cpus": '"$(env -u OMP_NUM_THREADS nproc)"' if options.cpus is None else options.cpus,
        "gpus": options.gpus,
        "srun_cpus": "" if options.cpus is None else f" --cpus-per-task={options.cpus}",
        "sweep": f"{inside}python {shlex.quote(str(ROOT / 'sweeps' / 'run.py'))}",
        "arguments": " ".join(
            map(shlex.quote, [f"resume={command_line.text(str(folder))}", "cluster=ray", *arguments])
        ),
    }
    return _SCRIPT.format_map(values)


def submit(path: Path, environment: Mapping[str, str]) -> str:
    """Hand the script to sbatch and give the job's id. Raises SweepError with what sbatch says."""
    command = [COMMAND, "--parsable", str(path)]
    try:
        done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    except OSError as error:
        raise SweepError(f"sbatch could not be started, nothing was submitted: {error}") from error
    if done.returncode != 0:
        told = done.stderr.strip()
        # The controller may have heard all the same.
        late = "; the job may be there, `squeue --me` tells" if "timed out" in told.lower() else ""
        raise SweepError(f"sbatch refused {path}: {told}{late}")
    return done.stdout.strip().partition(";")[0]


def _directives(options: Options, sweep_id: str, folder: Path) -> list[str]:
    lines = [
        f"--job-name=sweep-{sweep_id}",
        "--dependency=singleton",  # a submission that resumes the sweep waits for the one before it
        f'--output="{_pattern(folder)}/slurm-%j.out"',
        f"--nodes={options.nodes}",
        "--ntasks-per-node=1",
        "--no-kill",  # a node that fails takes its trials along, not the job
        "--exclusive" if options.cpus is None else f"--cpus-per-task={options.cpus}",
    ]
    if options.gpus:
        kind = "" if options.gpu_type is None else f"{options.gpu_type}:"
        lines.append(f"--gres=gpu:{kind}{options.gpus}")
    given = {"mem": options.memory, "time": options.time, "partition": options.partition, "account": options.account}
    lines += [f"--{key}={value}" for key, value in given.items() if value is not None]
    if options.stop_s:
        lines.append(f"--signal=B:USR1@{options.stop_s}")
    return [*lines, *options.sbatch]


def _pattern(folder: Path) -> str:
    """The folder in a file name in which Slurm puts something in the place of `%j`."""
    return str(folder).replace("%", "%%")


_SCRIPT = """\
#!/bin/bash
{directives}

stop= child=  # USR1: the time limit is near, the sweep stops in order, the next submission resumes it
trap 'stop=1; [ -z "$child" ] || kill -TERM "$child"' USR1
attend() {{  # waits for what was started last; a signal ends a wait early
    child=$!
    [ -z "$stop" ] || kill -TERM "$child"
    while kill -0 "$child" 2> /dev/null; do wait "$child"; done
    wait "$child"
}}

cd {cwd} || exit 1
{setup}

# A token for this job alone: nobody else on these nodes can use its Ray.
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0

# Ports that the system has free right now, so that jobs may share a node.
read -r RAY_IP RAY_PORT RAY_CLIENT_PORT < <({nodes} address {interface}) || exit 1
export RAY_IP RAY_PORT RAY_CLIENT_PORT

ray_node() {{  # Ray on one node, for as long as the job step lives
    local temporary
    temporary=$(mktemp -d "/tmp/ray-$SLURM_JOB_ID-$SLURM_PROCID-XXXXXX") || exit 1  # nobody else may enter it
    local common=(--block --temp-dir="$temporary/r" --num-cpus={cpus} --num-gpus={gpus}
        --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0)
    if [ "$SLURM_PROCID" -eq 0 ]; then
        {ray} start --head --node-ip-address="$RAY_IP" --port="$RAY_PORT" \\
            --ray-client-server-port="$RAY_CLIENT_PORT" --include-dashboard=false "${{common[@]}}" &
    else
        local ip
        read -r ip _ < <({nodes} address {interface})
        until (: < "/dev/tcp/$RAY_IP/$RAY_PORT") 2> /dev/null; do sleep 1; done
        {ray} start --address="$RAY_IP:$RAY_PORT" --node-ip-address="$ip" "${{common[@]}}" &
    fi
    trap "sleep $((SLURM_PROCID == 0 ? 2 : 0)); kill $!" URG  # the end of the job: the head goes last
    trap "kill -KILL $!" TERM                                 # scancel: all go at once
    while kill -0 "$!" 2> /dev/null; do wait "$!"; done
    rm -rf "$temporary"
}}
export -f ray_node
# The nodes that are left go on without one that fails.
srun --ntasks-per-node=1{srun_cpus} --no-kill --wait=0 --kill-on-bad-exit=0 \\
    --cpu-bind=none --output={log} bash -c ray_node &
nodes=$!
{nodes} wait "$RAY_IP:$RAY_PORT" "$SLURM_JOB_NUM_NODES" {start_s} &
attend
code=$?
[ -z "$stop" ] || exit 130
[ "$code" -eq 0 ] || exit 1

trap : TERM  # scancel tells the sweep itself
{sweep} {arguments} "cluster.address=$RAY_IP:$RAY_PORT" &
attend
code=$?
child=
[ -z "$stop" ] || [ "$code" -ne 143 ] || code=130  # it had no time to listen to signals

scancel --signal=URG "$SLURM_JOB_ID"  # to ray_node; whatever else runs there ignores it
for _ in {{1..20}}; do kill -0 "$nodes" 2> /dev/null || break; sleep 1; done
exit "$code"
"""
