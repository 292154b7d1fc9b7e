"""Buffers results for slow or unreachable sinks and retries them."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tracking.record import Result, Sweep
from tracking.sink import Sink, SinkError
from tracking.text import commands
from tracking.text.redact import redact

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0

log = logging.getLogger(__name__)


class Pending(NamedTuple):
    """A sink that has not taken everything."""

    sink: str
    results: int
    """How many results it has not taken."""
    reason: str
    """Its last error, one sentence; empty: nothing was sent yet."""


class Outbox:
    """Several sinks as one that never raises.

    `write` only queues a result; `flush` sends the queue on the caller's thread, so that a driver can choose moments
    at which no trial is timed. A sink that fails is left alone for a while, five seconds at first and twice as long
    each time, and the others go on. Results that are not sent by the end are in the journal all the same.
    """

    def __init__(self, sinks: Sequence[Sink], clock: Callable[[], float] = time.monotonic) -> None:
        self.sinks = tuple(sinks)
        self._boxes = [_Box(sink, clock) for sink in self.sinks]
        self._clock = clock

    def preload(self) -> threading.Thread | None:
        """Start importing what the sinks need on a thread of its own; None without sinks."""
        if not self.sinks:
            return None

        def load() -> None:
            for sink in self.sinks:
                with contextlib.suppress(Exception):  # `open` will run into the same error and report it
                    sink.preload()

        thread = threading.Thread(target=load, name="preload", daemon=True)
        thread.start()
        return thread

    def open(self, sweep: Sweep) -> None:
        """Begin or continue the sweep in every sink that can be reached; `flush` tries the others again."""
        for box in self._boxes:
            box.begin(sweep)

    def write(self, result: Result) -> None:
        """Queue a result; it replaces an older one of its trial."""
        for box in self._boxes:
            box.put(result)

    def flush(self, budget_s: float = math.inf) -> None:
        """Send queued results for at most `budget_s` seconds; a sink with a `limit` gives up on longer calls."""
        until = self._clock() + budget_s
        for box in self._boxes:
            if not box.resting():
                box.send(until)

    def close(self, sweep: Sweep, results: Sequence[Result]) -> None:
        """Send everything that a sink has not taken yet, whether or not it is being left alone, and end the sweep."""
        for box in self._boxes:
            box.finish(sweep, results)

    def pending(self) -> list[Pending]:
        """The sinks that lack results, or could not begin or end the sweep."""
        return [box.state() for box in self._boxes if box.queue or box.reason]


class _Box:
    def __init__(self, sink: Sink, clock: Callable[[], float]) -> None:
        self.sink = sink
        self.queue: dict[str, Result] = {}
        self.reason = ""
        self._clock = clock
        self._sweep: Sweep | None = None
        self._opened = False
        self._taken: dict[str, Result] = {}
        self._pause = FIRST_PAUSE_S
        self._rest_until = -math.inf

    def begin(self, sweep: Sweep) -> None:
        self._sweep, self._opened, self._taken = sweep, False, {}
        self._open()

    def put(self, result: Result) -> None:
        if self._taken.get(result.trial_id) != result:
            self.queue[result.trial_id] = result

    def resting(self) -> bool:
        return self._clock() < self._rest_until

    def send(self, until: float) -> bool:
        """Try each queued result once; one that fails holds back no other. False: the sink cannot be reached."""
        failed = False
        for trial_id, result in list(self.queue.items()):
            if self._clock() >= until:
                return True
            self.sink.limit(until - self._clock())
            # An error leaves a sink in doubt, so it is opened again; that fails where the whole sink is away.
            if not (self._opened or self._open()):
                return False
            if self._try(lambda result=result: self.sink.write(result)):  # type: ignore[misc]
                self._taken[trial_id] = self.queue.pop(trial_id)
            else:
                failed = True
        if failed:
            return True
        self.sink.limit(until - self._clock())
        if not (self._opened or self._open()):
            return False
        self._recover()
        return True

    def finish(self, sweep: Sweep, results: Sequence[Result]) -> None:
        self._sweep = sweep
        for result in results:
            self.put(result)
        # Twice, since the sink may have been out of reach for a moment only.
        there = self.send(math.inf) and (not self.queue or self.send(math.inf))
        if there and (self._opened or self._open()):
            closed = self._try(lambda: self.sink.close(sweep, results))
            if closed and not self.queue:
                self._recover()

    def state(self) -> Pending:
        return Pending(str(self.sink), len(self.queue), self.reason)

    def _open(self) -> bool:
        sweep = self._sweep
        if sweep is None:
            raise RuntimeError("expected open(sweep) before anything is sent")
        self._opened = self._try(lambda: self.sink.open(sweep))
        return self._opened

    def _try(self, call: Callable[[], None]) -> bool:
        opened, self._opened = self._opened, False  # Also for what is not caught here, such as an interrupt.
        try:
            call()
        except Exception as error:  # A sink with a bug must not end a sweep either.
            known = isinstance(error, SinkError)
            reason = str(error) if known else redact(f"{self.sink}: unexpected {type(error).__name__}: {error}")
            if not self.reason:
                log.warning("%s; %s", reason, self._remedy(), exc_info=None if known else error)
            self.reason = reason
            self._rest_until = self._clock() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
            return False
        self._opened = opened
        return True

    def _remedy(self) -> str:
        """What happens to the results, and what the user can do; the plan in the sweep's folder names the sinks."""
        complete = commands.sync(self._sweep.folder if self._sweep else "")
        return f"the sweep goes on and tries again; `{complete}` sends what is missing in the end"

    def _recover(self) -> None:
        if self.reason:
            log.warning("%s has everything again", self.sink)
        self.reason, self._pause, self._rest_until = "", FIRST_PAUSE_S, -math.inf
