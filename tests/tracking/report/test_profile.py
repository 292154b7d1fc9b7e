from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.records import make_result, make_sweep
from tracking.record import Result
from tracking.report import html_page


def profiled(folder: Path, result: Result, content: str) -> None:
    for name in result.passes:
        place = folder / "trials" / result.trial_id / "files" / "profile" / name
        place.mkdir(parents=True)
        (place / "top_ops.json").write_text(content)


def page(folder: Path, results: list[Result]) -> str:
    html_page.write(make_sweep(results, folder), results, folder / "report.html")
    return (folder / "report.html").read_text("utf-8")


def test_a_profiled_pass_has_a_table(tmp_path: Path) -> None:
    results = [make_result(batch=batch, profile=True) for batch in (1, 2)]
    rows = [["Conv2D<i>", 1200, 3456.789, 0.9], ["MatMul", 1, 0.5, 0.1]]
    profiled(tmp_path, results[0], json.dumps({"columns": ["op", "calls", "total ms", "share"], "data": rows}))
    profiled(tmp_path, results[1], "a file cut sho")
    text = page(tmp_path, results)
    assert text.count("Conv2D&lt;i&gt; 90%, MatMul 10%") == 2, "a table for each pass of the first trial"
    assert "<td>1,200</td><td>3,456.789</td>" in text
    assert "vgg16 b=1, forward + backward" in text
    assert "vgg16 b=2, forward" not in text


@pytest.mark.parametrize("content", ["[]", '{"data": [["MatMul", Infinity, 1.0, 0.5]]}', '{"data": [["MatMul", 1]]}'])
def test_a_damaged_table_is_left_out(content: str, tmp_path: Path) -> None:
    result = make_result(profile=True)
    profiled(tmp_path, result, content)
    assert "MatMul" not in page(tmp_path, [result])


def test_a_sweep_without_profiles_has_no_section_on_them(tmp_path: Path) -> None:
    assert "What a step spends its time on" not in page(tmp_path, [make_result()])
