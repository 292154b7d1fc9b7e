from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from sweeps.machine.node import Node
from sweeps.recorder import Recorder
from sweeps.screen import progress
from sweeps.screen.progress import Progress
from sweeps.screen.terminal import Terminal
from tests.support.records import make_result
from tracking.names import trial_names
from tracking.sinks.outbox import Pending
from tracking.text.screen import Screen


def test_each_trial_is_a_line_where_there_is_no_terminal(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    terminal.plan(recorder.sweep, recorder.sweep.trials, [Node(cpus=2)])
    capsys.readouterr()
    with terminal.progress.running(recorder.sweep.trials, lambda _: Path("log")):
        for result in recorder.results.values():
            terminal.progress.started(result.trial)
            terminal.progress.finished(result)
        terminal.progress.finished(make_result(batch=4, status="oom"))
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("1/3  vgg16 b=1  ok  forward ")
    assert second.startswith("2/3  vgg16 b=2  ok  forward ")
    assert third.startswith("3/3  vgg16 b=4  oom  ResourceExhaustedError: OOM when allocating tensor with shape[64,")


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
    with terminal.progress.running(recorder.sweep.trials, lambda _: tmp_path / "log.txt"):
        terminal.progress.finished(recorder.results[recorder.sweep.trials[0].trial_id])
    printed = capsys.readouterr().out
    assert len(printed) < 2**16
    assert "\x1b" not in printed
    assert "root:" not in printed


def test_a_slow_sink_is_reported_once_and_again_when_it_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.progress.waiting([])
    for count in (1, 2, 3):
        terminal.progress.waiting([Pending("MLflow at http://host", count, "")])
    assert (
        capsys.readouterr().out
        == "1 result waits for MLflow at http://host: it is slow to answer; what waits is sent later\n"
    )
    terminal.progress.waiting([])
    terminal.progress.waiting([])
    assert capsys.readouterr().out == "MLflow at http://host has every result so far\n"


def test_a_sink_that_failed_is_not_called_slow(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.progress.waiting([Pending("MLflow at http://host", 1, "no answer (Connection refused)")])
    terminal.progress.waiting([])  # that it is back, the outbox tells
    assert capsys.readouterr().out == ""


def test_a_terminal_shows_what_runs_with_its_last_line_and_what_it_waits_for(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_RUNNING_ROWS", 2)
    (tmp_path / "log.txt").write_text("12:00: building\n12:01: forward: step 3 of 10\n12:02: a library's word\n")
    out, trials = io.StringIO(), recorder.sweep.trials
    shown = Progress(Screen(file=out, force_terminal=True, width=200, highlight=False), print, print)
    shown.expect(trial_names(trials), len(trials))
    with shown.running(trials, lambda _: tmp_path / "log.txt"):
        for trial in trials:
            shown.started(trial)
        shown.waiting([Pending("MLflow at http://host", 2, "no answer")])
        shown.held_up("1 trial waits: other jobs of the cluster hold 1 node: a")
    text = out.getvalue()
    assert "vgg16 b=1" in text
    assert "forward: step 3 of 10" in text
    assert "a library's word" not in text
    assert "... and 1 more" in text
    assert "2 results wait for MLflow at http://host" in text
    assert "other jobs of the cluster hold 1 node: a" in text
    assert "0/3" in text


def test_what_trials_wait_for_is_printed_when_the_holders_change_but_not_too_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    lines: list[str] = []
    shown = Progress(Screen(file=io.StringIO()), lines.append, print)
    for sentence in ("2 trials wait: a", "1 trial waits: a", "1 trial waits: b", ""):
        shown.held_up(sentence)
    assert lines == ["2 trials wait: a"]
    now += 61
    shown.held_up("1 trial waits: a")
    shown.held_up("1 trial waits: b")
    assert lines == ["2 trials wait: a", "1 trial waits: b"]


def test_a_trial_that_is_tried_again_is_a_warning(recorder: Recorder) -> None:
    warnings: list[str] = []
    shown = Progress(Screen(file=io.StringIO()), print, warnings.append)
    shown.expect(trial_names(recorder.sweep.trials), 3)
    shown.retrying(make_result(batch=4, status="crashed"))
    assert warnings == ["vgg16 b=4 is tried again: the trial's process died of SIGSEGV"]
