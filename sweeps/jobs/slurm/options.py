"""The options of `cluster=slurm`, their validation, and the `#SBATCH` lines that they become.

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

from sweeps.jobs.folder_job import FolderJob
from sweeps.jobs.slurm import sbatch_options
from sweeps.wording import at_least
from tracking.text.printable import printable

COMMAND = "sbatch"
SCRIPT = "job.sh"
_EARLY_S = 60
"""How much too early Slurm may send the signal before the time limit, seconds."""
_ID = re.compile(r"[A-Za-z0-9._-]+")
_TIME = re.compile(r"\d+|(\d+-)?\d+(:\d+){0,2}")
_ENDLESS = ("infinite", "unlimited")
_NODES = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass
class Options(FolderJob):
    """The options of `cluster=slurm`; `conf/cluster/slurm.yaml` explains each one."""

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
        problems = at_least("cluster.", vars(self), {"cpus": 1, "gpus": 0, "stop_s": 0, "requeue": 0})
        if not _valid_nodes(self.nodes):
            expected = "expected a number of nodes, at least 1, or a range such as 2-8"
            problems.append(f"cluster.nodes={self.nodes}: {expected}. Received: {self.nodes}.")
        if self.gpu_type is not None and self.gpus == 0:
            problems.append(
                f"cluster.gpu_type={self.gpu_type}: expected cluster.gpus with it. Received: cluster.gpus=0."
            )
        problems += _time_problems(self)
        if self.requeue > 0 and self.stop_s == 0:
            expected = "expected cluster.stop_s above 0 with it, the time for the sweep to stop before it is requeued"
            problems.append(f"cluster.requeue={self.requeue}: {expected}. Received: cluster.stop_s=0.")
        if self.venv is not None and self.container is not None:
            problems.append("cluster.venv, cluster.container: expected one of them. Received: both.")
        lines = {
            key: value for key, value in vars(self).items() if isinstance(value, str) and printable(value) != value
        }
        problems += [
            f"cluster.{key}: expected one line. Received: {value!r}."
            for key, value in lines.items()
            if key not in ("sbatch", "setup")
        ]
        problems += [
            # Without quotation marks, a blank in one of these would begin another option, and a # a comment.
            f"cluster.{key}: expected a non-empty value without quotation marks and backslashes. Received: {value!r}."
            for key, value in _in_directives(self).items()
            if key not in lines and (not value.strip() or set(value) & set('"\\'))
        ]
        if not isinstance(self.setup, str) and not _texts(self.setup):
            problems.append(f"cluster.setup: expected a shell line or a list of them. Received: {self.setup!r}.")
        return problems + sbatch_options.problems(self.sbatch)


def _in_directives(options: Options) -> dict[str, str]:
    """Return the texts that become part of the `#SBATCH` lines of the script, by key."""
    keys = ("gpu_type", "memory", "partition", "account")
    return {key: value for key in keys if (value := getattr(options, key)) is not None}


def setup_lines(options: Options) -> list[str]:
    """Return the shell lines that the user wants to run first."""
    return [options.setup] if isinstance(options.setup, str) else list(options.setup)


def directives(options: Options, sweep_id: str, folder: Path) -> list[str]:
    """Return sbatch's options for this sweep, one per `#SBATCH` line of the script."""
    lines = [
        f"--job-name=sweep-{sweep_id}",
        f'--output="{pattern(folder)}/slurm-%j.out"',
        "--open-mode=append",  # a requeued job continues the same file
        f"--nodes={options.nodes}",
        # With a range, this would make Slurm take as few nodes as fit the tasks. There is one task per node anyway.
        *(["--ntasks-per-node=1"] if str(options.nodes).isdigit() else []),
        "--no-kill",  # a node that fails ends its trials, not the job
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
        # A later submission that resumes the sweep waits for this one.
        "dependency": "singleton",
        "gres": f"gpu:{kind}{options.gpus}" if options.gpus else None,
    }
    return lines + sbatch_options.lines(options.sbatch, {key: value for key, value in ours.items() if value})


def pattern(folder: Path) -> str:
    """Return the folder as part of a file name in which Slurm replaces `%j`."""
    return str(folder).replace("%", "%%")


def folder_problems(sweep_id: str, folder: Path) -> list[str]:
    """Return the problems with a folder or id that the `#SBATCH` lines, which no shell reads, cannot hold."""
    problems = []
    if any(sign in str(folder) for sign in '"\\'):
        expected = "a name without quotation marks and backslashes, which #SBATCH lines cannot hold"
        problems.append(f"the sweep's folder: expected {expected}. Received: {folder}.")
    if not _ID.fullmatch(sweep_id):
        problems.append(f"sweep_id: expected letters, digits, '.', '_' and '-'. Received: {printable(sweep_id)}.")
    return problems


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
    """Return a time limit in one of Slurm's forms in seconds; 0: no limit."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    # One number is minutes, two are minutes and seconds; after days, the first is hours.
    hours, minutes, seconds = [*parts, 0, 0][:3] if dash or len(parts) == 3 else ([0, *parts, 0])[:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
