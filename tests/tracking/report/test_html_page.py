from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from tests.support.records import make_layers, make_result, make_sweep
from tracking.record import Failure, Result
from tracking.report import html_page
from tracking.report.data import chart_data, thinned

EVIL = "</script><script>alert(1)</script><img src=http://example.invalid/x onerror=alert(1)>"


def grid() -> list[Result]:
    return [
        make_result(model, batch, device, mean=0.1 * batch if device == "cpu" else 0.01 * batch)
        for model in ("vgg16", "alexnet")
        for device in ("cpu", "gpu")
        for batch in (1, 2, 4)
    ]


class Page(HTMLParser):
    """The page's elements and its text outside style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.raw = ""
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.raw = tag if tag in ("style", "script") else ""

    def handle_endtag(self, tag: str) -> None:
        if tag == self.raw:
            self.raw = ""

    def handle_data(self, data: str) -> None:
        if not self.raw:
            self.words.append(data)


def written(results: list[Result], folder: Path) -> Page:
    path = folder / "report.html"
    html_page.write(make_sweep(results), results, path)
    return Page(path.read_text("utf-8"))


def test_summary_says_what_happened(tmp_path: Path) -> None:
    results = [*grid(), make_result("vgg16", 8, status="oom"), replace(make_result("vgg16", 16), quality=("drift",))]
    text = written(results, tmp_path).text
    assert "13 of 14 trials measured on node1" in text
    assert "1 ran out of memory." in text
    assert "Highest throughput forward: " in text
    assert "1 has doubtful figures" in text


def test_trials_without_a_result_are_counted(tmp_path: Path) -> None:
    results = grid()
    path = tmp_path / "report.html"
    html_page.write(make_sweep(results), results[:5], path)
    assert "5 of 12 trials measured" in path.read_text("utf-8")
    assert "7 have no result yet." in path.read_text("utf-8")


def test_failures_show_their_cause_and_reproduction_its_command(tmp_path: Path) -> None:
    failed = make_result("vgg16", 8, status="error")
    page = written([*grid(), failed], tmp_path)
    assert failed.error is not None
    assert f"ended in an error: ValueError: {failed.error.message}" in page.text
    assert failed.error.detail.split()[0] in page.text
    assert "python sweeps/run.py -m model=vgg16 batch=4,8" in page.text
    assert "0123abc" in page.text  # the driver's commit
    assert "Example CPU" in page.text


def test_layer_table_once_a_net(tmp_path: Path) -> None:
    text = written(grid(), tmp_path).text
    assert text.count("BatchNormalization") == 2
    assert "vgg16, batch 1 : 4 layers, 66,920 trainable parameters" in text
    assert f"{make_layers(1)[1].flops:,}" in text


def test_no_string_becomes_markup(tmp_path: Path) -> None:
    evil = make_result(EVIL, 4, EVIL, quality=(EVIL,), host={"hostname": EVIL, EVIL: EVIL}, model_args={EVIL: EVIL})
    failed = replace(make_result(EVIL, 8, status="error"), error=Failure(kind=EVIL, message=EVIL, detail=EVIL))
    sweep = replace(make_sweep([evil, failed], facts={EVIL: EVIL}), command=EVIL, folder=EVIL, sweep_id=EVIL)
    path = tmp_path / "report.html"
    html_page.write(sweep, [evil, failed], path)
    page = Page(path.read_text("utf-8"))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 2
    assert "img" not in tags
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count("alert(1)") >= 10
    assert "{{" not in page.text


@pytest.mark.parametrize("name", ["{{script}}", "{{ 7 * 7 }}", "{% raw %}", "{# gone #}"])
def test_placeholders_in_names_stay_as_they_are(name: str, tmp_path: Path) -> None:
    page = written([make_result(name), make_result("b")], tmp_path)
    assert f"{name} b=4" in page.text


def test_control_characters_are_shown_as_escapes(tmp_path: Path) -> None:
    failed = replace(
        make_result(status="error"), error=Failure(kind="E", message="a\x1b[2Jb\u202ec", detail="one\n\ttwo\x07")
    )
    page = written([failed], tmp_path)
    assert r"a\x1b[2Jb\u202ec" in page.text
    assert "one\n\ttwo\\x07" in "".join(page.words)


def test_a_template_without_one_of_its_values_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="is undefined"):
        html_page.environment().get_template("page.html").render(title="only a title")


def test_nothing_is_loaded(tmp_path: Path) -> None:
    page = written(grid(), tmp_path)
    for tag, attributes in page.tags:
        assert "src" not in attributes, tag
        assert attributes.get("href", "data:,") == "data:,"
    policies = [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
    assert policies[0] is not None
    assert "default-src 'none'" in policies[0]
    text = (tmp_path / "report.html").read_text("utf-8")
    assert set(re.findall(r"\w+://[\w.]+", text)) <= {"http://www.w3.org"}  # the name of SVG, never fetched
    assert "@import" not in text
    assert "url(" not in re.sub(r"url\(#", "", text)


def test_a_thousand_trials_stay_small(tmp_path: Path) -> None:
    results = [make_result(f"net{i}", 2**b, passes=("forward",), steps=1000) for i in range(100) for b in range(10)]
    written(results, tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 8e6


@pytest.mark.parametrize("results", [[], [make_result(steps=1, noise=0.0)], [make_result(status="crashed")]])
def test_few_results(results: list[Result], tmp_path: Path) -> None:
    assert f"of {len(results)} trials measured" in written(results, tmp_path).text


def test_thinning_keeps_the_extremes() -> None:
    samples = [1.0] * 5000
    samples[1234], samples[4321] = 9.0, 0.5
    stride, kept = thinned(samples, 100)
    assert len(kept) == 100
    assert stride == 50
    assert {9.0, 0.5} <= set(kept)
    assert thinned([1.0, 2.0], 100) == (1.0, [1.0, 2.0])


def test_charts_are_those_with_figures() -> None:
    charts = chart_data(grid())
    assert {(c["figure"], c["pass"]) for c in charts} == {
        *((f, p) for p in ("forward", "forward_backward") for f in ("time per batch", "images per second")),
        *((f, p) for p in ("forward", "forward_backward") for f in ("speedup over cpu", "arithmetic rate")),
        ("peak memory, process", None),
    }
    json.dumps(charts, allow_nan=False)
