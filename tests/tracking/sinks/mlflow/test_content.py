"""What a sweep looks like in MLflow, without MLflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.support.records import make_result, make_sweep
from tracking.names import series_names
from tracking.sinks.mlflow import content, figures, keys, notes


def test_curves_that_differ_in_more_than_batch_are_kept_apart(tmp_path: Path) -> None:
    results = [make_result(batch=b, precision=p) for b in (1, 2) for p in ("float32", "bfloat16")]
    points = content.curves(make_sweep(results, tmp_path), results)
    assert {point.key for point in points if point.key.endswith("forward/mean_s")} == {
        "vgg16/cpu float32/forward/mean_s",
        "vgg16/cpu bfloat16/forward/mean_s",
    }
    assert len(points) == len({(point.key, point.step) for point in points}) == 16
    assert set(series_names([result.trial for result in results]).values()) == {
        "vgg16/cpu float32",
        "vgg16/cpu bfloat16",
    }


def test_histories_are_shorter_in_a_sweep_of_many_trials(tmp_path: Path) -> None:
    results = [make_result(batch=batch, steps=400) for batch in (1, 2)]
    small = make_sweep(results, tmp_path)
    large = replace(small, trials=tuple(replace(results[0].trial, batch=batch) for batch in range(1, 1001)))
    assert (content.steps_kept(small), content.steps_kept(large)) == (1000, 30)
    for sweep, count in ((small, 400), (large, 30)):
        points = content.trial_metrics(results[0], content.steps_kept(sweep))
        steps = [point for point in points if point.key == "forward/step_s"]
        assert [len(steps), steps[0].step, steps[-1].step] == [count, 0, 399]


def test_note_of_a_large_sweep_is_cut_and_says_so(tmp_path: Path) -> None:
    results = [make_result(batch=batch) for batch in range(1, 200)]
    results += [make_result(batch=batch, status="error") for batch in range(200, 205)]
    note = notes.sweep_note(make_sweep(results, tmp_path), results)
    assert len(note) <= keys.LONGEST_VALUE
    assert "204 trials: 199 ok, 5 error" in note
    assert note.count("**error**") == 5
    assert "more lines: see results.csv and report.html" in note


def test_what_was_in_force_is_one_tag_a_pass(tmp_path: Path) -> None:
    found = {"threads": 2, "tf32": False, "compiler": "graph", "dtypes": {"float32": 16}}
    result = make_result(host={"hostname": "node1", "in_force": {"forward": found}})
    tags = content.trial_tags(make_sweep([result], tmp_path), result)
    assert tags["in_force.forward"] == "threads 2, tf32 false, compiler graph, dtypes.float32 16"
    assert [key for key in tags if "in_force" in key] == ["in_force.forward"]


def test_figures_come_back_out_of_their_keys() -> None:
    result = replace(
        make_result(task="finetune", quality=("drift: +9% over the run; rising (forward)", "work: 3% (forward)")),
        metrics={"val/accuracy": 0.9, "epochs": 3.0},
        curves={"val/accuracy": ((1, 0.5), (2, 0.8))},
    )
    keys_and_values = figures.encoded(result) | dict(figures.encoded_of_task(result)) | {"val/accuracy": 0.8}
    assert figures.wall_s(keys_and_values) == result.wall_s
    assert figures.phases(keys_and_values) == result.phases
    assert figures.limits(keys_and_values) == result.limits
    assert figures.of_task(keys_and_values, result.trial, result.curves) == result.metrics
    for name, measurement in result.passes.items():
        recorded = figures.of_pass(keys_and_values, name)
        assert recorded.items() >= measurement.figures(result.trial.batch).items()
        assert figures.evidence(recorded) == measurement.evidence
    assert figures.doubts(content.trial_tags(make_sweep([result]), result)["quality"]) == result.quality
