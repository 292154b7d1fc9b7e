"""`cluster=slurm`: a sweep as one Slurm job, its options and what can be wrong with them.

One allocation, no job array: the script (`batch_script`) starts Ray on every node through srun and runs the sweep on
the first node, and Ray schedules inside. The sweep's plan is in its folder already, so the job is `resume=FOLDER`, for
the first submission (`submission`) and for each start after it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from sweeps.jobs.job import BatchJob
from sweeps.jobs.slurm import sbatch_options
from sweeps.wording import at_least
from tracking.text.printable import printable

COMMAND = "sbatch"
SCRIPT = "job.sh"
_EARLY_S = 60
"""Slurm may send the signal before the time limit earlier by as much, seconds."""
_ID = re.compile(r"[A-Za-z0-9._-]+")
_TIME = re.compile(r"\d+|(\d+-)?\d+(:\d+){0,2}")
_ENDLESS = ("infinite", "unlimited")
_NODES = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass
class Options(BatchJob):
    """What `cluster=slurm` takes; `conf/cluster/slurm.yaml` says what each one means."""

    name: str = "slurm"
    nodes: Any = 1
    cpus: Optional[int] = None  # noqa: UP045 - OmegaConf reads the annotation at run time
    gpus: int = 0
    gpu_type: Optional[str] = None  # noqa: UP045
    memory: Optional[str] = None  # noqa: UP045
    time: Optional[str] = None  # noqa: UP045
    partition: Optional[str] = None  # noqa: UP045
    account: Optional[str] = None  # noqa: UP045
    sbatch: Any = None
    setup: Any = field(default_factory=list)
    venv: Optional[str] = None  # noqa: UP045
    container: Optional[str] = None  # noqa: UP045
    interface: Optional[str] = None  # noqa: UP045
    stop_s: int = 120
    requeue: int = 0
    parsable: bool = False

    def problems(self) -> list[str]:
        refusals = at_least("cluster.", vars(self), {"cpus": 1, "gpus": 0, "stop_s": 0, "requeue": 0})
        if not _valid_nodes(self.nodes):
            words = "expected a number of nodes, at least 1, or a range such as 2-8"
            refusals.append(f"cluster.nodes={self.nodes}: {words}. Received: {self.nodes}.")
        if self.gpu_type is not None and self.gpus == 0:
            refusals.append(
                f"cluster.gpu_type={self.gpu_type}: expected cluster.gpus with it. Received: cluster.gpus=0."
            )
        refusals += _time_problems(self)
        if self.requeue > 0 and self.stop_s == 0:
            words = "expected cluster.stop_s above 0 with it, the time in which the sweep stops before it is requeued"
            refusals.append(f"cluster.requeue={self.requeue}: {words}. Received: cluster.stop_s=0.")
        if self.venv is not None and self.container is not None:
            refusals.append("cluster.venv, cluster.container: expected one of them. Received: both.")
        lines = {
            key: value for key, value in vars(self).items() if isinstance(value, str) and printable(value) != value
        }
        refusals += [
            f"cluster.{key}: expected one line. Received: {value!r}."
            for key, value in lines.items()
            if key not in ("sbatch", "setup")
        ]
        refusals += [
            # Unquoted, a blank in one of these would begin another option, and a # a comment.
            f"cluster.{key}: expected a value without quotation marks and backslashes, and not an empty one. "
            f"Received: {value!r}."
            for key, value in _in_directives(self).items()
            if key not in lines and (not value.strip() or set(value) & set('"\\'))
        ]
        if not isinstance(self.setup, str) and not _texts(self.setup):
            refusals.append(f"cluster.setup: expected a shell line or a list of them. Received: {self.setup!r}.")
        return refusals + sbatch_options.problems(self.sbatch)


def _in_directives(options: Options) -> dict[str, str]:
    """The texts that become part of Slurm's own lines of the script, by their keys."""
    keys = ("gpu_type", "memory", "partition", "account")
    return {key: value for key in keys if (value := getattr(options, key)) is not None}


def setup_lines(options: Options) -> list[str]:
    """The shell lines that the user wants before anything else."""
    return [options.setup] if isinstance(options.setup, str) else list(options.setup)


def directives(options: Options, sweep_id: str, folder: Path) -> list[str]:
    """The options of sbatch for this sweep, as lines of the script."""
    lines = [
        f"--job-name=sweep-{sweep_id}",
        f'--output="{pattern(folder)}/slurm-%j.out"',
        "--open-mode=append",  # a job that is requeued goes on in the same file
        f"--nodes={options.nodes}",
        # Of a range, Slurm would take the fewest nodes that have room for so many tasks. It has one task a node anyway.
        *(["--ntasks-per-node=1"] if str(options.nodes).isdigit() else []),
        "--no-kill",  # a node that fails takes its trials along, not the job
        "--exclusive" if options.cpus is None else f"--cpus-per-task={options.cpus}",
    ]
    given = {"mem": options.memory, "time": options.time, "partition": options.partition, "account": options.account}
    lines += [sbatch_options.quoted(f"--{key}={value}") for key, value in given.items() if value is not None]
    if options.stop_s:
        lines.append(f"--signal=B:USR1@{options.stop_s}")
    if options.requeue:
        lines.append("--requeue")
    kind = "" if options.gpu_type is None else f"{options.gpu_type}:"
    ours = {
        # A submission that resumes the sweep waits for the one before it.
        "dependency": "singleton",
        "gres": f"gpu:{kind}{options.gpus}" if options.gpus else None,
    }
    return lines + sbatch_options.lines(options.sbatch, {key: value for key, value in ours.items() if value})


def pattern(folder: Path) -> str:
    """The folder in a file name in which Slurm puts something in the place of `%j`."""
    return str(folder).replace("%", "%%")


def folder_problems(sweep_id: str, folder: Path) -> list[str]:
    """What Slurm's own lines of the script, which no shell reads, cannot hold, as problems."""
    refusals = []
    if any(sign in str(folder) for sign in '"\\'):
        words = "a name without quotation marks and backslashes, which Slurm's lines of a script cannot hold"
        refusals.append(f"the sweep's folder: expected {words}. Received: {folder}.")
    if not _ID.fullmatch(sweep_id):
        refusals.append(f"sweep_id: expected letters, digits, '.', '_' and '-'. Received: {printable(sweep_id)}.")
    return refusals


def _valid_nodes(nodes: object) -> bool:
    if isinstance(nodes, bool) or not isinstance(nodes, (int, str)):
        return False
    match = _NODES.fullmatch(str(nodes))
    return match is not None and 1 <= int(match[1]) <= int(match[2] or match[1])


def _texts(value: object) -> bool:
    is_list = isinstance(value, Sequence) and not isinstance(value, Mapping)
    return is_list and all(isinstance(each, str) for each in value)  # type: ignore[attr-defined]


def _time_problems(options: Options) -> list[str]:
    time = options.time
    if time is None or time.lower() in _ENDLESS:
        return []
    if not _TIME.fullmatch(time):
        forms = "minutes, [DAYS-]HOURS:MINUTES:SECONDS, MINUTES:SECONDS, DAYS-HOURS or infinite"
        return [f"cluster.time={time}: expected {forms}. Received: {time}."]
    if options.stop_s > 0 and 0 < _seconds(time) <= options.stop_s + _EARLY_S:
        least = f"more than cluster.stop_s={options.stop_s} and the {_EARLY_S} s that Slurm may signal early"
        return [f"cluster.time={time}: expected {least}. Received: {_seconds(time)} s."]
    return []


def _seconds(time: str) -> int:
    """A time limit as Slurm takes it, in seconds; 0: none."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    # One number is minutes, two are minutes and seconds; after days, it begins with hours.
    hours, minutes, seconds = [*parts, 0, 0][:3] if dash or len(parts) == 3 else ([0, *parts, 0])[:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
