"""The outbox with sinks that fail on demand; tests/tracking/sinks/test_outage.py has it with a real server."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.records import make_result, make_sweep
from tracking.record import Result, Sweep
from tracking.sink import Sink, SinkError
from tracking.sinks.outbox import FIRST_PAUSE_S, LONGEST_PAUSE_S, Outbox, Pending


class Memory(Sink):
    """Keeps results in a dict; raises `error` while it is away, or for the batches it refuses."""

    def __init__(self, refuses: Sequence[int] = (), away: bool = False) -> None:
        self.kept: dict[str, Result] = {}
        self.calls: list[str] = []
        self.refuses = set(refuses)
        self.away = away
        self.error: Exception = SinkError("memory is away")
        self.closed = 0

    def __str__(self) -> str:
        return "memory"

    def _call(self, name: str, *_: object) -> None:
        self.calls.append(name)
        if self.away:
            raise self.error

    def open(self, sweep: Sweep) -> None:
        self._call("open", sweep)

    def write(self, result: Result) -> None:
        self._call("write")
        if result.trial.batch in self.refuses:
            raise SinkError(f"memory refuses batch {result.trial.batch}")
        self.kept[result.trial_id] = result

    def close(self, sweep: Sweep, results: Sequence[Result]) -> None:
        self._call("close", sweep, results)
        self.closed += 1


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


RESULTS = [make_result(batch=batch) for batch in range(1, 6)]
SWEEP = make_sweep(RESULTS)


def batches(sink: Memory) -> list[int]:
    return [result.trial.batch for result in sink.kept.values()]


def test_write_sends_nothing_and_flush_everything() -> None:
    sinks = [Memory(), Memory()]
    outbox = Outbox(sinks)
    outbox.open(SWEEP)
    for result in RESULTS:
        outbox.write(result)
    assert outbox.pending() == [Pending("memory", 5, "")] * 2
    outbox.flush()
    assert outbox.pending() == []
    assert [batches(sink) for sink in sinks] == [[1, 2, 3, 4, 5]] * 2
    outbox.close(SWEEP, RESULTS)
    assert sinks[0].calls == ["open", *["write"] * 5, "close"]


def test_one_sink_away_does_not_keep_back_the_other(caplog: pytest.LogCaptureFixture) -> None:
    away, there = Memory(away=True), Memory()
    clock = Clock()
    outbox = Outbox([away, there], clock)
    outbox.open(SWEEP)
    for result in RESULTS:
        outbox.write(result)
        outbox.flush()
    assert batches(there) == [1, 2, 3, 4, 5]
    assert outbox.pending() == [Pending("memory", 5, "memory is away")]
    assert away.calls == ["open"], "it was asked again within the pause"
    (warning,) = [record.message for record in caplog.records]
    assert warning.startswith("memory is away; the sweep goes on")
    assert "`python tracking/sync.py " in warning
    away.away = False
    clock.now = FIRST_PAUSE_S
    outbox.flush()
    assert batches(away) == [1, 2, 3, 4, 5]
    assert caplog.records[-1].message == "memory has everything again"


def test_pauses_grow_to_a_limit_and_begin_anew_after_success() -> None:
    sink, clock = Memory(away=True), Clock()
    outbox = Outbox([sink], clock)
    outbox.open(SWEEP)
    outbox.write(RESULTS[0])
    attempts = []
    while clock.now < 3_000:
        before = len(sink.calls)
        outbox.flush()
        if len(sink.calls) > before:
            attempts.append(clock.now)
        clock.now += 1
    pauses = [later - earlier for earlier, later in zip([0.0, *attempts], attempts, strict=False)]
    assert pauses[:4] == [5, 10, 20, 40]
    assert max(pauses) == LONGEST_PAUSE_S
    sink.away = False
    clock.now += LONGEST_PAUSE_S
    outbox.flush()
    sink.away = True
    outbox.write(RESULTS[1])
    outbox.flush()
    sink.away = False
    clock.now += FIRST_PAUSE_S
    outbox.flush()
    assert outbox.pending() == []


def test_refused_result_does_not_keep_back_the_others() -> None:
    sink = Memory(refuses=[2])
    outbox = Outbox([sink], Clock())
    outbox.open(SWEEP)
    for result in RESULTS:
        outbox.write(result)
    outbox.flush()
    assert batches(sink) == [1, 3, 4, 5]
    assert outbox.pending() == [Pending("memory", 1, "memory refuses batch 2")]
    outbox.close(SWEEP, RESULTS)
    assert sink.closed == 1
    assert outbox.pending() == [Pending("memory", 1, "memory refuses batch 2")]


def test_budget_ends_between_results() -> None:
    clock = Clock()

    class Slow(Memory):
        def write(self, result: Result) -> None:
            super().write(result)
            clock.now += 1.0

    sink = Slow()
    outbox = Outbox([sink], clock)
    outbox.open(SWEEP)
    for result in RESULTS:
        outbox.write(result)
    outbox.flush(budget_s=1.5)
    assert batches(sink) == [1, 2]
    assert outbox.pending() == [Pending("memory", 3, "")]
    outbox.flush(budget_s=0)
    assert batches(sink) == [1, 2]


def test_close_sends_what_an_earlier_session_left_and_nothing_twice() -> None:
    sink = Memory()
    outbox = Outbox([sink])
    outbox.open(SWEEP)
    outbox.write(RESULTS[0])
    outbox.flush()
    outbox.write(RESULTS[0])
    outbox.close(SWEEP, RESULTS)
    assert sink.calls.count("write") == 5
    assert outbox.pending() == []


def test_newer_result_of_a_trial_replaces_the_held_one() -> None:
    sink = Memory()
    outbox = Outbox([sink])
    outbox.open(SWEEP)
    outbox.write(make_result(batch=1, status="oom"))
    outbox.write(RESULTS[0])
    outbox.flush()
    assert list(sink.kept.values()) == [RESULTS[0]]
    assert sink.calls == ["open", "write"]


def test_end_that_fails_is_pending() -> None:
    sink = Memory()
    outbox = Outbox([sink])
    outbox.open(SWEEP)
    sink.away = True
    outbox.close(SWEEP, [])
    assert outbox.pending() == [Pending("memory", 0, "memory is away")]


def test_bug_in_a_sink_does_not_end_the_sweep(caplog: pytest.LogCaptureFixture) -> None:
    sink = Memory(away=True)
    sink.error = ZeroDivisionError("division by zero")
    outbox = Outbox([sink])
    outbox.open(SWEEP)
    outbox.write(RESULTS[0])
    outbox.flush()
    assert outbox.pending()[0].reason == "memory: unexpected ZeroDivisionError: division by zero"
    assert "Traceback" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING


def test_sink_is_opened_again_after_an_interrupt() -> None:
    class Interrupted(Memory):
        def write(self, result: Result) -> None:
            super().write(result)
            if self.calls.count("write") == 1:
                raise KeyboardInterrupt

    sink = Interrupted()
    outbox = Outbox([sink])
    outbox.open(SWEEP)
    outbox.write(RESULTS[0])
    with pytest.raises(KeyboardInterrupt):
        outbox.flush()
    outbox.close(SWEEP, RESULTS[:1])
    assert sink.calls == ["open", "write", "open", "write", "close"]
    assert outbox.pending() == []


def test_a_preload_that_fails_is_silent_and_keeps_no_other_from_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(Memory):
        def preload(self) -> None:
            raise RuntimeError("Could not determine home directory.")

    class Heavy(Memory):
        loaded = False

        def preload(self) -> None:
            self.loaded = True

    heavy = Heavy()
    thread = Outbox([Broken(), heavy]).preload()
    assert thread is not None
    thread.join()
    assert heavy.loaded
    assert capfd.readouterr().err == ""


def test_preload_runs_beside_the_caller_where_there_are_sinks(tmp_path: Path) -> None:
    assert Outbox([]).preload() is None
    loaded = tmp_path / "loaded"

    class Heavy(Memory):
        def preload(self) -> None:
            loaded.touch()

    thread = Outbox([Memory(), Heavy()]).preload()
    assert thread is not None
    thread.join(10)
    assert loaded.exists()


def test_a_sink_gets_a_limit_of_time() -> None:
    class Patient(Memory):
        def limit(self, seconds: float) -> None:
            self.calls.append(f"limit {seconds:g}")

    clock, sink = Clock(), Patient()
    outbox = Outbox([sink], clock)
    outbox.open(SWEEP)
    outbox.write(RESULTS[0])
    outbox.flush(2.0)
    assert sink.calls == ["open", "limit 2", "write", "limit 2"]
    sink.calls.clear()
    outbox.close(SWEEP, RESULTS[:2])
    assert sink.calls[:2] == ["limit inf", "write"]
    assert sink.calls[-1] == "close"
