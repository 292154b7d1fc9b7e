"""A sweep and its trials as MLflow parameters, tags and metrics, without MLflow itself."""

from __future__ import annotations

import getpass
import hashlib
import json
import shlex
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tracking import axes
from tracking.analysis.doubts import verdict
from tracking.analysis.samples import samples_of
from tracking.names import host_name, series_names
from tracking.record import PASSES, Pass, Result, Sweep, Trial
from tracking.schema.flat import flatten
from tracking.sinks.mlflow import figures, view
from tracking.sinks.mlflow.keys import distinct, fitting, fitting_key
from tracking.sinks.mlflow.notes import sweep_note, trial_note
from tracking.text.redact import redact

HISTORY = 1_000
"""Most points of one history. A pass with more steps keeps this many, evenly spread; the journal has all of them."""
_LEAST_HISTORY = 30
_ALL_STEPS = 60_000
"""Points of a whole sweep's step times: each costs MLflow a seventh of a millisecond on SQLite."""
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
_SHARED = tuple(f"host.{key}" for key in ("gpu", "gpu_driver", "cuda", "onednn"))
"""Facts about the trials' machines that a driver may not know: the sweep's run has the first trial's."""
OF_TRIALS = ("env", "cpu_quota", "memory_limit_mb")
"""Facts whose absence means something too: each trial's run has its own, and the sweep's run none."""
EXPERIMENT_TAGS = {
    NOTE: "A run for each sweep, its trials nested. Curves over batch sizes: its model metrics. All: its report.html.",
    view.TAG: view.shared_view(),
}


class Point(NamedTuple):
    """One value of a metric's history."""

    key: str
    value: float
    timestamp: int
    """Milliseconds since the epoch."""
    step: int


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def digest(value: Any) -> str:
    """Hash of a value's JSON form, which tells whether two values are equal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def trial_params(trial: Trial) -> dict[str, str]:
    """Every axis of the trial, nested values under dotted keys, and its time limit."""
    return fitting(axes.params_of(trial) | flatten({"timeout_s": trial.timeout_s}))


def shared_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that the sweep's run has for all its trials, beside those about the driver."""
    return fitting({key: tags[key] for key in _SHARED if key in tags})


def driver_facts(sweep: Sweep) -> dict[str, str]:
    """Facts about the driver's host, which a trial's run repeats only where its own host differs."""
    return flatten({key: value for key, value in sweep.facts.items() if key not in OF_TRIALS})


def trial_tags(sweep: Sweep, result: Result, shared: Mapping[str, str] | None = None) -> dict[str, str]:
    """Identity, outcome, and the facts about the trial's host that differ from those on the sweep's run."""
    on_sweep = {f"host.{key}": text for key, text in driver_facts(sweep).items()} | dict(shared or {})
    facts = {key: value for key, value in result.host.items() if key != "in_force"}
    of_host = {f"host.{key}": text for key, text in flatten(facts).items()}
    host = {key: text for key, text in of_host.items() if on_sweep.get(key) != text}
    # One tag per pass, not one per setting in force.
    for name, settings in result.host.get("in_force", {}).items():
        host[f"in_force.{name}"] = figures.in_force(settings)
    tags = host | {
        "sweep_id": sweep.sweep_id,
        "trial_id": result.trial_id,
        "status": result.status,
        "host": host_name(result),
        "result": digest(result.to_json()),
        "quality": verdict(result),
        "error": f"{result.error.kind}: {result.error.message}" if result.error else "",
        NOTE: trial_note(result),
    }
    if result.layers:
        # What MLflow's own log_table leaves behind, so that the evaluation view offers the table.
        tags["mlflow.loggedArtifacts"] = json.dumps([{"path": "layers.json", "type": "table"}])
    return fitting(_source(sweep) | {key: text for key, text in tags.items() if text})


def steps_kept(sweep: Sweep) -> int:
    """How many points a pass's history of steps may have, so that thousands of trials are written in time."""
    passes = sum(len(trial.passes) for trial in sweep.trials)
    return min(HISTORY, max(_LEAST_HISTORY, _ALL_STEPS // max(1, passes)))


def trial_metrics(result: Result, most: int = HISTORY) -> list[Point]:
    """The trial's single figures, then the history of each pass's steps and the task's curves.

    A history of steps has at most `most` points.
    """
    start, end = milliseconds(result.started_at), milliseconds(result.started_at + result.wall_s)
    points: list[Point] = []
    for name, measurement in result.passes.items():
        elapsed = [0.0]
        for seconds in measurement.step_s:
            elapsed.append(elapsed[-1] + seconds)
        points += [
            Point(f"{name}/step_s", measurement.step_s[i], start + milliseconds(elapsed[i + 1]), i)
            for i in _spread(len(measurement.step_s), most)
        ]
    single = distinct(figures.encoded(result).items(), ())
    histories = distinct(result.curves.items(), {*single, *(point.key for point in points)})
    for key, history in histories.items():
        points += _history(key, history, start, end)
    single |= distinct(figures.encoded_of_task(result), {*single, *(point.key for point in points)})
    # The figures come before the histories, because MLflow's page keeps the order.
    return [Point(key, float(value), end, 0) for key, value in single.items()] + points


def _history(key: str, history: Sequence[tuple[int, float]], start: int, end: int) -> list[Point]:
    """The points of a curve, their times spread evenly over the trial's."""
    kept = [history[i] for i in _spread(len(history))]
    return [
        Point(key, float(value), start + (end - start) * place // len(kept), step)
        for place, (step, value) in enumerate(kept, start=1)
    ]


def layer_table(result: Result) -> str:
    """The layers as an MLflow table (pandas' `split` form in JSON)."""
    columns = ["name", "kind", "output shape", "parameters", "FLOPs"]
    data = [
        [
            layer.name,
            layer.kind,
            "x".join(map(str, layer.output_shape)),
            layer.trainable_params + layer.other_params,
            layer.flops,
        ]
        for layer in result.layers
    ]
    return json.dumps({"columns": columns, "data": data})


def sweep_tags(sweep: Sweep, results: Sequence[Result]) -> dict[str, str]:
    """The parent run's tags: identity, the driver's host, and a description in Markdown."""
    host = {f"host.{key}": text for key, text in driver_facts(sweep).items() if not key.startswith("tracking")}
    tags = {
        "sweep_id": sweep.sweep_id,
        "command": redact(sweep.command),
        "folder": sweep.folder,
        "trials": str(len(sweep.trials)),
        NOTE: sweep_note(sweep, results),
    }
    return fitting(host | _source(sweep) | tags)


def curves(sweep: Sweep, results: Sequence[Result]) -> list[Point]:
    """The parent's histories over batch sizes, step = batch; repeats of a trial are one point, their mean."""
    names = {name: _series(sweep, name) for name in PASSES}
    groups: dict[tuple[str, int], list[tuple[Result, float]]] = defaultdict(list)
    for result in results:
        for name, measurement in result.passes.items():
            series = names[name].get(result.trial_id)
            if series is not None:
                groups[f"{series}/{name}", result.trial.batch].append((result, measurement.mean_s))
    points = []
    for (key, batch), members in sorted(groups.items(), key=lambda group: group[0]):
        mean = statistics.fmean(mean for _, mean in members)
        time = milliseconds(max(result.started_at for result, _ in members))
        figures_at = {"mean_s": mean, "images_per_s": batch / mean}
        if all(samples_of(result).tokens for result, _ in members):
            figures_at["tokens_per_s"] = (samples_of(members[0][0]).tokens or 0) / mean
        points += [Point(fitting_key(f"{key}/{name}"), value, time, batch) for name, value in figures_at.items()]
    return points


def _series(sweep: Sweep, pass_name: Pass) -> dict[str, str]:
    """The name of the curve of this pass that each trial is a point of, by the trial's id."""
    timed = {trial.trial_id: axes.as_timed_by(trial, pass_name) for trial in sweep.trials if pass_name in trial.passes}
    names = series_names([*timed.values()])
    return {trial_id: names[trial.trial_id] for trial_id, trial in timed.items()}


def sweep_status(sweep: Sweep, results: Sequence[Result]) -> str:
    """FINISHED: every trial ended well; FAILED: some did not; KILLED: some never ran."""
    statuses = {result.trial_id: result.status for result in results}
    planned = {statuses.get(trial.trial_id, "not_run") for trial in sweep.trials}
    return "KILLED" if "not_run" in planned else "FAILED" if planned - {"ok"} else "FINISHED"


def sweep_end(sweep: Sweep, results: Sequence[Result]) -> int:
    """When the last trial ended, milliseconds since the epoch."""
    return milliseconds(max((result.started_at + result.wall_s for result in results), default=sweep.created_at))


def _source(sweep: Sweep) -> dict[str, str]:
    words = _words(sweep.command)
    tags = {
        "mlflow.source.name": next((word for word in words if word.endswith(".py")), words[0] if words else ""),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": sweep.facts.get("git_commit"),
        "mlflow.user": sweep.facts.get("user") or _user(),
    }
    return {key: str(text) for key, text in tags.items() if text}


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # A container's user may have no name.
        return None


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _spread(count: int, most: int = HISTORY) -> Iterator[int]:
    """All indices, or `most` of them from the first to the last."""
    if count <= most:
        yield from range(count)
    else:
        yield from (i * (count - 1) // (most - 1) for i in range(most))
