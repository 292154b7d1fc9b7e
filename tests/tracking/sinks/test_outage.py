"""A real MLflow server that is slow, killed, frozen or away, and what is on it once it is back.

What an outage may cost is counted in requests and in the timeouts they were made with, not read from a clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3

from tests.support.records import make_result, make_sweep, write_journal
from tests.support.tracking_servers import MlflowServer
from tests.tracking.conftest import Runs
from tracking import sync
from tracking.record import Result, Sweep
from tracking.sinks.mlflow.sink import MlflowSink
from tracking.sinks.outbox import Outbox


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each request of this process waits for an answer at most, tries that follow a failed one included."""
    seen: list[float] = []
    ask = urllib3.HTTPConnectionPool.urlopen

    def urlopen(pool: Any, *given: Any, **named: Any) -> Any:
        seen.append(named["timeout"].read_timeout)
        return ask(pool, *given, **named)

    monkeypatch.setattr(urllib3.HTTPConnectionPool, "urlopen", urlopen)
    return seen


def planned(folder: Path, uri: str, sweep_id: str, count: int = 4) -> tuple[Sweep, list[Result]]:
    results = [make_result(batch=batch, sweep_id=sweep_id) for batch in range(1, count + 1)]
    sweep = make_sweep(results, folder, facts={"tracking": {"mlflow": {"uri": uri, "experiment": sweep_id}}})
    write_journal(sweep, results)
    return sweep, results


def assert_complete(uri: str, sweep_id: str, results: list[Result]) -> Runs:
    runs = Runs(uri, sweep_id)
    assert sorted(runs.by_batch) == [result.trial.batch for result in results]
    for result in results:
        child = runs.by_batch[result.trial.batch]
        assert child.info.status == "FINISHED"
        assert child.data.tags["mlflow.parentRunId"] == runs.parent.info.run_id
        assert runs.history(child, "forward/step_s") == list(enumerate(result.passes["forward"].step_s))
    history = runs.history(runs.parent, "vgg16/cpu/forward/mean_s")
    assert [step for step, _ in history] == [result.trial.batch for result in results]
    assert runs.parent.info.status == "FINISHED"
    return runs


def test_server_killed_between_trials_comes_back(
    mlflow_server: MlflowServer, tmp_path: Path, patience: list[float]
) -> None:
    sweep, results = planned(tmp_path, mlflow_server.uri, "killed")
    clock = Clock()
    outbox = Outbox([MlflowSink(mlflow_server.uri, "killed")], clock)
    outbox.open(sweep)
    outbox.write(results[0])
    outbox.flush()
    assert outbox.pending() == []
    mlflow_server.stop()
    patience.clear()
    for result in results[1:3]:
        outbox.write(result)
        outbox.flush()
    assert len(patience) == 1, "it was asked again at once, or within the pause"
    (behind,) = outbox.pending()
    assert (behind.sink, behind.results) == (f"MLflow at {mlflow_server.uri}", 2)
    assert "Connection" in behind.reason
    mlflow_server.start()
    outbox.flush()
    assert outbox.pending()[0].results == 2, "it was asked again within the pause"
    clock.now += 3600
    outbox.flush()
    assert outbox.pending() == []
    outbox.write(results[3])
    outbox.close(sweep, results)
    assert outbox.pending() == []
    assert_complete(mlflow_server.uri, "killed", results)


def test_server_that_is_away_from_the_start_is_completed_by_sync(
    mlflow_server: MlflowServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow_server.stop()
    sweep, results = planned(tmp_path, mlflow_server.uri, "away")
    outbox = Outbox([MlflowSink(mlflow_server.uri, "away")])
    outbox.open(sweep)
    for result in results:
        outbox.write(result)
    outbox.flush()
    outbox.close(sweep, results)
    assert outbox.pending()[0].results == 4
    assert sync.main([str(tmp_path)]) == 1
    assert "lacks 4 of 4 results" in capsys.readouterr().err
    mlflow_server.start()
    assert sync.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"4 results of 4 planned trials are in MLflow at {mlflow_server.uri}\n"
    first = assert_complete(mlflow_server.uri, "away", results)
    assert sync.main([str(tmp_path)]) == 0
    second = assert_complete(mlflow_server.uri, "away", results)
    assert {run.info.run_id for run in first.children} == {run.info.run_id for run in second.children}


@pytest.mark.parametrize(("request_number", "done"), [(1, True), (2, False)])
def test_server_killed_within_a_write(
    request_number: int, done: bool, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    """At a request of the second child that it has `done` and not answered, or not done: nothing is lost or doubled."""
    name = f"within {request_number}"
    sweep, results = planned(tmp_path, mlflow_server.uri, name, count=3)
    armed = threading.Event()

    def dies() -> bool:
        if armed.is_set() and len(seen) == request_number:
            armed.clear()
            mlflow_server.stop()
            return True
        return False

    hook = {"lost": dies} if done else {"delay_s": lambda: 0.0 * dies()}
    with counting_proxy(mlflow_server.uri, **hook) as (uri, seen):
        outbox = Outbox([MlflowSink(uri, name)], Clock())
        outbox.open(sweep)
        outbox.write(results[0])
        outbox.flush()
        seen.clear()
        armed.set()
        for result in results[1:]:
            outbox.write(result)
        outbox.flush()
        assert not armed.is_set()
        assert [(behind.results, "closed connection" in behind.reason) for behind in outbox.pending()] == [(2, True)]
        mlflow_server.start()
        outbox.close(sweep, results)
        assert outbox.pending() == []
    assert_complete(mlflow_server.uri, name, results)


def test_server_that_does_not_answer_costs_one_timeout(
    mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: list[float]
) -> None:
    sweep, results = planned(tmp_path, mlflow_server.uri, "frozen")
    outbox = Outbox([MlflowSink(mlflow_server.uri, "frozen")], Clock())
    outbox.open(sweep)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    patience.clear()
    mlflow_server.freeze()
    try:
        for result in results:
            outbox.write(result)
            outbox.flush()
    finally:
        mlflow_server.thaw()
    assert patience == [1]
    assert outbox.pending()[0].results == 4
    # What the server did with the request that nobody waited for any more is sorted out at the end.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    outbox.close(sweep, results)
    assert outbox.pending() == []
    assert_complete(mlflow_server.uri, "frozen", results)


@contextmanager
def counting_proxy(
    target: str, delay_s: Callable[[], float] = lambda: 0.0, lost: Callable[[], bool] = lambda: False
) -> Iterator[tuple[str, list[str]]]:
    """Passes requests on to `target`, each after `delay_s()`, and its answers back, unless they are `lost()`.

    Yields its own address and the list of what came by.
    """
    seen: list[str] = []
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def forward(self) -> None:
            seen.append(f"{self.command} {self.path}")
            ended.wait(delay_s())
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            ours = ("host", "transfer-encoding", "accept-encoding")
            kept = {key: value for key, value in self.headers.items() if key.lower() not in ours}
            with closing(HTTPConnection(urlsplit(target).netloc, timeout=60)) as way:
                try:
                    way.request(self.command, self.path, body, kept)
                    answer = way.getresponse()
                    content = answer.read()
                except (OSError, HTTPException):
                    return  # which closes the connection with whoever asked
            if lost():
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):  # Whoever asked may wait no longer.
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = False  # at its end it waits for requests under way
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{proxy.server_port}", seen
        ended.set()
        proxy.shutdown()
        thread.join()


def test_few_requests_a_trial(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    with counting_proxy(mlflow_server.uri) as (uri, seen):
        sweep, results = planned(tmp_path, uri, "counted", count=2)
        for result in results:
            (tmp_path / "trials" / result.trial_id).mkdir(parents=True)
            (tmp_path / "trials" / result.trial_id / "log.txt").write_text("log\n")
        sink = MlflowSink(uri, "counted")
        sink.open(sweep)
        assert len(seen) <= 5, seen
        for result in results:
            seen.clear()
            sink.write(result)
            # Create, batch, where to put files, layers, log, two plots, end.
            assert len(seen) <= 8, seen
        seen.clear()
        for result in results:
            sink.write(result)
        assert seen == []
        sink.close(sweep, results)
        assert len(seen) <= 8, seen
    child = assert_complete(mlflow_server.uri, "counted", results).by_batch[1]
    runs = Runs(mlflow_server.uri, "counted")
    assert set(runs.artifacts(child)) == {"layers.json", "log.txt"}
    assert len(runs.artifacts(child, "plots")) == 2


@pytest.mark.parametrize("slow_s", [0.4, 10.0])
def test_slow_server_keeps_a_sweep_waiting_no_longer_than_the_budget(
    slow_s: float, mlflow_server: MlflowServer, tmp_path: Path, patience: list[float]
) -> None:
    name = f"slow-{slow_s}"
    sweep, results = planned(tmp_path, mlflow_server.uri, name, count=3)
    skipped_s, answer_s = Clock(), Clock()
    with counting_proxy(mlflow_server.uri, answer_s) as (uri, _):
        outbox = Outbox([MlflowSink(uri, name)], lambda: time.monotonic() + skipped_s())
        outbox.open(sweep)
        answer_s.now = slow_s
        for result in results:
            outbox.write(result)
            skipped_s.now += 3600  # whatever pause it made is over
            patience.clear()
            outbox.flush(2.0)
            # None begins after two seconds, and each takes 0.4 s at least.
            assert len(patience) <= 5
            assert max(patience, default=0) <= 2
        (behind,) = outbox.pending()
        assert behind.results == 3
        assert "timed out" in behind.reason or "longer than a sweep waits" in behind.reason
    # The proxy has sent on even what nobody waited for any more: a run without content may be there.
    assert sync.main([str(tmp_path)]) == 0
    assert_complete(mlflow_server.uri, name, results)
