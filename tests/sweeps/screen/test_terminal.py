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
from tracking.sinks.outbox import Outbox, Pending


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    results = [make_result(batch=1), make_result(batch=2), make_result(batch=4, status="oom")]
    made = Recorder(make_sweep(results, folder=tmp_path), Outbox([]))
    for result in results[:2]:
        made.record(result)
    return made


def test_a_plan_of_many_batches_names_a_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep([make_result(batch=batch) for batch in range(1, 101)], folder=tmp_path)
    Terminal().plan(sweep, sweep.trials, [Node(cpus=2)])
    assert "21, 22, ... (77 more), 100\n" in capsys.readouterr().out.replace(" \n", "\n").replace("  ", "")


def test_the_plan_says_what_where_and_whereto(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().plan(recorder.sweep, recorder.sweep.trials[2:], [Node(cpus=2, gpus=1)])
    told = capsys.readouterr().out
    assert "3 planned, 1 to run" in told
    assert "vgg16" in told
    assert "1, 2, 4" in told
    assert "(2 cores, 1 GPU)" in told
    assert recorder.sweep.folder in told.replace("\n", "")


def test_each_trial_is_a_line_where_there_is_no_terminal(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    terminal.plan(recorder.sweep, recorder.sweep.trials, [Node(cpus=2)])
    capsys.readouterr()
    with terminal.running(recorder.sweep.trials, lambda _: Path("log")):
        for result in recorder.results.values():
            terminal.started(result.trial)
            terminal.finished(result)
        terminal.finished(make_result(batch=4, status="oom"))
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("1/3  vgg16 b=1  ok  forward ")
    assert second.startswith("2/3  vgg16 b=2  ok  forward ")
    assert third.startswith("3/3  vgg16 b=4  oom  ResourceExhaustedError: OOM when allocating tensor with shape[64,")


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
    told = f"warning: standard output can no longer be written ({reason}); what was begun goes on\n"
    assert capsys.readouterr().err == told


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


@pytest.mark.parametrize("kind", ["fifo", "folder", "huge", "link"])
def test_what_a_trial_leaves_as_its_summary_holds_nobody_up(
    recorder: Recorder, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    summary = tmp_path / "files" / "summary.txt"
    summary.parent.mkdir()
    if kind == "fifo":
        os.mkfifo(summary)
    elif kind == "folder":
        summary.mkdir()
    elif kind == "link":
        summary.symlink_to("/etc/passwd")
    else:
        summary.write_text("\x1b[31m\n" * 2**20)
    terminal = Terminal()
    with terminal.running(recorder.sweep.trials, lambda _: tmp_path / "log.txt"):
        terminal.finished(recorder.results[recorder.sweep.trials[0].trial_id])
    told = capsys.readouterr().out
    assert len(told) < 2**16
    assert "\x1b" not in told
    assert "root:" not in told


def test_the_end_names_what_is_missing_and_how_to_go_on(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().end(recorder)
    told = capsys.readouterr().out
    assert "vgg16 b=1" in told
    assert "1 of 3 trials have no result" in told
    assert f"resume={recorder.sweep.folder}" in told


def test_what_the_sinks_say_is_told_while_the_sweep_runs(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("tracking.sinks.outbox")
    with Terminal().telling("tracking"):
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


def test_a_slow_sink_is_told_once_and_again_when_it_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.waiting([])
    for count in (1, 2, 3):
        terminal.waiting([Pending("MLflow at http://host", count, "")])
    assert (
        capsys.readouterr().out
        == "1 result waits for MLflow at http://host: its answers are slow; what waits is sent later\n"
    )
    terminal.waiting([])
    terminal.waiting([])
    assert capsys.readouterr().out == "MLflow at http://host has every result so far\n"


def test_a_sink_that_failed_is_not_called_slow(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.waiting([Pending("MLflow at http://host", 1, "no answer (Connection refused)")])
    terminal.waiting([])  # that it is back, the outbox tells
    assert capsys.readouterr().out == ""


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
    with terminal.running(kept.sweep.trials, lambda _: files.parent / "log.txt"):
        terminal.finished(result)
    for say in (terminal.say, terminal.warn, lambda text: terminal.problems([text])):
        say(evil)
    terminal.end(kept)
    told = capsys.readouterr()
    assert "\\x1b]0;title" in told.out
    assert "[red]" in told.out
    for text in (told.out, told.err):
        assert not {"\x1b", "\x07", "\r", "\u202e"} & set(text)
