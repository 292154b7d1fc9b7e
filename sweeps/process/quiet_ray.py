"""Keeps Ray's own messages off the terminal, where a result or a warning of the sweep says what they mean."""

from __future__ import annotations

import logging
from collections.abc import Callable


def hush() -> Callable[[], None]:
    """Silence Ray's `(raylet) A worker died ...` and the like in this process, and return a function that undoes that.

    `log_to_driver=False` covers what workers write, not the errors that a cluster reports to its drivers. A trial whose
    worker was killed is reported through its result, and a lost node by `sweeps.clusters.existing.nodes`.
    """
    from ray._private import worker
    from ray.util.client import dataclient, logsclient

    before = worker._worker_logs_enabled
    worker._worker_logs_enabled = False
    # What a Ray Client server logs on our behalf arrives at a logger without handlers, which writes to standard error.
    silent = logging.NullHandler()
    logsclient.logger.addHandler(silent)
    # That its connection is lost is for us to say.
    level = dataclient.logger.level
    dataclient.logger.setLevel(logging.CRITICAL)

    def undo() -> None:
        worker._worker_logs_enabled = before
        logsclient.logger.removeHandler(silent)
        dataclient.logger.setLevel(level)

    return undo
