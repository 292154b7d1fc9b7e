from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.machine.node import Node
from sweeps.recorder import Recorder
from sweeps.screen.terminal import Terminal
from tests.support.records import make_result, make_sweep
from tracking.record import Failure, Result, Sweep
from tracking.sink import Sink
from tracking.sinks.outbox import Outbox


def _without_reader() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def _without_terminal() -> int:
    master, terminal = os.openpty()
    os.close(master)
    return terminal


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        (_without_reader, "Broken pipe"),
        (_without_terminal, "Input/output error"),
        (lambda: os.open("/dev/full", os.O_WRONLY), "No space left on device"),
    ],
    ids=["reader", "terminal", "room"],
)
def test_an_output_that_has_gone_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], gone: Callable[[], int], reason: str
) -> None:
    with os.fdopen(gone(), "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        terminal = Terminal()
        for _ in range(2):
            terminal.say("a word")
        print("of a library's", file=out, flush=True)
    printed = f"warning: standard output can no longer be written ({reason}); what has begun goes on\n"
    assert capsys.readouterr().err == printed


def test_a_reader_of_text_that_has_gone_has_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with os.fdopen(_without_reader(), "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        terminal = Terminal()
        with pytest.raises(KeyboardInterrupt):
            terminal.text("a script\n")
        terminal.say("another, into the void")
    assert capsys.readouterr().err == ""


def test_the_end_names_what_is_missing_and_how_to_go_on(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().end(recorder)
    printed = capsys.readouterr().out
    assert "vgg16 b=1" in printed
    assert "1 of 3 trials have no result" in printed
    assert f"resume={recorder.sweep.folder}" in printed


def test_what_the_sinks_say_is_reported_while_the_sweep_runs(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("tracking.sinks.outbox")
    with Terminal().warnings_of("tracking"):
        log.warning("MLflow is away")
    log.warning("nobody listens")
    assert capsys.readouterr().err == "warning: MLflow is away\n"


def test_problems_and_warnings_go_to_standard_error_without_passwords(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.problems(["batch=0: no [good]"])
    terminal.warn("http://me:secret@host is away")
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: batch=0: no [good]" in err
    assert "secret" not in err


def test_the_end_leads_to_the_page_with_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Opened(Sink):
        page = "#/experiments/7/runs"

        def open(self, sweep: Sweep) -> None: ...

        def write(self, result: Result) -> None: ...

        def close(self, sweep: Sweep, results: Sequence[Result]) -> None: ...

    results = [make_result()]
    for uri, words in (
        ("http://host:5000/", "Compare  open http://host:5000/#/experiments/7/runs\n"),
        ("sqlite:///elsewhere/mlflow.db", "elsewhere/mlflow.db, then http://127.0.0.1:5000/#/experiments/7/runs\n"),
    ):
        sweep = make_sweep(results, tmp_path, facts={"tracking": {"mlflow": {"uri": uri, "experiment": "sweeps"}}})
        recorder = Recorder(sweep, Outbox([Opened()]))
        Terminal().end(recorder)
        recorder.journal.close()
        assert words in capsys.readouterr().out


def test_no_text_moves_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]0;title\x07\r\u202e[red]"
    failed = make_result(evil, status="error", device=evil)
    result = replace(failed, error=Failure(kind=evil, message=evil))
    kept = Recorder(make_sweep([result, make_result("other")], tmp_path / evil), Outbox([]))
    kept.record(result)
    files = tmp_path / evil / "trials" / "x" / "files"
    files.mkdir(parents=True)
    (files / "summary.txt").write_text(evil)
    (files.parent / "log.txt").write_text(f"1: step {evil}")
    terminal = Terminal()
    terminal.plan(kept.sweep, kept.sweep.trials, [Node(cpus=2, name=evil), Node(cpus=3)])
    with terminal.progress.running(kept.sweep.trials, lambda _: files.parent / "log.txt"):
        terminal.progress.finished(result)
    for say in (terminal.say, terminal.warn, lambda text: terminal.problems([text])):
        say(evil)
    terminal.end(kept)
    printed = capsys.readouterr()
    assert "\\x1b]0;title" in printed.out
    assert "[red]" in printed.out
    for text in (printed.out, printed.err):
        assert not {"\x1b", "\x07", "\r", "\u202e"} & set(text)
