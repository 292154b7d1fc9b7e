from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from tests.support.records import make_result, make_sweep
from tracking.analysis.table import csv_text, standard_columns, table
from tracking.record import Failure, Result
from tracking.sink import SinkError
from tracking.sinks import csv_table
from tracking.sinks.csv_table import CsvSink
from tracking.sinks.parquet_table import ParquetSink

COLUMNS = [column.name for column in standard_columns()]


def some_results() -> list[Result]:
    return [
        make_result(batch=4, quality=("noisy", "hot")),
        make_result(batch=8, passes=("forward",)),
        make_result(batch=16, status="oom"),
    ]


def test_row_for_each_pass_and_one_for_a_failure() -> None:
    results = some_results()
    rows = table(results, [result.trial for result in results])
    assert [(row["batch"], row["pass"], row["status"]) for row in rows] == [
        (4, "forward", "ok"),
        (4, "forward_backward", "ok"),
        (8, "forward", "ok"),
        (16, None, "oom"),
    ]
    assert all(list(row) == COLUMNS for row in rows)
    measurement = results[0].passes["forward"]
    assert rows[0]["mean_s"] == measurement.mean_s
    assert rows[0]["images_per_s"] == 4 / measurement.mean_s
    assert rows[0]["quality"] == "noisy; hot"
    assert rows[0]["name"] == "vgg16 b=4 forward+forward_backward"
    assert rows[3]["error"] == "ResourceExhaustedError: OOM when allocating tensor with shape[64,224,224,64]"
    assert rows[3]["host"] == "node1"


def test_csv_text_is_exact() -> None:
    results = some_results()
    rows = list(csv.DictReader(io.StringIO(csv_text(table(results, [])))))
    assert float(rows[0]["sd_s"]) == results[0].passes["forward"].sd_s
    assert rows[3]["mean_s"] == ""


def test_csv_is_whole_after_every_result_and_the_same_twice(tmp_path: Path) -> None:
    results = some_results()
    sweep, path = make_sweep(results, tmp_path), tmp_path / "results.csv"
    sink = CsvSink()
    sink.open(sweep)
    for count, result in enumerate(results, start=1):
        sink.write(result)
        assert path.read_text() == csv_text(table(results[:count], sweep.trials))
    whole = path.read_text()
    sink.open(sweep)
    sink.write(results[0])
    assert path.read_text() == whole
    sink.close(sweep, results)
    sink.close(sweep, results)
    assert path.read_text() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_a_large_csv_is_left_alone_for_a_while_and_complete_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_table, "_SMALL", 1)
    monkeypatch.setattr(csv_table, "_PAUSE", 1e9)
    results = some_results()
    sweep, path = make_sweep(results, tmp_path), tmp_path / "results.csv"
    sink = CsvSink()
    sink.open(sweep)
    for result in results:
        sink.write(result)
        assert path.read_text() == csv_text(table(results[:1], sweep.trials))
    sink.close(sweep, results)
    assert path.read_text() == csv_text(table(results, sweep.trials))


def test_csv_of_a_continued_sweep_holds_all_in_the_end(tmp_path: Path) -> None:
    results = some_results()
    sweep = make_sweep(results, tmp_path)
    retried = make_result(batch=16)
    sink = CsvSink()
    sink.open(sweep)
    sink.write(retried)
    sink.close(sweep, [*results[:2], retried])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert [row["batch"] for row in rows] == ["4", "4", "8", "16", "16"]
    assert {row["status"] for row in rows} == {"ok"}


def test_parquet_is_the_same_table_typed(tmp_path: Path) -> None:
    results = some_results()
    sweep = make_sweep(results, tmp_path)
    sink = ParquetSink()
    sink.open(sweep)
    sink.write(results[0])
    sink.close(sweep, results)
    frame = pandas.read_parquet(tmp_path / "results.parquet")
    rows = table(results, sweep.trials)
    assert list(frame.columns) == COLUMNS
    assert frame["mean_s"].isna().tolist() == [False, False, False, True]
    assert frame["mean_s"][0] == rows[0]["mean_s"]
    assert frame["batch"].tolist() == [4, 4, 8, 16]
    # The column types do not depend on what happened to be in the sweep.
    ParquetSink().close(sweep, results[2:])
    assert pandas.read_parquet(tmp_path / "results.parquet").dtypes.equals(frame.dtypes)


@pytest.mark.parametrize("sink", [CsvSink(), ParquetSink()])
def test_folder_that_is_gone_is_a_sink_error(sink: CsvSink | ParquetSink, tmp_path: Path) -> None:
    results = some_results()
    sweep = replace(make_sweep(results), folder=str(tmp_path / "gone"))
    with pytest.raises(SinkError, match="could not be written: No such file"):
        sink.close(sweep, results)


def test_a_tasks_figure_that_is_called_as_one_of_a_pass_is_kept() -> None:
    found = make_result(task="finetune", passes=(), task_args={"epochs": 3})
    found = replace(found, metrics={"val/accuracy": 0.9, "images_per_s": 123.0})
    (row,) = csv.DictReader(io.StringIO(csv_text(table([found], [found.trial]))))
    assert (row["images_per_s"], row["val/accuracy"]) == ("123.0", "0.9")
    assert "mean_s" not in row


def test_no_text_is_a_formula_to_a_spreadsheet(tmp_path: Path) -> None:
    texts = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", " =1", "\t=1"]
    results = [
        replace(make_result(batch=batch, status="error"), error=Failure(kind=text, message="m"))
        for batch, text in enumerate(texts, start=1)
    ]
    results.append(replace(make_result("tiny", task="probe", passes=()), metrics={"=loss": -0.5}))
    sink = CsvSink()
    sink.open(make_sweep(results, tmp_path))
    for result in results:
        sink.write(result)
    again = CsvSink()  # goes on with what it reads
    again.open(make_sweep(results, tmp_path))
    again.write(results[0])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert sorted(row["error"] for row in rows if row["error"]) == sorted(f"'{text}: m" for text in texts)
    assert [row["'=loss"] for row in rows if row["'=loss"]] == ["-0.5"]
