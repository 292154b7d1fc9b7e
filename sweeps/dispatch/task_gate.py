"""Whether a trial that was put on a node has started there, and taking it back while it has not.

On a cluster that others use as well, a node that was free may be taken before a task gets there. The task then waits
within Ray, beside nodes that are free by now. So it asks, on its node, whether it may start, and the driver tells the
node when it has taken the trial back: one of the two is first, and a trial never runs twice.
"""

from __future__ import annotations

import secrets
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sweeps.dispatch.task_outcome import Job

_SLOW_LOOKS = 5
"""After so many looks a task that should have started at once is one that others are in front of."""


class Gate:
    """Lives on a node, as part of its agent: which tasks have started, and which must not any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: set[str] = set()
        self._taken_back: set[str] = set()

    def enter(self, token: str) -> bool:
        """Start the task of that token; False: it was taken back."""
        with self._lock:
            if token in self._taken_back:
                return False
            self._started.add(token)
            return True

    def started(self, tokens: Iterable[str]) -> set[str]:
        """Return those of the tokens whose tasks have started."""
        with self._lock:
            return self._started & set(tokens)

    def take_back(self, tokens: Iterable[str]) -> set[str]:
        """Keep these tasks from starting; return those for which it is too late."""
        with self._lock:
            too_late = self._started & set(tokens)
            self._taken_back |= set(tokens) - too_late
            return too_late


def may_start(gate: Any, token: str) -> bool:
    """Ask on the node, within the task, whether it may start. A gate that is gone lets nobody in."""
    import ray

    if gate is None:
        return True
    try:
        return bool(ray.get(gate.enter.remote(token)))
    except ray.exceptions.RayError:
        return False


@dataclass(eq=False)
class _Placed:
    """A task on a node that is not known to have started."""

    ref: Any
    job: Job
    token: str
    gate: Any
    queued: bool
    """It was put behind other jobs, or has turned out to be."""
    looks: int = 0


@dataclass(eq=False)
class _Question:
    """What a node's gate was asked."""

    placed: list[_Placed]
    takes_back: bool


class Placements:
    """The tasks on the cluster's nodes that may not have started, as the driver knows them."""

    def __init__(
        self, ask: Callable[[Any], object], began: Callable[[Job], None], taken_back: Callable[[Any], None]
    ) -> None:
        """Each of them is called in its time.

        `ask` with every reference whose answer is for `heard`, `began` with a job that others were in front of and that
        has started, `taken_back` with the reference of a task that will not run.
        """
        self._ask, self._began, self._taken_back = ask, began, taken_back
        self._placed: dict[Any, _Placed] = {}
        self._questions: dict[Any, _Question] = {}

    @staticmethod
    def token() -> str:
        """Return a new name for a task at its gate."""
        return secrets.token_hex(8)

    def __contains__(self, ref: Any) -> bool:
        """Whether that task is not known to have started."""
        return ref in self._placed

    def add(self, ref: Any, job: Job, token: str, *, queued: bool) -> None:
        """Take note of a task that was put on a node; `queued`: behind what other jobs run there."""
        if job.slot.gate is not None:
            self._placed[ref] = _Placed(ref, job, token, job.slot.gate, queued)

    def remove(self, ref: Any) -> bool:
        """Forget a task that has ended or will not start; whether it was still behind others."""
        placed = self._placed.pop(ref, None)
        return placed is not None and placed.queued

    def clear(self) -> None:
        """Forget every task and question, as all of Ray is lost."""
        self._placed.clear()
        self._questions.clear()

    def queued(self) -> list[Job]:
        """The jobs that wait behind others on their nodes."""
        return [placed.job for placed in self._placed.values() if placed.queued]

    def look(self) -> None:
        """Ask each node which of its tasks have started."""
        open_questions = {id(placed.gate) for question in self._questions.values() for placed in question.placed}
        nodes: dict[int, list[_Placed]] = defaultdict(list)
        for placed in self._placed.values():
            nodes[id(placed.gate)].append(placed)
        for gate_id, together in nodes.items():
            if gate_id not in open_questions:
                ref = together[0].gate.started.remote([placed.token for placed in together])
                self._questions[ref] = _Question(together, takes_back=False)
                self._ask(ref)

    def take_back(self, jobs: Iterable[Job]) -> None:
        """Ask the gates of these jobs to keep them from starting, where it is not too late."""
        asked = {placed for question in self._questions.values() for placed in question.placed if question.takes_back}
        wanted = set(jobs)
        for placed in self._placed.values():
            if placed.job in wanted and placed not in asked:
                ref = placed.gate.take_back.remote([placed.token])
                self._questions[ref] = _Question([placed], takes_back=True)
                self._ask(ref)

    def heard(self, ref: Any) -> bool:
        """Take a gate's answer; False: it is none."""
        import ray

        if (question := self._questions.pop(ref, None)) is None:
            return False
        present = [placed for placed in question.placed if self._placed.get(placed.ref) is placed]
        try:
            started = ray.get(ref)
        except ray.exceptions.RayError:
            # With its gate the node's fork server is gone: what had started is lost, and says so; nothing else will.
            return True
        for placed in present:
            if placed.token in started:
                del self._placed[placed.ref]
                if placed.queued:
                    self._began(placed.job)
            elif question.takes_back:
                self._taken_back(placed.ref)
            else:
                self._slow(placed)
        return True

    def _slow(self, placed: _Placed) -> None:
        placed.looks += 1
        if placed.looks >= _SLOW_LOOKS and not placed.queued:
            placed.queued = True
            placed.job.slot.wait(placed.job.device)
