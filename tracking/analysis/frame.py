"""The table of `tracking.analysis.table` as a pandas DataFrame with typed columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tracking.analysis.table import Kind, columns, metric_columns, standard_columns, table
from tracking.record import Result, Trial

if TYPE_CHECKING:
    import pandas

_TYPES: Mapping[Kind, str] = {"text": "string", "integer": "Int64", "number": "Float64"}


def frame(results: Sequence[Result], trials: Sequence[Trial]) -> pandas.DataFrame:
    """A row for each trial and pass; the names tell each trial from all others of `trials`."""
    # Here, because pandas takes half a second to import and most commands do not need it.
    import pandas

    # Types are set here, or a column that is empty in this sweep would have another type in the next.
    types = {column.name: _TYPES[column.kind] for column in standard_columns()}
    rows = table(results, trials)
    metrics = {key for result in results for key in metric_columns(result)}
    others = {
        column: _TYPES["number" if column in metrics else "text"] for column in columns(rows) if column not in types
    }
    # Python's own integers may be larger than a column's type.
    rows = [
        {key: float(cell) if key in metrics and cell is not None else cell for key, cell in row.items()} for row in rows
    ]
    return pandas.DataFrame(rows, columns=[*types, *others]).astype(types | others)
