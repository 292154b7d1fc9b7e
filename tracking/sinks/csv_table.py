"""`results.csv` in the sweep's folder."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path

from tracking.analysis.table import Row, csv_text, rows, table
from tracking.folder import files
from tracking.names import trial_names
from tracking.record import Result, Sweep
from tracking.sink import Sink, SinkError

FILE = "results.csv"
_LARGEST = 2**28
"""Most bytes of an existing table that is continued."""
_SMALL = 50
"""Trials up to which the table is written with every result: each write is of the whole, growing table."""
_PAUSE = 20.0
"""Pause after writing a larger table, as a multiple of the time that took."""


class CsvSink(Sink):
    """Keeps the table of `tracking.analysis.table`; the file is whole at any time, and complete at the end."""

    def __init__(self) -> None:
        self._path = Path(FILE)
        self._names: dict[str, str] = {}
        self._rows: dict[str, list[Row]] = {}
        self._due = 0.0

    def __str__(self) -> str:
        return FILE

    def open(self, sweep: Sweep) -> None:
        """Begin with the rows of an existing table; `close` rewrites the table from all results."""
        path = Path(sweep.folder) / FILE
        if path != self._path:
            self._path, self._rows = path, _rows_in(path)
        self._names = trial_names(sweep.trials)

    def write(self, result: Result) -> None:
        """Write the table including this result; a large table only now and then. Raises SinkError."""
        self._rows[result.trial_id] = rows(
            result, self._names.get(result.trial_id) or trial_names([result.trial])[result.trial_id]
        )
        began = time.monotonic()
        if len(self._rows) <= _SMALL or began >= self._due:
            self._save([row for trial in self._rows.values() for row in trial])
            self._due = began + _PAUSE * (time.monotonic() - began)

    def close(self, sweep: Sweep, results: Sequence[Result]) -> None:
        """Write the table of all results. Raises SinkError."""
        self._path = Path(sweep.folder) / FILE
        self._save(table(results, sweep.trials))

    def _save(self, table_rows: Sequence[Row]) -> None:
        try:
            files.write(self._path.parent, FILE, csv_text(table_rows).encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise SinkError(f"{self._path} could not be written: {error.strerror}") from error


def _rows_in(path: Path) -> dict[str, list[Row]]:
    """The rows of a table by trial id; none where there is no such table."""
    by_trial: dict[str, list[Row]] = {}
    try:
        text = files.read(path.parent, path.name, _LARGEST).decode("utf-8")
        for row in csv.DictReader(io.StringIO(text, newline="")):
            by_trial.setdefault(row["trial_id"], []).append({column: cell or None for column, cell in row.items()})
    except (OSError, ValueError, KeyError, csv.Error):
        return {}
    return by_trial
