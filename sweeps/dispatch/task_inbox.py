"""Where results of Ray tasks arrive, so that none of the many that still run has to be looked at for one that ended."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from typing import Any


class Inbox:
    """References to what Ray was asked for, each once it is there or has failed, in that order."""

    def __init__(self) -> None:
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def expect(self, ref: Any) -> Future[Any]:
        """Return the future of a reference, which `next` gives when it has come."""
        future: Future[Any] = ref.future()
        future.add_done_callback(lambda _: self._arrived.put(ref))  # from a thread of Ray's
        return future

    @property
    def empty(self) -> bool:
        """Whether `next` would have to wait."""
        return self._arrived.empty()

    def next(self, timeout_s: float | None) -> Any | None:
        """Wait for the next reference that has come; None where none has within that time."""
        try:
            return self._arrived.get(timeout=timeout_s)
        except queue.Empty:
            return None
