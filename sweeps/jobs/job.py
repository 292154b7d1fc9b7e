"""The interface of a batch job: a sweep that is checked here and runs elsewhere.

The job runs this same command, usually with `cluster=ray`. If it sees this machine's files (`sweeps.jobs.folder_job`),
the plan is in the sweep's folder and the job resumes it. If not (`sweeps.jobs.remote_job`), it gets the command line
again, and creates its folder where it runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol

from sweeps.cluster import Cluster, Site, Surroundings
from sweeps.errors import SweepError
from sweeps.machine.node import Node
from sweeps.typed.arguments import Arguments
from tracking.record import Sweep, Trial
from tracking.schema.device import Device
from tracking.text.printable import printable


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


class RefusedError(SweepError):
    """The batch system has not taken the job: nothing was submitted."""


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


def unprintable(texts: Mapping[str, str]) -> list[str]:
    """Return a problem for each of these texts, by their descriptions, that a script cannot hold on one line."""
    return [
        f"{what}: expected a name without control characters, which a batch job's script cannot hold. "
        f"Received: {printable(text)}."
        for what, text in texts.items()
        if printable(text) != text
    ]
