"""The way to an existing Ray cluster, and what travels there."""

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
"""What Ray Client says where the process that it starts for a client has died, as on a head that has just come up."""


class Connection:
    """The connection of this process to a Ray cluster, with the sweep's code on its way there."""

    def __init__(self, address: str, wait_s: float, code: Mapping[str, str]) -> None:
        """Connect to the cluster at `address`, and send it `code`, Ray's runtime environment.

        Its head may be away for `wait_s` before Ray gives the connection up.

        Raises UsageError when there is no such cluster, or it does not let us in.
        """
        self._address, self._code = address, code
        self._client = address.startswith("ray://")
        self.endpoint = _endpoint(address)
        if (refused := no_answer(*self.endpoint)) is not None:
            raise UsageError([f"cluster.address={address}: expected a Ray cluster. Received: {refused}."])
        # Ray ends a process that has lost its head for so long; we would rather say so and write the report.
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(int(wait_s) + 600))
        _never_by_itself()
        self._give_words_back = quiet_ray.hush()
        self._open()

    def cut_off(self) -> bool:
        """Whether Ray Client has given the connection up, as half a minute after its server has died."""
        from ray.util.client import ray as client

        return self._client and not client.is_connected()

    def reopen(self) -> None:
        """Connect anew, to whatever cluster is there now. Raises UsageError where that fails."""
        import ray

        ray.shutdown()
        self._open()

    def nodes(self) -> dict[str, NodeState]:
        """The nodes that are alive, by their ids. Raises what Ray raises."""
        return self._head.nodes()

    def autoscaled(self) -> bool:
        """Whether the cluster has an autoscaler. Raises what Ray raises."""
        return self._head.autoscaled()

    def request(self, wanted: Sequence[Bundle]) -> bool:
        """Replace what the autoscaler is asked for; whether that may come. Raises what Ray raises."""
        return self._head.request(wanted)

    def close(self) -> None:
        import ray

        # Without its head it takes a quarter of a minute: then it is left to the end of the process, after the report.
        if no_answer(*self.endpoint) is None:
            ray.shutdown()
            self._give_words_back()

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
            except Exception as error:  # Ray has no class of its own for what keeps one from connecting
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

    Raises UsageError when there is no such cluster, or it does not let us in.
    """
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")  # of asking a head that refuses us, a second each
    targets = [trial.target for trial in trials if trial.target is not None]
    wanted = node_inputs.of_trials(trials, started_in)
    with tempfile.TemporaryDirectory(prefix="sweeps-code-") as folder:
        code = {} if _code_is_there() else {"working_dir": str(baggage.pack(Path(folder), started_in, targets))}
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


def _never_by_itself() -> None:
    """Keep Ray from starting a cluster on this machine, or connecting to another one, as the one of ours is lost."""
    from ray._private import auto_init_hook

    auto_init_hook.enable_auto_connect = False


def _endpoint(address: str) -> tuple[str, int]:
    """Host and port that the cluster listens on. Raises UsageError for what is no address, or no cluster's."""
    where = address.removeprefix("ray://")
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address_or_die

        try:
            where = canonicalize_bootstrap_address_or_die("auto")
        except ConnectionError as error:
            words = "expected a Ray cluster that runs on this machine, or RAY_ADDRESS"
            raise UsageError([f"cluster.address=auto: {words}. Received: none."]) from error
    host_name, _, port = where.rpartition(":")
    if not host_name or not (port.isascii() and port.isdigit()):
        raise UsageError([f"cluster.address={address}: expected auto, HOST:PORT or ray://HOST:PORT."])
    return host_name, int(port)


def _code_is_there() -> bool:
    """Whether this is a Ray job that was submitted with its code; Ray takes no second one."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return "working_dir" in (job.get("runtime_env") or {})


def _reason(error: Exception) -> str:
    """The line of Ray's message that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [str(error), *(str(cause) for cause in (error.__cause__, error.__context__) if cause)]
    if any("uthenticat" in words for words in told):
        return "the cluster wants a token: set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to what its nodes have"
    if any("Traceback" in line for line in lines):  # a server's own: what was raised comes last
        return lines[-1]
    return " ".join(lines[:3]) or type(error).__name__
