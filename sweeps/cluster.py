"""The interface of a kind of cluster, as `cluster=NAME` chooses it, and of the site where its trials run.

A kind is the dataclass of its options, which Hydra fills in from `conf/cluster/NAME.yaml` and the command line.
`sweeps.clusters.kinds` lists the kinds on which a command runs its trials itself, `sweeps.jobs.kinds` those to which it
hands the whole sweep over as a batch job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from nets import custom
from sweeps.dispatch.context import Context
from sweeps.dispatch.loop import Results
from sweeps.machine.node import Node
from tracking.record import Trial

Warn = Callable[[str], None]


class Surroundings(NamedTuple):
    """What a site gets from the session whose trials it runs."""

    server: Callable[[], str]
    """Returns the address of this machine's fork server."""
    warn: Warn
    folder: Path
    """Where the sweep was started: its relative paths and its own modules are there."""


class Site:
    """Where a session's trials run. It lasts as long as the session."""

    checks_imports: ClassVar[bool] = False
    """Whether `nodes` has already checked, on the nodes, that trials can import what they need."""

    @property
    def may_grow(self) -> bool:
        """Whether nodes may join later that have what the present ones lack."""
        return False

    def nodes(self, trials: Sequence[Trial], *, dry_run: bool) -> tuple[list[Node], list[str]]:
        """Return the nodes that these trials can run on, and the problems that keep the sweep from running there.

        Raises UsageError where no node can be reached.
        """
        raise NotImplementedError

    def start(self) -> None:
        """Start what trials need besides this machine's fork server. Raises UsageError where that fails."""

    def run(self, trials: Sequence[Trial], context: Context) -> Results:
        """Run the trials, and yield each result as soon as it is available."""
        raise NotImplementedError

    def close(self) -> None:
        """End what was started."""


@dataclass
class Cluster:
    """A kind of cluster with its options; the fields of a subclass are the keys that `cluster.KEY=` sets."""

    name: str = ""

    is_batch: ClassVar[bool] = False
    """Whether the sweep is handed over as a batch job (`sweeps.jobs.job.BatchJob`) instead of run by this command."""
    is_here: ClassVar[bool] = False
    """Whether trials run on this machine, so that its own cores and GPUs are the limit."""
    shares_files: ClassVar[bool] = True
    """Whether trials find this machine's files under the same paths."""
    connects_to: ClassVar[str | None] = None
    """The option that names the place to which a resumed sweep would connect; None: there is none."""
    trials_at_once: ClassVar[int | None] = None
    """The most trials that run at a time; None: as many as fit on the nodes."""

    def problems(self) -> list[str]:
        """Return the problems with the options, one sentence each."""
        return []

    def config_problems(self, values: Mapping[str, Any]) -> list[str]:
        """Return the problems of a whole composed config on this cluster, those with its own options included."""
        del values
        return self.problems()

    def target_problems(self, target: str, arguments: Mapping[str, Any]) -> list[str]:
        """Return the problems with a callable of the user's own, as far as its source text on this machine shows."""
        return custom.check(target, arguments)

    def site(self, surroundings: Surroundings) -> Site:
        """Open the place where trials run. Raises UsageError where that fails."""
        raise NotImplementedError
