"""A Ray of our own on this machine, for one sweep."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from sweeps.devices import Node
from sweeps.forkserver import ROOT
from sweeps.guardian import guarded

_QUIET = {
    "raylet_report_resources_period_milliseconds": 1000,
    "gcs_pull_resource_loads_period_milliseconds": 10_000,
    "raylet_check_gc_period_milliseconds": 10_000,
    "object_manager_timer_freq_ms": 1000,
    "free_objects_period_milliseconds": 5000,
    "local_fs_monitor_interval_ms": 5000,
    "enable_metrics_collection": False,
}
"""Ray's settings under which its daemons wake up less often: a sweep of one machine needs none of what they then do."""


@contextlib.contextmanager
def ray_on_this_machine(node: Node) -> Iterator[None]:
    """A Ray of our own, without dashboard and without a word, stopped on leaving."""
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), path]))  # workers import this package
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    others = _descendants()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: os.environ.pop("PYTHONPATH") if path is None else os.environ.update(PYTHONPATH=path))
        stack.callback(ray.shutdown)
        context = ray.init(
            address="local",  # whatever else runs here or RAY_ADDRESS names: `cluster=ray` is for that
            num_cpus=node.cpus,
            num_gpus=node.gpus,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            configure_logging=True,
            namespace="sweeps",
            _system_config=dict(_QUIET),
        )
        daemons = _descendants() - others
        _let_trials_go_first(daemons)
        with guarded(daemons, context.address_info["session_dir"]):
            try:
                yield
            finally:
                ray.shutdown()


def _let_trials_go_first(pids: set[int]) -> None:
    """Let these processes run only where nothing else wants to: Ray's housekeeping otherwise takes 2% of two cores.

    That is felt as 3% in every step, because a parallel step is as slow as its slowest thread. What they start later,
    workers among it, runs as usual.
    """
    for task in (task for pid in pids for task in Path(f"/proc/{pid}/task").glob("*")):
        with contextlib.suppress(OSError):  # it has ended, or the system does not let us
            os.sched_setscheduler(int(task.name), os.SCHED_IDLE | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def _descendants() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}
