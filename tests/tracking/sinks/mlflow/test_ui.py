"""What a user sees of a sweep in `mlflow ui`, in a real browser."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.records import make_result, make_sweep
from tests.support.tracking_servers import MlflowServer
from tests.tracking.conftest import Runs
from tracking.report import html_page
from tracking.sinks.mlflow import view
from tracking.sinks.mlflow.sink import MlflowSink

RESULTS = [make_result(model, batch, mean=0.1 * batch) for model in ("vgg16", "tiny") for batch in (1, 2)]
RESULTS.append(make_result("vgg16", 64, status="oom"))


class Page:
    """One browser on one experiment."""

    def __init__(self, driver: Any, server: MlflowServer) -> None:
        self.driver = driver
        self.server = server.uri
        self.runs = Runs(server.uri)
        self.address = f"{server.uri}/#/experiments/{self.runs.experiment.experiment_id}/runs"

    def open(self, place: str = "") -> None:
        # By way of nothing, so that the page begins anew: to a browser these addresses are places in one document.
        self.driver.get("about:blank")
        self.driver.get(self.address + place)

    def wait(self, ready: Callable[[], Any], what: str) -> Any:
        """Return what `ready` returns as soon as that is true."""
        from selenium.common.exceptions import StaleElementReferenceException

        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                if found := ready():
                    return found
            except StaleElementReferenceException:
                pass
            time.sleep(0.1)
        raise AssertionError(f"{what} did not appear; the page says: {self.text()[-1500:]}")

    def text(self) -> str:
        return str(self.driver.execute_script("return document.body.innerText"))

    def shows(self, *words: str) -> None:
        self.wait(lambda: all(word in self.text() for word in words), " and ".join(words))

    def find(self, selector: str) -> list[Any]:
        found: list[Any] = self.driver.find_elements("css selector", selector)
        return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, empty_database: Path, chromium: Any) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("ui")
    shutil.copyfile(empty_database, folder / "mlflow.db")
    sweep = make_sweep(RESULTS, folder)
    html_page.write(sweep, RESULTS, folder / "report.html")
    sink = MlflowSink(f"sqlite:///{folder}/mlflow.db")
    sink.open(sweep)
    for result in RESULTS:
        sink.write(result)
    sink.close(sweep, RESULTS)
    server = MlflowServer(folder, bare=True)
    server.start()
    yield Page(chromium, server)
    server.stop()


def test_trials_are_listed_under_their_sweep(page: Page) -> None:
    page.open()
    page.shows("vgg16, tiny b=1,2,64 cpu")
    assert "tiny b=2" not in page.text()
    page.wait(lambda: page.find(".ag-cell button, .ag-cell [role=button]"), "the sign that unfolds a sweep")[0].click()
    page.shows("vgg16 b=1", "vgg16 b=2", "tiny b=1", "tiny b=2", "vgg16 b=64")


def test_the_address_that_a_sweep_ends_with_opens_a_list_with_its_figures(page: Page) -> None:
    page.driver.get("about:blank")
    page.driver.get(f"{page.server}/{view.page(page.runs.experiment.experiment_id)}")
    page.shows("forward/images_per_s", "forward_backward/mean_s", "batch", "device", "viewing a shared view")
    assert "Prompts" not in page.text(), "this is the view for language models"
    page.wait(lambda: page.find(".ag-cell button, .ag-cell [role=button]"), "the sign that unfolds a sweep")[0].click()
    (trial,) = (run for run in page.runs.children if run.info.run_name == "tiny b=2")
    page.shows(f"{trial.data.metrics['forward/images_per_s']:.4f}"[:6])
    headings = page.driver.execute_script(
        "return [...document.querySelectorAll('.ag-header-cell')].map((cell) => cell.innerText)"
    )
    assert any("images_per_s" in heading for heading in headings)
    assert not [heading for heading in headings if "train_step" in heading or "tokens_per_s" in heading]
    page.driver.get("about:blank")
    page.driver.get(f"{page.server}/{view.page()}")
    page.shows("Experiments", "sweeps")


def test_a_sweep_has_its_story_and_its_curves(page: Page) -> None:
    page.open(f"/{page.runs.parent.info.run_id}")
    page.shows("5 trials: 4 ok, 1 oom", "vgg16/cpu/forward/images_per_s", "vgg16 b=64: oom, ResourceExhaustedError")
    page.open(f"/{page.runs.parent.info.run_id}/model-metrics")
    # A line over the steps, that is over the two batch sizes, and not a bar with the last value.
    page.shows("vgg16, tiny b=1,2,64 cpu (vgg16/cpu/forward/images_per_s)", "Step")
    page.wait(lambda: len(page.find("svg .scatterlayer .trace path.point")) >= 2, "the points of a curve")


def test_a_trial_has_its_parameters_and_layers(page: Page) -> None:
    child = next(run for run in page.runs.children if run.data.params["batch"] == "2")
    page.open(f"/{child.info.run_id}")
    page.shows("precision", "float32", "forward/images_per_s", "vgg16, tiny b=1,2,64 cpu")
    page.open(f"/{child.info.run_id}/artifacts/layers.json")
    page.shows("output shape", "BatchNormalization", "2x56x56x64", "FLOPs")


def test_the_report_opens_in_the_artifact_view(page: Page) -> None:
    page.open(f"/{page.runs.parent.info.run_id}/artifacts/report.html")
    frame = page.wait(lambda: page.find("iframe"), "the frame of the report")[0]
    page.driver.switch_to.frame(frame)
    page.wait(lambda: len(page.find("#results tbody tr")) == 2 * 4 + 1, "the report's table")
    page.wait(lambda: page.find("#chart circle.point"), "the report's chart")
    page.driver.switch_to.default_content()


def test_nothing_left_the_machine_and_nothing_of_ours_went_wrong(page: Page) -> None:
    """The requests of this test and of all before it."""
    page.open()
    page.shows("vgg16, tiny b=1,2,64 cpu")
    events = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    requested = [
        event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
    ]
    assert any(url.startswith(f"{page.server}/") for url in requested)
    away = {
        url for url in requested if urlsplit(url).scheme.startswith("http") and urlsplit(url).hostname != "127.0.0.1"
    }
    assert not away
    entries = [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    # MLflow's own page asks for a user that a server without accounts has not, and resizes its charts late.
    ours = [
        e["message"] for e in entries if "/users/current" not in e["message"] and "ResizeObserver" not in e["message"]
    ]
    assert not ours
