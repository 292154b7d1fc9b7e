"""MLflow databases, servers and browsers for the tests of this room, and what is read back from them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.tracking_servers import MlflowServer
from tracking.record import Result, Sweep
from tracking.sinks.mlflow.client import preload
from tracking.sinks.mlflow.sink import MlflowSink


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables without a run in them: making them takes a second, copying the file does not."""
    preload()
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("database")
    MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    """A SQLite database of the test's own."""
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[MlflowServer]:
    """A running MLflow server; a test that stops it starts it again."""
    running = MlflowServer(tmp_path_factory.mktemp("server"))
    shutil.copyfile(empty_database, running.folder / "server.db")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium under Selenium that logs the requests and the errors of its pages."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("chromium and chromedriver are not both on PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --window-size=1900,1600 "
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
    ).split():
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_page_load_timeout(60)
    yield browser
    browser.quit()


@pytest.fixture(autouse=True)
def _no_server_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # a busy machine's server may take its time


class Runs:
    """What MLflow holds of a sweep, read with its own client."""

    def __init__(self, uri: str, experiment: str = "sweeps") -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        self.experiment = self.client.get_experiment_by_name(experiment)
        runs = self.client.search_runs([self.experiment.experiment_id]) if self.experiment else []
        self.parents = [run for run in runs if "trial_id" not in run.data.tags]
        self.children = [run for run in runs if "trial_id" in run.data.tags]

    @property
    def parent(self) -> Any:
        (parent,) = self.parents
        return parent

    @property
    def by_batch(self) -> dict[int, Any]:
        """The children; every batch has one."""
        batches = {int(run.data.params["batch"]): run for run in self.children}
        assert len(batches) == len(self.children)
        return batches

    def history(self, run: Any, key: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, key)]

    def artifacts(self, run: Any, folder: str | None = None) -> list[str]:
        return [item.path for item in self.client.list_artifacts(run.info.run_id, folder) if not item.is_dir]

    def text(self, run: Any, artifact: str, scratch: Path) -> str:
        scratch.mkdir(exist_ok=True)
        return Path(self.client.download_artifacts(run.info.run_id, artifact, str(scratch))).read_text()


def record(uri: str, sweep: Sweep, results: Sequence[Result]) -> None:
    """Send a whole sweep to MLflow."""
    sink = MlflowSink(uri)
    sink.open(sweep)
    for result in results:
        sink.write(result)
    sink.close(sweep, results)
