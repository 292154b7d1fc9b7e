"""Results on their way from a site into the journal, and when the trials after them are not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hydra import compose

from sweeps.cluster import Site
from sweeps.dispatch.context import Context
from sweeps.dispatch.loop import Results
from sweeps.errors import StoppedError
from sweeps.machine.node import Node
from sweeps.process.interrupts import Interrupts
from sweeps.recorder import Recorder
from sweeps.runner import Runner
from sweeps.screen.terminal import Terminal
from tests.support.records import make_result, make_sweep
from tracking.folder.journal import Journal
from tracking.record import Result, Trial
from tracking.sinks.outbox import Outbox

pytestmark = pytest.mark.usefixtures("hydra")
NODE = Node(cpus=2)


class ReadySite(Site):
    """Yields given results, and calls `look` before each of them and after the last."""

    def __init__(self, results: Sequence[Result], look: Callable[[Context, int], None] = lambda *_: None) -> None:
        self._results, self._look = results, look
        self.given: list[str] = []
        self.closed = False

    def run(self, trials: Sequence[Trial], context: Context) -> Results:
        self.given = [trial.trial_id for trial in trials]
        return self._run(context)

    def _run(self, context: Context) -> Results:
        try:
            for index, result in enumerate(self._results):
                self._look(context, index)
                yield result
            self._look(context, len(self._results))
        finally:
            self.closed = True


@pytest.fixture
def runner() -> Runner:
    return Runner(Terminal(), Interrupts())


def run(runner: Runner, site: Site, recorder: Recorder, trials: Sequence[Trial], *overrides: str) -> None:
    """Run the trials at the site as a command with these overrides does."""
    config = compose("config", ["model=tiny", "calibrate=false", *overrides])
    try:
        runner.run(trials, config, recorder, site=site, node=NODE, server=lambda: "/address")
    finally:
        recorder.journal.close()


def recorder_of(results: Sequence[Result], folder: Path) -> Recorder:
    return Recorder(make_sweep(results, folder), Outbox([]))


def test_each_result_is_in_the_journal_before_the_next_trial_ends(runner: Runner, tmp_path: Path) -> None:
    results = [make_result(batch=batch) for batch in (1, 2, 3)]
    recorder = recorder_of(results, tmp_path)
    journaled: list[int] = []

    def look(context: Context, _: int) -> None:
        assert (context.sweep_id, context.folder, context.node) == (recorder.sweep.sweep_id, tmp_path, NODE)
        assert context.server() == "/address"
        journaled.append(len(Journal(tmp_path).read()))

    site = ReadySite(results, look)
    run(runner, site, recorder, recorder.sweep.trials)
    assert journaled == [0, 1, 2, 3]
    assert site.given == [result.trial_id for result in results]
    assert site.closed


def test_the_trials_after_failures_of_one_cause_are_not_run(runner: Runner, tmp_path: Path) -> None:
    results = [make_result(batch=batch, status="error") for batch in (1, 2, 3)]
    site = ReadySite(results)
    recorder = recorder_of(results, tmp_path)
    with pytest.raises(StoppedError, match="fail_fast=2: the first to end failed alike, ValueError"):
        run(runner, site, recorder, recorder.sweep.trials, "fail_fast=2")
    assert list(recorder.results) == [result.trial_id for result in results[:2]]
    assert site.closed


def test_failures_are_counted_over_all_points_of_a_session(runner: Runner, tmp_path: Path) -> None:
    first, second = (make_result(batch=batch, status="error") for batch in (1, 2))
    run(runner, ReadySite([first]), recorder_of([first], tmp_path / "a"), [first.trial], "fail_fast=2")
    with pytest.raises(StoppedError, match="fail_fast=2"):
        run(runner, ReadySite([second]), recorder_of([second], tmp_path / "b"), [second.trial], "fail_fast=2")


@pytest.mark.parametrize("ceiling", [True, False])
def test_a_batch_that_ran_out_of_memory_limits_larger_ones(runner: Runner, tmp_path: Path, *, ceiling: bool) -> None:
    ran_out, larger = make_result(batch=8, status="oom"), make_result(batch=16).trial
    limited: list[bool] = []

    def look(context: Context, _: int) -> None:
        limited.append(context.limit(larger) is not None)

    recorder = recorder_of([ran_out], tmp_path)
    run(runner, ReadySite([ran_out], look), recorder, [ran_out.trial], f"oom_ceiling={str(ceiling).lower()}")
    assert limited == [False, ceiling]


def test_a_result_of_a_trial_that_is_run_again_limits_nothing(runner: Runner, tmp_path: Path) -> None:
    before, larger = make_result(batch=8, status="oom"), make_result(batch=16).trial
    recorder = recorder_of([before], tmp_path)
    recorder.record(before)
    limited: list[bool] = []

    def look(context: Context, _: int) -> None:
        limited.append(context.limit(larger) is not None)

    run(runner, ReadySite([make_result(batch=8)], look), recorder, [before.trial])
    assert limited == [False, False]
    assert recorder.results[before.trial_id].status == "ok"


def test_results_of_an_earlier_command_limit_larger_batches(runner: Runner, tmp_path: Path) -> None:
    before, next_result = make_result(batch=8, status="oom"), make_result(batch=16)
    recorder = recorder_of([before, next_result], tmp_path)
    recorder.record(before)

    def look(context: Context, _: int) -> None:
        limit = context.limit(next_result.trial)
        assert limit is not None
        assert "ran out at batch 8" in limit.reason.message

    run(runner, ReadySite([next_result], look), recorder, [next_result.trial])
