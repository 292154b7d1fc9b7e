"""What the samples of a batch are called, and how long they are."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweeps.request import objective
from tests.support.records import make_result, make_sweep
from tracking.analysis.metrics import figures_of
from tracking.analysis.samples import Samples, kind_of, samples_of
from tracking.analysis.table import csv_text, table
from tracking.plots import sweep_plots
from tracking.plots.sweep_charts import sweep_charts
from tracking.record import Result
from tracking.report import html_page
from tracking.sinks.mlflow import content, figures, notes
from tracking.tables.results_table import results_table

Facts = Mapping[str, Mapping[str, Any]]


def fact(*shape: int, **more: Any) -> dict[str, Any]:
    return {"dtype": "float32", "shape": list(shape), "lowest": -0.4, "highest": 0.4, **more}


IMAGE = {"input": fact(4, 224, 224, 3)}
TEXT = {"tokens": fact(4, 128, dtype="int32", length=128)}


@pytest.mark.parametrize(
    ("fed", "fields", "kind", "length"),
    [
        (IMAGE, {}, "images", None),
        (IMAGE, {"target": "mine.net"}, "images", None),
        ({"input": fact(4, 28, 28, 1)}, {"path": "mine.keras"}, "images", None),
        ({"input": fact(4, 3, 224, 224)}, {"layout": "channels_first"}, "images", None),
        ({"input": fact(4, 3, 224, 224)}, {}, "samples", None),
        ({"input": fact(4, 224, 224, 12)}, {}, "samples", None),
        (IMAGE | {"age": fact(4, 1)}, {}, "samples", None),
        ({"input": fact(4, 100)}, {}, "samples", None),
        (TEXT, {}, "samples", 128),
        ({"sound": fact(4, 16000, 1, length=16000)}, {}, "samples", 16000),
        (TEXT | {"mask": fact(4, 128, length=128), "age": fact(4, 1)}, {}, "samples", 128),
        (TEXT | {"title": fact(4, 16, length=16)}, {}, "samples", None),
        ({"tokens": fact(4, 1, length=1)}, {}, "samples", None),
        ({}, {}, "images", None),
        ({}, {"target": "mine.net"}, "samples", None),
        ({}, {"path": "mine.keras", "inputs": {"length": 64}}, "samples", 64),
        ({}, {"target": "mine.net", "inputs": {"length": {"low": 1}}}, "samples", None),
    ],
)
def test_what_a_trial_was_fed_says_what_its_samples_are(
    fed: Facts, fields: Mapping[str, Any], kind: str, length: int | None
) -> None:
    found = samples_of(make_result(fed=fed, **fields))
    assert (found.count, found.kind, found.length) == (4, kind, length)
    assert found.tokens == (None if length is None else 4 * length)


@pytest.mark.parametrize("inputs", [{"input": "torn"}, {"input": 3}, {"input": {"shape": "4x4", "length": "long"}}])
def test_facts_of_another_form_are_no_failure(inputs: Any) -> None:
    host = {"in_force": {"inputs": inputs}}
    assert samples_of(make_result(host=host)).length is None
    assert samples_of(Result.from_json(make_result(host=host).to_json())).count == 4


def test_only_where_all_are_images_are_they_called_so() -> None:
    image, text = make_result(fed=IMAGE), make_result("net", target="mine.net", fed=TEXT)
    failed = make_result("net", target="mine.net", status="oom")
    assert kind_of([image]) == kind_of([image, failed]) == "images"
    assert kind_of([text]) == kind_of([image, text]) == "samples"


def test_tokens_are_a_figure_like_others() -> None:
    text, image = make_result("net", target="mine.net", fed=TEXT), make_result(fed=IMAGE)
    rate = 4 * 128 / text.passes["forward"].mean_s
    assert figures_of(text)["forward/tokens_per_s"] == pytest.approx(rate)
    assert "forward/tokens_per_s" not in figures_of(image)
    assert objective.value([text], "forward/tokens_per_s") == pytest.approx(rate)
    rows = csv.DictReader(io.StringIO(csv_text(table([text, image], [text.trial, image.trial]))))
    assert [row["tokens_per_s"] != "" for row in rows] == [True, True, False, False]
    keys = {point.key: point.value for point in content.curves(make_sweep([text]), [text])}
    assert keys["net/cpu/forward/tokens_per_s"] == pytest.approx(rate)


def test_labels_follow_the_samples(tmp_path: Path) -> None:
    images = [make_result(batch=batch, fed=IMAGE) for batch in (4, 8)]
    texts = [make_result("net", batch, target="mine.net", fed=TEXT) for batch in (4, 8)]
    for name, results, unit in (("images", images, "images"), ("both", images + texts, "samples")):
        folder = tmp_path / name
        folder.mkdir()
        sweep = make_sweep(results, folder)
        screen = Console(width=200, record=True, file=io.StringIO())
        screen.print(results_table(results))
        html_page.write(sweep, results, folder / "report.html")
        page = (folder / "report.html").read_text("utf-8")
        titles = {drawn.title for drawn in sweep_charts(results)}
        heading = next(line for line in notes.sweep_note(sweep, results).splitlines() if "mean ± sd" in line)
        other = {"images": "samples", "samples": "images"}[unit]
        for text in (screen.export_text(), heading, page):
            assert f"{unit}/s" in text
            assert f"{other}/s" not in text
            assert ("tokens/s" in text) == (name == "both")
        assert f"{unit} per second" in titles
        assert ("tokens per second" in titles) == (name == "both")
        assert f"All {unit} over all timed seconds" in page
        assert re.search(rf"Highest throughput forward: \S+ b=\d with [\d.,]+ {unit}/s", page)
        drawn = {path.name for path in sweep_plots.draw(sweep, results, folder)}
        assert "images_per_s_forward.png" in drawn
        assert ("tokens_per_s_forward.png" in drawn) == (name == "both")


def test_the_longest_texts_may_have_the_highest_throughput() -> None:
    short = make_result("net", target="mine.net", fed=TEXT, mean=0.1)
    long = make_result("net", 8, target="mine.net", fed={"tokens": fact(8, 512, length=512)}, mean=0.3)
    page = html_page.summary.sentences(
        make_sweep([short, long]), [short, long], {short.trial_id: "a", long.trial_id: "b"}
    )
    assert any(re.match(r"Highest throughput forward: b with [\d.,]+ tokens/s", sentence) for sentence in page)


def test_mlflow_keeps_what_the_samples_are() -> None:
    two = TEXT | {"mask": fact(4, 128, length=128)}
    result = make_result("net", target="mine.net", fed=two)
    tag = content.trial_tags(make_sweep([result]), result)["in_force.inputs"]
    read = replace(result, host={"in_force": {"inputs": figures.fed(tag)}})
    assert samples_of(read) == samples_of(result) == Samples(count=4, kind="samples", length=128)
    cut = figures.fed(tag[: tag.index("mask.shape") + len("mask.shape [4, 1")])
    assert cut.keys() == {"tokens"}
    assert figures.fed("") == {}
