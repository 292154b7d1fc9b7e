"""What a sweep and a trial look like in MLflow: parameters, tags, metrics and descriptions, without MLflow itself."""

from __future__ import annotations

import getpass
import hashlib
import itertools
import json
import shlex
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from tracking.analysis.doubts import verdict
from tracking.analysis.table import MOST_METRICS
from tracking.names import host_name, metric_word, series_names, trial_names
from tracking.record import Result, Sweep, Trial
from tracking.redact import redact
from tracking.sinks.mlflow import view
from tracking.text.commits import commits
from tracking.text.flat import flatten
from tracking.text.printable import printable_lines

HISTORY = 1_000
"""Most points of one history. A pass with more steps keeps this many, evenly spread; the journal has all of them."""
_LEAST_HISTORY = 30
_ALL_STEPS = 60_000
"""Points of a whole sweep's step times: each costs MLflow a seventh of a millisecond on SQLite."""
_LONGEST_KEY = 250
Value = TypeVar("Value")
LONGEST_VALUE = 5_000
"""Characters of a tag or parameter; servers of MLflow 2 refuse more."""
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
_NOT_PARAMS = ("device.name", "protocol.name", "profile")
_FIRST_PARAMS = ("model", "batch", "device", "precision", "compile", "passes", "protocol", "task")
_SHARED = tuple(f"host.{key}" for key in ("gpu", "gpu_driver", "cuda", "onednn"))
"""Facts about the trials' machines that a driver may not know: the sweep's run has the first ones found."""
OF_TRIALS = ("env", "cpu_quota", "memory_limit_mb")
"""Facts that say something by their absence too: each trial's run has its own, and the sweep's none."""
EXPERIMENT_TAGS = {
    NOTE: "A run for each sweep, its trials nested. Curves over batch sizes: its model metrics. All: its report.html.",
    view.TAG: view.VIEW,
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
    """Tells whether two values with the same JSON form are the same."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def trial_params(trial: Trial) -> dict[str, str]:
    """The eight that every run has, and the rest of the trial under dotted keys."""
    fields = trial.to_json()
    nested = {name: fields[name] for name in ("model_args", "device", "protocol", "task_args")}
    words = {"device": trial.device.label, "passes": ",".join(trial.passes), "protocol": trial.protocol.name}
    params = flatten({key: value for key, value in fields.items() if key not in (*nested, "as_typed")} | nested) | words
    params = {key: params[key] for key in dict.fromkeys([*_FIRST_PARAMS, *params])}
    if not trial.passes:
        params = {key: text for key, text in params.items() if key != "passes" and not key.startswith("protocol")}
    return _fitting({key: value for key, value in params.items() if key not in _NOT_PARAMS})


def shared_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Those of the tags that a sweep's run has for all its trials, beside the driver's own."""
    return _fitting({key: tags[key] for key in _SHARED if key in tags})


def driver_facts(sweep: Sweep) -> dict[str, str]:
    """What the sweep's run says of the driver's host, and a trial's run only where its own host differs."""
    return flatten({key: value for key, value in sweep.facts.items() if key not in OF_TRIALS})


def trial_tags(sweep: Sweep, result: Result, shared: Mapping[str, str] | None = None) -> dict[str, str]:
    """Identity, outcome, and what the trial's host was where that differs from what the sweep's run says of hosts."""
    said = {f"host.{key}": text for key, text in driver_facts(sweep).items()} | dict(shared or {})
    facts = {key: value for key, value in result.host.items() if key != "in_force"}
    found = {f"host.{key}": text for key, text in flatten(facts).items()}
    host = {key: text for key, text in found.items() if said.get(key) != text}
    # A tag a pass, not one for each setting that was found in force.
    for name, found in result.host.get("in_force", {}).items():
        host[f"in_force.{name}"] = ", ".join(f"{key} {text}" for key, text in flatten(found).items())
    tags = host | {
        "sweep_id": sweep.sweep_id,
        "trial_id": result.trial_id,
        "status": result.status,
        "host": host_name(result),
        "result": digest(result.to_json()),
        "quality": verdict(result),
        "error": f"{result.error.kind}: {result.error.message}" if result.error else "",
        NOTE: _trial_note(result),
    }
    if result.layers:
        # What MLflow's own log_table leaves behind, so that the evaluation view offers the table.
        tags["mlflow.loggedArtifacts"] = json.dumps([{"path": "layers.json", "type": "table"}])
    return _fitting(_source(sweep) | {key: text for key, text in tags.items() if text})


def steps_kept(sweep: Sweep) -> int:
    """How many points a pass's history of steps may have, so that a sweep of thousands of trials is written in time."""
    passes = sum(len(trial.passes) for trial in sweep.trials)
    return min(HISTORY, max(_LEAST_HISTORY, _ALL_STEPS // max(1, passes)))


def trial_metrics(result: Result, most: int = HISTORY) -> list[Point]:
    """The figures of each pass, the history of its steps, memory, and the seconds spent around the passes.

    A history of steps has at most `most` points.
    """
    start, batch = milliseconds(result.started_at), result.trial.batch
    end = milliseconds(result.started_at + result.wall_s)
    points: list[Point] = []
    single: dict[str, float | None] = {}
    for name, measurement in result.passes.items():
        single |= {f"{name}/{figure}": value for figure, value in measurement.figures(batch).items()}
        single |= {f"{name}/steps": len(measurement.step_s), f"{name}/gflops_per_s": measurement.gflops_per_s}
        single |= {f"{name}/evidence/{key}": value for key, value in measurement.evidence.items()}
        elapsed = [0.0]
        for seconds in measurement.step_s:
            elapsed.append(elapsed[-1] + seconds)
        points += [
            Point(f"{name}/step_s", measurement.step_s[i], start + milliseconds(elapsed[i + 1]), i)
            for i in _spread(len(measurement.step_s), most)
        ]
    single |= {"memory/peak_rss_mb": result.peak_rss_mb, "memory/peak_device_mb": result.peak_device_mb}
    single |= {f"phases/{name}_s": value for name, value in result.phases.items()}
    single |= {f"limits/{name}": value for name, value in result.limits.items()} | {"wall_s": result.wall_s}
    ours = _distinct(((key, value) for key, value in single.items() if value is not None), ())
    histories = _distinct(result.curves.items(), {*ours, *(point.key for point in points)})
    for key, history in histories.items():
        points += _history(key, history, start, end)
    # MLflow's value of a metric is the last of its history; the kept epoch's is another.
    named = ((f"best/{key}" if key in result.curves else key, value) for key, value in result.metrics.items())
    figures = ours | _distinct(named, {*ours, *(point.key for point in points)})
    # The figures come before the histories, because MLflow's page keeps the order.
    return [Point(key, float(value), end, 0) for key, value in figures.items()] + points


def _distinct(named: Iterable[tuple[str, Value]], taken: Collection[str]) -> dict[str, Value]:
    """The values by keys that MLflow takes, none of which is another's: a task's figures never replace ours."""
    found: dict[str, Value] = {}
    for name, value in named:
        key = first = _key(name)
        for count in itertools.count(1):
            if key not in found and key not in taken:
                break
            key = f"task/{first[: _LONGEST_KEY - 20]}" + (f" {count}" if count > 1 else "")
        found[key] = value
    return found


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
    return _fitting(host | _source(sweep) | tags)


def sweep_note(sweep: Sweep, results: Sequence[Result]) -> str:
    """What was swept, where, and what came of it, cut to what a tag holds."""
    names = trial_names(sweep.trials)
    statuses = Counter(result.status for result in results)
    hosts = sorted({name for result in results if (name := host_name(result))})
    counts = ", ".join(f"{count} {status}" for status, count in statuses.most_common()) or "none finished yet"
    text = f"`{redact(sweep.command)}`\n\n{len(sweep.trials)} trials: {counts}."
    if hosts:
        text += f" Measured on {', '.join(hosts[:10])}{' and others' if len(hosts) > 10 else ''}."
    if code := commits(sweep.facts):
        text += f" Code: {'; '.join(code)}."
    lines = []
    lines += metric_lines(results, names)
    if any(result.passes for result in results):
        lines += ["", "| trial | pass | mean ± sd, s | images/s |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {names.get(result.trial_id, result.trial_id)} | {name} "
        f"| {m.mean_s:.4g} ± {m.sd_s:.2g} | {result.trial.batch / m.mean_s:.4g} |"
        for result in results
        for name, m in result.passes.items()
    ]
    remarks = [
        f"- {names.get(result.trial_id, result.trial_id)}: **{result.status}**"
        + (f", {result.error.kind}: {result.error.message}" if result.error else "")
        for result in results
        if not result.ok
    ]
    remarks += [
        f"- {names.get(result.trial_id, result.trial_id)}: {doubt}" for result in results for doubt in result.quality
    ]
    return _cut(text, lines, ["", *remarks] if remarks else [])


def metric_lines(results: Sequence[Result], names: Mapping[str, str]) -> list[str]:
    """A Markdown table of what tasks found beside times; nothing where they found nothing."""
    keys = list(dict.fromkeys(key for result in results for key in result.metrics))[:MOST_METRICS]
    if not keys:
        return []
    rows = [
        f"| {names.get(result.trial_id, result.trial_id)} | "
        + " | ".join(f"{result.metrics[key]:.4g}" if key in result.metrics else "" for key in keys)
        + " |"
        for result in results
        if result.metrics
    ]
    return ["", f"| trial | {' | '.join(keys)} |", "| --- " * (len(keys) + 1) + "|", *rows]


def curves(sweep: Sweep, results: Sequence[Result]) -> list[Point]:
    """The parent's histories over batch sizes, step = batch; repeats of a trial are one point, their mean."""
    names = series_names(sweep.trials)
    groups: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for result in results:
        for name, measurement in result.passes.items():
            series = names.get(result.trial_id)
            if series is not None:
                groups[f"{series}/{name}", result.trial.batch].append((measurement.mean_s, result.started_at))
    points = []
    for (key, batch), members in sorted(groups.items()):
        mean = statistics.fmean(mean for mean, _ in members)
        time = milliseconds(max(started for _, started in members))
        points += [
            Point(_key(f"{key}/mean_s"), mean, time, batch),
            Point(_key(f"{key}/images_per_s"), batch / mean, time, batch),
        ]
    return points


def sweep_status(sweep: Sweep, results: Sequence[Result]) -> str:
    """FINISHED: every trial ended well; FAILED: some did not; KILLED: some never ran."""
    statuses = {result.trial_id: result.status for result in results}
    planned = {statuses.get(trial.trial_id, "not_run") for trial in sweep.trials}
    return "KILLED" if "not_run" in planned else "FAILED" if planned - {"ok"} else "FINISHED"


def sweep_end(sweep: Sweep, results: Sequence[Result]) -> int:
    """When the last trial ended, milliseconds since the epoch."""
    return milliseconds(max((result.started_at + result.wall_s for result in results), default=sweep.created_at))


def _trial_note(result: Result) -> str:
    doubts = [f"- {doubt}" for doubt in result.quality]
    if result.error is None:
        return "\n".join(doubts)
    detail = f"\n\n```\n{result.error.detail[-2000:]}\n```" if result.error.detail else ""
    return "\n".join([f"**{result.error.kind}**: {result.error.message}{detail}", *doubts])


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


def _fitting(values: Mapping[str, str]) -> dict[str, str]:
    """Texts as MLflow and its database take them; of two whose keys become the same, the first."""
    fitting: dict[str, str] = {}
    for key, text in values.items():
        fitting.setdefault(_key(key), printable_lines(text[:LONGEST_VALUE])[:LONGEST_VALUE])
    return fitting


def _key(key: str) -> str:
    """The key as MLflow takes it; a slash within it stays, since it groups metrics.

    MLflow also makes paths of keys, and refuses those that are none: empty parts, `.` and `..`.
    """
    parts = [metric_word(part) for part in key[:_LONGEST_KEY].split("/")]
    path = "/".join(part if part.strip(".") else "_" for part in parts)[:_LONGEST_KEY].rstrip("/ ") or "_"
    return f"_{path[1:]}" if path.startswith("..") else path


def _cut(text: str, lines: Sequence[str], remarks: Sequence[str]) -> str:
    """Join them; where that is too long leave out lines in the end, remarks first of all kept."""
    room = LONGEST_VALUE - len(text) - 100
    kept_remarks = _fill(remarks, room * 2 // 3)
    kept_lines = _fill(lines, room - sum(len(line) + 1 for line in kept_remarks))
    left_out = len(lines) + len(remarks) - len(kept_lines) - len(kept_remarks)
    more = [f"\n{left_out} more lines: see results.csv and report.html."] if left_out else []
    return "\n".join([text, *kept_lines, *kept_remarks, *more])


def _fill(lines: Sequence[str], room: int) -> list[str]:
    kept = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return kept
