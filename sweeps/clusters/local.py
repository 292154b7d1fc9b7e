"""This machine as a fleet of one node, under a Ray of our own that is started again where it is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from sweeps.clusters import start
from sweeps.dispatch.fleet import Fleet, Slot
from sweeps.errors import DispatchError, UsageError
from sweeps.machine.node import Node

_LOOK_EVERY_S = 2.0


class OwnRay:
    """A Ray of our own, from the start of one to the end of the last."""

    def __init__(self, node: Node) -> None:
        """Start it. Raises UsageError where that fails."""
        self._node = node
        self._running = contextlib.ExitStack()
        self._essential: Mapping[str, int] = {}
        self.start()

    def start(self) -> None:
        """Start it, again if it was there. Raises UsageError where that fails."""
        self.close()
        self._essential = self._running.enter_context(start.own_ray(self._node))

    def lost(self) -> str | None:
        """How it was lost, in words; None: it is there."""
        return start.lost(self._essential)

    def close(self) -> None:
        self._running.close()


@contextlib.contextmanager
def ray_on_this_machine(node: Node) -> Iterator[OwnRay]:
    """A Ray of our own, ended on leaving. Raises UsageError where it cannot be started."""
    with contextlib.closing(OwnRay(node)) as ray:
        yield ray


class LocalFleet(Fleet):
    """This machine alone. When its Ray is lost, by whatever killed it, there is another one."""

    look_every_s = _LOOK_EVERY_S

    def __init__(self, ray: OwnRay, node: Node, server: Callable[[], str]) -> None:
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
