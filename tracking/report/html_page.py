"""`report.html`: a whole sweep in one file that needs nothing else, neither a network nor a server.

The words and tables are written here, so that they are there without scripts too; `report_assets/` holds the style and
the script that sorts, filters and draws the charts from the numbers of `report_data`. Every string that comes from a
user or a machine is escaped, and the page's own policy forbids it to load anything, and to run any script but this one.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from tracking.analysis.curves import PASS_TITLES
from tracking.analysis.doubts import doubts_of
from tracking.analysis.peaks import Peak, Peaks, exceeded_sentences
from tracking.analysis.stats import Interval, median_interval
from tracking.folder import files
from tracking.names import host_name, sweep_name, trial_names
from tracking.record import PASSES, Layer, Pass, Result, Sweep
from tracking.report import profile, tasks
from tracking.report.data import chart_data, trial_data
from tracking.report.markup import escape, source_hash
from tracking.schema.measurement import Measurement
from tracking.text.commits import commits
from tracking.text.flat import flatten
from tracking.text.units import seconds_unit, utc_time

_STATUS_WORDS = {
    "oom": "ran out of memory",
    "timeout": "took too long",
    "error": "ended in an error",
    "crashed": "crashed",
    "infeasible": "could not run",
    "not_run": "did not run",
}
_MOST_LAYER_ROWS = 20_000
_LONGEST_DETAIL = 3_000
_COLUMNS = (
    ("trial", "text", "What was asked: model, batch size and whatever else varies"),
    ("pass", "text", ""),
    ("mean ± sd", "number", "Mean and standard deviation of the timed steps, per batch"),
    ("median (95%)", "number", "Median of the timed steps and its 95% interval, per batch"),
    ("images/s", "number", "All images over all timed seconds"),
    ("p99", "number", "99% of the steps took less"),
    ("steps", "number", "Timed steps, and why timing stopped"),
    ("first call", "number", "Tracing, compilation and the first execution"),
    ("GFLOP/s", "number", "Achieved rate, and its share of what this device can do at this precision"),
    ("memory", "number", "Peak of the device where known, else of the process"),
    ("verdict", "text", "Reasons to doubt the figures"),
)


def write(sweep: Sweep, results: Sequence[Result], path: str | Path) -> None:
    """Write the report of `results` to `path`: below 8 MB for 1,000 trials, since step times are thinned."""
    planned = {trial.trial_id: position for position, trial in enumerate(sweep.trials)}
    results = sorted(results, key=lambda result: planned.get(result.trial_id, len(planned)))
    names = trial_names([*sweep.trials, *(result.trial for result in results)])
    data = {"trials": trial_data(results, names), "charts": chart_data(results)}
    assets = resources("tracking.report") / "assets"
    style, script = ((assets / name).read_text("utf-8") for name in ("style.css", "page.js"))
    parts = {
        "policy": f"style-src {source_hash(style)}; script-src {source_hash(script)}",
        "style": style,
        "script": script,
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        "title": escape(sweep_name(sweep.trials) if sweep.trials else f"Sweep {sweep.sweep_id}"),
        "summary": _summary(sweep, results, names),
        "failures": _failures(results, names),
        "tasks": tasks.section(sweep, results, names),
        "table": tasks.table(results, names) or _table(results, names),
        "layers": _layers(results),
        "profile": profile.section(sweep, results, names),
        "reproduce": _reproduce(sweep, results),
    }
    page = (assets / "page.html").read_text("utf-8")
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)
    files.write(Path(path).parent, Path(path).name, text.encode("utf-8", "backslashreplace"))


def _seconds(value: float) -> str:
    factor, unit = seconds_unit(value)
    return f"{_digits(value * factor)} {unit}"


def _digits(value: float) -> str:
    """Four significant digits, and every digit before the point."""
    if not value:
        return "0"
    return f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"


def _summary(sweep: Sweep, results: Sequence[Result], names: Mapping[str, str]) -> str:
    good = [result for result in results if result.ok]
    total = max(len(sweep.trials), len(results))
    hosts = sorted({name for result in results if (name := host_name(result))})
    where = f" on {_listed(hosts)}" if hosts else ""
    started = [result.started_at for result in results if result.started_at]
    took = ""
    if started:
        ended = max(result.started_at + result.wall_s for result in results if result.started_at)
        took = f" in {_duration(ended - min(started))}"
    sentences = [f"{len(good):,} of {total:,} trials measured{where}{took}."]
    bad = Counter(result.status for result in results if not result.ok)
    if bad:
        sentences.append(_listed([f"{count} {_STATUS_WORDS[status]}" for status, count in bad.items()]) + ".")
    if total > len(results):
        sentences.append(f"{total - len(results)} have no result yet.")
    for name in PASSES:
        timed = [result for result in good if name in result.passes]
        if len(timed) > 1:
            best = max(timed, key=lambda result: result.trial.batch / result.passes[name].mean_s)
            rate = best.trial.batch / best.passes[name].mean_s
            sentences.append(
                f"Highest throughput {PASS_TITLES[name]}: {names[best.trial_id]} with {_digits(rate)} images/s."
            )
    sentences += tasks.best(sweep, results, names)
    sentences += exceeded_sentences(results)
    doubtful = sum(bool(result.quality) for result in good)
    if doubtful:
        sentences.append(f"{doubtful} {'has' if doubtful == 1 else 'have'} figures to doubt: see the verdicts.")
    return escape(" ".join(sentences))


def _table(results: Sequence[Result], names: Mapping[str, str]) -> str:
    head = "".join(
        f'<th scope="col" data-kind="{kind}" title="{escape(about)}"><button type="button">{name}</button></th>'
        for name, kind, about in _COLUMNS
    )
    rows = []
    peaks = Peaks(results)
    for position, result in enumerate(results):
        name = escape(names[result.trial_id])
        for pass_name, measured in result.passes.items():
            rows.append(_measured_row(position, name, result, pass_name, measured, peaks.of(result)))
        if not result.passes or not result.ok:
            blank = f'<td colspan="{len(_COLUMNS) - 3}"></td>'
            rows.append(
                f'<tr class="failed"><th scope="row">{name}</th><td></td>{blank}<td>{escape(result.status)}</td></tr>'
            )
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"


def _measured_row(
    position: int, name: str, result: Result, pass_name: Pass, measured: Measurement, peak: Peak | None
) -> str:
    middle = measured.median_s
    around = median_interval(measured.step_s)
    rate = measured.gflops_per_s
    share = f" <small>{100 * rate / peak.gflops_per_s:.0f}%</small>" if rate and peak else ""
    memory = measured.peak_device_mb or measured.peak_rss_mb
    verdict = "; ".join(doubts_of(result, pass_name))
    doubt = f'<td class="doubt">{escape(verdict)}</td>' if verdict else '<td class="good">good</td>'
    images = result.trial.batch / measured.mean_s
    cells = (
        f'<th scope="row"><button type="button" class="open" data-trial="{position}" data-pass="{pass_name}"'
        f' aria-expanded="false">{name}</button></th>',
        f'<td class="pass">{PASS_TITLES[pass_name]}</td>',
        _cell(measured.mean_s, _plus_minus(measured.mean_s, measured.sd_s)),
        _cell(middle, f"{_seconds(middle)} <small>{_range(around)}</small>"),
        _cell(images, _digits(images)),
        _cell(measured.p99_s, _seconds(measured.p99_s)),
        _cell(len(measured.step_s), f"{len(measured.step_s):,} <small>{escape(measured.stopped)}</small>"),
        _cell(measured.first_call_s, _seconds(measured.first_call_s)),
        _cell(rate or 0, f"{_digits(rate)}{share}" if rate else ""),
        _cell(memory or 0, f"{memory:,.0f} MB" if memory else ""),
        doubt,
    )
    return f"<tr>{''.join(cells)}</tr>"


def _cell(value: float, text: str) -> str:
    return f'<td data-v="{value:.6g}">{text}</td>'


def _plus_minus(mean: float, sd: float) -> str:
    """Two digits of the standard deviation, and the mean to the same place."""
    factor, unit = seconds_unit(mean)
    places = min(6, max(0, 1 - math.floor(math.log10(sd * factor)))) if sd else 3
    return f"{mean * factor:,.{places}f} ± {sd * factor:,.{places}f} {unit}"


def _range(around: Interval) -> str:
    factor, unit = seconds_unit(around.low)
    return f"{_digits(around.low * factor)} to {_digits(around.high * factor)} {unit}"


def _failures(results: Sequence[Result], names: Mapping[str, str]) -> str:
    items = []
    for result in results:
        if result.ok:
            continue
        error = result.error
        cause = f"{error.kind}: {error.message}" if error else "no cause was recorded"
        line = f"<b>{escape(names[result.trial_id])}</b> {_STATUS_WORDS[result.status]}: {escape(cause[:500])}"
        detail = error.detail[-_LONGEST_DETAIL:] if error else ""
        items.append(
            f"<details><summary>{line}</summary><pre>{escape(detail)}</pre></details>" if detail else f"<p>{line}</p>"
        )
    if not items:
        return ""
    first, rest = "".join(items[:20]), "".join(items[20:])
    more = f"<details><summary>{len(items) - 20} more</summary>{rest}</details>" if rest else ""
    return f'<section id="failures"><h2>Failed trials</h2>{first}{more}</section>'


def _layers(results: Sequence[Result]) -> str:
    """One collapsible table a net: that of its first result with layers, since only the batch differs in the others."""
    nets: dict[str, tuple[str, tuple[Layer, ...]]] = {}
    for result in results:
        trial = result.trial
        arguments = " ".join(f"{key}={text}" for key, text in sorted(flatten(trial.model_args).items()))
        name = " ".join(filter(None, (trial.model, arguments, trial.target)))
        if result.layers and name not in nets:
            nets[name] = (f"{name}, batch {trial.batch}", result.layers)
    tables, rows = [], 0
    for title, layers in nets.values():
        rows += len(layers)
        if rows > _MOST_LAYER_ROWS:
            tables.append("<p>Further nets are left out here: each trial's layers.json has its table.</p>")
            break
        tables.append(_layer_table(title, layers))
    notes = "".join(f"<p>{escape(note)}</p>" for note in uncounted_flops(results))
    return f'<section id="layers"><h2>Layers</h2>{notes}{"".join(tables)}</section>' if tables else ""


def uncounted_flops(results: Iterable[Result]) -> list[str]:
    """A sentence for each net and reason whose rates are missing because its operations are not all counted."""
    found: dict[str, None] = {}
    for result in results:
        for name, measured in result.passes.items():
            reason = _in_force(result, name).get("flops")
            if measured.flops is None and reason:
                words = f"FLOPs of {result.trial.model} {PASS_TITLES[name]} are {reason}."
                found[f"{words} Its rate, share of the peak and place under the roofline are left out."] = None
    return list(found)


def _in_force(result: Result, pass_name: Pass) -> Mapping[str, Any]:
    """What the trial's process found to be in force in a pass; empty where it told nothing of the kind."""
    passes = result.host.get("in_force")
    facts = passes.get(pass_name) if isinstance(passes, Mapping) else None
    return facts if isinstance(facts, Mapping) else {}


def _layer_table(title: str, layers: Sequence[Layer]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(layer.name)}</th><td>{escape(layer.kind)}</td>'
        f"<td>{escape(' x '.join(map(str, layer.output_shape)))}</td>"
        f"<td>{layer.trainable_params:,}</td><td>{layer.other_params:,}</td><td>{layer.flops:,}</td></tr>"
        for layer in layers
    )
    trainable = sum(layer.trainable_params for layer in layers)
    flops = sum(layer.flops for layer in layers)
    least = "at least " if any("not counted" in layer.kind for layer in layers) else ""
    return (
        f"<details><summary><b>{escape(title)}</b>: {len(layers)} layers, {trainable:,} trainable parameters, "
        f'{least}{_digits(flops / 1e9)} GFLOP forward</summary><div class="scroll"><table class="plain"><thead><tr>'
        "<th>layer</th><th>kind</th><th>output shape</th><th>trainable</th><th>other</th><th>FLOPs</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _reproduce(sweep: Sweep, results: Sequence[Result]) -> str:
    when = utc_time(sweep.created_at)
    hosts: dict[str, Mapping[str, Any]] = {}
    for result in results:
        if result.host:
            hosts.setdefault(host_name(result) or "a host", result.host)
    code = "".join(f"; {escape(phrase)}" for phrase in commits(sweep.facts, digits=40))
    tables = [_facts("the driver", sweep.facts)]
    tables += [_facts(f"trials on {name}", facts) for name, facts in list(hosts.items())[:50]]
    return (
        f"<pre><code>{escape(sweep.command)}</code></pre><p>Sweep {escape(sweep.sweep_id)}, begun {when}{code}. "
        "The raw step times are in results.jsonl in the sweep's folder "
        f"{escape(Path(sweep.folder).name)}.</p>{''.join(tables)}"
    )


def _facts(title: str, facts: Mapping[str, Any]) -> str:
    if not facts:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(text)}</td></tr>' for key, text in flatten(facts).items()
    )
    return (
        f"<details><summary>Machine and versions: {escape(title)}</summary>"
        f'<table class="plain">{rows}</table></details>'
    )


def _listed(words: Sequence[str]) -> str:
    if len(words) > 4:
        return f"{', '.join(words[:3])} and {len(words) - 3} more"
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _duration(total: float) -> str:
    minutes, rest = divmod(round(total), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
