"""Ctrl-C, SIGTERM and a closing terminal (SIGHUP): the first ends a sweep in order, the second at once.

Under `nohup`, which ignores SIGHUP, a sweep outlives its terminal. SIGQUIT stays the emergency exit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

EXIT_CODE = 130
_IMPORT = "<frozen importlib."
"""How the file names of Python's own import code begin."""
_AGAIN_S = 0.01


class Interrupts:
    """Turns the first signal into KeyboardInterrupt, and ends the process on the next.

    Everything that the driver has started ends with it in either case: see `sweeps.worker.forkserver` and
    `sweeps.process.guardian`.
    """

    def __init__(self) -> None:
        self._arrived = self._held = False

    def install(self) -> None:
        """Handle the signals from now on."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._take)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Delay the KeyboardInterrupt of a first signal to the end of the body."""
        before, self._held = self._arrived, True
        try:
            yield
        finally:
            self._held = False
        if self._arrived and not before:
            raise KeyboardInterrupt

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._arrived:
            os._exit(EXIT_CODE)
        if frame is not None and frame.f_code.co_filename.startswith(_IMPORT):
            # Interrupted here, an import would never release its lock, for which another thread may wait.
            again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        self._arrived = True
        if not self._held:
            raise KeyboardInterrupt


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Restore the handler of SIGTERM after the body, in which Ray installs its own, also from C++."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
