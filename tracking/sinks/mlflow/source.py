"""Reads a sweep's results from MLflow, where its folder is elsewhere."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tracking.analysis.metrics import METRICS
from tracking.record import Failure, Pass, Result, Sweep, Trial
from tracking.schema.measurement import Measurement
from tracking.sinks.mlflow import figures
from tracking.sinks.mlflow.client import DEFAULT_URI, absolute_uri, given_address, of_mlflow, preload, reason, secrets
from tracking.sinks.mlflow.content import PARENT, driver_facts
from tracking.sinks.mlflow.database import DatabaseError, reach, sqlite_file
from tracking.text.printable import printable
from tracking.text.redact import redact

_OF_GPUS = ("gpu", "gpu_driver", "cuda")
"""Facts about the machines in the sweep's run that mean nothing to a trial without a GPU."""


class SourceError(Exception):
    """MLflow cannot provide the sweep; the message says why."""


@dataclass(frozen=True, kw_only=True)
class _Kept(Measurement):
    """A pass whose figures were derived from all of its steps, of which MLflow may keep only some."""

    recorded: Mapping[str, float]
    """The figures that MLflow keeps, by name."""


def _recorded(name: str) -> property:
    """A figure as MLflow keeps it, else as the steps give it that MLflow has."""
    return property(lambda kept: kept.recorded.get(name, getattr(super(_Kept, kept), name)))


for _metric in METRICS:
    if isinstance(getattr(Measurement, _metric.name, None), property | cached_property):
        setattr(_Kept, _metric.name, _recorded(_metric.name))


def read_sweep(wanted: str, uri: str | None, missing: Exception) -> tuple[Sweep, list[Result]]:
    """The sweep whose parent run, or whose sweep id, is `wanted`, and its trials, with the steps that MLflow keeps.

    MLflow keeps at most 1,000 steps a pass, evenly spread, no warm-up and no traceback. Raises SourceError when there
    is no such sweep, with the message of `missing`, which says where else it was sought.
    """
    address = absolute_uri(uri or given_address() or DEFAULT_URI)
    if (database := sqlite_file(address)) is not None and not database.exists():
        raise SourceError(f"{missing}; and there is no {database} where MLflow might have it")
    preload()
    from mlflow import MlflowClient

    try:
        client = MlflowClient(tracking_uri=reach(address, make=False))
        parent = _parent(client, wanted)
        if parent is None:
            raise SourceError(f"{missing}; nor is it in MLflow at {redact(address)}")
        sweep = _plan(client, parent)
        runs = sorted(_runs(client, parent), key=lambda run: run.info.start_time)
        return sweep, [_result(client, sweep, parent, run) for run in runs if "trial_id" in run.data.tags]
    except DatabaseError as error:
        raise SourceError(redact(f"{missing}; and MLflow at {address}: {error}", secrets(address))) from None
    except Exception as error:
        if not of_mlflow(error):
            raise
        raise SourceError(f"MLflow at {redact(address)}: {reason(error, secrets(address))}") from None


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
        try:
            return Sweep.from_json(json.loads(Path(path).read_bytes()))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            words = f"the plan.json of run {parent.info.run_id} is not a sweep's plan"
            raise SourceError(f"{words}: {printable(f'{error!r:.200}')}") from error


def _runs(client: Any, parent: Any) -> list[Any]:
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs(
            [parent.info.experiment_id], f"tags.`{PARENT}` = '{parent.info.run_id}'", max_results=1000, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _result(client: Any, sweep: Sweep, parent: Any, run: Any) -> Result:
    trials = {trial.trial_id: trial for trial in sweep.trials}
    tags, metrics = run.data.tags, run.data.metrics
    trial = trials[tags["trial_id"]]
    passes = {name: _pass(client, run, name) for name in trial.passes if f"{name}/step_s" in metrics}
    curves = {} if trial.task == "benchmark" else _curves(client, run, trial)
    kind, _, message = tags.get("error", "").partition(": ")
    return Result(
        trial=trial,
        sweep_id=sweep.sweep_id,
        status=tags.get("status", "error"),
        started_at=run.info.start_time / 1000,
        wall_s=figures.wall_s(metrics),
        host=_host(sweep, parent, run, trial),
        passes=passes,
        metrics=figures.of_task(metrics, trial, curves),
        curves=curves,
        phases=figures.phases(metrics),
        limits=figures.limits(metrics),
        quality=figures.doubts(tags.get("quality", "")),
        error=Failure(kind=kind, message=message) if kind else None,
    )


def _host(sweep: Sweep, parent: Any, run: Any, trial: Trial) -> dict[str, Any]:
    """The driver's facts, where the parent's or the child's tags have nothing else; `env` is a mapping as in a journal.

    Sweeps from before `env` was recorded have none.
    """
    host: dict[str, Any] = dict(driver_facts(sweep))
    for tags in (parent.data.tags, run.data.tags):
        host |= {key[5:]: text for key, text in tags.items() if key.startswith("host.")}
    if "env" in sweep.facts:
        host["env"] = {key[4:]: host.pop(key) for key in sorted(host) if key.startswith("env.")}
    if fed := figures.fed(run.data.tags.get("in_force.inputs", "")):
        host["in_force"] = {"inputs": fed}
    return host if trial.device.gpus else {key: text for key, text in host.items() if key not in _OF_GPUS}


def _pass(client: Any, run: Any, name: Pass) -> Measurement:
    history = client.get_metric_history(run.info.run_id, f"{name}/step_s")
    recorded = figures.of_pass(run.data.metrics, name)
    return _Kept(
        first_call_s=recorded.get("first_call_s", 0.0),
        warmup_s=(),
        step_s=tuple(point.value for point in sorted(history, key=lambda point: point.step)),
        stopped="",
        evidence=figures.evidence(recorded),
        recorded=recorded,
    )


def _curves(client: Any, run: Any, trial: Trial) -> dict[str, tuple[tuple[int, float], ...]]:
    """The task's figures over its epochs; every other figure is a single point, at step 0."""
    curves = {}
    for key in figures.keys_of_task(run.data.metrics, trial):
        points = sorted((p.step, p.value) for p in client.get_metric_history(run.info.run_id, key))
        if len(points) > 1 or points[0][0] != 0:
            curves[key] = tuple(points)
    return curves
