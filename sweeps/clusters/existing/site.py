"""`cluster=ray`: an existing Ray cluster, with the sweep's code sent to its nodes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from sweeps.cluster import Cluster, Site, Surroundings
from sweeps.clusters.existing.connect import connected
from sweeps.clusters.existing.nodes import RayFleet
from sweeps.dispatch import loop
from sweeps.dispatch.context import Context
from sweeps.dispatch.loop import Results
from sweeps.machine.node import Node
from tracking.record import Trial


@dataclass
class RayCluster(Cluster):
    """A Ray cluster that was there before the sweep."""

    name: str = "ray"
    address: str = "auto"
    wait_s: float = 120.0
    start_s: float = 600.0
    driver_core: bool = True

    connects_to: ClassVar[str | None] = "address"

    def problems(self) -> list[str]:
        return [
            f"cluster.{key}={seconds:g}: expected a number of seconds above 0. Received: {seconds:g}."
            for key, seconds in (("wait_s", self.wait_s), ("start_s", self.start_s))
            if not 0 < seconds < math.inf
        ]

    def site(self, surroundings: Surroundings) -> Site:
        return RaySite(self, surroundings)


class RaySite(Site):
    """The nodes of the cluster, queried when the first trials are known."""

    checks_imports: ClassVar[bool] = True

    def __init__(self, options: RayCluster, surroundings: Surroundings) -> None:
        self._options, self._surroundings = options, surroundings
        self._fleet: RayFleet | None = None
        self._running = contextlib.ExitStack()

    @property
    def may_grow(self) -> bool:
        return self._fleet is not None and self._fleet.may_grow

    def nodes(self, trials: Sequence[Trial], *, dry_run: bool) -> tuple[list[Node], list[str]]:
        misfits: list[str] = []
        if self._fleet is None:
            options = self._options
            cluster = connected(
                options.address,
                trials,
                wait_s=options.wait_s,
                start_s=options.start_s,
                driver_core=options.driver_core,
                warn=self._surroundings.warn,
                started_in=self._surroundings.folder,
            )
            self._fleet = self._running.enter_context(cluster)
            misfits = self._fleet.query(trials, ask=not dry_run)
        return self._fleet.nodes, misfits

    def start(self) -> None:
        assert self._fleet is not None, "`nodes` is called before `start`"
        self._fleet.warm()

    def run(self, trials: Sequence[Trial], context: Context) -> Results:
        return loop.on_ray(trials, replace(context, fleet=self._fleet))

    def close(self) -> None:
        self._running.close()
