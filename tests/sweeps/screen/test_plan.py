from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.machine.node import Node
from sweeps.plan.estimate import Estimate
from sweeps.recorder import Recorder
from sweeps.screen.plan import forecast_lines
from sweeps.screen.terminal import Terminal
from tests.support.records import make_result, make_sweep
from tracking.record import Trial


def test_a_plan_of_many_batches_names_a_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep([make_result(batch=batch) for batch in range(1, 101)], folder=tmp_path)
    Terminal().plan(sweep, sweep.trials, [Node(cpus=2)])
    assert "21, 22, ... (77 more), 100\n" in capsys.readouterr().out.replace(" \n", "\n").replace("  ", "")


def test_the_plan_says_what_where_and_whereto(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().plan(recorder.sweep, recorder.sweep.trials[2:], [Node(cpus=2, gpus=1)])
    printed = capsys.readouterr().out
    assert "3 planned, 1 to run" in printed
    assert "vgg16" in printed
    assert "1, 2, 4" in printed
    assert "(2 cores, 1 GPU)" in printed
    assert recorder.sweep.folder in printed.replace("\n", "")


def test_a_forecast_has_a_row_for_each_trial_and_the_time_of_all(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = recorder.sweep.trials
    sizes = {trials[0].trial_id: 300.0}
    terminal, nodes = Terminal(), [Node(cpus=1)]
    terminal.plan(recorder.sweep, trials, nodes)
    capsys.readouterr()

    def memory_mb(trial: Trial) -> float | None:
        return sizes.get(trial.trial_id)

    terminal.forecast(trials, [Estimate(8.0, 20.0), Estimate(100.0, 200.0), None], memory_mb, nodes, 1)
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        "trial about at most memory",
        "vgg16 b=1 8.0 s 20 s 300 MB",
        "vgg16 b=2 2 min 3 min ?",
        "vgg16 b=4 ? ? ?",
        "Time about 2 min, at most 4 min, and 1 trial about which nothing is known. Nothing was run.",
    ]


def test_a_long_forecast_counts_the_rows_it_leaves_out() -> None:
    trials = [make_result(batch=batch).trial for batch in range(1, 43)]
    nothing = [None] * len(trials)
    assert forecast_lines(trials, nothing, [Node(cpus=1)], None) == [
        "... and 2 more",
        "Time     nothing is known about these trials. Nothing was run.",
    ]
