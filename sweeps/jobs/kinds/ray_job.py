"""A sweep as a job of a Ray cluster's job server, `ray job submit`'s way.

The cluster shares nothing with this machine: the project and the modules beside the command travel, the job runs on the
cluster's head, and its folder is there. Ray's own settings say who may submit (`RAY_AUTH_TOKEN`, `~/.ray/auth_token`).
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
from sweeps.jobs.job import Handed, PlannedNode, RemoteJob, Terminal
from sweeps.machine.node import Node
from sweeps.process.interrupts import EXIT_CODE
from sweeps.sources import baggage, provenance
from sweeps.typed.command_line import Request, text
from tracking.text.printable import printable_lines

_STOP_S = 60
"""Time that a job which is stopped has to keep what it found, seconds; Ray's own default is 3."""

_AGAIN_S = 0.2
"""Between two questions to the job server, seconds; doubled by each that it does not answer."""
_MOST_FAILURES = 7
"""So many in a row, with nothing new in between, are the end of following: 25 seconds."""
_NOT_STARTED = (126, 127)
"""The exit codes of a shell that found nothing to run; larger ones, 130 apart, are those of killed processes."""
_NEVER_BEGAN = (
    "RUNTIME_ENV_SETUP_FAILURE",
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT",
    "JOB_SUPERVISOR_ACTOR_START_FAILURE",
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE",
    "JOB_ENTRYPOINT_COMMAND_START_ERROR",
)
"""What Ray calls the ends of jobs whose command was never run."""
_COLOURS = re.compile(r"\x1b\[[\d;]*m")
"""What Ray's own lines in a job's log have for a terminal."""
_GATEWAY = re.compile(r"status code 50[234]")
"""The answer of a gateway, behind which the job server may have taken the job."""


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
        """The entry point, as the head's shell will read it."""
        return f"{self.entrypoint}\n"

    def submit(self, terminal: Terminal) -> Handed:
        """Submit, and with `follow` wait for the sweep's exit code. Raises SweepError, UsageError."""
        for variable in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            os.environ.pop(variable, None)  # they would win over what was asked for
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
            logging.getLogger(name).setLevel(logging.ERROR)
        asked = False
        try:
            client = JobSubmissionClient(self.address)
            with tempfile.TemporaryDirectory() as staged:
                baggage.pack(Path(staged), Path.cwd(), self.targets)
                provenance.carry(Path(staged), Path.cwd())
                asked = True
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
            if asked and (isinstance(error, OSError) or _GATEWAY.search(str(error))):
                known = f"{_command('status', self.name, self.address)} tells whether it took the job"
                raise SweepError(f"the job server at {self.address} did not answer: {error}; {known}") from error
            raise UsageError([f"the job server at {self.address} did not take the job: {error}"]) from error
        state, stop = (_command(verb, self.name, self.address) for verb in ("status", "stop"))
        terminal.say(f"Job      {self.name}; {state} tells its state, {stop} stops it")
        terminal.say(f"Output   {_command('logs --follow', self.name, self.address)}")
        terminal.say(f"Results  {self.folder} on the cluster's head")
        if not self.follow:
            return Handed(0, self.name)
        try:
            return Handed(asyncio.run(_follow(client, self.name, self.address)), self.name)
        except KeyboardInterrupt:
            terminal.say(f"The job goes on; {_command('stop', self.name, self.address)} stops it.")
            raise


@dataclass
class RayJob(RemoteJob):
    """A Ray cluster's job server; `conf/cluster/ray_job.yaml` says what each option means."""

    name: str = "ray_job"
    address: Optional[str] = None  # noqa: UP045 - OmegaConf reads the annotation at run time
    folder: str = "~/sweeps"
    follow: bool = False
    env: list[str] = field(default_factory=list)

    carries_modules: ClassVar[bool] = True

    def problems(self) -> list[str]:
        found = []
        if self.address is None or not self.address.startswith(("http://", "https://")):
            received = f"Received: {self.address}."
            found.append(f"cluster.address: expected the cluster's dashboard, as http://head.example:8265. {received}")
        if not self.folder.startswith(("/", "~/")):
            found.append(f"cluster.folder={self.folder}: expected an absolute path on the cluster's head.")
        unset = [name for name in self.env if name not in os.environ]
        return found + [f"cluster.env: expected a variable that is set here. Received: {name}." for name in unset]

    def node(self) -> Node:
        return PlannedNode(cpus=sys.maxsize, gpus=sys.maxsize, name="a node of cluster=ray_job")

    def remote_job(self, request: Request) -> EntryPoint:
        """Make the job that runs the request in a folder of its name, or resumes one that is there."""
        assert self.address is not None
        if request.resume is not None:
            folder = request.resume if request.resume.startswith(("/", "~/")) else f"{self.folder}/{request.resume}"
            own = [f"resume={text(folder)}"]
        else:
            folder = f"{self.folder}/{request.name}"
            own = [f"hydra.sweep.dir={text(folder)}", f"hydra.run.dir={text(folder)}"]
        own += [*request.tracking(f"sqlite:///{self.folder}/mlflow.db"), "cluster=ray", "cluster.address=auto"]
        env = {variable: os.environ[variable] for variable in self.env}
        return EntryPoint(
            address=self.address,
            name=request.name,
            folder=folder,
            entrypoint=" ".join(["python", "sweeps/run.py", *map(_quoted, [*request.arguments, *own])]),
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
    """An argument for the head's shell, a home folder in it left to that shell."""
    before, tilde, after = argument.partition("~/")
    if not tilde:
        return shlex.quote(argument)
    return f'{shlex.quote(before)}"$HOME"/{shlex.quote(after)}'


async def _follow(client: Any, name: str, address: str) -> int:
    """Write the job's log as it comes, and give its exit code; a connection that breaks is made anew.

    Raises SweepError where that fails again and again, and where the job ended without its sweep, UsageError where the
    sweep cannot have begun.
    """
    import aiohttp
    from ray.job_submission import JobStatus

    written = failures = 0
    while True:
        try:
            passed = 0
            async for lines in client.tail_job_logs(name):  # from the beginning, each time
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
                how = f"{_command('logs --follow', name, address)} follows it"
                raise SweepError(
                    f"the job server does not answer any more ({error}). The job goes on; {how}"
                ) from error
            await asyncio.sleep(_AGAIN_S * 2**failures)
    if info.status == JobStatus.STOPPED:
        return EXIT_CODE
    code = info.driver_exit_code
    if code is not None and (0 <= code < min(_NOT_STARTED) or code == EXIT_CODE):
        return int(code)
    cause = next(iter((info.message or "").splitlines()), "no reason given").partition(", last available logs")[0]
    words = f"the job {name} ended without its sweep: {cause}"
    if code in _NOT_STARTED or (code is None and info.error_type in _NEVER_BEGAN):
        raise UsageError([words])
    raise SweepError(words)


def _command(verb: str, name: str, address: str) -> str:
    """A command of Ray's for a job, as a shell takes it."""
    return f"`{shlex.join(['ray', 'job', *verb.split(), name, '--address', address])}`"


def _show(text: str) -> None:
    try:
        sys.stdout.write(printable_lines(_COLOURS.sub("", text)))
        sys.stdout.flush()
    except BrokenPipeError:
        raise KeyboardInterrupt from None  # the reader has left, and not the job server
