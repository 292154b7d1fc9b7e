"""Starts a private Ray on this machine, closed to everybody else.

Anyone who can talk to a Ray can run code as its user. So this one listens on the loopback interface only, requires a
random token that is in no file, and keeps its sockets and logs in a folder that nobody else may enter.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from sweeps.clusters import room
from sweeps.errors import UsageError
from sweeps.machine.node import Node
from sweeps.process import interrupts, quiet_ray
from sweeps.process.guardian import guarded
from sweeps.process.project import ROOT
from sweeps.process.temporary import Folder

START_S = 180.0
"""How long Ray may take to start, seconds, as long as its processes live; by default it gives up after 30."""
_END_S = 20.0
"""How long Ray may take to end, seconds."""
_ROOM = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
_OBJECTS = 2**28
"""Bytes of shared memory for results in transit; by default Ray takes a third of the machine's."""
_ESSENTIAL = ("gcs_server", "raylet")
_ELSEWHERE = (
    "RAY_ADDRESS",
    "RAY_AUTH_TOKEN_PATH",
    "RAY_GCS_SERVER_PORT",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_REDIS_ADDRESS",
    "RAY_TMPDIR",
)
"""Variables that would lead Ray to another folder, cluster or token."""
_SETTINGS: dict[str, Any] = {
    # Its daemons wake up less often: a sweep on one machine needs nothing that they do then.
    "raylet_report_resources_period_milliseconds": 1000,
    "gcs_pull_resource_loads_period_milliseconds": 10_000,
    "raylet_check_gc_period_milliseconds": 10_000,
    "object_manager_timer_freq_ms": 1000,
    "free_objects_period_milliseconds": 5000,
    "local_fs_monitor_interval_ms": 5000,
    "enable_metrics_collection": False,
    # On a busy machine they start slowly and, since trials take precedence, answer slowly.
    "agent_register_timeout_ms": int(START_S * 1000),
    "worker_register_timeout_seconds": int(START_S),
    "health_check_timeout_ms": 60_000,
    "health_check_failure_threshold": 10,
    # After this long without a head, Ray ends the process; the driver would rather restart Ray.
    "gcs_rpc_server_reconnect_timeout_s": 600,
}


@contextlib.contextmanager
def private_ray(node: Node) -> Iterator[Mapping[str, int]]:
    """Start a private Ray without dashboard or output, connect to it for the length of the body, and end it.

    Yields the ids of the processes that it cannot do without, by name. Raises UsageError where it cannot be started;
    nothing is left behind then.
    """
    with Folder("ray", room=_ROOM) as folder:
        if problems := room.problems(folder):
            raise _refusal("; ".join(problems))
        with guarded(folder), contextlib.ExitStack() as hushed:
            try:
                essential = _start(node, folder, hushed)
            except Exception as error:  # Ray has no exception class for a failed start
                raise _refusal(room.why(folder, error)) from error
            try:
                yield essential
            finally:
                _shut_down(essential)


def _start(node: Node, folder: Path, hushed: contextlib.ExitStack) -> Mapping[str, int]:
    others = set(psutil.Process().children(recursive=True))
    try:
        with interrupts.handlers_kept(), _environment():
            import ray

            _read_again()
            hushed.callback(quiet_ray.hush())
            with _patience(others):
                ray.init(
                    address="local",
                    num_cpus=node.cpus,
                    num_gpus=node.gpus,
                    object_store_memory=_OBJECTS,
                    include_dashboard=False,
                    logging_level=logging.CRITICAL,
                    log_to_driver=False,
                    configure_logging=True,
                    job_config=_job_config(),
                    namespace="sweeps",
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(folder / "ray"),
                    _system_config=dict(_SETTINGS),
                )
        essential = _essential(others)
        _let_trials_go_first(set(psutil.Process().children(recursive=True)) - others)
        _try_a_worker(essential)
    except BaseException:
        _shut_down(_essential(others))
        raise
    return essential


def _job_config() -> Any:
    """Return Ray's settings without the folders that its workers would search for modules before the standard library.

    One of them is the current folder, where a `queue.py` of the user's would shadow the module that Ray means.
    """
    from ray.job_config import JobConfig

    class OnlyInstalled(JobConfig):
        def _get_proto_job_config(self) -> Any:
            self._py_driver_sys_path.clear()
            return super()._get_proto_job_config()

    return OnlyInstalled()


def lost(essential: Mapping[str, int]) -> str | None:
    """Return which of these processes of Ray's has ended or was stopped, and how; None: all of them run."""
    for name, pid in essential.items():
        try:
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # Ray itself has collected its exit status
            return f"its {name} has ended"
        if ended is not None:
            verbs = {os.CLD_EXITED: "exited with code", os.CLD_STOPPED: "was stopped by signal"}
            return f"its {name} {verbs.get(ended.si_code, 'was killed by signal')} {ended.si_status}"
    return None


def _refusal(reason: str) -> UsageError:
    expected = "cluster=local: expected Ray to start on this machine"
    return UsageError(
        [f"{expected}. Received: {reason}. cluster=inline runs the trials one after another without Ray."]
    )


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Set an environment in which Ray, and what it starts, is closed to others.

    It is undone afterwards, so that nobody inherits the token, which this process has read by then.
    """
    before = {name: value for name, value in os.environ.items() if _of_ray(name)}
    for name in _ELSEWHERE:
        os.environ.pop(name, None)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.update(
        PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), before.get("PYTHONPATH")])),  # workers import this package
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=secrets.token_hex(32),
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # nodes keep to the loopback interface, on Linux too
        RAY_DEDUP_LOGS_SKIP_REGEX=".",  # its message about this would go to standard output
        RAY_USAGE_STATS_ENABLED="0",
        RAY_raylet_start_wait_time_s="1",  # per attempt in `_patience`
    )
    try:
        yield
    finally:
        for name in [name for name in os.environ if _of_ray(name)]:
            del os.environ[name]
        os.environ.update(before)


def _of_ray(name: str) -> bool:
    return name == "PYTHONPATH" or name.startswith("RAY_")


def _read_again() -> None:
    """Have Ray read the environment again, in case it was imported or started before."""
    from ray._private import ray_constants
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled

    ray_constants.ENABLE_RAY_CLUSTER = False
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _patience(others: set[psutil.Process]) -> Iterator[None]:
    """Have Ray wait for its node as long as its processes live, and no longer."""
    from ray._private import services

    get_node, until = services.get_node, time.monotonic() + START_S

    def wait(address: str, node_id: str) -> Any:
        while True:
            try:
                return get_node(address, node_id)
            except Exception as error:
                _check(_essential(others), until)
                if not isinstance(error, RuntimeError):  # which Ray raises for a node that has not registered yet
                    raise

    services.get_node = wait
    try:
        yield
    finally:
        services.get_node = get_node


def _check(essential: Mapping[str, int], until: float) -> None:
    """Raise an OSError with the reason if Ray will not come up any more."""
    if reason := lost(essential):
        raise OSError(reason)
    if time.monotonic() > until:
        raise OSError(f"it was not up after {START_S:g} s; the machine may be too busy")


def _try_a_worker(essential: Mapping[str, int]) -> None:
    """Start a first worker: if that fails, Ray itself would retry for ever."""
    import ray

    until = time.monotonic() + START_S
    answer = ray.remote(_nothing).options(max_retries=0, name="start").remote()
    while not ray.wait([answer], timeout=1)[0]:
        _check(essential, until)
    ray.get(answer)


def _nothing() -> None:
    pass


def _shut_down(essential: Mapping[str, int]) -> None:
    import ray

    # Ray waits for these to end; if one is stopped or hangs, it would wait for ever, even after Ctrl-C.
    processes = [child for child in psutil.Process().children() if child.pid in essential.values()]
    _kill(process for process in processes if _is_stopped(process))
    end = threading.Timer(_END_S, _kill, (processes,))
    end.daemon = True
    end.start()
    try:
        ray.shutdown()
    finally:
        end.cancel()


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_STOPPED
    except psutil.Error:  # it has ended
        return False


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it has ended
            process.kill()


def _essential(others: set[psutil.Process]) -> Mapping[str, int]:
    """Return the ids of this process's children, dead or alive, that Ray cannot do without, by name."""
    named = {_name(child): child.pid for child in psutil.Process().children() if child not in others}
    return {name: named[name] for name in _ESSENTIAL if name in named}


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


def _let_trials_go_first(processes: set[psutil.Process]) -> None:
    """Let these processes run only on idle cores: Ray's housekeeping otherwise takes 2% of two cores.

    That slows every step by 3%, because a parallel step is as slow as its slowest thread. Whatever they start later,
    such as workers, has the usual priority.
    """
    for task in (task for process in processes for task in Path(f"/proc/{process.pid}/task").glob("*")):
        with contextlib.suppress(OSError):  # it has ended, or the system does not let us
            os.sched_setscheduler(int(task.name), os.SCHED_IDLE | os.SCHED_RESET_ON_FORK, os.sched_param(0))
