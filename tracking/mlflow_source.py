"""A sweep's results out of MLflow, for the comparison of sweeps whose folders are elsewhere."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from tracking.mlflow_client import DEFAULT_URI, absolute_uri, preload
from tracking.mlflow_content import PARENT
from tracking.names import flatten
from tracking.record import Measurement, Pass, Result, Sweep
from tracking.redact import redact


class SourceError(Exception):
    """MLflow does not have what was asked for."""


def read_mlflow(wanted: str, uri: str | None, missing: Exception) -> list[Result]:
    """The trials of the sweep whose parent run, or whose sweep id, is `wanted`, with the steps that MLflow keeps.

    MLflow keeps at most 1,000 steps a pass, evenly spread, and no warm-up. Raises SourceError when there is no such
    sweep, with the message of `missing`, which says where else it was sought.
    """
    address = absolute_uri(uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
    if address.startswith("sqlite:///") and not Path(address.removeprefix("sqlite:///")).is_file():
        raise SourceError(f"{missing}; and there is no {address.removeprefix('sqlite:///')} to seek it in MLflow")
    preload()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=address)
    try:
        parent = _parent(client, wanted)
        if parent is None:
            raise SourceError(f"{missing}; nor is it in MLflow at {redact(address)}")
        sweep = _plan(client, parent)
        return [_result(client, sweep, run) for run in _runs(client, parent) if "trial_id" in run.data.tags]
    except MlflowException as error:
        raise SourceError(f"MLflow at {redact(address)}: {redact(' '.join(str(error).split()))[:300]}") from None


def _parent(client: Any, wanted: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(wanted)
    except MlflowException:
        pass
    if not re.fullmatch(r"[\w-]+", wanted):
        return None
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.sweep_id = '{wanted}'")
    return next((run for run in runs if PARENT not in run.data.tags), None)


def _plan(client: Any, parent: Any) -> Sweep:
    with tempfile.TemporaryDirectory() as scratch:
        if not any(artifact.path == "plan.json" for artifact in client.list_artifacts(parent.info.run_id)):
            raise SourceError(
                f"expected a finished sweep's parent run. Received: run {parent.info.run_id}, which has no plan.json"
            )
        path = client.download_artifacts(parent.info.run_id, "plan.json", scratch)
        return Sweep.from_json(json.loads(Path(path).read_text("utf-8")))


def _runs(client: Any, parent: Any) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs(
            [parent.info.experiment_id], f"tags.`{PARENT}` = '{parent.info.run_id}'", max_results=1000, page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def _result(client: Any, sweep: Sweep, run: Any) -> Result:
    trials = {trial.trial_id: trial for trial in sweep.trials}
    tags = run.data.tags
    trial = trials[tags["trial_id"]]
    # A child's tags hold what its host had otherwise than the driver.
    host = flatten(sweep.facts) | {key[5:]: text for key, text in tags.items() if key.startswith("host.")}
    passes: dict[Pass, Measurement] = {}
    for name in trial.passes:
        if f"{name}/step_s" in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, f"{name}/step_s")
            passes[name] = Measurement(
                first_call_s=run.data.metrics.get(f"{name}/first_call_s", 0.0),
                warmup_s=(),
                step_s=tuple(point.value for point in sorted(history, key=lambda point: point.step)),
                stopped="",
            )
    return Result(trial=trial, sweep_id=sweep.sweep_id, status=tags.get("status", "error"), host=host, passes=passes)
