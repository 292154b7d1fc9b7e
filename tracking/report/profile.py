"""The report's tables of what profiled steps spent their time on, from the files that the trials left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tracking.analysis.curves import PASS_TITLES
from tracking.folder import files
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Result, Sweep
from tracking.report.markup import escape

_MOST = 100
"""Tables in one report."""
_AT_FIRST = 6


class Row(NamedTuple):
    """An operation of a profiled step."""

    op: str
    calls: int
    total_ms: float
    share: float


def section(sweep: Sweep, results: Sequence[Result], names: Mapping[str, str]) -> str:
    """A collapsible table a profiled pass; nothing where nothing was profiled."""
    tables = [
        _table(f"{names[result.trial_id]}, {PASS_TITLES[name]}", rows)
        for result in results
        if result.trial.profile
        for name in result.passes
        for rows in _rows(sweep.folder, str(TrialFolder.within("", result.trial_id).top_ops(name)))
    ]
    if not tables:
        return ""
    first, rest = "".join(tables[:_AT_FIRST]), "".join(tables[_AT_FIRST:_MOST])
    if len(tables) > _MOST:
        rest += f"<p>{len(tables) - _MOST} more are in the trials' folders.</p>"
    more = f"<details><summary>{len(tables) - _AT_FIRST} more</summary>{rest}</details>" if rest else ""
    return (
        '<section id="profile"><h2>Where a step goes</h2><p class="hint">One more step of each pass, after all timing, '
        "under TensorFlow's profiler, which slows it. Operations may run side by side, so their times may add up to "
        "more than the step. Each trial's <code>files/profile/</code> has the whole trace, for Perfetto "
        f"(<code>trace.json.gz</code>) and TensorBoard.</p>{first}{more}</section>"
    )


def _rows(folder: str, name: str) -> Iterator[list[Row]]:
    """The rows of the table in that file, if it is there and whole."""
    try:
        rows = [_row(*row) for row in json.loads(files.read(folder, name))["data"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return
    if rows:
        yield rows


def _row(op: object, calls: float, total_ms: float, share: float) -> Row:
    """Raises TypeError or ValueError where one of the figures is none."""
    return Row(str(op), int(calls), float(total_ms), float(share))


def _table(title: str, rows: Sequence[Row]) -> str:
    lines = "".join(
        f'<tr><th scope="row">{escape(op)}</th><td>{calls:,}</td><td>{total_ms:,.3f}</td>'
        f'<td class="share" data-share="{100 * share:.1f}">{100 * share:.1f}%</td></tr>'
        for op, calls, total_ms, share in rows
    )
    first = ", ".join(f"{op} {100 * share:.0f}%" for op, _, _, share in rows[:3])
    return (
        f'<details><summary><b>{escape(title)}</b>: {escape(first)}</summary><div class="scroll"><table class="plain">'
        "<thead><tr><th>operation</th><th>calls</th><th>total, ms</th><th>share</th></tr></thead>"
        f"<tbody>{lines}</tbody></table></div></details>"
    )
