"""`cluster=inline`: trials run one after another on this machine, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sweeps.cluster import Cluster, Site, Surroundings
from sweeps.dispatch import loop
from sweeps.dispatch.context import Context
from sweeps.dispatch.loop import Results
from sweeps.machine.node import Node
from sweeps.machine.this_machine import this_node
from tracking.record import Trial


@dataclass
class Inline(Cluster):
    """This machine, one trial at a time."""

    name: str = "inline"

    is_here: ClassVar[bool] = True
    trials_at_once: ClassVar[int | None] = 1

    def site(self, surroundings: Surroundings) -> Site:  # noqa: ARG002
        return InlineSite()


class InlineSite(Site):
    """This process, and the session's fork server."""

    def nodes(self, trials: Sequence[Trial], *, dry_run: bool) -> tuple[list[Node], list[str]]:  # noqa: ARG002
        return [this_node()], []

    def run(self, trials: Sequence[Trial], context: Context) -> Results:
        return loop.inline(trials, context)
