"""The trials as they run: on a terminal a bar and a row for each, redrawn once a second; elsewhere a line per event."""

from __future__ import annotations

import contextlib
import itertools
import math
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from sweeps.wording import counted, duration
from tracking.analysis.metrics import spread, task_text
from tracking.folder import files
from tracking.folder.trial_folder import SUMMARY
from tracking.record import Result, Trial
from tracking.sinks.outbox import Pending
from tracking.tables.results_table import STYLES
from tracking.text.screen import Screen

_TAIL_BYTES = 400
_SUMMARY_BYTES = 2**14
_PRINT_EVERY_S = 0.5
_HOLDERS_EVERY_S = 60.0
"""Shortest time between two lines about what trials wait for, seconds."""
_RUNNING_ROWS = 30
"""Trials that are shown while they run, with the last line of their logs; the others are counted."""


class Progress:
    """Shows which trials run, what became of each, and what holds trials or results up."""

    def __init__(self, out: Screen, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self._out, self._say, self._warn = out, say, warn
        self._names: Mapping[str, str] = {}
        self._running: dict[str, tuple[Trial, float]] = {}
        """Trials by id, with the time when each was started."""
        self._pending: dict[str, int] = {}
        """The number of results that each sink still lacks."""
        self._slow: set[str] = set()
        self._unprinted: list[Text] = []
        """Lines that a live display shows and that are not printed yet."""
        self._printed_at = 0.0
        self._live = False
        self._obstacle = ""
        """The sentence about what trials wait for."""
        self._holders_printed = ""
        self._holders_printed_at = -math.inf
        self._began = 0.0
        self._done = self._total = 0
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._log: Callable[[Trial], Path]

    def expect(self, names: Mapping[str, str], total: int) -> None:
        """Begin to count anew: `total` trials will run. `names` has those of all trials of the sweep, by id."""
        self._names, self._total, self._done = names, total, 0

    @contextlib.contextmanager
    def running(self, trials: Sequence[Trial], log: Callable[[Trial], Path]) -> Iterator[None]:
        """Show progress while the body runs the trials; `log` returns the file that a trial writes its log to."""
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
        """Add a trial to those that run."""
        self._running[trial.trial_id] = trial, time.monotonic()

    def withdrawn(self, trial: Trial) -> None:
        """Remove a trial that has not really started from those that run."""
        self._running.pop(trial.trial_id, None)

    def held_up(self, sentence: str) -> None:
        """Show what trials wait for, and print it now and then when the holders change; an empty sentence clears it."""
        self._obstacle = sentence
        holders, now = sentence.partition(": ")[2], time.monotonic()
        if holders not in ("", self._holders_printed) and now - self._holders_printed_at >= _HOLDERS_EVERY_S:
            self._holders_printed, self._holders_printed_at = holders, now
            self._say(sentence)

    def retrying(self, result: Result) -> None:
        """Warn that a trial is tried again, and why."""
        cause = result.error.message if result.error else result.status
        self._warn(f"{self._name(result.trial)} is tried again: {cause}")

    def finished(self, result: Result) -> None:
        """Print a line with the trial's outcome, and move the bar on."""
        self._running.pop(result.trial_id, None)
        self._done += 1
        style = STYLES.get(result.status, "red")
        figures = "   ".join(f"{name} {spread(m)}" for name, m in result.passes.items())
        for key, value in itertools.islice(result.metrics.items(), 2):
            figures += f"   {key} {task_text(key, value)}"
        cause = f"{result.error.kind}: {result.error.message}" if result.error else ""
        place = f"{self._done:>{len(str(self._total))}}/{self._total}"
        line = f"{place}  {escape(self._name(result.trial))}  [{style}]{result.status}[/]  "
        self._unprinted.append(Text.from_markup(line + escape("   ".join(filter(None, [figures.strip(), cause])))))
        self._add_summary(result)
        # A live display is drawn anew with every print, which takes longer than a short trial.
        if not self._live or time.monotonic() - self._printed_at >= _PRINT_EVERY_S:
            self._print_lines()
        for task in self._bar.task_ids:
            self._bar.update(task, advance=1, left=self._left())

    def waiting(self, pending: Sequence[Pending]) -> None:
        """Print when a sink has become slow, and when it has caught up. Failures are reported by the outbox itself."""
        slow = {sink: count for sink, count, reason in pending if count and not reason}
        for sink in slow.keys() - self._slow:
            text = f"{_results_wait(sink, slow[sink])}: it is slow to answer; what waits is sent later"
            self._out.print(escape(text), soft_wrap=True)
        for sink in self._slow - {sink for sink, _, _ in pending}:
            self._out.print(escape(f"{sink} has every result so far"), soft_wrap=True)
        self._slow = set(slow)
        self._pending = {sink: count for sink, count, _ in pending if count}

    def _name(self, trial: Trial) -> str:
        return self._names.get(trial.trial_id, trial.model)

    def _add_summary(self, result: Result) -> None:
        """Add the summary that the trial's task has written, if it has."""
        with contextlib.suppress(OSError):
            summary = files.end(self._log(result.trial).parent, SUMMARY, _SUMMARY_BYTES)
            self._unprinted.append(Text(textwrap.indent(summary.decode(errors="replace"), "  ")))

    def _print_lines(self) -> None:
        lines, self._unprinted = self._unprinted, []
        if lines:
            self._out.print(Text("\n").join(lines), soft_wrap=True)
        self._printed_at = time.monotonic()

    def _view(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        running = list(self._running.values())  # a copy, as trials start on another thread than this one
        for trial, since in running[:_RUNNING_ROWS]:
            seconds = f"{time.monotonic() - since:.0f} s"
            table.add_row("  " + escape(self._name(trial)), seconds, escape(_last_line(self._log(trial))))
        if len(running) > _RUNNING_ROWS:
            table.add_row(f"  ... and {len(running) - _RUNNING_ROWS} more", "", "")
        if self._obstacle:
            table.add_row(f"  [yellow]{escape(self._obstacle)}[/]", "", "")
        for sink, count in self._pending.items():
            table.add_row(f"  [yellow]{escape(_results_wait(sink, count))}[/]", "", "")
        return Group(*self._unprinted[-_RUNNING_ROWS:], table, self._bar)

    def _left(self) -> str:
        """The time left if the trials to come take as long as those done, as many at a time."""
        if self._done == 0:
            return ""
        left = (time.monotonic() - self._began) / self._done * (self._total - self._done)
        return f"about {duration(left)} left"


def _results_wait(sink: str, count: int) -> str:
    return f"{counted(count, 'result')} wait{'s' * (count == 1)} for {sink}"


def _last_line(log: Path) -> str:
    """The last line that a trial has written about its progress, without its time stamp."""
    try:
        lines = files.end(log.parent, log.name, _TAIL_BYTES).decode(errors="replace").strip().splitlines()
    except OSError:
        return "starting"
    steps = [line for line in lines if ": step " in line or " across " in line or ": epoch " in line]
    return steps[-1].partition(": ")[2] if steps else "building"
