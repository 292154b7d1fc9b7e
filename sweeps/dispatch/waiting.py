"""The trials that wait to run, in order."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from tracking.record import Trial


@dataclass(frozen=True, kw_only=True, eq=False)
class Turn:
    """A trial that waits to run. Turns are compared by identity."""

    trial: Trial
    order: int
    lost: tuple[str, ...] = ()
    """Where and how earlier tries of it were lost."""
    avoid: frozenset[str] = frozenset()
    """Ids of those nodes."""

    @cached_property
    def demand(self) -> str:
        """The trial's device, as a key."""
        return repr(self.trial.device)


class Waiting:
    """Trials that wait to run: first come, first served among those with the same device."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._queues: dict[str, deque[Turn]] = defaultdict(deque)
        self._count = 0
        self._length = 0
        for trial in trials:
            self.add(Turn(trial=trial, order=0))

    def __len__(self) -> int:
        return self._length

    def add(self, turn: Turn) -> None:
        """Put a turn behind all others."""
        turn = replace(turn, order=self._count)
        self._queues[turn.demand].append(turn)
        self._count += 1
        self._length += 1

    def add_first(self, turn: Turn) -> None:
        """Put a turn before all others."""
        first = min((head.order for head in self.heads()), default=0)
        turn = replace(turn, order=first - 1)
        self._queues[turn.demand].appendleft(turn)
        self._length += 1

    def heads(self) -> list[Turn]:
        """Return the first turn for each device, in order."""
        return sorted((queue[0] for queue in self._queues.values()), key=lambda turn: turn.order)

    def remove(self, turn: Turn) -> None:
        """Remove one of `heads`. Raises ValueError for any other turn."""
        queue = self._queues[turn.demand]
        if queue[0] is not turn:
            raise ValueError(f"expected the first of its queue. Received: {turn}")
        queue.popleft()
        self._length -= 1
        if not queue:
            del self._queues[turn.demand]
