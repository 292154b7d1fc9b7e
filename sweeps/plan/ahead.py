"""A look at what trials build and import, on this machine and before any of them runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sweeps.machine.node import Node
from sweeps.plan.preflight import Preflight
from sweeps.plan.targets import Checks
from tracking.record import Trial


class LookAhead:
    """Builds each net and imports each callable once, in a child of the fork server at `server()`."""

    def __init__(self, server: Callable[[], str]) -> None:
        self.nets = Preflight()
        self._imports = Checks()
        self._server = server

    def net_problems(self, trials: Sequence[Trial], *, flops: bool = False) -> list[str]:
        """Return the reasons why nets of these trials cannot be built; `flops` counts their operations too."""
        return self.nets.problems(trials, self._server, flops=flops)

    def users_net_problems(self, trials: Sequence[Trial], *, flops: bool = False) -> list[str]:
        """Return the reasons why trials would refuse the user's own nets, once these can be imported here."""
        return self.nets.problems_of_users(trials, self._server, flops=flops)

    def import_problems(self, trials: Sequence[Trial]) -> list[str]:
        """Return the reasons why callables of these trials cannot be imported here."""
        return self._imports.problems(trials, self._server)

    def memory_warnings(self, trials: Sequence[Trial], nodes: Sequence[Node]) -> list[str]:
        """Return a warning for each kind of trial that will hardly fit the memory of any node."""
        return self.nets.warnings(trials, nodes)
