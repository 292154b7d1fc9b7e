"""A sweep as a job of a Ray cluster's job server, as `ray job submit` makes it.

The cluster shares nothing with this machine: the project and the modules in the current folder travel, the job runs on
the cluster's head, and its folder is there. Who may submit is up to Ray (`RAY_AUTH_TOKEN`, `~/.ray/auth_token`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Optional

from sweeps.errors import SweepError, UsageError
from sweeps.jobs.job import HandedOver, PlannedNode, Terminal
from sweeps.jobs.remote_job import RemoteJob
from sweeps.machine.node import Node
from sweeps.process.interrupts import EXIT_CODE
from sweeps.sources import baggage, provenance
from sweeps.typed.command_line import Request, text
from tracking.text.printable import printable_lines

_STOP_S = 60
"""How long a job that is being stopped has to save its results, seconds; Ray's own default is 3."""
_AGAIN_S = 0.2
"""Time between two requests to the job server, seconds; doubled by each that fails."""
_MOST_FAILURES = 7
"""After so many in a row without new output, following ends: 25 seconds."""
_NOT_STARTED = (126, 127)
"""Exit codes of a shell that found nothing to run; larger ones, except 130, are those of killed processes."""
_NEVER_BEGAN = (
    "RUNTIME_ENV_SETUP_FAILURE",
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE",
    "JOB_ENTRYPOINT_COMMAND_START_ERROR",
)
"""Ray's error types of jobs whose command never ran."""
_COLOURS = re.compile(r"\x1b\[[\d;]*m")
"""The colour codes in Ray's own lines of a job's log."""
_GATEWAY = re.compile(r"status code 50[234]")
"""The answer of a gateway behind which the job server may have accepted the job."""


@dataclass(frozen=True, kw_only=True)
class EntryPoint:
    """A job that is ready to be submitted: its command line on the cluster and its environment there."""

    address: str
    name: str
    folder: str
    entrypoint: str
    env: Mapping[str, str]
    follow: bool
    targets: Sequence[str]

    @property
    def text(self) -> str:
        """The entry point as the head's shell will read it."""
        return f"{self.entrypoint}\n"

    def submit(self, terminal: Terminal) -> HandedOver:
        """Submit, and with `follow` wait for the sweep's exit code.

        Raises UsageError if nothing was submitted or the sweep cannot have begun, SweepError if either is unknown.
        """
        for variable in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            os.environ.pop(variable, None)  # they would take precedence over the address
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
            logging.getLogger(name).setLevel(logging.ERROR)
        sent = False
        try:
            client = JobSubmissionClient(self.address)
            with tempfile.TemporaryDirectory() as staged:
                baggage.pack(Path(staged), Path.cwd(), self.targets)
                provenance.carry(Path(staged), Path.cwd())
                sent = True
                client.submit_job(
                    entrypoint=self.entrypoint,
                    submission_id=self.name,
                    runtime_env={"working_dir": staged, "env_vars": dict(self.env)},
                    metadata={"sweep": self.name},
                )
        except AuthenticationError as error:
            token = "expected its token in RAY_AUTH_TOKEN or ~/.ray/auth_token, and RAY_AUTH_MODE=token"
            raise UsageError([f"{self.address} refused: {str(error).splitlines()[0]}; {token}"]) from error
        except (OSError, RuntimeError, ValueError) as error:  # what requests raises is an OSError
            if sent and (isinstance(error, OSError) or _GATEWAY.search(str(error))):
                hint = f"{_command('status', self.name, self.address)} shows whether it accepted the job"
                raise SweepError(f"the job server at {self.address} did not answer: {error}; {hint}") from error
            raise UsageError([f"the job server at {self.address} did not accept the job: {error}"]) from error
        state, stop = (_command(verb, self.name, self.address) for verb in ("status", "stop"))
        terminal.say(f"Job      {self.name}; {state} shows its state, {stop} stops it")
        terminal.say(f"Output   {_command('logs --follow', self.name, self.address)}")
        terminal.say(f"Results  {self.folder} on the cluster's head")
        if not self.follow:
            return HandedOver(0, self.name)
        try:
            return HandedOver(asyncio.run(_follow(client, self.name, self.address)), self.name)
        except KeyboardInterrupt:
            terminal.say(f"The job goes on; {_command('stop', self.name, self.address)} stops it.")
            raise


@dataclass
class RayJob(RemoteJob):
    """A Ray cluster's job server; `conf/cluster/ray_job.yaml` explains each option."""

    name: str = "ray_job"
    address: Optional[str] = None  # noqa: UP045 - OmegaConf reads the annotation at run time
    folder: str = "~/sweeps"
    follow: bool = False
    env: list[str] = field(default_factory=list)

    carries_modules: ClassVar[bool] = True

    def problems(self) -> list[str]:
        problems = []
        if self.address is None or not self.address.startswith(("http://", "https://")):
            received = f"Received: {self.address}."
            dashboard = "the cluster's dashboard, such as http://head.example:8265"
            problems.append(f"cluster.address: expected {dashboard}. {received}")
        if not self.folder.startswith(("/", "~/")):
            problems.append(f"cluster.folder={self.folder}: expected an absolute path on the cluster's head.")
        unset = [name for name in self.env if name not in os.environ]
        return problems + [f"cluster.env: expected a variable that is set here. Received: {name}." for name in unset]

    def node(self) -> Node:
        return PlannedNode(cpus=sys.maxsize, gpus=sys.maxsize, name="a node of cluster=ray_job")

    def remote_job(self, request: Request) -> EntryPoint:
        """Return the job that runs the request in a folder of its name, or resumes an existing sweep."""
        assert self.address is not None
        if request.resume is not None:
            folder = request.resume if request.resume.startswith(("/", "~/")) else f"{self.folder}/{request.resume}"
            added = [f"resume={text(folder)}"]
        else:
            folder = f"{self.folder}/{request.name}"
            added = [f"hydra.sweep.dir={text(folder)}", f"hydra.run.dir={text(folder)}"]
        added += [*request.tracking(f"sqlite:///{self.folder}/mlflow.db"), "cluster=ray", "cluster.address=auto"]
        env = {variable: os.environ[variable] for variable in self.env}
        return EntryPoint(
            address=self.address,
            name=request.name,
            folder=folder,
            entrypoint=" ".join(["python", "sweeps/run.py", *map(_quoted, [*request.arguments, *added])]),
            env={
                **env,
                **request.environment,
                "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_S),
                "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
            },
            follow=self.follow,
            targets=request.targets,
        )


def _quoted(argument: str) -> str:
    """Return an argument quoted for the head's shell, which is to expand a home folder in it."""
    before, tilde, after = argument.partition("~/")
    if not tilde:
        return shlex.quote(argument)
    return f'{shlex.quote(before)}"$HOME"/{shlex.quote(after)}'


async def _follow(client: Any, name: str, address: str) -> int:
    """Print the job's log as it grows, reconnecting when the connection breaks, and return the sweep's exit code.

    Raises SweepError if reconnecting fails repeatedly or the job ended without its sweep, UsageError if the sweep
    cannot have begun.
    """
    import aiohttp
    from ray.job_submission import JobStatus

    written = failures = 0
    while True:
        try:
            passed = 0
            async for lines in client.tail_job_logs(name):  # always from the beginning
                new = lines[max(0, written - passed) :]
                passed += len(lines)
                if new:
                    _show(new)
                    written, failures = passed, 0
            info = client.get_job_info(name)
            while not info.status.is_terminal():
                await asyncio.sleep(_AGAIN_S)
                info = client.get_job_info(name)
            break
        except (aiohttp.ClientError, RuntimeError, OSError) as error:
            failures += 1
            if failures == _MOST_FAILURES:
                hint = f"{_command('logs --follow', name, address)} follows it"
                raise SweepError(f"the job server no longer answers ({error}). The job goes on; {hint}") from error
            await asyncio.sleep(_AGAIN_S * 2**failures)
    if info.status == JobStatus.STOPPED:
        return EXIT_CODE
    code = info.driver_exit_code
    if code is not None and (0 <= code < min(_NOT_STARTED) or code == EXIT_CODE):
        return int(code)
    cause = next(iter((info.message or "").splitlines()), "no reason given").partition(", last available logs")[0]
    problem = f"the job {name} ended without its sweep: {cause}"
    if code in _NOT_STARTED or (code is None and info.error_type in _NEVER_BEGAN):
        raise UsageError([problem])
    raise SweepError(problem)


def _command(verb: str, name: str, address: str) -> str:
    """Return a command of Ray's about a job as a user would type it."""
    return f"`{shlex.join(['ray', 'job', *verb.split(), name, '--address', address])}`"


def _show(text: str) -> None:
    try:
        sys.stdout.write(printable_lines(_COLOURS.sub("", text)))
        sys.stdout.flush()
    except BrokenPipeError:
        raise KeyboardInterrupt from None  # the reader of our output has gone, not the job server
