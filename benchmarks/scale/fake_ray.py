"""A stand-in for the part of Ray that `sweeps.dispatch.ray_tasks` calls, to measure the driver's work alone.

Tasks run until the driver has nothing else to do and waits; then the one that started first ends.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from sweeps.dispatch.task_inbox import Inbox
from sweeps.worker.on_node import Place
from tracking.record import Result, Trial

Work = Callable[[Trial, Place], Result]
_NAMES = ("RayError", "RayTaskError", "OutOfMemoryError", "NodeDiedError", "TaskUnschedulableError")


class Ref:
    """A running task."""

    def __init__(self, trial: Trial, place: Place, others: tuple[Any, ...]) -> None:
        self.trial, self.place, self.others = trial, place, others
        self._future: Future[Any] = Future()

    def future(self) -> Future[Any]:
        return self._future


class Answer:
    """A gate's answer."""

    def __init__(self, value: object) -> None:
        self.value = value
        self._future: Future[Any] = Future()
        self._future.set_result(value)

    def future(self) -> Future[Any]:
        return self._future


class Method:
    """A method of an actor."""

    def __init__(self, call: Callable[[Any], object]) -> None:
        self._call = call

    def remote(self, argument: Any) -> Answer:
        return Answer(self._call(argument))


class FakeGate:
    """The gate of a node on which every task starts at once (`sweeps.dispatch.task_gate`)."""

    started = Method(set)
    take_back = Method(set)


class FakeRay(Inbox):
    """A Ray without processes, and the inbox of a fleet on it."""

    def __init__(self, work: Work) -> None:
        """`work` returns the result of a trial at a place."""
        super().__init__()
        self._work = work
        self.running: deque[Ref] = deque()

    def options(self, **_: object) -> FakeRay:
        return self

    def remote(self, trial: Trial, _sweep_id: str, place: Place, _passes: object, *others: Any) -> Ref:
        self.running.append(Ref(trial, place, others))
        return self.running[-1]

    def next(self, timeout_s: float | None) -> Any | None:
        if self.empty and self.running:
            ref = self.running.popleft()
            ref.future().set_result((self._work(ref.trial, ref.place), b""))
        return super().next(timeout_s)

    @contextmanager
    def installed(self) -> Iterator[FakeRay]:
        """Make `import ray` find this stand-in while the body runs."""
        ray, util, strategies = (ModuleType(name) for name in ("ray", "ray.util", "ray.util.scheduling_strategies"))
        exceptions = ModuleType("ray.exceptions")
        for name in _NAMES:
            setattr(exceptions, name, type(name, (Exception,), {}))
        vars(ray).update(
            exceptions=exceptions,
            util=util,
            remote=lambda _: self,
            get=lambda reply: reply.value,
            is_initialized=lambda: False,
            cancel=lambda *_: None,
            wait=lambda refs, **_: (refs, []),
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
