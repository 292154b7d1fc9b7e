"""Whether a Ray cluster's head still answers, and why the cluster counts as lost if it does not."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from sweeps.clusters.existing.answers import HeadLostError, HeadReplacedError, answer
from sweeps.clusters.existing.head_state import Connection, NodeState, no_answer
from sweeps.errors import DispatchError, UsageError

GO_ON = "resume=latest runs the rest on a new cluster"
_TRY_AGAIN_S = 1.0


class HeadWatch:
    """The head of the cluster at the other end of a connection."""

    def __init__(self, connection: Connection, wait_s: float) -> None:
        """`wait_s`: how long the head may be away before the cluster is given up, seconds."""
        self._connection, self._wait_s = connection, wait_s
        self.lost: str | None = None
        """Why the cluster is lost, as a clause for a message; None: it is not."""

    def is_there(self) -> bool:
        """Return whether the cluster is not lost and its head accepts connections."""
        return self.lost is None and no_answer(*self._connection.endpoint) is None

    def cut_off(self) -> bool:
        """Return whether the connection to the cluster is lost; if so, the cluster is `lost` from then on."""
        if not self._connection.cut_off():
            return False
        self.lost = f"the connection to the Ray cluster at {self._place} is lost"
        return True

    @contextlib.contextmanager
    def expected(self) -> Iterator[None]:
        """Raise DispatchError if the cluster is lost within the body, before any trial runs."""
        try:
            yield
        except Exception as error:
            if self.cut_off():
                raise DispatchError(f"{self.lost}. Nothing has run") from error
            raise
        if self.lost is not None:
            raise DispatchError(f"{self.lost}. Nothing has run")

    def nodes(self) -> dict[str, NodeState]:
        """Return the nodes that are alive, by id; none where the cluster is `lost`.

        Every other request comes after this one, since without a head it would hang. Raises DispatchError if no head
        has answered for `wait_s`.
        """
        began = time.monotonic()
        while True:
            error: Exception | None = no_answer(*self._connection.endpoint)
            if error is None and self.cut_off():
                return {}
            if error is None:
                try:
                    states = answer(self._connection.nodes)
                    break
                except HeadReplacedError:
                    self.lost = f"the head of the Ray cluster at {self._place} was started again as a new cluster"
                    return {}
                except HeadLostError as lost:
                    error = lost
            if time.monotonic() - began >= self._wait_s:
                problem = (
                    f"the head of the Ray cluster at {self._place} has not answered for {self._wait_s:g} s ({error})"
                )
                raise DispatchError(f"{problem}. {GO_ON}")
            time.sleep(min(_TRY_AGAIN_S, self._wait_s))
        if self._connection.home is not None and self._connection.home not in states:
            self.lost = "the Ray node of the driver's machine has ended"
        return states

    def reopen(self) -> None:
        """Connect to the cluster that now answers at the address. Raises DispatchError if none does for `wait_s`."""
        until = time.monotonic() + self._wait_s
        while True:
            try:
                self._connection.reopen()
                break
            except UsageError as error:
                if time.monotonic() >= until:
                    raise DispatchError(f"{self.lost}. {error} {GO_ON}") from error
                time.sleep(min(_TRY_AGAIN_S, self._wait_s))
        self.lost = None

    @property
    def _place(self) -> str:
        host_name, port = self._connection.endpoint
        return f"{host_name}:{port}"
