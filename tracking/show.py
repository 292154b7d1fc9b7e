"""Look at sweeps in the terminal: `python tracking/show.py [SWEEP_DIR | SWEEP_ID | latest | RUN_ID]`.

Without an argument it lists the sweeps under ./multirun and ./outputs, the newest last. A sweep that is not there is
sought in MLflow, by its id or its parent run's. Exit codes: 0; 2 no such sweep.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    # Python puts the script's folder there, whose modules nobody imports by their bare names.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracking import startup
from tracking.folder.folders import find, sweep_folders
from tracking.folder.journal import Journal, JournalError
from tracking.record import Result, Sweep
from tracking.sinks.mlflow.source import SourceError, read_sweep
from tracking.tables.results_table import results_table, status_text
from tracking.text.commits import commits
from tracking.text.printable import printable
from tracking.text.redact import redact
from tracking.text.screen import Screen
from tracking.text.units import local_time


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the list or one sweep; the exit code."""
    parser = argparse.ArgumentParser(description="List sweeps, or show the results of one.")
    place = "a sweep's folder or id, `latest`, or in MLflow its id or its parent run's; without it: all sweeps here"
    parser.add_argument("sweep", nargs="?", help=place)
    parser.add_argument("--uri", help="MLflow's address, instead of MLFLOW_TRACKING_URI or ./mlflow.db")
    options = parser.parse_args(arguments)
    wanted: str | None = options.sweep
    # Piped output has no width of its own; wide lines can be searched.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 140
    console, complaints = Screen(highlight=False, width=width), Screen(stderr=True, highlight=False, soft_wrap=True)
    try:
        if wanted is None:
            console.print(sweeps_table(list(_rows(complaints))))
        else:
            show(*read(wanted, options.uri), console)
    except (JournalError, SourceError) as error:
        complaints.print(Text(printable(str(error))))
        return 2
    return 0


class Row(NamedTuple):
    """A sweep in the list of all."""

    created_at: float
    cells: tuple[str | Text, ...]


def sweeps_table(rows: Sequence[Row]) -> Table:
    """A row for each sweep, the newest last."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("date", "sweep", "trials", "statuses", "models", "folder"):
        table.add_column(column, justify="right" if column == "trials" else "left", overflow="fold")
    for row in sorted(rows, key=lambda row: row.created_at):
        table.add_row(*row.cells)
    return table


def read(wanted: str, uri: str | None) -> tuple[Sweep, list[Result]]:
    """A sweep and its results from its folder's journal or else from MLflow. Raises JournalError, SourceError."""
    try:
        journal = Journal(find(wanted, Path()))
        return journal.read_plan(), journal.read()
    except JournalError as missing:
        if os.path.lexists(wanted):
            raise
        return read_sweep(wanted, uri, missing)


def show(sweep: Sweep, results: Sequence[Result], console: Console) -> None:
    """Print one sweep's head and results."""
    console.print(Text(f"{sweep.sweep_id}  {local_time(sweep.created_at)}"), _statuses(sweep, results))
    console.print(Text(printable(redact(sweep.command))), soft_wrap=True)
    if code := commits(sweep.facts):
        console.print(Text(printable("; ".join(code))), soft_wrap=True)
    console.print(results_table(results, sweep.trials))


def _rows(complaints: Console) -> Iterator[Row]:
    """The sweeps here; for one that cannot be shown, a complaint."""
    for folder in sweep_folders(Path()):
        journal = Journal(folder)
        try:
            yield _row(folder, journal.read_plan(), journal.read())
        except JournalError as error:
            complaints.print(Text(printable(str(error))))
        except Exception as error:  # one sweep with an unforeseen plan must not hide the others
            complaints.print(Text(printable(f"{folder} cannot be shown: {error!r:.200}")))


def _row(folder: Path, sweep: Sweep, results: Sequence[Result]) -> Row:
    models = ", ".join(dict.fromkeys(trial.model for trial in sweep.trials))
    return Row(
        float(sweep.created_at),
        (
            local_time(sweep.created_at),
            Text(sweep.sweep_id),
            str(len(sweep.trials)),
            _statuses(sweep, results),
            Text(models),
            Text(printable(str(folder))),
        ),
    )


def _statuses(sweep: Sweep, results: Sequence[Result]) -> Text:
    ended = {result.trial_id: result.status for result in results}
    counts = Counter(ended.get(trial.trial_id, "not_run") for trial in sweep.trials)
    parts = [Text(f"{count} ").append_text(status_text(status)) for status, count in counts.most_common()]
    return Text(", ").join(parts)


if __name__ == "__main__":
    startup.prepare()
    sys.exit(main())
