"""`cluster=slurm`, `ray_job` and `kubernetes`: a sweep that is checked here and runs elsewhere, as a batch job.

What runs there is this same command with `cluster=ray`. Slurm's nodes see this machine's files: the plan lies in the
sweep's folder and the job resumes it. The other two see nothing of it: the job gets the command line anew, and makes
its folder where it runs.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from sweeps.cluster import kubernetes, ray_job, slurm
from sweeps.devices import Node
from sweeps.errors import UsageError
from tracking.journal import PLAN, Journal, JournalError
from tracking.record import Device, Sweep
from tracking.redact import redact

KINDS: Mapping[str, ModuleType] = {"slurm": slurm, "ray_job": ray_job, "kubernetes": kubernetes}
"""Modules by `cluster.name`; each has `Options` and `problems(options)`."""
_PER_COMMAND = ("tracking", "calibrate", "rerun", "retries", "oom_ceiling", "fail_fast")
"""Keys that `resume=` takes from its own command line and not from the plan."""
_OURS = re.compile(r"[+~]*(cluster|dry_run|resume|hydra\.(sweep|run)\.dir)(\.[\w.]+)?(@.*)?=")
"""Arguments of this command that the job gets with values of its own."""
_PLAIN = re.compile(r"[\w:/.@%+-]+")


class Terminal(Protocol):
    """What is needed of `sweeps.terminal.Terminal`."""

    def say(self, sentence: str) -> None: ...
    def text(self, text: str) -> None: ...


class _Unknown(Node):
    """A cluster of which nothing is known before the job asks it."""

    def misses(self, device: Device) -> list[str]:  # noqa: ARG002
        return []


def problems(values: Mapping[str, Any]) -> list[str]:
    """What of a composed config no batch job of its kind can be, a sentence each; other clusters have none here."""
    cluster = dict(values["cluster"])
    if (kind := KINDS.get(cluster["name"])) is None:
        return []
    found: list[str] = kind.problems(kind.Options(**cluster))
    if values["objective"] is not None:
        found.append(f"objective={values['objective']}: expected a cluster that the sweeper can wait for, as cluster=ray.")
    secret = any(redact(argument) != argument for argument in sys.argv[1:])
    if secret and cluster["name"] != "slurm":
        found.append("a password in the command line would be readable on the cluster: expected it in its environment.")
    return found


def node(options: Any) -> Node:
    """What each node of the job will offer, as far as the options say."""
    name = f"a node of cluster={options.name}"
    if options.name == "ray_job":
        return _Unknown(cpus=sys.maxsize, name=name)
    return Node(cpus=options.cpus or sys.maxsize, gpus=options.gpus, name=name)


def slurm_job(options: Any, values: Mapping[str, Any], sweep: Sweep, terminal: Terminal) -> int:
    """Write the sweep's plan and batch script and submit it; with `dry_run`, only show the script. Gives the exit code.

    Raises UsageError where there is no Slurm or the folder cannot be written, SweepError when sbatch refuses.
    """
    folder = Path(sweep.folder)
    arguments, environment = _per_command(values)
    text = slurm.script(options, sweep_id=sweep.sweep_id, folder=folder, cwd=Path.cwd(), arguments=arguments)
    if values["dry_run"]:
        terminal.text(text)
        return 0
    if shutil.which("sbatch") is None:
        raise UsageError(["cluster=slurm: expected the command sbatch here. Received: none; dry_run=true needs none."])
    _keep_plan(sweep)
    path = folder / slurm.SCRIPT
    path.write_text(text, encoding="utf-8")
    job = slurm.submit(path, {**os.environ, **environment})
    terminal.say(f"Job      {job}; `scontrol show job {job}` tells its state, `scancel {job}` stops it")
    terminal.say(f"Output   {folder}/slurm-{job}.out")
    terminal.say(f"Results  {folder}; `cluster=slurm resume={folder}` runs what may be left")
    return 0


def remote_job(options: Any, values: Mapping[str, Any], name: str, terminal: Terminal) -> int:
    """Submit the command line to a cluster that shares nothing with this machine; with `dry_run`, only show the job.

    Gives the exit code: the sweep's where the job was followed, else 0. Raises UsageError, SweepError.
    """
    given = [argument for argument in sys.argv[1:] if not _OURS.match(argument)]
    if values["tracking"]["uri"] and not any("tracking.uri=" in argument for argument in given):
        given.append(f"tracking.uri={_override(values['tracking']['uri'])}")
    job = KINDS[options.name].job(options, name=f"sweep-{name}", arguments=given, resume=values["resume"])
    if values["dry_run"]:
        terminal.text(job.text)
        return 0
    return int(job.submit(terminal.say))


def _keep_plan(sweep: Sweep) -> None:
    """Write the plan where there is none yet."""
    folder = Path(sweep.folder)
    if not (folder / PLAN).is_file():
        try:
            with Journal(folder) as journal:
                journal.write_plan(sweep)
        except JournalError as error:
            raise UsageError([str(error)]) from error


def _per_command(values: Mapping[str, Any]) -> tuple[list[str], Mapping[str, str]]:
    """Settings that the job is to have as this command has them: arguments, and environment for what is secret."""
    flat: dict[str, Any] = {}
    for key in _PER_COMMAND:
        value = values[key]
        flat |= {f"{key}.{leaf}": value[leaf] for leaf in value} if isinstance(value, Mapping) else {key: value}
    environment = {}
    if redact(flat["tracking.uri"]) != flat["tracking.uri"]:
        environment["MLFLOW_TRACKING_URI"] = flat.pop("tracking.uri")
    return [f"{key}={_override(value)}" for key, value in flat.items() if value is not None], environment


def _override(value: Any) -> str:
    """A value as Hydra's command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_override, value))}]"
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        quoted = value.replace("'", "\\'")
        return f"'{quoted}'"
    return str(value)
