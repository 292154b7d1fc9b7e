"""A chart that the project does not have, for tests of what a row of the table of charts brings about."""

from __future__ import annotations

from tracking.analysis.curves import figure_curves
from tracking.plots.sweep_charts import Chart, Lines, Measured
from tracking.record import Pass


def first_call_chart(reference: float) -> Chart:
    """Return the chart of the first calls over batch size, with a line at `reference` seconds."""

    def lines(measured: Measured, pass_name: Pass) -> Lines:
        calls = figure_curves(
            measured.results, lambda r: r.passes[pass_name].first_call_s if pass_name in r.passes else None
        )
        return Lines(calls, reference=reference)

    return Chart(
        file_name="first_call",
        title="first call",
        axis="first call ({unit})",
        unit="s",
        lines=lines,
        reference_name="a limit",
    )
