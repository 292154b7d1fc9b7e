"""What `sweeps.ray_dispatch` calls of Ray, over nodes that do nothing: the driver's own work, without the cluster's.

Tasks run until the driver has nothing else to do and waits; then the one that was started first ends.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from sweeps.ray_inbox import Inbox
from sweeps.worker import Place
from tracking.record import Result, Trial

Answer = Callable[[Trial, Place], Result]
_NAMES = ("RayError", "RayTaskError", "OutOfMemoryError", "NodeDiedError", "TaskUnschedulableError")


class Ref:
    """A task that runs."""

    def __init__(self, trial: Trial, place: Place) -> None:
        self.trial, self.place = trial, place
        self._future: Future[Any] = Future()

    def future(self) -> Future[Any]:
        return self._future


class FakeRay(Inbox):
    """A Ray without processes, and the inbox of a fleet on it."""

    def __init__(self, answer: Answer) -> None:
        """`answer` is what becomes of a trial at a place."""
        super().__init__()
        self._answer = answer
        self.running: deque[Ref] = deque()

    def options(self, **_: object) -> FakeRay:
        return self

    def remote(self, trial: Trial, _sweep_id: str, place: Place, *_: object) -> Ref:
        self.running.append(Ref(trial, place))
        return self.running[-1]

    def next(self, timeout_s: float | None) -> Any | None:
        if self.empty and self.running:
            ref = self.running.popleft()
            ref.future().set_result((self._answer(ref.trial, ref.place), b""))
        return super().next(timeout_s)

    @contextmanager
    def installed(self) -> Iterator[FakeRay]:
        """Have `import ray` find this one while the body runs."""
        ray, util, strategies = (ModuleType(name) for name in ("ray", "ray.util", "ray.util.scheduling_strategies"))
        exceptions = ModuleType("ray.exceptions")
        for name in _NAMES:
            setattr(exceptions, name, type(name, (Exception,), {}))
        vars(ray).update(
            exceptions=exceptions,
            util=util,
            remote=lambda _: self,
            is_initialized=lambda: False,
            cancel=lambda *_: None,
        )
        vars(strategies).update(NodeAffinitySchedulingStrategy=lambda node_id, soft: (node_id, soft))
        fakes = {module.__name__: module for module in (ray, util, strategies, exceptions)}
        before = {name: sys.modules.get(name) for name in fakes}
        sys.modules.update(fakes)
        try:
            yield self
        finally:
            for name, module in before.items():
                if module is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module
