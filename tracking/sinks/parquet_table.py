"""`results.parquet` in the sweep's folder: the table of `results.csv`, typed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from tracking.analysis.frame import frame
from tracking.folder import files
from tracking.record import Result, Sweep
from tracking.sink import Sink, SinkError

FILE = "results.parquet"


class ParquetSink(Sink):
    """Writes the file once, at the end of the sweep."""

    def __str__(self) -> str:
        return FILE

    def open(self, sweep: Sweep) -> None:
        """Nothing to do: a Parquet file cannot grow row by row."""

    def write(self, result: Result) -> None:
        """Nothing to do before the end."""

    def close(self, sweep: Sweep, results: Sequence[Result]) -> None:
        """Write the table of all results. Raises SinkError."""
        content = io.BytesIO()
        path = Path(sweep.folder) / FILE
        try:
            frame(results, sweep.trials).to_parquet(content, index=False)
            files.write(sweep.folder, FILE, content.getvalue())
        except OSError as error:
            raise SinkError(f"{path} could not be written: {error.strerror}") from error
