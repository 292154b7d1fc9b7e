"""The table of charts that pictures and report share."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.support.charts import first_call_chart
from tests.support.records import make_result, make_sweep
from tracking.plots import sweep_charts, sweep_plots
from tracking.plots.sweep_charts import CHARTS
from tracking.report import html_page
from tracking.report.data import chart_data

RESULTS = [make_result("vgg16", batch, device) for device in ("cpu", "gpu") for batch in (1, 2, 4)]
TOKENS = {"tokens": {"dtype": "int32", "shape": [4, 128], "length": 128}}


def test_a_row_of_the_table_becomes_pictures_and_entries_of_the_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chart = first_call_chart(reference=0.5)
    monkeypatch.setattr(sweep_charts, "CHARTS", (*CHARTS, chart))
    written = sweep_plots.draw(make_sweep(RESULTS), RESULTS, tmp_path)
    for name in ("first_call_forward", "first_call_forward_backward"):
        assert tmp_path / "plots" / f"{name}.png" in written
        with Image.open(tmp_path / "plots" / f"{name}.png") as image:
            assert image.width > 500
    html_page.write(make_sweep(RESULTS), RESULTS, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    entries = [entry for entry in json.loads(data)["charts"] if entry["figure"] == "first call"]
    assert [entry["pass"] for entry in entries] == ["forward", "forward_backward"]
    forward = entries[0]
    assert (forward["axis"], forward["unit"]) == ("first call ({unit})", "s")
    assert (forward["reference"], forward["referenceName"]) == (0.5, "a limit")
    assert [line["label"] for line in forward["lines"]] == ["cpu", "gpu"]
    assert [point["y"] for point in forward["lines"][0]["points"]] == pytest.approx([1.2] * 3)


def test_every_chart_of_the_report_has_its_picture(tmp_path: Path) -> None:
    texts = [make_result("vgg16", batch, device, fed=TOKENS) for device in ("cpu", "gpu") for batch in (1, 2, 4)]
    results = [replace(r, passes={k: replace(m, peak_device_mb=9.0) for k, m in r.passes.items()}) for r in texts]
    written = {path.stem for path in sweep_plots.draw(make_sweep(results), results, tmp_path)}
    charts = list(sweep_charts.sweep_charts(results))
    assert {drawn.chart for drawn in charts} == set(CHARTS)
    assert {drawn.file_name for drawn in charts} <= written
    assert len(chart_data(results)) == len(charts) == 5 * 2 + 2


def test_a_figure_that_nothing_has_is_left_out() -> None:
    assert "peak memory, device" not in {entry["figure"] for entry in chart_data(RESULTS)}
    assert list(sweep_charts.sweep_charts([make_result(status="oom")])) == []
