"""A sweep that is recorded again, by a later driver or after a fault, has one run per trial and one parent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.records import make_result, make_sweep
from tests.tracking.conftest import Runs, record
from tracking.sinks.mlflow.sink import MlflowSink


def test_same_again_changes_nothing(uri: str, tmp_path: Path) -> None:
    results = [make_result(batch=4), make_result(batch=8, status="timeout")]
    sweep = make_sweep(results, tmp_path)
    record(uri, sweep, results)
    before = Runs(uri)
    sink = MlflowSink(uri)
    for _ in range(2):
        sink.open(sweep)
        for result in [*results, *results]:
            sink.write(result)
        sink.close(sweep, results)
    record(uri, sweep, results)
    after = Runs(uri)
    assert {run.info.run_id for run in after.children} == {run.info.run_id for run in before.children}
    assert after.parent.info.run_id == before.parent.info.run_id
    assert after.parent.info.status == "FAILED"
    assert after.parent.info.end_time == before.parent.info.end_time
    for runs in (before, after):
        assert len(runs.history(runs.by_batch[4], "forward/step_s")) == 30
        assert len(runs.history(runs.parent, "vgg16/cpu/forward/mean_s")) == 1


def test_runs_of_a_sweep_that_grew_are_called_what_sets_them_apart(uri: str, tmp_path: Path) -> None:
    results = [make_result(batch=4, precision=precision) for precision in ("float32", "bfloat16")]
    sink = MlflowSink(uri)
    sink.open(make_sweep(results[:1], tmp_path))
    for result in results:
        sink.write(result)
    sink.close(make_sweep(results, tmp_path), results)
    runs = Runs(uri)
    assert {run.info.run_name for run in runs.children} == {"vgg16 b=4 float32", "vgg16 b=4 bfloat16"}
    wider = [*results, make_result("tiny", batch=8)]
    sink = MlflowSink(uri)
    sink.open(make_sweep(wider, tmp_path))
    sink.close(make_sweep(wider, tmp_path), results)
    assert Runs(uri).parent.info.run_name == "vgg16, tiny b=4,8 cpu"


def test_retried_trial_has_one_run(uri: str, tmp_path: Path) -> None:
    failed, good = make_result(batch=4, status="crashed"), make_result(batch=4)
    other = make_result(batch=8)
    sweep = make_sweep([failed, other], tmp_path)
    record(uri, sweep, [failed, other])
    before = Runs(uri).parent
    assert before.info.status == "FAILED"
    record(uri, sweep, [good, other])
    runs = Runs(uri)
    assert runs.by_batch[4].info.status == "FINISHED"
    assert runs.parent.info.status == "FINISHED"
    assert runs.parent.info.run_id == before.info.run_id, "a new point needs no new parent"
    assert [step for step, _ in runs.history(runs.parent, "vgg16/cpu/forward/mean_s")] == [4, 8]


def test_driver_killed_within_a_child(uri: str, tmp_path: Path) -> None:
    results = [make_result(batch=4), make_result(batch=8)]
    sweep = make_sweep(results, tmp_path)
    sink = MlflowSink(uri)
    sink.open(sweep)
    sink.write(results[0])
    client = Runs(uri).client
    child = Runs(uri).by_batch[4]
    # As a driver leaves it that dies between two requests: the child has its metrics and is still running.
    client.update_run(child.info.run_id, status="RUNNING")
    record(uri, sweep, results)
    runs = Runs(uri)
    assert len(runs.by_batch) == 2
    assert runs.by_batch[4].info.run_id != child.info.run_id
    assert len(runs.history(runs.by_batch[4], "forward/step_s")) == 30


def test_surplus_runs_are_cleared_up(uri: str, tmp_path: Path) -> None:
    results = [make_result(batch=4)]
    sweep = make_sweep(results, tmp_path)
    record(uri, sweep, results)
    runs = Runs(uri)
    for run in (runs.parent, runs.by_batch[4]):
        # As a second driver, or a request that was answered too late, leaves behind.
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.runName"}
        runs.client.create_run(runs.experiment.experiment_id, tags=tags)
    assert (len(Runs(uri).parents), len(Runs(uri).children)) == (2, 2)
    record(uri, sweep, results)
    after = Runs(uri)
    assert after.by_batch[4].info.run_id == runs.by_batch[4].info.run_id
    assert after.by_batch[4].data.tags["mlflow.parentRunId"] == after.parent.info.run_id


def test_run_that_a_slow_server_makes_too_late_is_cleared_up_at_the_end(uri: str, tmp_path: Path) -> None:
    results = [make_result(batch=4), make_result(batch=8)]
    sweep = make_sweep(results, tmp_path)
    sink = MlflowSink(uri)
    sink.open(sweep)
    for result in results:
        sink.write(result)
    runs = Runs(uri)
    for run in (runs.parent, runs.by_batch[8]):
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.runName"}
        runs.client.create_run(runs.experiment.experiment_id, tags=tags)
    sink.close(sweep, results)
    after = Runs(uri)
    assert after.parent.info.run_id == runs.parent.info.run_id
    assert {run.info.run_id for run in after.children} == {run.info.run_id for run in runs.children}


def test_deleted_parent_is_made_again_and_adopts_its_children(uri: str, tmp_path: Path) -> None:
    results = [make_result(batch=4), make_result(batch=8)]
    sweep = make_sweep(results, tmp_path)
    record(uri, sweep, results)
    before = Runs(uri)
    before.client.delete_run(before.parent.info.run_id)
    record(uri, sweep, results)
    after = Runs(uri)
    assert after.parent.info.run_id != before.parent.info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in after.by_batch.values()} == {after.parent.info.run_id}


def test_point_that_moves_is_not_there_twice(uri: str, tmp_path: Path) -> None:
    first, second = make_result(batch=4, repeat=0), make_result(batch=4, repeat=1)
    sweep = make_sweep([first, second], tmp_path)
    missing = replace(second, status="crashed", passes={})
    record(uri, sweep, [first, missing])
    runs = Runs(uri)
    assert runs.history(runs.parent, "vgg16/cpu/forward/mean_s") == [(4, first.passes["forward"].mean_s)]
    record(uri, sweep, [first, second])
    runs = Runs(uri)
    mean = (first.passes["forward"].mean_s + second.passes["forward"].mean_s) / 2
    ((step, value),) = runs.history(runs.parent, "vgg16/cpu/forward/mean_s")
    assert step == 4
    assert value == pytest.approx(mean)
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.children} == {runs.parent.info.run_id}
    assert len(runs.children) == 2
