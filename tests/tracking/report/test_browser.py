"""The report in a real browser: what its script does."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.charts import first_call_chart
from tests.support.records import make_result, make_sweep
from tracking.plots import sweep_charts
from tracking.plots.sweep_charts import CHARTS
from tracking.record import Failure, Layer
from tracking.report import html_page
from tracking.schema.device import Device

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
RESULTS = [
    make_result(model, batch, device, mean=cost * batch)
    for model, cost in (("vgg16", 0.1), ("alexnet", 0.01))
    for device in ("cpu", "gpu")
    for batch in (1, 2, 4)
] + [make_result("<script>alert(1)</script>", 4, status="oom")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Any:
    folder = tmp_path_factory.mktemp("report")
    html_page.write(make_sweep(RESULTS), RESULTS, folder / "report.html")
    chromium.page = (folder / "report.html").as_uri()
    chromium.set_window_size(1300, 1600)
    return chromium


@pytest.fixture(autouse=True)
def fresh_page(browser: Any) -> None:
    browser.get(browser.page)


def find(browser: Any, selector: str) -> list[Any]:
    elements: list[Any] = browser.find_elements("css selector", selector)
    return elements


def cells(browser: Any, column: int) -> list[str]:
    return [cell.text for cell in find(browser, f"#results tbody tr:not([hidden]) > :nth-child({column})")]


def test_one_row_a_trial_and_pass(browser: Any) -> None:
    assert len(find(browser, "#results tbody tr")) == 2 * 12 + 1
    assert cells(browser, 1)[-1].replace("\n", "") == "<script>alert(1)</script> b=4 cpu"


def test_sorting_by_number_and_by_keyboard(browser: Any) -> None:
    button = find(browser, "#results thead button")[4]
    assert button.text == "images/s"
    button.click()
    rates = [float(text.replace(",", "")) for text in cells(browser, 5) if text]
    assert rates == sorted(rates)
    assert find(browser, "#results thead th")[4].get_attribute("aria-sort") == "ascending"
    button.send_keys("\n")
    rates = [float(text.replace(",", "")) for text in cells(browser, 5) if text]
    assert rates == sorted(rates, reverse=True)
    assert "alert(1)" in cells(browser, 1)[-1]  # what failed stays last


def test_filter(browser: Any) -> None:
    find(browser, "#filter")[0].send_keys("alexnet gpu")
    assert len(cells(browser, 1)) == 6
    assert find(browser, "#count")[0].text == "6 of 25 rows"


def test_a_row_opens_to_its_steps(browser: Any) -> None:
    button = find(browser, "button.open")[0]
    button.click()
    assert len(find(browser, ".detail svg circle")) == 35  # 30 steps and 5 of warm-up
    button.click()
    assert not find(browser, ".detail")


def test_hover_shows_the_figures(browser: Any) -> None:
    point = find(browser, "#chart circle.point")[2]
    webdriver.ActionChains(browser).move_to_element(point).perform()
    (tip,) = find(browser, ".tip")
    measured = next(r for r in RESULTS if r.trial.batch == 4).passes["forward"]
    assert tip.text.startswith("vgg16, cpu, batch 4")
    assert f"{1e3 * measured.mean_s:.0f} ms (95%: " in tip.text
    assert "30 steps, stopped at target" in tip.text
    assert "verdict: good" in tip.text


def test_hover_on_a_speedup_shows_both_sides(browser: Any) -> None:
    find(browser, "#figure")[0].send_keys("speedup over cpu")
    webdriver.ActionChains(browser).move_to_element(find(browser, "#chart circle.point")[0]).perform()
    lines = find(browser, ".tip")[0].text.splitlines()
    assert "times as fast" in lines[1]
    steps = [line for line in lines if line.endswith("30 steps, stopped at target")]
    assert ["gpu" in line for line in steps] == [True, False]
    assert len([line for line in lines if line.endswith("verdict: good")]) == 2


def test_arrow_keys_walk_the_points(browser: Any) -> None:
    find(browser, "#chart svg")[0].send_keys("\ue014\ue014")  # right, right
    assert find(browser, ".tip")[0].text.startswith("vgg16, cpu, batch 2")
    find(browser, "#chart svg")[0].send_keys("\ue015")  # down
    assert find(browser, ".tip")[0].text.startswith("vgg16, gpu, batch 2")


def test_drag_zooms_and_a_button_undoes_it(browser: Any) -> None:
    def ticks() -> list[str]:
        return [text.text for text in find(browser, "#chart .plot svg text")]

    before = ticks()
    drag = webdriver.ActionChains(browser).move_to_element_with_offset(find(browser, "#chart svg")[0], -250, -100)
    drag.click_and_hold().move_by_offset(300, 150).release().perform()
    assert ticks() != before
    find(browser, "#reset")[0].click()
    assert ticks() == before
    assert not find(browser, "#reset")[0].is_enabled()


def test_every_figure_and_pass_draws_and_a_line_can_be_hidden(browser: Any) -> None:
    select = find(browser, "#figure")[0]
    figures = [option.text for option in select.find_elements("css selector", "option")]
    assert figures == [
        "time per batch",
        "images per second",
        "speedup over cpu",
        "arithmetic rate",
        "peak memory, process",
    ]
    for figure in figures:
        select.send_keys(figure)
        assert find(browser, "#chart circle.point")
    select.send_keys("time per batch")
    assert len(find(browser, "#chart circle.point")) == 12
    find(browser, ".legend button")[0].click()
    assert len(find(browser, "#chart circle.point")) == 9


def test_a_chart_of_the_table_is_in_the_menu_with_its_axis_and_reference(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chart = first_call_chart(reference=1.5)
    monkeypatch.setattr(sweep_charts, "CHARTS", (*CHARTS, chart))
    html_page.write(make_sweep(RESULTS), RESULTS, tmp_path / "more.html")
    browser.get((tmp_path / "more.html").as_uri())
    find(browser, "#figure")[0].send_keys("first call")
    texts = [text.text for text in find(browser, "#chart .plot svg text")]
    assert "first call (s)" in texts
    assert "a limit" in texts
    assert len(find(browser, "#chart circle.point")) == 12


def test_labels_of_many_batch_sizes_do_not_touch(browser: Any, tmp_path: Path) -> None:
    results = [make_result(batch=batch) for batch in range(990, 1090)]
    html_page.write(make_sweep(results), results, tmp_path / "many.html")
    browser.get((tmp_path / "many.html").as_uri())
    boxes = [text.rect for text in find(browser, "#chart .plot svg text") if text.text.isdigit()]
    labels = sorted((box["x"], box["x"] + box["width"]) for box in boxes if box["y"] == max(b["y"] for b in boxes))
    assert len(labels) > 10
    assert all(right + 3 < left for (_, right), (left, _) in itertools.pairwise(labels))


def test_it_works_in_a_sandboxed_frame_as_in_mlflows_artifact_view(browser: Any, tmp_path: Path) -> None:
    outer = tmp_path / "outer.html"
    outer.write_text(f'<iframe sandbox="allow-scripts" width="1200" height="900" src="{browser.page}"></iframe>')
    browser.get(outer.as_uri())
    browser.switch_to.frame(0)
    assert len(find(browser, "#chart circle.point")) == 12
    find(browser, "#results thead button")[4].click()
    assert find(browser, "#results thead th")[4].get_attribute("aria-sort") == "ascending"
    browser.switch_to.default_content()


EVIL = (
    '"><script>stolen=1</script></script><img src=x onerror="stolen=1"><a href="javascript:stolen=1">here</a>'
    "\u202e\x1b]0;title\x07"
)


def hostile(folder: Path) -> None:
    """Write the report of a sweep in which every text is an attack, also those in the files of its trials."""
    trial = {"model_args": {EVIL: EVIL}, "target": EVIL, "weights": EVIL, "task_args": {"data": EVIL}}
    device = Device(name=EVIL, resources={EVIL: 1.0}, accelerator=EVIL, node_labels={EVIL: EVIL})
    host = {"hostname": EVIL, "node_ip": EVIL, EVIL: EVIL, "in_force": {"forward": {"flops": EVIL}}}
    layer = Layer(name=EVIL, kind=EVIL, output_shape=(EVIL,))  # type: ignore[arg-type]
    good = make_result(EVIL, 1, device, host=host, quality=(f"{EVIL} (forward)",), profile=True, **trial)
    passes = {name: replace(measured, stopped=EVIL, flops=None) for name, measured in good.passes.items()}
    bad = make_result(EVIL, 2, device, "error", host=host, **trial)
    figures = {EVIL: 0.5, "val/accuracy": 0.5}
    results = [
        replace(good, layers=(layer,), passes=passes),
        replace(good, trial=replace(good.trial, batch=8), passes=passes, metrics=figures),
        replace(bad, error=Failure(kind=EVIL, message=EVIL, detail=EVIL), metrics=figures),
    ]
    facts = {EVIL: EVIL, "git_commit": EVIL, "git_unknown": EVIL, "git_resumed": [EVIL], "objective": "val/accuracy"}
    for result in results:
        place = folder / "trials" / result.trial_id / "files"
        (place / "profile" / "forward").mkdir(parents=True)
        (place / "summary.txt").write_text(EVIL)
        rows = {"data": [[EVIL, 1, 2.0, 0.5]]}
        (place / "profile" / "forward" / "top_ops.json").write_text(json.dumps(rows))
    (folder / "plots").mkdir()
    (folder / "plots" / 'val_accuracy"><script>stolen=1<.png').write_bytes(b"")
    sweep = replace(make_sweep(results, folder, facts=facts), command=EVIL, created_at=1e300)
    html_page.write(sweep, results, folder / "report.html")


def test_no_text_of_a_sweep_becomes_a_part_of_its_page(browser: Any, tmp_path: Path) -> None:
    hostile(tmp_path)
    browser.get((tmp_path / "report.html").as_uri())
    assert browser.execute_script("return window.stolen") is None
    scripts = browser.execute_script("return [...document.scripts].map((script) => script.type)")
    assert scripts == ["application/json", ""]
    assert find(browser, "a, [onerror], img:not([src^='data:'])") == []
    assert "<script>stolen=1</script>" in find(browser, "#layers")[0].get_attribute("textContent")
    bar = "return document.querySelector('#profile td.share').style.getPropertyValue('--share')"
    assert browser.execute_script(bar) == "50.0%"
    for button in find(browser, "#results thead button")[:2] + find(browser, "button.open")[:1]:
        button.click()
    assert find(browser, "#results thead th")[1].get_attribute("aria-sort") == "ascending"
    assert find(browser, "#chart circle.point")
    assert "\u202e" not in browser.page_source
    assert browser.get_log("browser") == []


def test_the_pages_policy_keeps_out_what_an_escape_would_miss(browser: Any, tmp_path: Path) -> None:
    page = Path(browser.page.removeprefix("file://")).read_text()
    added = "<script>stolen=1</script><img src='data:,' onerror='stolen=1'><a href='javascript:stolen=1' id=to>x</a>"
    (tmp_path / "page.html").write_text(page.replace("</header>", f"{added}</header>"))
    browser.get((tmp_path / "page.html").as_uri())
    find(browser, "#to")[0].click()
    assert browser.execute_script("return window.stolen") is None
    assert find(browser, "#chart circle.point")
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert len(refused) == 3
    assert all("Content Security Policy" in message for message in refused)


def test_no_error_no_dialog_and_nothing_leaves_the_page(browser: Any) -> None:
    assert browser.get_log("browser") == []  # of all tests before this one
    browser.get_log("performance")
    browser.get(browser.page)
    find(browser, "button.open")[0].click()
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    loaded = {request["request"]["url"] for request in requests if request["documentURL"].startswith("file:")}
    assert {url for url in loaded if not url.startswith("data:")} == {browser.page}
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
