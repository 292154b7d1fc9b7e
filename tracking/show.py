"""Look at sweeps in the terminal: `python tracking/show.py [SWEEP_DIR | SWEEP_ID | latest | RUN_ID]`.

Without an argument it lists the sweeps under ./multirun and ./outputs, the newest last. A sweep that is not there is
sought in MLflow, by its id or its parent run's. Exit codes: 0; 2 no such sweep.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

if __name__ == "__main__":
    # Python puts the script's own folder there, whose modules are none that anybody imports by their bare names.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracking.commits import commits
from tracking.console import results_table, status_text
from tracking.folders import find, sweep_folders
from tracking.journal import Journal, JournalError
from tracking.mlflow_source import SourceError, read_sweep
from tracking.record import Result, Sweep
from tracking.redact import redact


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
    console, complaints = Console(highlight=False, width=width), Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        if wanted is None:
            console.print(sweeps_table(_sweeps(complaints)))
        else:
            show(*read(wanted, options.uri), console)
    except (JournalError, SourceError) as error:
        complaints.print(Text(str(error)))
        return 2
    return 0


def sweeps_table(sweeps: Iterable[tuple[Path, Sweep, list[Result]]]) -> Table:
    """A row for each sweep."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("date", "sweep", "trials", "statuses", "models", "folder"):
        table.add_column(column, justify="right" if column == "trials" else "left", overflow="fold")
    for folder, sweep, results in sorted(sweeps, key=lambda item: item[1].created_at):
        models = dict.fromkeys(trial.model for trial in sweep.trials)
        table.add_row(
            _date(sweep),
            Text(sweep.sweep_id),
            str(len(sweep.trials)),
            _statuses(sweep, results),
            Text(", ".join(models)),
            Text(str(folder)),
        )
    return table


def read(wanted: str, uri: str | None) -> tuple[Sweep, list[Result]]:
    """A sweep and its results from its folder's journal or else from MLflow. Raises JournalError, SourceError."""
    try:
        journal = Journal(find(wanted, Path()))
        return journal.read_plan(), journal.read()
    except JournalError as missing:
        if Path(wanted).exists():
            raise
        return read_sweep(wanted, uri, missing)


def show(sweep: Sweep, results: Sequence[Result], console: Console) -> None:
    """Print one sweep's head and results."""
    console.print(Text(f"{sweep.sweep_id}  {_date(sweep)}"), _statuses(sweep, results))
    console.print(Text(redact(sweep.command)), soft_wrap=True)
    if code := commits(sweep.facts):
        console.print(Text("; ".join(code)), soft_wrap=True)
    console.print(results_table(results, sweep.trials))


def _sweeps(complaints: Console) -> Iterator[tuple[Path, Sweep, list[Result]]]:
    for folder in sweep_folders(Path()):
        journal = Journal(folder)
        try:
            yield folder, journal.read_plan(), journal.read()
        except JournalError as error:
            complaints.print(Text(str(error)))


def _date(sweep: Sweep) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(sweep.created_at))


def _statuses(sweep: Sweep, results: Sequence[Result]) -> Text:
    ended = {result.trial_id: result.status for result in results}
    counts = Counter(ended.get(trial.trial_id, "not_run") for trial in sweep.trials)
    parts = [Text(f"{count} ").append_text(status_text(status)) for status, count in counts.most_common()]
    return Text(", ").join(parts)


if __name__ == "__main__":
    sys.exit(main())
