"""The connection to an existing Ray cluster, and the code that is sent there."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sweeps.clusters.existing.autoscaler import Bundle
from sweeps.clusters.existing.head_state import Head, NodeState, RemoteHead, no_answer
from sweeps.clusters.existing.nodes import RayFleet, Warn
from sweeps.errors import UsageError
from sweeps.plan import node_inputs
from sweeps.process import interrupts, quiet_ray
from sweeps.sources import baggage
from tracking.record import Trial

NAMESPACE = "sweeps"
_CLIENT_TRIES = 3
_NO_SERVER = "Starting Ray client server failed"
"""Ray Client's message if the process that it starts for a client died, as on a head that has just come up."""


class Connection:
    """The connection of this process to a Ray cluster, which gets the sweep's code."""

    def __init__(self, address: str, wait_s: float, code: Mapping[str, str]) -> None:
        """Connect to the cluster at `address`, and send it `code`, a runtime environment of Ray.

        Ray keeps the connection while the head is away for at most `wait_s` seconds.

        Raises UsageError if there is no such cluster or it refuses the connection.
        """
        self._address, self._code = address, code
        self._client = address.startswith("ray://")
        self.endpoint = _endpoint(address)
        if (refused := no_answer(*self.endpoint)) is not None:
            raise UsageError([f"cluster.address={address}: expected a Ray cluster. Received: {refused}."])
        # After this long without a head, Ray ends the process; we would rather report that and finish in order.
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(int(wait_s) + 600))
        _disable_auto_connect()
        self._unhush = quiet_ray.hush()
        self._open()

    def cut_off(self) -> bool:
        """Return whether Ray Client has given up the connection, as it does half a minute after its server died."""
        from ray.util.client import ray as client

        return self._client and not client.is_connected()

    def reopen(self) -> None:
        """Reconnect, to whatever cluster is there now. Raises UsageError where that fails."""
        import ray

        ray.shutdown()
        self._open()

    def nodes(self) -> dict[str, NodeState]:
        """Return the nodes that are alive, by id. Raises what Ray raises."""
        return self._head.nodes()

    def autoscaled(self) -> bool:
        """Return whether the cluster has an autoscaler. Raises what Ray raises."""
        return self._head.autoscaled()

    def request(self, wanted: Sequence[Bundle]) -> bool:
        """Replace the request to the autoscaler, and return whether it may be fulfilled. Raises what Ray raises."""
        return self._head.request(wanted)

    def close(self) -> None:
        import ray

        # Without a head, this takes 15 s: then it is left to the end of the process, after the report.
        if no_answer(*self.endpoint) is None:
            ray.shutdown()
            self._unhush()

    def _open(self) -> None:
        import ray

        client = self._client
        for tries_left in reversed(range(_CLIENT_TRIES if client else 1)):
            try:
                with interrupts.handlers_kept():
                    ray.init(
                        self._address if client else f"{self.endpoint[0]}:{self.endpoint[1]}",
                        namespace=NAMESPACE,
                        runtime_env=dict(self._code),
                        logging_level=logging.ERROR,
                        log_to_driver=False,
                    )
                self._head: Head | RemoteHead = RemoteHead() if client else Head()
                break
            except Exception as error:  # Ray has no exception class for a failed connection
                if not tries_left or _NO_SERVER not in str(error):
                    raise UsageError([f"cluster.address={self._address}: {_reason(error)}"]) from error
        self.home: str | None = None if client else ray.get_runtime_context().get_node_id()


@contextlib.contextmanager
def connected(
    address: str,
    trials: Sequence[Trial],
    *,
    wait_s: float,
    start_s: float,
    driver_core: bool,
    warn: Warn,
    started_in: Path,
) -> Iterator[RayFleet]:
    """Connect to the cluster at `address` for as long as the body runs, and send the trials' code there.

    The other parameters are those of `RayFleet`; the sweep's own modules are in the folder `started_in`.

    Raises UsageError if there is no such cluster or it refuses the connection.
    """
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")  # attempts at a head that refuses us, one second each
    targets = [name for trial in trials for name in trial.own_code]
    wanted = node_inputs.of_trials(trials, started_in)
    with tempfile.TemporaryDirectory(prefix="sweeps-code-") as folder:
        code = {} if _code_was_submitted() else {"working_dir": str(baggage.pack(Path(folder), started_in, targets))}
        with contextlib.closing(Connection(address, wait_s, code)) as connection:
            fleet = RayFleet(
                connection,
                wanted,
                started_in=str(started_in),
                wait_s=wait_s,
                start_s=start_s,
                driver_core=driver_core,
                warn=warn,
            )
            with contextlib.closing(fleet):
                yield fleet


def _disable_auto_connect() -> None:
    """Keep Ray from starting or joining another cluster on its own when ours is lost."""
    from ray._private import auto_init_hook

    auto_init_hook.enable_auto_connect = False


def _endpoint(address: str) -> tuple[str, int]:
    """Return host and port of the cluster. Raises UsageError for an invalid address, or if `auto` finds no cluster."""
    where = address.removeprefix("ray://")
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address_or_die

        try:
            where = canonicalize_bootstrap_address_or_die("auto")
        except ConnectionError as error:
            expected = "expected a Ray cluster that runs on this machine, or RAY_ADDRESS"
            raise UsageError([f"cluster.address=auto: {expected}. Received: none."]) from error
    host_name, _, port = where.rpartition(":")
    if not host_name or not (port.isascii() and port.isdigit()):
        raise UsageError([f"cluster.address={address}: expected auto, HOST:PORT or ray://HOST:PORT."])
    return host_name, int(port)


def _code_was_submitted() -> bool:
    """Return whether this is a Ray job that was submitted with its code; Ray accepts no second one."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return "working_dir" in (job.get("runtime_env") or {})


def _reason(error: Exception) -> str:
    """Return the line of Ray's message that gives the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    messages = [str(error), *(str(cause) for cause in (error.__cause__, error.__context__) if cause)]
    if any("uthenticat" in message for message in messages):
        return "the cluster requires a token: set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH as on its nodes"
    if any("Traceback" in line for line in lines):  # of a server: the exception comes last
        return lines[-1]
    return " ".join(lines[:3]) or type(error).__name__
