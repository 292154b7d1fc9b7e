"""What is about to run, as tables: the plan of a sweep, and a forecast of its trials' time and memory."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from sweeps.machine.node import Node
from sweeps.plan.estimate import Estimate, total_s
from sweeps.wording import counted, duration
from tracking.record import Sweep, Trial
from tracking.text import commands

_MOST_BATCHES = 24
_MOST_KINDS = 40
_FORECAST_ROWS = 40


def plan_table(sweep: Sweep, todo: Sequence[Trial], nodes: Sequence[Node]) -> Table:
    """Return what the sweep asks for, how much of it is to run now, where, and where its results go."""
    table = Table.grid(padding=(0, 2))
    table.add_row("[bold]Sweep[/]", escape(sweep.sweep_id))
    all_run = len(todo) == len(sweep.trials)
    table.add_row("Trials", f"{len(sweep.trials)}" if all_run else f"{len(sweep.trials)} planned, {len(todo)} to run")
    table.add_row("Models", escape(", ".join(dict.fromkeys(trial.model for trial in sweep.trials))))
    table.add_row("Batches", _batches(sweep.trials))
    devices = ", ".join(dict.fromkeys(trial.device.label for trial in sweep.trials))
    if len(nodes) == 1:
        table.add_row("Devices", escape(f"{devices} ({nodes[0].kind})"))
    else:
        table.add_row("Devices", escape(devices))
        for index, kind in enumerate(_node_kinds(nodes, sweep.trials)):
            table.add_row("" if index else "Nodes", escape(kind))
    table.add_row("Results", escape(commands.shown(sweep.folder)))
    if mlflow := sweep.facts.get("tracking", {}).get("mlflow"):
        table.add_row("MLflow", escape(f"{mlflow['uri']}, experiment {mlflow['experiment']}"))
    return table


def forecast_table(
    names: Mapping[str, str],
    trials: Sequence[Trial],
    estimates: Sequence[Estimate | None],
    memory_mb: Callable[[Trial], float | None],
) -> Table:
    """Return the first trials, with the time and the memory (MB, of 2**20 bytes) that each is expected to take."""
    table = Table(box=None, header_style="bold")
    for heading in ("trial", "about", "at most", "memory"):
        table.add_column(heading, justify="left" if heading == "trial" else "right")
    for trial, estimate in itertools.islice(zip(trials, estimates, strict=True), _FORECAST_ROWS):
        memory = memory_mb(trial)
        table.add_row(
            escape(names.get(trial.trial_id, trial.model)),
            "?" if estimate is None else duration(estimate.likely_s),
            "?" if estimate is None else duration(estimate.most_s),
            "?" if memory is None else f"{memory:.0f} MB",
        )
    return table


def forecast_lines(
    trials: Sequence[Trial], estimates: Sequence[Estimate | None], nodes: Sequence[Node], at_once: int | None
) -> list[str]:
    """Return what follows the table: how many trials it leaves out, and the time that all of them take.

    `at_once` is the number of trials that run side by side; None: as many as fit on the nodes.
    """
    lines = [f"... and {len(trials) - _FORECAST_ROWS} more"] if len(trials) > _FORECAST_ROWS else []
    known = [(trial, estimate) for trial, estimate in zip(trials, estimates, strict=True) if estimate is not None]
    likely = total_s([(trial, estimate.likely_s) for trial, estimate in known], nodes, at_once)
    most = total_s([(trial, estimate.most_s) for trial, estimate in known], nodes, at_once)
    if not known:
        return [*lines, "Time     nothing is known about these trials. Nothing was run."]
    time = f"about {duration(likely)}, at most {duration(most)}"
    if unknown := len(trials) - len(known):
        time += f", and {counted(unknown, 'trial')} about which nothing is known"
    return [*lines, f"Time     {time}. Nothing was run."]


def _batches(trials: Sequence[Trial]) -> str:
    sizes = [str(batch) for batch in sorted({trial.batch for trial in trials})]
    if len(sizes) > _MOST_BATCHES:
        sizes[_MOST_BATCHES - 2 : -1] = [f"... ({len(sizes) - _MOST_BATCHES + 1} more)"]
    return ", ".join(sizes)


def _node_kinds(nodes: Sequence[Node], trials: Sequence[Trial]) -> list[str]:
    """A line for each kind of node: how many there are, which devices they can be, and the share of the trials."""
    kinds: dict[str, list[Node]] = {}
    for node in nodes:
        kinds.setdefault(node.kind, []).append(node)
    counts = Counter(repr(trial.device) for trial in trials)
    devices = {repr(trial.device): trial.device for trial in trials}
    rows = []
    for kind, alike in kinds.items():
        possible = {key: device for key, device in devices.items() if not alike[0].misses(device)}
        labels = ", ".join(dict.fromkeys(device.label for device in possible.values()))
        names = ", ".join(node.name for node in alike[:3]) + (", ..." if len(alike) > 3 else "")
        count = sum(counts[key] for key in possible)
        share = f"{count} of {len(trials)} trials ({labels})" if possible else "none of the trials"
        rows.append(f"{len(alike)} of {kind}: {share}; {names}")
    if len(rows) > _MOST_KINDS:
        rows[_MOST_KINDS:] = [f"... and {len(rows) - _MOST_KINDS} other kinds of node"]
    return rows
