"""What the user sees while a sweep runs: the plan, the trials as they go, the table at the end.

On a terminal, a progress bar and a row for each running trial, redrawn once a second; elsewhere, a line an event.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import shlex
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO, cast

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sweeps.machine.node import Node
from sweeps.plan.estimate import Estimate, total_s
from sweeps.recorder import Recorder
from sweeps.screen.streams import Stream
from sweeps.typed import command_line
from tracking.analysis.metrics import spread, task_text
from tracking.analysis.peaks import exceeded_sentences
from tracking.folder import files
from tracking.folder.trial_folder import SUMMARY
from tracking.names import trial_names
from tracking.record import Result, Sweep, Trial
from tracking.redact import redact
from tracking.sinks.outbox import Pending
from tracking.tables.results_table import STYLES, results_table
from tracking.text import commands
from tracking.text.screen import Screen

_TAIL_BYTES = 400
_SUMMARY_BYTES = 2**14
_FILE_WIDTH = 140
_FORECAST_ROWS = 40
_PRINT_EVERY_S = 0.5
_MOST_BATCHES = 24
_HOLDERS_EVERY_S = 60.0
"""How often at most to print what trials wait for, seconds."""
_MOST_KINDS = 40
_RUNNING_ROWS = 30
"""Trials that are shown while they run, with the last words of their logs; of the others, the number."""


class _Told(logging.Handler):
    """Hands warnings to the terminal, so that they do not break into its display; one that is repeated, once."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warn, self._last = warn, ""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if text != self._last:
            self._warn(text)
        self._last = text


class Terminal:
    """Prints to standard output; problems and warnings to standard error."""

    def __init__(self) -> None:
        self._written = Stream(sys.stdout, self._without_output)
        self._text_only = False
        self._out = Screen(file=cast("TextIO", self._written), highlight=False)
        if not self._out.is_terminal and "COLUMNS" not in os.environ:
            self._out.width = _FILE_WIDTH
        self._err = Screen(file=cast("TextIO", Stream(sys.stderr, lambda _: None)), highlight=False)
        self._names: dict[str, str] = {}
        self._running: dict[str, tuple[Trial, float]] = {}
        self._behind: dict[str, int] = {}
        self._slow: set[str] = set()
        self._unprinted: list[Text] = []
        """Lines that a live display shows and that are not printed yet."""
        self._printed_at = 0.0
        self._live = False
        self._held_up = ""
        self._holders_printed = ""
        self._holders_printed_at = -math.inf
        self._variables: frozenset[str] = frozenset()
        self._began = 0.0
        self._done = self._todo = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._log: Callable[[Trial], Path]

    def problems(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            self._err.print(f"[bold red]error:[/] {escape(redact(sentence))}", soft_wrap=True)

    def warn(self, sentence: str) -> None:
        self._err.print(f"[bold yellow]warning:[/] {escape(redact(sentence))}", soft_wrap=True)

    def say(self, sentence: str) -> None:
        self._out.print(escape(redact(sentence)), soft_wrap=True)

    def text(self, text: str) -> None:
        """Write a text as it is, for another program to read. Whoever reads it and goes away has interrupted."""
        self._text_only = True
        self._written.write(text)
        self._written.flush()
        self._text_only = False
        if self._written.gone:
            raise KeyboardInterrupt

    def _without_output(self, reason: str) -> None:
        if self._text_only:
            return
        self.warn(f"standard output can no longer be written ({reason}); what was begun goes on")

    @contextlib.contextmanager
    def telling(self, logger: str) -> Iterator[None]:
        """Show the warnings of a logger as warnings of ours while the body runs."""
        log, told = logging.getLogger(logger), _Told(self.warn)
        propagate, log.propagate = log.propagate, False
        log.addHandler(told)
        try:
            yield
        finally:
            log.removeHandler(told)
            log.propagate = propagate

    @contextlib.contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Say what is being waited for; a spinner on a terminal."""
        if self._out.is_terminal:
            with self._out.status(f"{what} ..."):
                yield
        else:
            self._out.print(f"{what} ...")
            yield

    def plan(self, sweep: Sweep, todo: Sequence[Trial], nodes: Sequence[Node]) -> None:
        """Say what is about to run, where, and where its results go."""
        self._names = trial_names(sweep.trials)
        self._todo, self._done = len(todo), 0
        devices = ", ".join(dict.fromkeys(trial.device.label for trial in sweep.trials))
        models = ", ".join(dict.fromkeys(trial.model for trial in sweep.trials))
        sizes = [str(batch) for batch in sorted({trial.batch for trial in sweep.trials})]
        if len(sizes) > _MOST_BATCHES:
            sizes[_MOST_BATCHES - 2 : -1] = [f"... ({len(sizes) - _MOST_BATCHES + 1} more)"]
        batches = ", ".join(sizes)
        table = Table.grid(padding=(0, 2))
        table.add_row("[bold]Sweep[/]", escape(sweep.sweep_id))
        trials = f"{len(sweep.trials)}"
        if len(todo) < len(sweep.trials):
            trials += f" planned, {len(todo)} to run"
        table.add_row("Trials", trials)
        table.add_row("Models", escape(models))
        table.add_row("Batches", batches)
        if len(nodes) == 1:
            table.add_row("Devices", escape(f"{devices} ({nodes[0].kind})"))
        else:
            table.add_row("Devices", escape(devices))
            for place, told in enumerate(_node_kinds(nodes, sweep.trials)):
                table.add_row("" if place else "Nodes", escape(told))
        table.add_row("Results", escape(commands.shown(sweep.folder)))
        tracking = sweep.facts.get("tracking", {})
        if "mlflow" in tracking:
            table.add_row(
                "MLflow", escape(f"{tracking['mlflow']['uri']}, experiment {tracking['mlflow']['experiment']}")
            )
        self._out.print(table)

    def variables(self, nodes: Iterable[Node]) -> None:
        """Warn, once for each, of what is set in the environment of trials and may change their figures."""
        new = frozenset[str]().union(*(node.variables for node in nodes)) - self._variables
        self._variables |= new
        if new:
            self.warn(
                f"set in the environment and recorded with each result, since it may change figures: "
                f"{', '.join(sorted(new))}"
            )

    def forecast(
        self,
        trials: Sequence[Trial],
        estimates: Sequence[Estimate | None],
        memory_mb: Callable[[Trial], float | None],
        nodes: Sequence[Node],
        at_once: int | None,
    ) -> None:
        """The trials to run, with the time and the memory that each will about take; `at_once` as `total_s` has it."""
        table = Table(box=None, header_style="bold")
        for heading in ("trial", "about", "at most", "memory"):
            table.add_column(heading, justify="left" if heading == "trial" else "right")
        for trial, estimate in itertools.islice(zip(trials, estimates, strict=True), _FORECAST_ROWS):
            memory = memory_mb(trial)
            table.add_row(
                escape(self._names.get(trial.trial_id, trial.model)),
                "?" if estimate is None else _duration(estimate.likely_s),
                "?" if estimate is None else _duration(estimate.most_s),
                "?" if memory is None else f"{memory:.0f} MB",
            )
        self._out.print(table)
        if len(trials) > _FORECAST_ROWS:
            self._out.print(f"... and {len(trials) - _FORECAST_ROWS} more")
        known = [(trial, found) for trial, found in zip(trials, estimates, strict=True) if found is not None]
        likely = total_s([(trial, found.likely_s) for trial, found in known], nodes, at_once)
        most = total_s([(trial, found.most_s) for trial, found in known], nodes, at_once)
        words = f"about {_duration(likely)}, at most {_duration(most)}"
        if unknown := len(trials) - len(known):
            words += f", and {unknown} trial{'s' * (unknown != 1)} of which nothing is known"
        self._out.print(f"Time     {words if known else 'nothing is known of these trials'}. Nothing was run.")

    @contextlib.contextmanager
    def running(self, trials: Sequence[Trial], log: Callable[[Trial], Path]) -> Iterator[None]:
        """Show the trials' progress while the body dispatches them; `log` tells where a trial writes."""
        self._log, self._began = log, time.monotonic()
        if not self._out.is_terminal:
            yield
            return
        task = self._bar.add_task("trials", total=len(trials), left="")
        with Live(get_renderable=self._view, console=self._out, refresh_per_second=1, transient=True):
            self._live = True
            try:
                yield
            finally:
                self._live = False
                self._print_lines()
        self._bar.remove_task(task)

    def started(self, trial: Trial) -> None:
        self._running[trial.trial_id] = trial, time.monotonic()

    def withdrawn(self, trial: Trial) -> None:
        """Take a trial that has not started yet from those that run."""
        self._running.pop(trial.trial_id, None)

    def held_up(self, sentence: str) -> None:
        """Show what trials wait for, and print it when that changes, now and then; empty: nothing."""
        self._held_up = sentence
        holders, now = sentence.partition(": ")[2], time.monotonic()
        if holders not in ("", self._holders_printed) and now - self._holders_printed_at >= _HOLDERS_EVERY_S:
            self._holders_printed, self._holders_printed_at = holders, now
            self.say(sentence)

    def retrying(self, result: Result) -> None:
        """Say why a trial is tried again."""
        cause = result.error.message if result.error else result.status
        self.warn(f"{self._names.get(result.trial_id, result.trial.model)} is tried again: {cause}")

    def finished(self, result: Result) -> None:
        """One line for the trial's outcome, and the bar moved on."""
        self._running.pop(result.trial_id, None)
        self._done += 1
        style = STYLES.get(result.status, "red")
        figures = "   ".join(f"{name} {spread(m)}" for name, m in result.passes.items())
        for key, value in itertools.islice(result.metrics.items(), 2):
            figures += f"   {key} {task_text(key, value)}"
        cause = f"{result.error.kind}: {result.error.message}" if result.error else ""
        name = self._names.get(result.trial_id, result.trial.model)
        line = f"{self._done:>{len(str(self._todo))}}/{self._todo}  {escape(name)}  [{style}]{result.status}[/]  "
        self._unprinted.append(Text.from_markup(line + escape("   ".join(filter(None, [figures.strip(), cause])))))
        self._summary(result)
        # A live display is drawn anew with every print, which takes longer than a short trial.
        if not self._live or time.monotonic() - self._printed_at >= _PRINT_EVERY_S:
            self._print_lines()
        for task in self._bar.task_ids:
            self._bar.update(task, advance=1, left=self._left())

    def _summary(self, result: Result) -> None:
        """What the trial's task has to say for itself."""
        with contextlib.suppress(OSError):
            text = files.end(self._log(result.trial).parent, SUMMARY, _SUMMARY_BYTES).decode(errors="replace")
            self._unprinted.append(Text(textwrap.indent(text, "  ")))

    def _print_lines(self) -> None:
        lines, self._unprinted = self._unprinted, []
        if lines:
            self._out.print(Text("\n").join(lines), soft_wrap=True)
        self._printed_at = time.monotonic()

    def waiting(self, pending: Sequence[Pending]) -> None:
        """Say that a sink is slow, and when it no longer is. Of one that failed the outbox tells both."""
        slow = {sink: count for sink, count, reason in pending if count and not reason}
        for sink in slow.keys() - self._slow:
            text = f"{_waits(sink, slow[sink])}: its answers are slow; what waits is sent later"
            self._out.print(escape(text), soft_wrap=True)
        for sink in self._slow - {sink for sink, _, _ in pending}:
            self._out.print(escape(f"{sink} has every result so far"), soft_wrap=True)
        self._slow = set(slow)
        self._behind = {sink: count for sink, count, _ in pending if count}

    def end(self, recorder: Recorder) -> None:
        """The table of all results, and how to look further."""
        sweep, results = recorder.sweep, recorder.results
        known = [results[trial.trial_id] for trial in sweep.trials if trial.trial_id in results]
        if known:
            self._out.print(results_table(known, sweep.trials))
        for sentence in exceeded_sentences(known):
            self._out.print(f"Peak     {escape(sentence)}", soft_wrap=True)
        missing = len(sweep.trials) - len(known)
        if missing:
            self._out.print(f"{missing} of {len(sweep.trials)} trials have no result; run them with")
            command = command_line.resuming_command(commands.shown(sweep.folder))
            self._out.print(f"  {command}", markup=False, soft_wrap=True)
        report = Path(sweep.folder) / "report.html"
        if report.is_file():
            self._out.print(f"Report   {commands.shown(report)}", markup=False, soft_wrap=True)
        for sink, count, reason in recorder.outbox.pending():
            lacks = f"lacks {count} result{'s' * (count != 1)}" if count else "is not complete"
            complete = commands.sync(sweep.folder)
            self.warn(f"{sink} {lacks}: {reason.removeprefix(f'{sink}: ')}; `{complete}` completes it")
        if settings := sweep.facts.get("tracking", {}).get("mlflow"):
            page = next((sink.page for sink in recorder.outbox.sinks if sink.page), "")
            self._out.print(f"Compare  {_how_to_look(settings['uri'], page)}", markup=False, soft_wrap=True)

    def _view(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        running = list(self._running.values())  # as this thread is not the one that trials start on
        for trial, since in running[:_RUNNING_ROWS]:
            table.add_row(
                "  " + escape(self._names.get(trial.trial_id, trial.model)),
                f"{time.monotonic() - since:.0f} s",
                escape(_last_words(self._log(trial))),
            )
        if len(running) > _RUNNING_ROWS:
            table.add_row(f"  ... and {len(running) - _RUNNING_ROWS} more", "", "")
        if self._held_up:
            table.add_row(f"  [yellow]{escape(self._held_up)}[/]", "", "")
        for sink, count in self._behind.items():
            table.add_row(f"  [yellow]{escape(_waits(sink, count))}[/]", "", "")
        return Group(*self._unprinted[-_RUNNING_ROWS:], table, self._bar)

    def _left(self) -> str:
        """Time left, if the trials to come take as long as those done, as many at a time."""
        if self._done == 0:
            return ""
        left = (time.monotonic() - self._began) / self._done * (self._todo - self._done)
        return f"about {_duration(left)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _node_kinds(nodes: Sequence[Node], trials: Sequence[Trial]) -> list[str]:
    """Nodes that offer the same, with the devices that they can be and the share of the trials."""
    kinds: dict[str, list[Node]] = {}
    for node in nodes:
        kinds.setdefault(node.kind, []).append(node)
    counts = Counter(repr(trial.device) for trial in trials)
    each = {repr(trial.device): trial.device for trial in trials}
    rows = []
    for kind, alike in kinds.items():
        able = {asked: device for asked, device in each.items() if not alike[0].misses(device)}
        devices = ", ".join(dict.fromkeys(device.label for device in able.values()))
        names = ", ".join(node.name for node in alike[:3]) + (", ..." if len(alike) > 3 else "")
        count = sum(counts[asked] for asked in able)
        takes = f"{count} of {len(trials)} trials ({devices})" if able else "none of the trials"
        rows.append(f"{len(alike)} of {kind}: {takes}; {names}")
    if len(rows) > _MOST_KINDS:
        rows[_MOST_KINDS:] = [f"... and {len(rows) - _MOST_KINDS} other kinds of node"]
    return rows


def _waits(sink: str, count: int) -> str:
    return f"{count} result{'s wait' if count != 1 else ' waits'} for {sink}"


def _how_to_look(uri: str, page: str) -> str:
    if uri.startswith("http"):
        return f"open {uri.rstrip('/')}/{page}"
    here = f"sqlite:///{Path.cwd()}/mlflow.db"
    command = "mlflow ui" if uri == here else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
    return f"{command}, then http://127.0.0.1:5000/{page}"


def _last_words(log: Path) -> str:
    """The last line that a trial has written about itself, without its time stamp."""
    try:
        lines = files.end(log.parent, log.name, _TAIL_BYTES).decode(errors="replace").strip().splitlines()
    except OSError:
        return "starting"
    words = [line for line in lines if ": step " in line or " across " in line or ": epoch " in line]
    return words[-1].partition(": ")[2] if words else "building"
