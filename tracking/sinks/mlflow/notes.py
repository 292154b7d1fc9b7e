"""The descriptions of a sweep and its trials on MLflow's pages, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tracking.analysis.metrics import MOST_METRICS
from tracking.analysis.samples import kind_of, samples_of
from tracking.names import host_name, trial_names
from tracking.record import Result, Sweep
from tracking.sinks.mlflow.keys import LONGEST_VALUE
from tracking.text.commits import commits
from tracking.text.redact import redact


def sweep_note(sweep: Sweep, results: Sequence[Result]) -> str:
    """The command, the hosts and the outcome of a sweep, cut to the length of a tag."""
    names = trial_names(sweep.trials)
    statuses = Counter(result.status for result in results)
    hosts = sorted({name for result in results if (name := host_name(result))})
    counts = ", ".join(f"{count} {status}" for status, count in statuses.most_common()) or "none finished yet"
    text = f"`{redact(sweep.command)}`\n\n{len(sweep.trials)} trials: {counts}."
    if hosts:
        text += f" Measured on {', '.join(hosts[:10])}{' and others' if len(hosts) > 10 else ''}."
    if code := commits(sweep.facts):
        text += f" Code: {'; '.join(code)}."
    lines = [*metric_lines(results, names), *_pass_lines(results, names)]
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


def _pass_lines(results: Sequence[Result], names: Mapping[str, str]) -> list[str]:
    """A Markdown table of the timed passes, with tokens where any length is known; no lines without passes."""
    rows: list[list[str]] = []
    samples = {result.trial_id: samples_of(result) for result in results}
    with_tokens = any(each.tokens for each in samples.values())
    for result in results:
        each = samples[result.trial_id]
        for name, m in result.passes.items():
            rates = [f"{each.count / m.mean_s:.4g}"]
            if with_tokens:
                rates.append(f"{each.tokens / m.mean_s:.4g}" if each.tokens else "")
            trial = names.get(result.trial_id, result.trial_id)
            rows.append([trial, name, f"{m.mean_s:.4g} ± {m.sd_s:.2g}", *rates])
    if not rows:
        return []
    head = ["trial", "pass", "mean ± sd, s", f"{kind_of(results)}/s", *["tokens/s"] * with_tokens]
    return ["", *(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))]


def metric_lines(results: Sequence[Result], names: Mapping[str, str]) -> list[str]:
    """A Markdown table of the tasks' figures; no lines without figures."""
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


def trial_note(result: Result) -> str:
    doubts = [f"- {doubt}" for doubt in result.quality]
    if result.error is None:
        return "\n".join(doubts)
    detail = f"\n\n```\n{result.error.detail[-2000:]}\n```" if result.error.detail else ""
    return "\n".join([f"**{result.error.kind}**: {result.error.message}{detail}", *doubts])


def _cut(text: str, lines: Sequence[str], remarks: Sequence[str]) -> str:
    """Join text, lines and remarks; where that is too long, leave out lines at the end, keeping remarks first."""
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
