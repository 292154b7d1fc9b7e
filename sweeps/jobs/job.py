"""The interface of a batch job: a sweep that is checked here and runs elsewhere.

The job runs this same command with `cluster=ray`. If it sees this machine's files, the plan is in the sweep's folder
and the job resumes it. If not (`RemoteJob`), it gets the command line again, and creates its folder where it runs.
"""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from nets import custom
from sweeps.cluster import Cluster, Site, Surroundings
from sweeps.errors import UsageError
from sweeps.jobs import elsewhere, submitted
from sweeps.machine.node import Node
from sweeps.typed import command_line
from sweeps.typed.arguments import Arguments
from tracking.record import Sweep, Trial
from tracking.schema.device import Device
from tracking.sinks.mlflow.client import DEFAULT_URI
from tracking.text.printable import printable
from tracking.text.redact import redact

_SWEEP_ID = re.compile(r"^(\d{8}-\d{6}-[0-9a-f]{6})$")
"""A sweep's id; the sweep's folder on a cluster is named after its job."""
_JOB_NAME = re.compile(r"sweep-\d{8}-\d{6}-[0-9a-f]{6}$")


class Terminal(Protocol):
    """The part of `sweeps.screen.terminal.Terminal` that a submission needs."""

    def say(self, sentence: str) -> None: ...
    def warn(self, sentence: str) -> None: ...
    def text(self, text: str) -> None: ...


class HandedOver(NamedTuple):
    """The result of handing a sweep over."""

    exit_code: int
    """The sweep's exit code if the job was waited for, else 0."""
    job: str | None
    """The job's id or name; None: nothing was submitted."""


class Order(NamedTuple):
    """The command whose sweep is handed over."""

    values: Mapping[str, Any]
    """The composed config."""
    arguments: Arguments
    sweep: Sweep | None
    """None: the job resumes a sweep whose folder is on the cluster."""


class Job(Protocol):
    """A batch job that is ready to be submitted."""

    @property
    def text(self) -> str:
        """The text that is submitted, for the user to read."""

    def submit(self, terminal: Terminal) -> HandedOver:
        """Submit it. Raises UsageError if nothing was submitted, SweepError if that is unknown."""


class PlannedNode(Node):
    """A node that the job will get: until then, only its cores and GPUs are known."""

    def misses(self, device: Device) -> list[str]:
        return super().misses(replace(device, accelerator=None, node_labels={}, resources={}))


class PlannedSite(Site):
    """The nodes that a job will get, as far as its options determine them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def nodes(self, trials: Sequence[Trial], *, dry_run: bool) -> tuple[list[Node], list[str]]:  # noqa: ARG002
        return [self._node], []


@dataclass
class BatchJob(Cluster):
    """A batch system. A subclass in `sweeps.jobs.kinds` has its options and makes the job from them."""

    is_batch: ClassVar[bool] = True
    submits_with: ClassVar[str | None] = None
    """The command that must be installed here; None: none."""
    checks_imports: ClassVar[bool] = False
    """Whether this command tries to import, before it submits the job, what trials import."""

    @property
    def has_this_environment(self) -> bool:
        """Whether the job can import exactly what can be imported here."""
        return False

    def node(self) -> Node:
        """Return what each node of the job will offer, as far as the options determine it."""
        raise NotImplementedError

    def job(self, order: Order) -> Job:
        """Return the job. Raises UsageError for a command that its script cannot hold."""
        raise NotImplementedError

    def site(self, surroundings: Surroundings) -> Site:  # noqa: ARG002
        return PlannedSite(self.node())

    def config_problems(self, values: Mapping[str, Any]) -> list[str]:
        problems, command = self.problems(), self.submits_with
        if command is not None and shutil.which(command) is None and not values["dry_run"]:
            hint = "dry_run=true shows the job without it"
            problems.append(f"cluster={self.name}: expected the command {command} here. Received: none; {hint}.")
        if (objective := values["objective"]) is not None:
            problems.append(
                f"objective={objective}: expected a cluster that a sweeper can wait for, such as cluster=ray."
            )
        return problems


@dataclass
class RemoteJob(BatchJob):
    """A batch system that does not see this machine's files."""

    shares_files: ClassVar[bool] = False
    carries_modules: ClassVar[bool] = False
    """Whether modules in the current folder travel with the job."""

    def remote_job(self, request: command_line.Request) -> Job:
        """Return the job that runs the request. Raises UsageError for one that it cannot hold."""
        raise NotImplementedError

    def config_problems(self, values: Mapping[str, Any]) -> list[str]:
        problems = super().config_problems(values) + elsewhere.problems(values)
        if values["resume"] == "latest":
            problems.append(f"resume: expected a sweep's name or folder on the cluster={self.name}. Received: latest.")
        if redact(uri := values["tracking"]["uri"]) != uri:
            problems.append(
                "tracking.uri: expected an address without a password, which the cluster would show to others."
            )
        return problems

    def target_problems(self, target: str, arguments: Mapping[str, Any]) -> list[str]:
        name = target.partition(".")[0]
        travels = self.carries_modules and (Path(f"{name}.py").is_file() or Path(name).is_dir())
        can_be_checked = travels or name in custom.OF_PYTHON or "." not in target
        return custom.check(target, arguments) if can_be_checked else []

    def job(self, order: Order) -> Job:
        values, arguments, sweep = order
        uri = values["tracking"]["uri"]
        passed_on = command_line.for_job(arguments)
        texts = {"resume": values["resume"] or "", **{word.partition("=")[0]: word for word in passed_on}}
        if problems := [*unprintable(texts), *elsewhere.option_problems(arguments.words, self.name)]:
            raise UsageError(problems)
        resumed = None if values["resume"] is None else _SWEEP_ID.sub(r"sweep-\1", values["resume"])
        chosen = arguments.keys & {"tracking", "tracking.uri"}
        request = command_line.Request(
            name=_another_name(resumed or "") if sweep is None else submitted.job_name(sweep.sweep_id),
            arguments=passed_on,
            resume=resumed,
            uri=None if uri == DEFAULT_URI else uri,
            keeps_uri=sweep is None and not chosen,
            targets=[trial.target for trial in (sweep.trials if sweep else ()) if trial.target],
            environment=submitted.environment(sweep) if sweep is not None else {},
        )
        return self.remote_job(request)


def _another_name(resumed: str) -> str:
    """Return the name of a job that resumes a sweep on the cluster, where the earlier job's name may still be taken."""
    earlier = _JOB_NAME.search(resumed)
    return f"{earlier[0]}-{uuid.uuid4().hex[:6]}" if earlier else f"sweep-{uuid.uuid4().hex[:12]}"


def unprintable(texts: Mapping[str, str]) -> list[str]:
    """Return a problem for each of these texts, by their descriptions, that a script cannot hold on one line."""
    return [
        f"{what}: expected a name without control characters, which a batch job's script cannot hold. "
        f"Received: {printable(text)}."
        for what, text in texts.items()
        if printable(text) != text
    ]
