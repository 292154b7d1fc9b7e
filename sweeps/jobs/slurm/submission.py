"""Submits the batch script of a sweep to Slurm, and explains why its job does not start."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sweeps.errors import SweepError
from sweeps.jobs.job import RefusedError
from sweeps.jobs.slurm import sbatch_options
from sweeps.jobs.slurm.options import COMMAND, Options

_LOOK_S = 3.0
"""How long to wait for Slurm to report why a job waits, seconds."""
_ASK_S = 20.0
_UNCLEAR = re.compile(r"(?i)timed out|timeout|zero bytes|connection reset|unexpected message|socket")
"""Messages of sbatch after which the controller may have accepted the job anyway."""
_JOB = re.compile(r"(\d+)(?:;(\S+))?")
_SETS_SLURM_UP = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_DEBUG_FLAGS", "SLURM_JWT", "SLURM_UMASK")
"""Variables that a user or site sets for Slurm's commands. All other SLURM_ variables belong to an allocation."""
_OF_AN_ALLOCATION = re.compile(r"(SLURMD?|SRUN|PMIX?|SBATCH_(CPU|MEM)_BIND)_")
_DEVICES = (
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
    "GPU_DEVICE_ORDINAL",
)
"""Variables in which Slurm lists the GPUs of an allocation."""
_NOT_FOR_US = ("ARRAY_INX", "ERROR", "INPUT", "WAIT", "JOB_NAME", "OUTPUT", "OPEN_MODE", "NO_KILL", "SIGNAL")
"""SBATCH_... of options that the script relies on: variables take precedence over `#SBATCH` lines."""
_VARIABLES = {"time": ("TIMELIMIT",), "mem": ("MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU"), "requeue": ("NO_REQUEUE",)}
_GPUS = ("GPUS", "GPUS_PER_NODE", "GPUS_PER_TASK", "GPUS_PER_SOCKET", "GRES")

_CHANGE: Mapping[str, str] = {
    r".*(Time|Wall).*": "a shorter cluster.time, or another cluster.partition",
    r".*Node(Limit|s?PerJob.*|.*PerUser.*)|QOSMinNode": "another cluster.nodes or cluster.partition",
    r".*Cpu.*": "another cluster.cpus or cluster.nodes",
    r".*Mem.*": "another cluster.memory",
    r".*GRES.*": "another cluster.gpus",
    r"InvalidAccount|AccountNotAllowed|.*Assoc.*": "another cluster.account; `sacctmgr show associations` lists yours",
    r".*QOS.*": "another QOS, with +cluster.sbatch.qos=NAME",
    r"BadConstraints": "another constraint or cluster.partition; `sinfo -o '%P %D %c %m %f %G'` lists what nodes have",
    r"DependencyNeverSatisfied": "another +cluster.sbatch.dependency",
    r"Partition(Config|Down|Inactive)": "fewer nodes or another cluster.partition; `sinfo` lists them",
}
"""What to change, by Slurm's reason for not starting a job; the first match counts."""
_NEVER = re.compile(
    r"PartitionNodeLimit|PartitionTimeLimit|PartitionConfig|BadConstraints|DependencyNeverSatisfied|InvalidAccount"
    r"|InvalidQOS|QOSNotAllowed|AccountNotAllowed|AccountingPolicy|MaxMemPerLimit|ReservationDeleted"
    r"|(Assoc|QOS)Max\w*(PerJob|PerNode)(Limit)?|QOSMin\w+"
)
"""Reasons that last until the job or the limits are changed."""
_WAITS = re.compile(
    r"PartitionDown|PartitionInactive|ReqNodeNotAvail.*|NodeDown|Nodes_required_for_job_are_DOWN.*|JobHeld(User|Admin)"
    r"|(Assoc|QOS)(Grp|Max)\w*(Limit|PerUser|PerAccount)?|QOSUsageThreshold"
)
"""Reasons that may last until somebody else does something."""


@dataclass(frozen=True)
class Job:
    """A job that Slurm has accepted."""

    number: str
    cluster: str = ""
    """The name of its cluster, if Slurm manages several."""
    remarks: str = ""
    """Further output of sbatch's."""

    @property
    def where(self) -> str:
        """The option with which Slurm's commands find its cluster, followed by a blank; empty without one."""
        return f"-M {shlex.quote(self.cluster)} " if self.cluster else ""

    def __str__(self) -> str:
        return f"{self.number};{self.cluster}" if self.cluster else self.number


def submit(path: Path, options: Options, name: str, environment: Mapping[str, str], secrets: Mapping[str, str]) -> Job:
    """Submit the script with sbatch as the job `name`, with `secrets` in its environment.

    Raises RefusedError with sbatch's message if nothing was submitted, SweepError if that is unknown.
    """
    clean = without_allocation(environment, options)
    command = [COMMAND, "--parsable", *_exported(options, clean, secrets), str(path)]
    try:
        done = subprocess.run(command, env={**clean, **secrets}, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RefusedError(f"sbatch could not be started, nothing was submitted: {error}") from error
    remarks = done.stderr.strip()
    # A wrapper of the site's own may print more.
    numbers = [match for line in done.stdout.splitlines() if (match := _JOB.fullmatch(line.strip()))]
    if done.returncode == 0 and numbers:
        return Job(numbers[-1][1], numbers[-1][2] or "", remarks)
    if done.returncode > 0 and not _UNCLEAR.search(remarks):
        raise RefusedError(f"sbatch refused {path}: {remarks or f'exit code {done.returncode}'}")
    # The controller may have accepted it anyway; only this sweep has that name.
    if number := _output_of(["squeue", "--noheader", f"--name={name}", "--format=%i"], clean).split():
        return Job(number[-1], "", remarks)
    why = remarks or done.stdout.strip() or f"exit code {done.returncode}"
    raise SweepError(
        f"sbatch did not report whether it accepted {path}: {why}; `squeue --name={name}` shows the job if it did"
    )


def without_allocation(environment: Mapping[str, str], options: Options) -> dict[str, str]:
    """Return the environment without the variables of a surrounding allocation and those that would override `options`.

    Variables by which a user or site chooses what the options leave open (SBATCH_ACCOUNT, SBATCH_QOS, ...) stay.
    """
    given = {"time": options.time, "mem": options.memory, "partition": options.partition, "account": options.account}
    set_options = {key for key, value in given.items() if value is not None} | sbatch_options.names(options.sbatch)
    set_options |= {"exclusive"} if options.cpus is None else set()
    set_options |= {"requeue"} if options.requeue else set()
    dropped = set(_NOT_FOR_US) | (set(_GPUS) if options.gpus else set())
    for option in set_options:
        dropped |= {option.upper().replace("-", "_"), *_VARIABLES.get(option, ())}
    removed = {f"SBATCH_{each}" for each in dropped} | (set(_DEVICES) if "SLURM_JOB_ID" in environment else set())
    return {
        key: value
        for key, value in environment.items()
        if key in _SETS_SLURM_UP or not (key in removed or _OF_AN_ALLOCATION.match(key))
    }


def _exported(options: Options, environment: Mapping[str, str], secrets: Iterable[str]) -> list[str]:
    """Return the option that passes the secrets to a job which does not get all variables; empty: not needed."""
    export = sbatch_options.value_of(options.sbatch, "export") or environment.get("SBATCH_EXPORT", "ALL")
    names = [name for name in export.split(",") if name.upper() not in ("NONE", "NIL")]
    return [] if "ALL" in names or not secrets else [f"--export={','.join([*names, *secrets])}"]


def obstacle(job: Job, environment: Mapping[str, str]) -> str | None:
    """Return why the job does not start, and the next step, if Slurm soon reports that waiting does not help."""
    deadline = time.monotonic() + _LOOK_S
    command = ["squeue", *(["-M", job.cluster] if job.cluster else []), "--noheader", f"--jobs={job.number}"]
    while True:
        state, _, reason = _output_of([*command, "--format=%T %r"], environment).strip().partition(" ")
        late = time.monotonic() > deadline
        # At first, Slurm has no reason, or one that becomes more specific a moment later.
        if state != "PENDING" or reason not in ("", "None", "PartitionConfig") or late:
            return sentence(reason, job) if state == "PENDING" else None
        time.sleep(0.3)


def sentence(reason: str, job: Job) -> str | None:
    """Return what Slurm's reason means for a job that has not started; None: it only waits for its turn."""
    name = reason.partition(",")[0].replace(" ", "_")
    show = f"`scontrol {job.where}show job {job.number}` says more"
    if _NEVER.fullmatch(name):
        change = next((change for pattern, change in _CHANGE.items() if re.fullmatch(pattern, name)), "other options")
        stop = f"`scancel {job.where}{job.number}`, then {change}"
        return f"job {job.number} can never start as submitted: Slurm reports {reason}. Next: {stop}"
    if name.startswith("JobHeld"):
        release = f"`scontrol {job.where}release {job.number}`"
        return f"job {job.number} is held and does not start: Slurm reports {reason}. Next: {release}"
    if _WAITS.fullmatch(name):
        return f"job {job.number} does not start yet, and may not for long: Slurm reports {reason}; {show}"
    return None


def _output_of(command: list[str], environment: Mapping[str, str]) -> str:
    """Return the output of a command of Slurm's; empty if it fails."""
    try:
        done = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, timeout=_ASK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
