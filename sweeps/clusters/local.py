"""`cluster=local`: this machine, under a private Ray that is restarted when it is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Optional

from sweeps.cluster import Cluster, Site, Surroundings
from sweeps.clusters import start
from sweeps.dispatch import loop
from sweeps.dispatch.context import Context
from sweeps.dispatch.fleet import Fleet, Slot
from sweeps.dispatch.loop import Results
from sweeps.errors import DispatchError, UsageError
from sweeps.machine.node import Node
from sweeps.machine.this_machine import this_node
from sweeps.wording import at_least
from tracking.record import Trial

_LOOK_EVERY_S = 2.0


@dataclass
class Local(Cluster):
    """This machine, as many trials at a time as it has cores and GPUs for."""

    name: str = "local"
    cpus: Optional[int] = None  # noqa: UP045 - OmegaConf reads the annotation at run time
    gpus: Optional[int] = None  # noqa: UP045

    is_here: ClassVar[bool] = True

    def problems(self) -> list[str]:
        return at_least("cluster.", vars(self), {"cpus": 1, "gpus": 0})

    def site(self, surroundings: Surroundings) -> Site:
        return LocalSite(self, surroundings)


class LocalSite(Site):
    """This machine, or as much of it as the options allow."""

    def __init__(self, options: Local, surroundings: Surroundings) -> None:
        self._options, self._server = options, surroundings.server
        self._fleet: LocalFleet | None = None
        self._running = contextlib.ExitStack()

    def nodes(self, trials: Sequence[Trial], *, dry_run: bool) -> tuple[list[Node], list[str]]:  # noqa: ARG002
        return [self._node()], []

    def _node(self) -> Node:
        """Return this machine as the options limit it. Raises UsageError for more cores than it has."""
        here, cpus = this_node(), self._options.cpus
        if cpus is not None and cpus > here.cpus:
            limit = f" ({here.container})" if here.cpu_quota is not None else ""
            expected = f"expected between 1 and {here.cpus} cores{limit}"
            raise UsageError([f"cluster.cpus={cpus}: {expected}. Received: {cpus}."])
        gpus = self._options.gpus
        return replace(here, cpus=here.cpus if cpus is None else cpus, gpus=here.gpus if gpus is None else gpus)

    def start(self) -> None:
        node = self._node()
        self._fleet = LocalFleet(self._running.enter_context(ray_on_this_machine(node)), node, self._server)

    def run(self, trials: Sequence[Trial], context: Context) -> Results:
        return loop.on_ray(trials, replace(context, fleet=self._fleet))

    def close(self) -> None:
        self._running.close()


class PrivateRay:
    """A private Ray, which can be restarted."""

    def __init__(self, node: Node) -> None:
        """Start it. Raises UsageError where that fails."""
        self._node = node
        self._running = contextlib.ExitStack()
        self._essential: Mapping[str, int] = {}
        self.start()

    def start(self) -> None:
        """Start it, or restart it. Raises UsageError where that fails."""
        self.close()
        self._essential = self._running.enter_context(start.private_ray(self._node))

    def lost(self) -> str | None:
        """Return how it was lost, as a clause for a message; None: it still runs."""
        return start.lost(self._essential)

    def close(self) -> None:
        self._running.close()


@contextlib.contextmanager
def ray_on_this_machine(node: Node) -> Iterator[PrivateRay]:
    """Run a private Ray for the length of the body. Raises UsageError where it cannot be started."""
    with contextlib.closing(PrivateRay(node)) as ray:
        yield ray


class LocalFleet(Fleet):
    """This machine alone. When its Ray is lost, for whatever reason, another one is started."""

    look_every_s = _LOOK_EVERY_S

    def __init__(self, ray: PrivateRay, node: Node, server: Callable[[], str]) -> None:
        super().__init__([Slot(node, server)])
        self._ray = ray

    def lost(self) -> str | None:
        reason = self._ray.lost()
        return None if reason is None else f"Ray was lost: {reason}"

    def revive(self) -> None:
        try:
            self._ray.start()
        except UsageError as error:
            raise DispatchError(f"{error} resume=latest runs the rest.") from error
