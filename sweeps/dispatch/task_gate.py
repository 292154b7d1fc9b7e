"""Whether a trial that was handed to a node has started there, and taking it back if it has not.

On a shared cluster, others may take a free node before a task arrives there. The task then waits within Ray, although
other nodes may be free by then. So a task asks its node's gate whether it may start, and the driver asks the same gate
to take the trial back: whichever comes first wins, and a trial never runs twice.
"""

from __future__ import annotations

import secrets
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sweeps.dispatch.task_job import Job

_SLOW_LOOKS = 5
"""After so many looks, a task that should have started at once counts as waiting behind others."""


class Gate:
    """Lives on a node as part of its agent, and knows which tasks have started and which no longer may."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: set[str] = set()
        self._taken_back: set[str] = set()

    def enter(self, token: str) -> bool:
        """Return whether the task with that token may start; False: it was taken back."""
        with self._lock:
            if token in self._taken_back:
                return False
            self._started.add(token)
            return True

    def started(self, tokens: Iterable[str]) -> set[str]:
        """Return the tokens whose tasks have started."""
        with self._lock:
            return self._started & set(tokens)

    def take_back(self, tokens: Iterable[str]) -> set[str]:
        """Keep these tasks from starting, and return the tokens of those that have started already."""
        with self._lock:
            too_late = self._started & set(tokens)
            self._taken_back |= set(tokens) - too_late
            return too_late


@dataclass(eq=False)
class _Placed:
    """A task on a node that is not known to have started."""

    ref: Any
    job: Job
    token: str
    gate: Any
    queued: bool
    """It was put behind other jobs, or turned out to be behind them."""
    looks: int = 0


@dataclass(eq=False)
class _Question:
    """A question to a node's gate."""

    placed: list[_Placed]
    takes_back: bool


class Placements:
    """The tasks on the cluster's nodes that may not have started, as the driver knows them."""

    def __init__(
        self, ask: Callable[[Any], object], began: Callable[[Job], None], taken_back: Callable[[Any], None]
    ) -> None:
        """Set what is called when something happens.

        `ask` gets every reference whose answer `heard` expects, `began` a job that waited behind others and has
        started, `taken_back` the reference of a task that will not run.
        """
        self._ask, self._began, self._taken_back = ask, began, taken_back
        self._placed: dict[Any, _Placed] = {}
        self._questions: dict[Any, _Question] = {}

    @staticmethod
    def token() -> str:
        """Return a new token for a task at its gate."""
        return secrets.token_hex(8)

    def __contains__(self, ref: Any) -> bool:
        """Return whether that task may not have started yet."""
        return ref in self._placed

    def add(self, ref: Any, job: Job, token: str, *, queued: bool) -> None:
        """Add a task that was handed to a node; `queued`: it waits behind what other jobs run there."""
        if job.slot.gate is not None:
            self._placed[ref] = _Placed(ref, job, token, job.slot.gate, queued)

    def remove(self, ref: Any) -> bool:
        """Forget a task that has ended or will not start, and return whether it still waited behind others."""
        placed = self._placed.pop(ref, None)
        return placed is not None and placed.queued

    def clear(self) -> None:
        """Forget every task and question, because all of Ray is lost."""
        self._placed.clear()
        self._questions.clear()

    def queued(self) -> list[Job]:
        """Return the jobs that wait behind others on their nodes."""
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
        """Ask the gates of these jobs to keep them from starting if they have not."""
        being_taken_back = {
            placed for question in self._questions.values() for placed in question.placed if question.takes_back
        }
        wanted = set(jobs)
        for placed in self._placed.values():
            if placed.job in wanted and placed not in being_taken_back:
                ref = placed.gate.take_back.remote([placed.token])
                self._questions[ref] = _Question([placed], takes_back=True)
                self._ask(ref)

    def heard(self, ref: Any) -> bool:
        """Handle a gate's answer; False: the reference is not one of a gate's."""
        import ray

        if (question := self._questions.pop(ref, None)) is None:
            return False
        present = [placed for placed in question.placed if self._placed.get(placed.ref) is placed]
        try:
            started = ray.get(ref)
        except ray.exceptions.RayError:
            # The fork server is gone with the gate: started tasks are lost and report that, the others will not start.
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
