"""MLflow: a parent run for the sweep and a nested child for each trial.

The only module that imports mlflow, and only when it is first needed: the import takes seconds. It talks to one server
or database through `MlflowClient` and never touches MLflow's global state.

A child's run status says whether it is whole: it is RUNNING until everything is in it. A child that was left RUNNING,
or whose trial has another result by now (a resumed sweep), is deleted and written anew, because MLflow cannot take back
a parameter or a point of a history. The tag `result` tells the same result from another.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracking import mlflow_content as content
from tracking import mlflow_view
from tracking.mlflow_client import (
    DEFAULT_EXPERIMENT,
    DEFAULT_URI,
    FOREIGN,
    TIMEOUT,
    absolute_uri,
    preload,
    reason,
    sqlite_file,
)
from tracking.names import flatten, metric_word, sweep_name, trial_names
from tracking.record import Result, Sweep
from tracking.redact import redact
from tracking.sink import SinkError
from tracking.table import csv_text, table


@dataclass
class _Child:
    run_id: str
    result: str
    whole: bool


class MlflowSink:
    """One experiment of one server or database.

    After a SinkError the state of the server is unknown: `open` again before the next `write`.
    """

    def __init__(self, uri: str = DEFAULT_URI, experiment: str = DEFAULT_EXPERIMENT) -> None:
        self._uri = absolute_uri(uri)
        self._experiment = experiment
        self._connection: Any = None
        self._until = math.inf
        self._experiment_id = ""
        self._parent = ""
        self._curves: str | None = None
        self._children: dict[str, _Child] = {}
        self._extra: dict[str, list[str]] = {}
        self._shared: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._steps_kept = content.HISTORY
        self._sweep: Sweep | None = None

    def __str__(self) -> str:
        return f"MLflow at {redact(self._uri)}"

    def preload(self) -> None:
        """Import mlflow and connect, which takes seconds: it makes the tables of a new database, but no run."""
        with contextlib.suppress(SinkError), self._errors():  # `open` will say so
            self._connect()

    @property
    def page(self) -> str:
        """Where in the server's pages the sweeps are, below its address."""
        return mlflow_view.page(self._experiment_id)

    def limit(self, seconds: float) -> None:
        """From now on, for so long: no request to a server begins later, nor waits much longer for its answer.

        A call that comes so far raises SinkError. `math.inf`: no limit but MLflow's own for one request.
        """
        self._until = time.monotonic() + seconds

    def open(self, sweep: Sweep) -> None:
        """Make the sweep's parent run, or find it and its children. Raises SinkError."""
        with self._errors():
            self._connect()
            self._experiment_id = self._find_experiment()
            runs = self._search(sweep.sweep_id)
            parents = [run for run in runs if "trial_id" not in run.data.tags]
            parent = parents[0] if parents else self._make_parent(sweep)
            self._parent, self._curves = parent.info.run_id, parent.data.tags.get("curves")
            self._shared = content.shared_tags(parent.data.tags)
            if parent.info.status != "RUNNING":
                self._client.update_run(self._parent, status="RUNNING")
            for spare in parents[1:]:
                self._client.delete_run(spare.info.run_id)
            self._children, self._extra = {}, {}
            for run in runs:
                self._adopt(run)
            self._names, self._steps_kept = trial_names(sweep.trials), content.steps_kept(sweep)
            self._sweep = sweep

    def write(self, result: Result) -> None:
        """Write the trial's child run, unless exactly this result is there already. Raises SinkError."""
        sweep = self._sweep
        if sweep is None:
            raise SinkError(f"{self}: expected an opened sink; call open(sweep) first, and again after an error")
        with self._errors():
            trial_id = result.trial_id
            child = self._children.get(trial_id)
            if child and not (child.whole and child.result == content.digest(result.to_json())):
                self._extra.setdefault(trial_id, []).append(child.run_id)
                child = None
            for run_id in self._extra.pop(trial_id, []):
                self._client.delete_run(run_id)
            if child is None:
                self._share(result)
                self._children[trial_id] = self._write_child(
                    sweep, result, content.trial_tags(sweep, result, self._shared)
                )

    def close(self, sweep: Sweep, results: Sequence[Result]) -> None:
        """Write the parent's curves, description and files, and end it. Raises SinkError."""
        if self._sweep is None:
            self.open(sweep)
        with self._errors():
            run_id = self._write_parent(sweep, results)
            with tempfile.TemporaryDirectory() as scratch:
                staged = Path(scratch)
                for plot in sorted(Path(sweep.folder, "plots").glob("*.png")):
                    _stage(plot, staged / "plots" / plot.name)
                for name in ("report.html", "plan.json"):
                    _stage(Path(sweep.folder, name), staged / name)
                (staged / "results.csv").write_text(csv_text(table(results, sweep.trials)))
                self._client.log_artifacts(run_id, scratch)
            self._clear_up(sweep)
            self._client.set_terminated(run_id, content.sweep_status(sweep, results), content.sweep_end(sweep, results))

    @property
    def _client(self) -> Any:
        """The way to the server, for one request: what is left of the time that `limit` gives bounds its timeout."""
        if self._until < math.inf and self._uri.startswith("http"):
            left = self._until - time.monotonic()
            if left <= 0:
                raise SinkError(f"{self}: its answers take longer than a sweep waits between two trials")
            # MLflow reads it anew for each request, and has no other way to bound one.
            os.environ[TIMEOUT] = str(max(1, min(int(left), int(os.environ[TIMEOUT]))))
        return self._connection

    def _connect(self) -> None:
        if self._connection is not None:
            return
        preload()
        from mlflow import MlflowClient

        if (database := sqlite_file(self._uri)) is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
        self._connection = MlflowClient(tracking_uri=self._uri)

    def _find_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is None:
            try:
                return str(
                    self._client.create_experiment(
                        self._experiment, self._artifact_location(), tags=content.EXPERIMENT_TAGS
                    )
                )
            except MlflowException:
                # Another sweep may have made it in between.
                experiment = self._client.get_experiment_by_name(self._experiment)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage != "active":
            raise SinkError(
                f"{self}: the experiment {self._experiment!r} was deleted; "
                f"restore it (mlflow experiments restore -x {experiment.experiment_id}) or choose another name"
            )
        if mlflow_view.TAG not in experiment.tags:
            self._client.set_experiment_tag(experiment.experiment_id, mlflow_view.TAG, mlflow_view.VIEW)
        return str(experiment.experiment_id)

    def _artifact_location(self) -> str | None:
        """Beside the database, wherever the sweep was started; a server knows its own place."""
        if self._uri.startswith(("http://", "https://", "databricks")):
            return None
        database = sqlite_file(self._uri)
        folder = database.parent if database else Path.cwd()
        return (folder / "mlartifacts" / metric_word(self._experiment)).as_uri()

    def _search(self, sweep_id: str) -> list[Any]:
        runs: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], f"tags.sweep_id = '{sweep_id}'", max_results=1000, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _adopt(self, run: Any) -> None:
        """Take note of a child from an earlier session; of two for one trial, the whole one is kept."""
        trial_id, run_id = run.data.tags.get("trial_id"), run.info.run_id
        if trial_id is None:
            return
        if run.data.tags.get(content.PARENT) != self._parent:
            self._client.set_tag(run_id, content.PARENT, self._parent)
        child = _Child(run_id, run.data.tags.get("result", ""), run.info.status in ("FINISHED", "FAILED"))
        known = self._children.setdefault(trial_id, child)
        if known is not child:
            keep, spare = (known, child) if known.whole else (child, known)
            self._children[trial_id] = keep
            self._extra.setdefault(trial_id, []).append(spare.run_id)

    def _clear_up(self, sweep: Sweep) -> None:
        """Delete what a request has made whose answer came too late: runs of this sweep that nobody knows of."""
        known = {self._parent, *(child.run_id for child in self._children.values())}
        for run in self._search(sweep.sweep_id):
            if run.info.run_id not in known:
                self._client.delete_run(run.info.run_id)
        self._extra = {}

    def _share(self, result: Result) -> None:
        """Facts about the trial's machine that the sweep's run lacks so far go there, and not to each child."""
        facts = {f"host.{key}": text for key, text in flatten(result.host).items()}
        found = {key: text for key, text in content.shared_tags(facts).items() if key not in self._shared}
        if found:
            self._log(self._parent, tags=found)
            self._shared |= found

    def _make_parent(self, sweep: Sweep) -> Any:
        return self._client.create_run(
            self._experiment_id,
            start_time=content.milliseconds(sweep.created_at),
            tags=content.sweep_tags(sweep, []) | self._shared,
            run_name=sweep_name(sweep.trials),
        )

    def _write_child(self, sweep: Sweep, result: Result, tags: dict[str, str]) -> _Child:
        run_id = self._client.create_run(
            self._experiment_id,
            start_time=content.milliseconds(result.started_at),
            tags=tags | {content.PARENT: self._parent},
            run_name=self._names.get(result.trial_id) or trial_names([result.trial])[result.trial_id],
        ).info.run_id
        self._log(run_id, content.trial_metrics(result, self._steps_kept), content.trial_params(result.trial))
        with tempfile.TemporaryDirectory() as scratch:
            staged = Path(scratch)
            if result.layers:
                (staged / "layers.json").write_text(content.layer_table(result))
            _stage(Path(sweep.folder, "trials", result.trial_id, "log.txt"), staged / "log.txt")
            self._draw(result, staged / "plots")
            for file in sorted(path for path in staged.rglob("*") if path.is_file()):
                folder = file.parent.relative_to(staged)
                self._client.log_artifact(run_id, str(file), None if folder == Path() else str(folder))
        own = Path(sweep.folder, "trials", result.trial_id, "files")
        if own.is_dir() and any(own.iterdir()):
            self._client.log_artifacts(run_id, str(own))
        end = content.milliseconds(result.started_at + result.wall_s)
        self._client.set_terminated(run_id, "FINISHED" if result.ok else "FAILED", end)
        return _Child(run_id, tags["result"], whole=True)

    def _draw(self, result: Result, folder: Path) -> None:
        if result.curves:
            from tracking.task_plots import draw_training

            draw_training(result, folder / "training.png")
        if not result.passes:
            return
        from tracking.step_plot import draw_steps

        folder.mkdir(exist_ok=True)
        for name in result.passes:
            draw_steps(result, name, folder / f"steps_{name}.png")

    def _write_parent(self, sweep: Sweep, results: Sequence[Result]) -> str:
        points = content.curves(sweep, results)
        wanted = content.digest(points)
        if self._curves not in (None, wanted):
            there = self._points(self._parent)
            if there - {(point.key, point.step, point.value) for point in points}:
                # A history only grows. Where a repeat or a retry moved a point, a new parent begins it anew.
                old, self._parent = self._parent, self._make_parent(sweep).info.run_id
                for child in self._children.values():
                    self._client.set_tag(child.run_id, content.PARENT, self._parent)
                self._client.delete_run(old)
            else:
                points = [point for point in points if (point.key, point.step, point.value) not in there]
        tags = content.sweep_tags(sweep, results) | {"curves": wanted}
        self._log(self._parent, [] if self._curves == wanted else points, tags=tags)
        self._curves = wanted
        return self._parent

    def _points(self, run_id: str) -> set[tuple[str, int, float]]:
        keys = self._client.get_run(run_id).data.metrics
        return {
            (key, point.step, point.value) for key in keys for point in self._client.get_metric_history(run_id, key)
        }

    def _log(
        self,
        run_id: str,
        points: Sequence[content.Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """As few requests as MLflow's limits allow: `log_batch` splits what is above them."""
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run_id,
            metrics=[Metric(*point) for point in points],
            params=[Param(key, text) for key, text in (params or {}).items()],
            tags=[RunTag(key, text) for key, text in (tags or {}).items()],
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what MLflow, HTTP and the database raise into a SinkError; after any exception the sink is closed."""
        sweep, self._sweep = self._sweep, None
        patience = os.environ.get(TIMEOUT)
        try:
            yield
        except SinkError:
            raise
        except Exception as error:
            if type(error).__module__.split(".")[0] not in FOREIGN and not isinstance(error, OSError | ImportError):
                raise
            # Not `from error`: a traceback would print the address with its password.
            raise SinkError(f"{self}: {reason(error)}") from None
        finally:
            if patience is not None:
                os.environ[TIMEOUT] = patience
        self._sweep = self._sweep or sweep


def _stage(source: Path, target: Path) -> None:
    if source.is_file():
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
