"""One experiment of one MLflow server or database: connection, patience, errors and batched requests.

The only module that writes through mlflow, and imports it only when it is first needed: that takes seconds. It talks
through `MlflowClient` and never touches MLflow's global state.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracking.names import metric_word
from tracking.sink import SinkError
from tracking.sinks.mlflow import moved, view
from tracking.sinks.mlflow.client import TIMEOUT, absolute_uri, of_mlflow, preload, reason, secrets
from tracking.sinks.mlflow.content import EXPERIMENT_TAGS, Point
from tracking.sinks.mlflow.database import DatabaseError, reach, sqlite_file
from tracking.text.redact import redact


class Experiment:
    """One experiment of one server or database, after `connect` and `find`.

    Every method but `limit` passes on whatever MLflow, HTTP or the database raise; within `errors` it becomes a
    SinkError.
    """

    def __init__(self, uri: str, name: str) -> None:
        self.experiment_id = ""
        """Empty until `find`."""
        self._uri, self._name = absolute_uri(uri), name
        self._connection: Any = None
        self._until = math.inf

    def __str__(self) -> str:
        return f"MLflow at {redact(self._uri)}"

    def limit(self, seconds: float) -> None:
        """Bound the requests that follow: after this many seconds none begins, nor waits much longer for its answer.

        A call that runs into the bound raises SinkError. `math.inf`: no bound but MLflow's own on one request.
        """
        self._until = time.monotonic() + seconds

    @property
    def client(self) -> Any:
        """The client for one request, whose timeout is bounded by what is left of the time that `limit` gives."""
        if self._until < math.inf and self._uri.startswith("http"):
            left = self._until - time.monotonic()
            if left <= 0:
                raise SinkError(f"{self}: its answers take longer than a sweep waits between two trials")
            # MLflow reads it for each request, and has no other way to bound one.
            os.environ[TIMEOUT] = str(max(1, min(int(left), self._longest_answer())))
        return self._connection

    def _longest_answer(self) -> int:
        try:
            return int(os.environ[TIMEOUT])
        except ValueError:
            raise SinkError(f"{self}: expected {TIMEOUT} in seconds. Received: {os.environ[TIMEOUT]!r}") from None

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what MLflow, HTTP and the database raise into a SinkError."""
        patience = os.environ.get(TIMEOUT)
        try:
            yield
        except SinkError:
            raise
        except DatabaseError as error:
            raise SinkError(f"{self}: {redact(str(error), secrets(self._uri))}") from None
        except Exception as error:
            if not of_mlflow(error):
                raise
            # Not `from error`: a traceback would print the address with its password.
            raise SinkError(f"{self}: {reason(error, secrets(self._uri))}") from None
        finally:
            if patience is not None:
                os.environ[TIMEOUT] = patience

    def connect(self) -> None:
        """Import mlflow and reach the server or database; a new database gets its tables, which takes seconds."""
        if self._connection is not None:
            return
        preload()
        from mlflow import MlflowClient

        self._connection = MlflowClient(tracking_uri=reach(self._uri))

    def find(self) -> None:
        """Find the experiment, or make it. Raises SinkError where it was deleted."""
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(self._name)
        if experiment is None:
            try:
                self.experiment_id = str(
                    self.client.create_experiment(self._name, self._artifact_location(), tags=EXPERIMENT_TAGS)
                )
                return
            except MlflowException:
                # Another sweep may have made it in between.
                experiment = self.client.get_experiment_by_name(self._name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage != "active":
            raise SinkError(
                f"{self}: the experiment {self._name!r} was deleted; "
                f"restore it (mlflow experiments restore -x {experiment.experiment_id}) or choose another name"
            )
        if (database := sqlite_file(self._uri)) is not None and (expected := self._artifact_location()):
            moved.follow_files(database, experiment.artifact_location, expected)
        if experiment.tags.get(view.TAG) != view.shared_view():  # none, or that of an older version
            self.client.set_experiment_tag(experiment.experiment_id, view.TAG, view.shared_view())
        self.experiment_id = str(experiment.experiment_id)

    def runs(self, sweep_id: str) -> list[Any]:
        """Every run of the sweep that is not deleted."""
        runs: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], f"tags.sweep_id = '{sweep_id}'", max_results=1000, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def points(self, run_id: str) -> set[tuple[str, int, float]]:
        """(key, step, value) of each point of each metric's history."""
        keys = self.client.get_run(run_id).data.metrics
        return {(key, point.step, point.value) for key in keys for point in self.client.get_metric_history(run_id, key)}

    def log(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log in as few requests as MLflow's limits allow."""
        from mlflow.entities import Metric, Param, RunTag

        self.client.log_batch(
            run_id,
            metrics=[Metric(*point) for point in points],
            params=[Param(key, text) for key, text in (params or {}).items()],
            tags=[RunTag(key, text) for key, text in (tags or {}).items()],
        )

    def _artifact_location(self) -> str | None:
        """Beside the database, wherever the sweep was started; a server knows its own place."""
        if self._uri.startswith(("http://", "https://", "databricks")):
            return None
        database = sqlite_file(self._uri)
        folder = database.parent if database else Path.cwd()
        return (folder / moved.FILES / metric_word(self._name)).as_uri()
