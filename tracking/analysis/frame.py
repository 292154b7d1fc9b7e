"""The table of `tracking.analysis.table` as a pandas DataFrame, each column of a type of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracking.analysis.table import COLUMNS, columns, metric_columns, table
from tracking.record import Result, Trial

if TYPE_CHECKING:
    import pandas

_INTEGERS = ("batch", "repeat", "steps")
_NUMBERS = COLUMNS[COLUMNS.index("mean_s") : COLUMNS.index("gflops_per_s") + 1]


def frame(results: Sequence[Result], trials: Sequence[Trial]) -> pandas.DataFrame:
    """A row for each trial and pass, the trials being named among `trials`."""
    # Here, because pandas takes half a second to import and most commands do not need it.
    import pandas

    # Types are given, or a column that is empty in this sweep would have another type than in the next.
    types = dict.fromkeys(COLUMNS, "string") | dict.fromkeys(_INTEGERS, "Int64") | dict.fromkeys(_NUMBERS, "Float64")
    rows = table(results, trials)
    metrics = {key for result in results for key in metric_columns(result)}
    others = {column: "Float64" if column in metrics else "string" for column in columns(rows) if column not in COLUMNS}
    # Python's own integers may be larger than a column's type.
    rows = [
        {key: float(cell) if key in metrics and cell is not None else cell for key, cell in row.items()} for row in rows
    ]
    return pandas.DataFrame(rows, columns=[*COLUMNS, *others]).astype(types | others)
