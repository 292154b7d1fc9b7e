"""Any result that can be read is written by everything after it, and a good one beside it stays unharmed."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tests.support.records import make_layers, make_result, make_sweep
from tracking.analysis.table import csv_text, rows, standard_columns
from tracking.plots import sweep_plots
from tracking.record import Failure, Result
from tracking.report import html_page
from tracking.schema.device import Device
from tracking.schema.measurement import Measurement
from tracking.schema.reading import FormatError
from tracking.sink import Sink
from tracking.sinks.csv_table import CsvSink
from tracking.sinks.mlflow import content
from tracking.sinks.mlflow.sink import MlflowSink
from tracking.sinks.outbox import Outbox
from tracking.sinks.parquet_table import ParquetSink

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
GOOD = make_result(model="good", batch=4)
NAMES = st.sampled_from(
    [
        *("../x", "/", "", ".", "..", "a/../b", "a//b", "a/", "loss", "lo:ss", "lo ss", "lo\nss", "é", "\ud800", "\0"),
        *("=1+1", "status", "name", "task", "mean_s", "forward/mean_s", "forward/step_s", "wall_s", "phases/build_s"),
        *("<b>", "x" * 300),
    ]
) | st.text(max_size=20)  # fmt: skip
TEXTS = NAMES | st.sampled_from(["</script><script>", "[red]", "\x1b]0;x\x07", "a\r\nb", "y" * 20_000, "|", "`"])
FIGURES = st.floats() | st.integers(-(10**300), 10**300) | st.sampled_from([float("nan"), float("inf"), 0, -1])
FLOATS = st.floats(0, 1e12) | st.sampled_from([0.0, 5e-324, 1e12])
STEPS = st.lists(st.floats(1e-12, 1e12) | st.just(0.1), min_size=1, max_size=12)
ROWS = st.integers(0, 2)
CURVES = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), FIGURES), max_size=3).map(tuple)
FACTS = st.recursive(
    st.none() | st.booleans() | FIGURES | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def results(draw: st.DrawFn) -> Result:
    base = make_result(
        model=draw(TEXTS),
        batch=draw(st.sampled_from([1, 4, 2**53])),
        device=Device(name=draw(TEXTS), node_labels=draw(st.dictionaries(TEXTS, TEXTS, max_size=2))),
        model_args=draw(st.dictionaries(NAMES, FACTS, max_size=2)),
        task=draw(st.sampled_from(["benchmark", "classify"]) | TEXTS),
        task_args=draw(st.dictionaries(NAMES, FACTS, max_size=2)),
        steps=1,
    )
    measurements = {
        name: Measurement(
            first_call_s=draw(FLOATS),
            warmup_s=(),
            step_s=tuple(draw(STEPS)),
            stopped=draw(TEXTS),
            peak_rss_mb=draw(st.none() | st.floats(0, 1e15)),
            flops=draw(st.none() | st.integers(0, 2**100)),
            evidence=draw(st.dictionaries(NAMES, st.floats(allow_nan=False, allow_infinity=False), max_size=2)),
        )
        for name in draw(st.sets(st.sampled_from(["forward", "forward_backward"])))
    }
    status = draw(st.sampled_from(["ok", "error", "oom", "crashed", "not_run"]))
    result = replace(
        base,
        status=status,
        started_at=draw(st.floats(0, 1e11)),
        wall_s=draw(FLOATS),
        host=draw(st.dictionaries(TEXTS.filter(lambda key: key not in ("in_force", "cores")), FACTS, max_size=3))
        | {"hostname": draw(TEXTS), "in_force": {draw(TEXTS): draw(st.dictionaries(TEXTS, FACTS, max_size=2))}},
        passes=measurements,
        layers=tuple(replace(layer, name=draw(TEXTS), output_shape=(0, 2)) for layer in make_layers(1)[: draw(ROWS)]),
        metrics=draw(st.dictionaries(NAMES, FIGURES, max_size=4)),
        curves=draw(st.dictionaries(NAMES, CURVES, max_size=2)),
        phases=draw(st.dictionaries(NAMES, FLOATS, max_size=2)),
        quality=tuple(draw(st.lists(TEXTS, max_size=2))),
        error=None if status == "ok" else Failure(kind=draw(TEXTS), message=draw(TEXTS), detail=draw(TEXTS)),
    )  # fmt: skip
    try:
        return Result.from_json(json.loads(json.dumps(result.to_json())))
    except FormatError:  # none that a trial or a journal could bring
        reject()


def written(folder: str, made: Sequence[Result], *sinks: Sink) -> list[Any]:
    """What sinks lack that have been given these results."""
    sweep = make_sweep(made, folder)
    outbox = Outbox(sinks)
    outbox.open(sweep)
    for result in made:
        outbox.write(result)
        outbox.flush()
    outbox.close(sweep, made)
    return outbox.pending()


@settings(max_examples=EXAMPLES)
@given(results())
def test_files_hold_any_result(result: Result) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert written(folder, [result, GOOD], CsvSink(), ParquetSink()) == []
        text = Path(folder, "results.csv").read_bytes().decode()
        table = list(csv.DictReader(io.StringIO(text, newline="")))
        assert [row["mean_s"] for row in table if row["model"] == "good" and row["trial_id"] == GOOD.trial_id] == [
            repr(measurement.mean_s) for measurement in GOOD.passes.values()
        ]
        assert {row["status"] for row in table} == {result.status, "ok"}, text


@settings(max_examples=EXAMPLES)
@given(results())
def test_the_report_holds_any_result(result: Result) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sweep = make_sweep([result, GOOD], folder)
        html_page.write(sweep, [result, GOOD], Path(folder, "report.html"))
        assert "</script><script>" not in Path(folder, "report.html").read_bytes().decode()


@settings(max_examples=EXAMPLES)
@given(results())
def test_mlflow_gets_what_it_takes(result: Result) -> None:
    from mlflow.utils import validation

    sweep = make_sweep([result, GOOD], "/tmp/s")
    points = content.trial_metrics(result)
    for point in [*points, *content.curves(sweep, [result, GOOD])]:
        validation._validate_metric(point.key, point.value, point.timestamp, point.step)
    single = [point.key for point in points if point.key not in result.curves and not point.key.endswith("step_s")]
    figures = {f"{name}/mean_s": measurement.mean_s for name, measurement in result.passes.items()}
    for key, value in figures.items():
        assert [point.value for point in points if point.key == key] == [value]
    assert len(single) >= len(result.metrics)
    for key, text in content.trial_params(result.trial).items():
        validation._validate_param(key, text)
        text.encode()
    tags = content.trial_tags(sweep, result) | content.sweep_tags(sweep, [result, GOOD])
    for key, text in tags.items():
        validation._validate_tag(key, text)
        text.encode()
    json.loads(content.layer_table(result))


@settings(max_examples=max(3, EXAMPLES // 10))
@given(results())
def test_plots_are_drawn_of_any_result(result: Result) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sweep_plots.draw(make_sweep([result, GOOD], folder), [result, GOOD], Path(folder))


def test_mlflow_holds_odd_results(uri: str, tmp_path: Path) -> None:
    odd = [
        replace(
            make_result(model="odd\ud800", batch=batch, task_args={"\x1b": "\ud800"}),
            metrics={"loss": float("nan"), "lo:ss": float("inf"), "lo?ss": 1, "../up": 10**300, "forward/mean_s": -1.0},
            curves={"train/loss": ((1, float("nan")), (2, float("-inf")))},
            error=Failure(kind="E", message="\ud800\0" * 9, detail="\udcff"),
            status=status,
        )
        for batch, status in ((4, "error"), (8, "ok"))
    ]
    assert written(str(tmp_path / "sweep"), [*odd, GOOD], MlflowSink(uri)) == []


@pytest.mark.parametrize("key", [*(column.name for column in standard_columns()), "task", "task.top"])
def test_no_figure_of_a_tasks_takes_the_place_of_ours(key: str) -> None:
    result = replace(make_result(task="classify", task_args={"top": 5}), metrics={key: 17.25})
    plain = rows(replace(result, metrics={}), "name")
    for row, before in zip(rows(result, "name"), plain, strict=True):
        assert {column: row[column] for column in before} == before
        assert row[f"metrics/{key}"] == 17.25
    assert "17.25" in csv_text(rows(result, "name"))
