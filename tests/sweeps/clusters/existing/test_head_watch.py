"""Waiting for a head that is away, and noticing that the cluster behind it is lost."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence

import pytest

from sweeps.clusters.existing import head_watch
from sweeps.clusters.existing.autoscaler import Bundle
from sweeps.clusters.existing.head_state import NodeState
from sweeps.clusters.existing.head_watch import HeadWatch
from sweeps.errors import DispatchError, UsageError

NODE = NodeState(node_id="a", address="10.0.0.2", hostname="n2", offers={}, free={}, labels={}, leaving=False)


class Clock:
    """Time that passes only while somebody sleeps; `then` happens at the end of every sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.then: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.then()


class Cluster:
    """A connection to a cluster of one node, whose head listens while it is `up`."""

    home: str | None = None

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.endpoint: tuple[str, int] = self._socket.getsockname()
        self.error: Exception | None = None
        """What a question to the head raises; None: it is answered."""
        self.is_cut_off = False
        self.refused = 0
        """How many more attempts to connect anew fail."""

    @property
    def place(self) -> str:
        return "{}:{}".format(*self.endpoint)

    def up(self) -> None:
        self._socket.listen()

    def close(self) -> None:
        self._socket.close()

    def nodes(self) -> dict[str, NodeState]:
        if self.error is not None:
            raise self.error
        return {NODE.node_id: NODE}

    def autoscaled(self) -> bool:
        return False

    def request(self, wanted: Sequence[Bundle]) -> bool:
        raise AssertionError(wanted)

    def cut_off(self) -> bool:
        return self.is_cut_off

    def reopen(self) -> None:
        if self.refused:
            self.refused -= 1
            raise UsageError(["expected a Ray cluster."])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(head_watch, "time", clock)
    return clock


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


def test_a_head_that_answers_gives_its_nodes_at_once(clock: Clock, cluster: Cluster) -> None:
    cluster.up()
    watch = HeadWatch(cluster, 10.0)
    assert watch.is_there()
    assert watch.nodes() == {"a": NODE}
    assert (watch.lost, clock.now) == (None, 0.0)


def test_a_head_that_is_away_is_waited_for(clock: Clock, cluster: Cluster) -> None:
    watch = HeadWatch(cluster, 10.0)
    assert not watch.is_there()
    clock.then = cluster.up
    assert watch.nodes() == {"a": NODE}
    assert clock.now == 1.0
    assert watch.is_there()


def test_a_head_that_stays_away_loses_the_cluster(clock: Clock, cluster: Cluster) -> None:
    with pytest.raises(DispatchError) as caught:
        HeadWatch(cluster, 10.0).nodes()
    message = str(caught.value)
    assert message.startswith(f"the head of the Ray cluster at {cluster.place} ")
    assert "10 s" in message
    assert message.endswith(f". {head_watch.GO_ON}")
    assert clock.now == 10.0


def test_a_head_that_listens_without_an_answer_is_waited_for_too(clock: Clock, cluster: Cluster) -> None:
    cluster.up()
    cluster.error = ConnectionError("Deadline Exceeded\nand where")
    with pytest.raises(DispatchError, match=r"3 s.*Deadline Exceeded|Deadline Exceeded.*3 s"):
        HeadWatch(cluster, 3.0).nodes()
    assert clock.now == 3.0


def test_a_replaced_head_is_lost_at_once(clock: Clock, cluster: Cluster) -> None:
    cluster.up()
    cluster.error = ConnectionError("WrongClusterID: expected 1, got 2")
    watch = HeadWatch(cluster, 10.0)
    assert watch.nodes() == {}
    assert watch.lost == f"the head of the Ray cluster at {cluster.place} was started again as a new cluster"
    assert clock.now == 0.0
    assert not watch.is_there()


def test_a_connection_that_is_cut_off_is_lost_and_asks_nothing(cluster: Cluster) -> None:
    cluster.up()
    cluster.is_cut_off = True
    cluster.error = AssertionError("the head was asked")
    watch = HeadWatch(cluster, 10.0)
    assert watch.nodes() == {}
    assert watch.lost == f"the connection to the Ray cluster at {cluster.place} is lost"


def test_a_driver_whose_node_has_ended_has_lost_the_cluster(cluster: Cluster) -> None:
    cluster.up()
    cluster.home = "gone"
    watch = HeadWatch(cluster, 10.0)
    assert watch.nodes() == {"a": NODE}
    assert watch.lost == "the Ray node of the driver's machine has ended"
    cluster.home = "a"
    watch = HeadWatch(cluster, 10.0)
    watch.nodes()
    assert watch.lost is None


def test_an_error_of_a_connection_that_is_cut_off_is_a_sentence(cluster: Cluster) -> None:
    watch = HeadWatch(cluster, 10.0)
    with pytest.raises(ZeroDivisionError), watch.expected():
        raise ZeroDivisionError
    assert watch.lost is None
    cluster.is_cut_off = True
    with (
        pytest.raises(DispatchError, match=r"^the connection .* is lost\. Nothing has run$") as caught,
        watch.expected(),
    ):
        raise ZeroDivisionError
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_cluster_that_is_lost_before_anything_runs_is_an_error(cluster: Cluster) -> None:
    cluster.up()
    watch = HeadWatch(cluster, 10.0)
    with watch.expected():
        watch.nodes()
    cluster.error = ConnectionError("WrongClusterID")
    with pytest.raises(DispatchError, match=r"was started again as a new cluster\. Nothing has run"), watch.expected():
        watch.nodes()


def test_the_driver_connects_to_the_cluster_that_is_there_now(clock: Clock, cluster: Cluster) -> None:
    watch = HeadWatch(cluster, 10.0)
    watch.lost = "the head was started again"
    cluster.refused = 3
    watch.reopen()
    assert watch.lost is None
    assert clock.now == 3.0


def test_no_cluster_to_connect_to_ends_the_wait(clock: Clock, cluster: Cluster) -> None:
    watch = HeadWatch(cluster, 2.0)
    watch.lost = "the head was started again"
    cluster.refused = 100
    with pytest.raises(DispatchError) as caught:
        watch.reopen()
    assert str(caught.value) == f"the head was started again. expected a Ray cluster. {head_watch.GO_ON}"
    assert clock.now == 2.0
