"""What the report shows of tasks that find more than times: their figures, the objective's picture, their own words."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from tracking.console import metric_text
from tracking.folder import files
from tracking.folder.trial_folder import TrialFolder
from tracking.plots.task_plots import headline, lower_is_better
from tracking.record import Result, Sweep
from tracking.report.markup import escape

_MOST_PICTURES = 6
_MOST_SUMMARIES = 100
_LONGEST_SUMMARY = 2**20
"""Bytes."""


def table(results: Sequence[Result], names: Mapping[str, str]) -> str | None:
    """The table of trials with a column a figure; None where some trial was timed, or none has figures."""
    keys = list(dict.fromkeys(key for result in results for key in result.metrics))
    if not keys or any(result.passes for result in results):
        return None
    kinds = [("trial", "text"), *((key, "number") for key in keys), ("status", "text")]
    head = "".join(
        f'<th scope="col" data-kind="{kind}" class="figure"><button type="button">{_breakable(name)}</button></th>'
        for name, kind in kinds
    )
    rows = []
    for result in results:
        cells = "".join(
            f'<td data-v="{result.metrics[key]:.6g}">{metric_text(key, result.metrics[key])}</td>'
            if key in result.metrics
            else "<td></td>"
            for key in keys
        )
        kind = "" if result.ok else ' class="failed"'
        name = escape(names[result.trial_id])
        rows.append(f'<tr{kind}><th scope="row">{name}</th>{cells}<td>{escape(result.status)}</td></tr>')
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"


def best(sweep: Sweep, results: Sequence[Result], names: Mapping[str, str]) -> list[str]:
    """A sentence on the trial with the best headline figure, where there are several."""
    key = headline(results, sweep.facts.get("objective"))
    good = [result for result in results if result.ok and key in result.metrics]
    if key is None or len(good) < 2:
        return []
    word, choose = ("Lowest", min) if lower_is_better(key) else ("Highest", max)
    top = choose(good, key=lambda result: result.metrics[key])
    return [f"{word} {key}: {names[top.trial_id]} with {metric_text(key, top.metrics[key])}."]


def section(sweep: Sweep, results: Sequence[Result], names: Mapping[str, str]) -> str:
    """The picture of the headline figure over what was varied, and what each trial has to say; nothing without."""
    key = headline(results, sweep.facts.get("objective"))
    if key is None:
        return ""
    begin = key.replace("/", "_")
    pictures = [name for name in files.names(sweep.folder, "plots") if name.startswith(begin) and name.endswith(".png")]
    images = "".join(_image(sweep.folder, name) for name in pictures[:_MOST_PICTURES])
    words = [
        f"<details><summary>{escape(names[result.trial_id])}</summary><pre>{escape(text)}</pre></details>"
        for result in results[:_MOST_SUMMARIES]
        if (text := _summary(sweep.folder, result.trial_id))
    ]
    if not images and not words:
        return ""
    return f'<section id="tasks"><h2>{escape(key)}</h2>{images}{"".join(words)}</section>'


def _breakable(key: str) -> str:
    """The key as HTML that may be broken after each of its words."""
    return escape(key).replace("/", "/<wbr>").replace("_", "_<wbr>")


def _image(folder: str, name: str) -> str:
    try:
        content = base64.b64encode(files.read(folder, f"plots/{name}")).decode()
    except OSError:
        return ""
    return f'<p><img alt="{escape(name.removesuffix(".png"))}" src="data:image/png;base64,{content}"></p>'


def _summary(folder: str, trial_id: str) -> str:
    try:
        name = str(TrialFolder.within("", trial_id).summary)
        return files.read(folder, name, _LONGEST_SUMMARY).decode("utf-8", "replace")
    except OSError:
        return ""
