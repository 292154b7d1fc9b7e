"""`results.parquet` in the sweep's folder: the table of `results.csv`, typed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from tracking import files
from tracking.record import Result, Sweep
from tracking.sink import SinkError
from tracking.table import COLUMNS, columns, metric_columns, table

FILE = "results.parquet"
_INTEGERS = ("batch", "repeat", "steps")
_NUMBERS = COLUMNS[COLUMNS.index("mean_s") : COLUMNS.index("gflops_per_s") + 1]


class ParquetSink:
    """Writes the file once, at the end of the sweep."""

    def __str__(self) -> str:
        return FILE

    def open(self, sweep: Sweep) -> None:
        """Nothing to do: a Parquet file cannot grow row by row."""

    def write(self, result: Result) -> None:
        """Nothing to do before the end."""

    def close(self, sweep: Sweep, results: Sequence[Result]) -> None:
        """Write the table of all results. Raises SinkError."""
        # Here, because pandas takes half a second to import and a sweep without this sink does not need it.
        import pandas

        # Types are given, or a column that is empty in this sweep would have another type than in the next.
        types = (
            dict.fromkeys(COLUMNS, "string") | dict.fromkeys(_INTEGERS, "Int64") | dict.fromkeys(_NUMBERS, "Float64")
        )
        rows = table(results, sweep.trials)
        found = {key for result in results for key in metric_columns(result)}
        own = {column: "Float64" if column in found else "string" for column in columns(rows) if column not in COLUMNS}
        # Python's own integers may be larger than a column's type.
        rows = [
            {key: float(cell) if key in found and cell is not None else cell for key, cell in row.items()}
            for row in rows
        ]
        frame = pandas.DataFrame(rows, columns=[*COLUMNS, *own]).astype(types | own)
        content = io.BytesIO()
        path = Path(sweep.folder) / FILE
        try:
            frame.to_parquet(content, index=False)
            files.write(sweep.folder, FILE, content.getvalue())
        except OSError as error:
            raise SinkError(f"{path} could not be written: {error.strerror}") from error
