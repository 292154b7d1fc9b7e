"""`cluster=slurm`, `ray_job` and `kubernetes`: a sweep that is checked here and runs elsewhere, as a batch job.

What runs there is this same command with `cluster=ray`. Slurm's nodes see this machine's files: the plan lies in the
sweep's folder and the job resumes it. The other two see nothing of it: the job gets the command line anew, and makes
its folder where it runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from sweeps.errors import UsageError
from sweeps.jobs import elsewhere, ray_job, submitted
from sweeps.jobs.kubernetes import manifest
from sweeps.jobs.slurm import batch_script, submission
from sweeps.jobs.slurm import options as slurm
from sweeps.machine import host
from sweeps.machine.node import Node
from sweeps.typed import command_line
from sweeps.typed.arguments import Arguments
from tracking.folder import files
from tracking.folder.journal import DRIVER_LOCK, PLAN, RESULTS, Journal, JournalError
from tracking.record import Device, Sweep
from tracking.redact import redact
from tracking.sinks.mlflow.client import DEFAULT_URI
from tracking.text.printable import printable

KINDS: Mapping[str, ModuleType] = {"slurm": slurm, "ray_job": ray_job, "kubernetes": manifest}
"""Modules by `cluster.name`: each has `Options`, `problems(options)` and `COMMAND`, what it submits with, or None.

Those whose cluster sees nothing of this machine's files have `job(options, request)` too.
"""


_NAMED = re.compile(r"^(\d{8}-\d{6}-[0-9a-f]{6})$")
"""A sweep's id, whose folder on a cluster bears the name of its job."""
_JOB = re.compile(r"sweep-\d{8}-\d{6}-[0-9a-f]{6}$")


class Terminal(Protocol):
    """What is needed of `sweeps.screen.terminal.Terminal`."""

    def say(self, sentence: str) -> None: ...
    def warn(self, sentence: str) -> None: ...
    def text(self, text: str) -> None: ...


class Handed(NamedTuple):
    """What became of a sweep that was handed over."""

    exit_code: int
    """The sweep's where the job was waited for, else 0."""
    job: str | None
    """The job's id or name; None: it was only shown."""


class _Asked(Node):
    """A node that the job will get: only its cores and GPUs are known before."""

    def misses(self, device: Device) -> list[str]:
        return super().misses(replace(device, accelerator=None, node_labels={}, resources={}))


def problems(values: Mapping[str, Any]) -> list[str]:
    """What of a composed config no batch job of its kind can be, a sentence each; other clusters have none here."""
    cluster = dict(values["cluster"])
    if (kind := KINDS.get(cluster["name"])) is None:
        return []
    found: list[str] = kind.problems(kind.Options(**cluster))
    if kind.COMMAND is not None and shutil.which(kind.COMMAND) is None and not values["dry_run"]:
        without = "dry_run=true shows the job without it"
        found.append(f"cluster={cluster['name']}: expected the command {kind.COMMAND} here. Received: none; {without}.")
    if (objective := values["objective"]) is not None:
        found.append(f"objective={objective}: expected a cluster that a sweeper can wait for, as cluster=ray.")
    if not shares_files(cluster["name"]):
        found += elsewhere.problems(values)
    if not shares_files(cluster["name"]) and values["resume"] == "latest":
        found.append(f"resume: expected a sweep's name or folder on the cluster={cluster['name']}. Received: latest.")
    if not shares_files(cluster["name"]) and redact(uri := values["tracking"]["uri"]) != uri:
        found.append("tracking.uri: expected an address without a password, which the cluster would show to others.")
    return found


def shares_files(cluster: str) -> bool:
    """Whether the job sees this machine's files, so that a sweep's folder is the same there as here."""
    return cluster not in KINDS or cluster == "slurm"


def has_this_environment(options: Any) -> bool:
    """Whether what can be imported here can be imported in the job, and what cannot, cannot."""
    if options.name != "slurm":
        return False
    return not (options.container or options.venv or options.setup or (options.gpus and not host.gpu_facts()))


def node(options: Any) -> Node:
    """What each node of the job will offer, as far as its options say."""
    name = f"a node of cluster={options.name}"
    if options.name == "ray_job":
        return _Asked(cpus=sys.maxsize, gpus=sys.maxsize, name=name)
    return _Asked(cpus=options.cpus or sys.maxsize, gpus=options.gpus, name=name)


def hand_over(
    options: Any, values: Mapping[str, Any], arguments: Arguments, sweep: Sweep | None, terminal: Terminal
) -> Handed:
    """Submit the sweep as a batch job; with `dry_run`, only show the job. Without a sweep, one there is resumed.

    `values` is the composed config and `arguments` are those of the command that it came from.
    Raises UsageError, SweepError.
    """
    if options.name == "slurm":
        assert sweep is not None
        return _slurm(options, values, sweep, terminal)
    uri = values["tracking"]["uri"]
    given = command_line.for_job(arguments)
    texts = {"resume": values["resume"] or "", **{argument.partition("=")[0]: argument for argument in given}}
    if found := [*_unwritable(texts), *elsewhere.option_problems(arguments.words, options.name)]:
        raise UsageError(found)
    resumed = None if values["resume"] is None else _NAMED.sub(r"sweep-\1", values["resume"])
    name = _another_name(resumed or "") if sweep is None else submitted.job_name(sweep.sweep_id)
    chosen = arguments.keys & {"tracking", "tracking.uri"}
    request = command_line.Request(
        name=name,
        arguments=given,
        resume=resumed,
        uri=None if uri == DEFAULT_URI else uri,
        keeps_uri=sweep is None and not chosen,
        targets=[trial.target for trial in (sweep.trials if sweep else ()) if trial.target],
        environment=submitted.environment(sweep) if sweep is not None else {},
    )
    job = KINDS[options.name].job(options, request)
    if values["dry_run"]:
        terminal.text(job.text)
        return Handed(0, None)
    return Handed(job.submit(terminal.say), name)


def _another_name(resumed: str) -> str:
    """The name of a job that resumes a sweep on the cluster: the one before it may still be known there."""
    known = _JOB.search(resumed)
    return f"{known[0]}-{uuid.uuid4().hex[:6]}" if known else f"sweep-{uuid.uuid4().hex[:12]}"


def _slurm(options: slurm.Options, values: Mapping[str, Any], sweep: Sweep, terminal: Terminal) -> Handed:
    folder = Path(sweep.folder)
    arguments, environment = command_line.as_composed(values)
    environment[command_line.IN_JOB] = sweep.sweep_id
    places = {
        "the sweep's folder": str(folder),
        "the current folder": str(Path.cwd()),
        "this Python's folder": sys.prefix,
    }
    found = _unwritable(places | {argument.partition("=")[0]: argument for argument in arguments})
    if found := [*found, *slurm.folder_problems(sweep.sweep_id, folder)]:
        raise UsageError(found)
    text = batch_script.text(options, sweep_id=sweep.sweep_id, folder=folder, cwd=Path.cwd(), arguments=arguments)
    if values["dry_run"]:
        terminal.text(text)
        return Handed(0, None)
    name = f"sweep-{sweep.sweep_id}"
    try:
        with _written(folder, sweep, text) as path:
            job = submission.submit(path, options, name, os.environ, environment)
    except (JournalError, OSError) as error:
        raise UsageError([f"expected a results folder that can be written. Received: {error}"]) from error
    except submission.RefusedError as error:
        raise UsageError([str(error)]) from error
    for remark in job.remarks.splitlines():
        terminal.warn(printable(remark))
    if sentence := submission.obstacle(job, os.environ):
        terminal.warn(sentence)
    if options.parsable:
        terminal.text(f"{job}\n")
        return Handed(0, job.number)
    state, stop = f"scontrol {job.where}show job {job.number}", f"scancel {job.where}{job.number}"
    terminal.say(f"Job      {job.number}; `{state}` tells its state, `{stop}` stops it")
    terminal.say(f"Output   {folder}/slurm-{job.number}.out")
    terminal.say(f"Results  {folder}; `{command_line.resuming_command(str(folder))}` runs what may be left")
    return Handed(0, job.number)


@contextlib.contextmanager
def _written(folder: Path, sweep: Sweep, script: str) -> Iterator[Path]:
    """The batch script in the sweep's folder, beside its plan, for the body; if Slurm refuses it, all is as before."""
    path = folder / slurm.SCRIPT
    before = files.read(folder, slurm.SCRIPT) if path.is_file() else None
    new = not (folder / PLAN).is_file()
    if new:
        with Journal(folder) as journal:
            journal.write_plan(sweep)
    files.write(folder, slurm.SCRIPT, script.encode())
    try:
        yield path
    except submission.RefusedError:
        if before is not None:
            files.write(folder, slurm.SCRIPT, before)
        for name in (slurm.SCRIPT,) * (before is None) + (PLAN, RESULTS, DRIVER_LOCK) * new:
            (folder / name).unlink(missing_ok=True)
        raise


def _unwritable(texts: Mapping[str, str]) -> list[str]:
    """A sentence for each of these texts, by what they are, that no script can hold on one line."""
    return [
        f"{what}: expected a name without control characters, which a batch job's script cannot hold. "
        f"Received: {printable(text)}."
        for what, text in texts.items()
        if printable(text) != text
    ]
