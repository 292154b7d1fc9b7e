"""The order in which a session's parts are started, and that each of them is started and stopped once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sweeps.cluster import Cluster, Site, Surroundings
from sweeps.errors import UsageError
from sweeps.machinery import Machinery
from sweeps.worker.forkserver import LastingServer
from tracking.record import Result, Sweep
from tracking.sink import Sink
from tracking.sinks import registry


class Server(LastingServer):
    """A fork server that only notes its calls."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self._events = events

    def start(self) -> None:
        self._events.append("server starts")

    def address(self) -> str:
        self._events.append("server is ready")
        return "/address"


class EventSite(Site):
    def __init__(self, events: list[str]) -> None:
        self._events = events

    def start(self) -> None:
        self._events.append("site starts")

    def close(self) -> None:
        self._events.append("site closes")


@dataclass
class EventCluster(Cluster):
    events: list[str] = field(default_factory=list)
    seen: list[Surroundings] = field(default_factory=list)

    def site(self, surroundings: Surroundings) -> Site:
        self.seen.append(surroundings)
        self.events.append("site opens")
        return EventSite(self.events)


class EventSink(Sink):
    """A sink that notes when its libraries are imported."""

    events: list[str]

    def preload(self) -> None:
        self.events.append("sink imports")

    def open(self, sweep: Sweep) -> None:
        raise AssertionError(sweep)

    def write(self, result: Result) -> None:
        raise AssertionError(result)

    def close(self, sweep: Sweep, results: Sequence[Result]) -> None:
        raise AssertionError(sweep, results)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to the parts, in order; a sink named `events` takes part."""
    happened: list[str] = []
    monkeypatch.setattr(EventSink, "events", happened, raising=False)
    monkeypatch.setattr(registry, "SINKS", {"events": EventSink})
    return happened


def test_a_site_is_opened_with_the_first_call_and_closed_once(events: list[str], tmp_path: Path) -> None:
    warnings: list[str] = []
    cluster = EventCluster(events=events)
    machinery = Machinery(Server(events), warnings.append)
    site = machinery.site(cluster, tmp_path)
    assert machinery.site(cluster, tmp_path / "elsewhere") is site
    assert events == ["site opens"]
    (surroundings,) = cluster.seen
    assert surroundings.folder == tmp_path
    assert surroundings.server() == "/address"
    surroundings.warn("narrow")
    assert warnings == ["narrow"]
    events.clear()
    machinery.close()
    machinery.close()
    assert events == ["site closes"]


def test_without_a_site_there_is_nothing_to_close(events: list[str]) -> None:
    Machinery(Server(events), lambda _: None).close()
    assert events == []


def test_everything_is_started_once_and_side_by_side(events: list[str], tmp_path: Path) -> None:
    machinery = Machinery(Server(events), lambda _: None)
    machinery.site(EventCluster(events=events), tmp_path)
    events.clear()
    outbox = machinery.start({"events": {}}, dry_run=False)
    assert events[0] == "server starts"
    assert events.index("site starts") < events.index("server is ready")
    assert sorted(events) == ["server is ready", "server starts", "sink imports", "site starts"]
    assert [type(sink) for sink in outbox.sinks] == [EventSink]
    events.clear()
    assert machinery.start({"events": {}}, dry_run=False) is outbox
    assert events == []


def test_a_dry_run_starts_the_fork_server_alone(events: list[str], tmp_path: Path) -> None:
    machinery = Machinery(Server(events), lambda _: None)
    machinery.site(EventCluster(events=events), tmp_path)
    events.clear()
    machinery.start({"events": {}}, dry_run=True)
    assert events == ["server starts", "server is ready"]
    machinery.close()
    assert events[2:] == ["site closes"]


def test_a_site_that_cannot_be_started_is_closed_all_the_same(
    events: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Site) -> None:
        raise UsageError(["no Ray"])

    monkeypatch.setattr(EventSite, "start", fails)
    machinery = Machinery(Server(events), lambda _: None)
    machinery.site(EventCluster(events=events), tmp_path)
    with pytest.raises(UsageError, match="no Ray"):
        machinery.start({}, dry_run=False)
    machinery.close()
    assert events[-1] == "site closes"
