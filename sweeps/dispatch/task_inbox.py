"""Where answers from Ray arrive, so that the many tasks that still run need not be polled."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from typing import Any


class Inbox:
    """References to Ray tasks, queued in the order in which they finish or fail."""

    def __init__(self) -> None:
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def expect(self, ref: Any) -> Future[Any]:
        """Return the future of a reference, which `next` returns once it is done."""
        future: Future[Any] = ref.future()
        future.add_done_callback(lambda _: self._arrived.put(ref))  # called from a thread of Ray's
        return future

    @property
    def empty(self) -> bool:
        """Whether `next` would have to wait."""
        return self._arrived.empty()

    def next(self, timeout_s: float | None) -> Any | None:
        """Wait for the next reference that is done; None: none was within that time."""
        try:
            return self._arrived.get(timeout=timeout_s)
        except queue.Empty:
            return None
