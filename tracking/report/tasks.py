"""What the report shows of tasks that report more than times: figures, pictures of the objective, summaries."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tracking.analysis.metrics import lower_is_better, task_text
from tracking.folder import files
from tracking.folder.trial_folder import TrialFolder
from tracking.plots.task_plots import headline
from tracking.record import Result, Sweep
from tracking.report.trial_table import Cell, Column, Row, Table

_MOST_PICTURES = 6
_MOST_SUMMARIES = 100
_LONGEST_SUMMARY = 2**20
"""Bytes."""


class Picture(NamedTuple):
    """A PNG that travels inside the page."""

    name: str
    base64: str


class Section(NamedTuple):
    """The headline figure over whatever number was varied, and what each trial wrote into its summary."""

    title: str
    pictures: list[Picture]
    summaries: list[tuple[str, str]]
    """Names of trials, and the texts."""


def table(results: Sequence[Result], names: Mapping[str, str]) -> Table | None:
    """The table of trials with a column for each figure; None where any trial was timed or none has figures."""
    keys = list(dict.fromkeys(key for result in results for key in result.metrics))
    if not keys or any(result.passes for result in results):
        return None
    columns = (
        Column(("trial",), "text"),
        *(Column(tuple(re.split("(?<=[/_])", key))) for key in keys),
        Column(("status",), "text"),
    )
    rows = [
        Row(
            names[result.trial_id],
            (*(_cell(key, result.metrics.get(key)) for key in keys), Cell(result.status)),
            failed=not result.ok,
        )
        for result in results
    ]
    return Table(columns, rows, wraps=True)


def _cell(key: str, figure: float | None) -> Cell:
    return Cell() if figure is None else Cell(task_text(key, figure), value=figure)


def best(sweep: Sweep, results: Sequence[Result], names: Mapping[str, str]) -> list[str]:
    """A sentence on the trial with the best headline figure, where there are several."""
    key = headline(results, sweep.facts.get("objective"))
    good = [result for result in results if result.ok and key in result.metrics]
    if key is None or len(good) < 2:
        return []
    superlative, choose = ("Lowest", min) if lower_is_better(key) else ("Highest", max)
    top = choose(good, key=lambda result: result.metrics[key])
    return [f"{superlative} {key}: {names[top.trial_id]} with {task_text(key, top.metrics[key])}."]


def section(sweep: Sweep, results: Sequence[Result], names: Mapping[str, str]) -> Section | None:
    """The section of a sweep whose tasks found figures; None where there is neither a picture nor a summary."""
    key = headline(results, sweep.facts.get("objective"))
    if key is None:
        return None
    begin = key.replace("/", "_")
    drawn = [name for name in files.names(sweep.folder, "plots") if name.startswith(begin) and name.endswith(".png")]
    pictures = [picture for name in drawn[:_MOST_PICTURES] if (picture := _picture(sweep.folder, name))]
    summaries = [
        (names[result.trial_id], text)
        for result in results[:_MOST_SUMMARIES]
        if (text := _summary(sweep.folder, result.trial_id))
    ]
    return Section(key, pictures, summaries) if pictures or summaries else None


def _picture(folder: str, name: str) -> Picture | None:
    try:
        content = files.read(folder, f"plots/{name}")
    except OSError:
        return None
    return Picture(name.removesuffix(".png"), base64.b64encode(content).decode())


def _summary(folder: str, trial_id: str) -> str:
    try:
        name = str(TrialFolder.within("", trial_id).summary)
        return files.read(folder, name, _LONGEST_SUMMARY).decode("utf-8", "replace")
    except OSError:
        return ""
