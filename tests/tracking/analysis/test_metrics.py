"""The table of metrics: what a row there changes everywhere."""

from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console

from sweeps.request import objective
from tests.support.records import make_result
from tracking.analysis import metrics
from tracking.analysis.frame import frame
from tracking.analysis.metrics import METRICS, Metric, figures_of, lower_is_better
from tracking.analysis.table import csv_text, standard_columns, table
from tracking.record import DEFAULT_PASSES
from tracking.report import trial_table
from tracking.sinks.mlflow import content, view
from tracking.tables.results_table import results_table

SHORTEST = Metric(name="min_s", unit="s at least", better="lower", value=lambda m, _: min(m.step_s), shown=True)


@pytest.fixture
def with_shortest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "METRICS", (*METRICS, SHORTEST))


@pytest.mark.usefixtures("with_shortest")
def test_a_new_metric_is_everywhere() -> None:
    result = make_result(passes=("forward",))
    value = min(result.passes["forward"].step_s)
    (row,) = csv.DictReader(io.StringIO(csv_text(table([result], [result.trial]))))
    assert float(row["min_s"]) == value
    assert frame([result], [result.trial])["min_s"].tolist() == [value]
    assert {point.key: point.value for point in content.trial_metrics(result)}["forward/min_s"] == value
    assert "metrics.`forward/min_s`" in json.loads(view.shared_view())["selectedColumns"]
    assert objective.value([result], "forward/min_s") == value
    screen = Console(width=200, record=True, file=io.StringIO())
    screen.print(results_table([result]))
    text = screen.export_text()
    assert "s at least" in text
    (page,) = trial_table.table([result], {result.trial_id: "a trial"}).rows
    assert any(cell.value == value and cell.text == f"{value:.4g}" for cell in page.cells)
    assert lower_is_better("forward/min_s")
    assert f"{value:.4g}" in text


def test_the_header_of_a_results_table() -> None:
    assert [column.name for column in standard_columns()] == [
        *("trial_id", "name", "model", "batch", "device", "precision", "compile", "layout", "protocol"),
        *("optimizer", "repeat", "status", "pass", "steps"),
        *("mean_s", "sd_s", "median_s", "p90_s", "p99_s", "images_per_s", "tokens_per_s", "first_call_s"),
        *("peak_rss_mb", "peak_device_mb", "gflops_per_s", "quality", "error", "host"),
    ]


def test_figures_are_those_that_the_journal_holds_beside_the_samples() -> None:
    result = make_result()
    figures = figures_of(result)
    for name in DEFAULT_PASSES:
        written = result.passes[name].figures(4)
        assert {key: figures[f"{name}/{key}"] for key in written} == written
    assert figures["memory/peak_rss_mb"] == result.peak_rss_mb
    assert "memory/peak_device_mb" not in figures
