"""MLflow: a parent run for the sweep and a nested child for each trial.

A child's run status shows whether it is complete: it is RUNNING until everything is in it. A child that was left
RUNNING, or whose trial has a newer result (in a resumed sweep), is deleted and written again, because MLflow cannot
take back a parameter or a point of a history. The tag `result` tells results apart.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracking.analysis.table import csv_text, table
from tracking.folder import trial_files
from tracking.folder.trial_folder import LOG, TrialFolder
from tracking.names import sweep_name, trial_names
from tracking.record import Result, Sweep
from tracking.schema.flat import flatten
from tracking.sink import Sink, SinkError
from tracking.sinks.mlflow import content, view
from tracking.sinks.mlflow.client import DEFAULT_EXPERIMENT, DEFAULT_URI
from tracking.sinks.mlflow.experiment import Experiment
from tracking.text.printable import printable


@dataclass
class _Child:
    run_id: str
    name: str
    result: str
    whole: bool


class MlflowSink(Sink):
    """One experiment of one server or database.

    After a SinkError the state of the server is unknown: `open` again before the next `write`.
    """

    def __init__(self, uri: str = DEFAULT_URI, experiment: str = DEFAULT_EXPERIMENT) -> None:
        self._experiment = Experiment(uri, experiment)
        self._parent = ""
        self._parent_name = ""
        self._curves: str | None = None
        self._children: dict[str, _Child] = {}
        self._extra: dict[str, list[str]] = {}
        self._shared: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._steps_kept = content.HISTORY
        self._sweep: Sweep | None = None

    def __str__(self) -> str:
        return str(self._experiment)

    def preload(self) -> None:
        """Import mlflow and connect, which takes seconds: it makes the tables of a new database, but no run."""
        with contextlib.suppress(SinkError), self._experiment.errors():  # `open` will raise it again
            self._experiment.connect()

    @property
    def page(self) -> str:
        """The list of the sweeps on the server's pages, below its address."""
        return view.page(self._experiment.experiment_id)

    def limit(self, seconds: float) -> None:
        """Bound the requests that follow: after this many seconds none begins, nor waits much longer for its answer.

        A call that runs into the bound raises SinkError. `math.inf`: no bound but MLflow's own on one request.
        """
        self._experiment.limit(seconds)

    def open(self, sweep: Sweep) -> None:
        """Make the sweep's parent run, or find it and its children. Raises SinkError."""
        with self._open():
            self._experiment.connect()
            self._experiment.find()
            runs = self._experiment.runs(sweep.sweep_id)
            parents = [run for run in runs if "trial_id" not in run.data.tags]
            parent = parents[0] if parents else self._make_parent(sweep)
            self._parent, self._parent_name = parent.info.run_id, parent.info.run_name
            self._curves = parent.data.tags.get("curves")
            self._shared = content.shared_tags(parent.data.tags)
            if parent.info.status != "RUNNING":
                self._experiment.client.update_run(self._parent, status="RUNNING")
            for spare in parents[1:]:
                self._experiment.client.delete_run(spare.info.run_id)
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
        with self._open():
            trial_id = result.trial_id
            child = self._children.get(trial_id)
            if child and not (child.whole and child.result == content.digest(result.to_json())):
                self._extra.setdefault(trial_id, []).append(child.run_id)
                child = None
            for run_id in self._extra.pop(trial_id, []):
                self._experiment.client.delete_run(run_id)
            if child is None:
                self._share(result)
                self._children[trial_id] = self._write_child(
                    sweep, result, content.trial_tags(sweep, result, self._shared)
                )

    def close(self, sweep: Sweep, results: Sequence[Result]) -> None:
        """Write the parent's curves, description and files, and end it. Raises SinkError."""
        if self._sweep is None:
            self.open(sweep)
        with self._open():
            run_id = self._write_parent(sweep, results)
            with tempfile.TemporaryDirectory() as scratch:
                staged = Path(scratch)
                for plot in sorted(Path(sweep.folder, "plots").glob("*.png")):
                    _stage(plot, staged / "plots" / plot.name)
                for name in ("report.html", "plan.json"):
                    _stage(Path(sweep.folder, name), staged / name)
                (staged / "results.csv").write_text(csv_text(table(results, sweep.trials)))
                self._experiment.client.log_artifacts(run_id, scratch)
            self._clear_up(sweep)
            self._rename(sweep)
            self._experiment.client.set_terminated(
                run_id, content.sweep_status(sweep, results), content.sweep_end(sweep, results)
            )

    def _adopt(self, run: Any) -> None:
        """Remember a child from an earlier session; of two for one trial, keep the complete one."""
        trial_id, run_id = run.data.tags.get("trial_id"), run.info.run_id
        if trial_id is None:
            return
        if run.data.tags.get(content.PARENT) != self._parent:
            self._experiment.client.set_tag(run_id, content.PARENT, self._parent)
        whole = run.info.status in ("FINISHED", "FAILED")
        child = _Child(run_id, run.info.run_name, run.data.tags.get("result", ""), whole)
        known = self._children.setdefault(trial_id, child)
        if known is not child:
            keep, spare = (known, child) if known.whole else (child, known)
            self._children[trial_id] = keep
            self._extra.setdefault(trial_id, []).append(spare.run_id)

    def _clear_up(self, sweep: Sweep) -> None:
        """Delete runs of this sweep that are not in use: a request made them whose answer came too late."""
        known = {self._parent, *(child.run_id for child in self._children.values())}
        for run in self._experiment.runs(sweep.sweep_id):
            if run.info.run_id not in known:
                self._experiment.client.delete_run(run.info.run_id)
        self._extra = {}

    def _rename(self, sweep: Sweep) -> None:
        """Rename the runs to what sets them apart by now: an optimising sweeper adds trials one after another."""
        names = trial_names(sweep.trials)
        for trial_id, child in self._children.items():
            name = names.get(trial_id, child.name)
            if name != child.name:
                self._experiment.client.update_run(child.run_id, name=name)
                child.name = name
        if (name := sweep_name(sweep.trials)) != self._parent_name:
            self._experiment.client.update_run(self._parent, name=name)
            self._parent_name = name

    def _share(self, result: Result) -> None:
        """Log facts about the trials' machine once, with the sweep's run, instead of with each child."""
        facts = {f"host.{key}": text for key, text in flatten(result.host).items()}
        new_facts = {key: text for key, text in content.shared_tags(facts).items() if key not in self._shared}
        if new_facts:
            self._experiment.log(self._parent, tags=new_facts)
            self._shared |= new_facts

    def _make_parent(self, sweep: Sweep) -> Any:
        return self._experiment.client.create_run(
            self._experiment.experiment_id,
            start_time=content.milliseconds(sweep.created_at),
            tags=content.sweep_tags(sweep, []) | self._shared,
            run_name=sweep_name(sweep.trials),
        )

    def _write_child(self, sweep: Sweep, result: Result, tags: dict[str, str]) -> _Child:
        name = self._names.get(result.trial_id) or trial_names([result.trial])[result.trial_id]
        run_id = self._experiment.client.create_run(
            self._experiment.experiment_id,
            start_time=content.milliseconds(result.started_at),
            tags=tags | {content.PARENT: self._parent},
            run_name=name,
        ).info.run_id
        self._experiment.log(
            run_id, content.trial_metrics(result, self._steps_kept), content.trial_params(result.trial)
        )
        with tempfile.TemporaryDirectory() as scratch:
            staged = Path(scratch)
            if result.layers:
                (staged / "layers.json").write_text(content.layer_table(result))
            own_folder = TrialFolder.within(sweep.folder, result.trial_id)
            _stage(own_folder.log, staged / LOG)
            self._draw(result, staged / "plots")
            for file in sorted(path for path in staged.rglob("*") if path.is_file()):
                folder = file.parent.relative_to(staged)
                self._experiment.client.log_artifact(run_id, str(file), None if folder == Path() else str(folder))
            for left in trial_files.look(own_folder.files)[0]:
                if left.name != printable(left.name):
                    continue  # no server takes such a name
                path, folder = left.path, Path(left.name).parent
                if path.name != Path(left.name).name:  # a link to another of the files
                    path = staged / "links" / left.name
                    _stage(left.path, path)
                self._experiment.client.log_artifact(run_id, str(path), None if folder == Path() else str(folder))
        end = content.milliseconds(result.started_at + result.wall_s)
        self._experiment.client.set_terminated(run_id, "FINISHED" if result.ok else "FAILED", end)
        return _Child(run_id, name, tags["result"], whole=True)

    def _draw(self, result: Result, folder: Path) -> None:
        if result.curves:
            from tracking.plots.task_plots import draw_training

            draw_training(result, folder / "training.png")
        if not result.passes:
            return
        from tracking.plots.step_plots import draw_steps

        folder.mkdir(exist_ok=True)
        for name in result.passes:
            draw_steps(result, name, folder / f"steps_{name}.png")

    def _write_parent(self, sweep: Sweep, results: Sequence[Result]) -> str:
        points = content.curves(sweep, results)
        wanted = content.digest(points)
        if self._curves not in (None, wanted):
            there = self._experiment.points(self._parent)
            if there - {(point.key, point.step, point.value) for point in points}:
                # A history only grows. Where a repeat or a retry moved a point, a new parent begins it anew.
                old, self._parent = self._parent, self._make_parent(sweep).info.run_id
                for child in self._children.values():
                    self._experiment.client.set_tag(child.run_id, content.PARENT, self._parent)
                self._experiment.client.delete_run(old)
            else:
                points = [point for point in points if (point.key, point.step, point.value) not in there]
        tags = content.sweep_tags(sweep, results) | {"curves": wanted}
        self._experiment.log(self._parent, [] if self._curves == wanted else points, tags=tags)
        self._curves = wanted
        return self._parent

    @contextmanager
    def _open(self) -> Iterator[None]:
        """After any exception the sink is closed."""
        sweep, self._sweep = self._sweep, None
        with self._experiment.errors():
            yield
        self._sweep = self._sweep or sweep


def _stage(source: Path, target: Path) -> None:
    """Copy a file, if there is one; a link that a trial's code may have put in its place is not followed."""
    with contextlib.suppress(OSError), trial_files.open_regular(source) as file:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as copy:
            shutil.copyfileobj(file, copy)
