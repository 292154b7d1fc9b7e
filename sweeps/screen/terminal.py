"""What the user sees of a sweep: problems and warnings, the plan, the trials as they run, the table at the end."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO, cast

from rich.markup import escape

from sweeps.machine.node import Node
from sweeps.plan.estimate import Estimate
from sweeps.recorder import Recorder
from sweeps.screen.plan import forecast_lines, forecast_table, plan_table
from sweeps.screen.progress import Progress
from sweeps.screen.streams import Stream
from sweeps.typed import command_line
from sweeps.wording import counted
from tracking.analysis.peaks import exceeded_sentences
from tracking.names import trial_names
from tracking.record import Sweep, Trial
from tracking.tables.results_table import results_table
from tracking.text import commands
from tracking.text.redact import redact
from tracking.text.screen import Screen

_FILE_WIDTH = 140
"""Columns of an output that is no terminal."""


class _WarningHandler(logging.Handler):
    """Passes warnings to the terminal, so that they do not break into its display; a repeated one appears once."""

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
        self._written = Stream(sys.stdout, self._warn_of_lost_output)
        self._text_only = False
        self._out = Screen(file=cast("TextIO", self._written), highlight=False)
        if not self._out.is_terminal and "COLUMNS" not in os.environ:
            self._out.width = _FILE_WIDTH
        self._err = Screen(file=cast("TextIO", Stream(sys.stderr, lambda _: None)), highlight=False)
        self._names: Mapping[str, str] = {}
        """What the trials of the plan are called, by id."""
        self._variables: frozenset[str] = frozenset()
        """Names of environment variables that were warned of."""
        self.progress = Progress(self._out, self.say, self.warn)
        """The trials as they run."""

    def problems(self, sentences: Sequence[str]) -> None:
        """Print each problem as an error."""
        for sentence in sentences:
            self._err.print(f"[bold red]error:[/] {escape(redact(sentence))}", soft_wrap=True)

    def warn(self, sentence: str) -> None:
        """Print a warning."""
        self._err.print(f"[bold yellow]warning:[/] {escape(redact(sentence))}", soft_wrap=True)

    def say(self, sentence: str) -> None:
        """Print a line."""
        self._out.print(escape(redact(sentence)), soft_wrap=True)

    def text(self, text: str) -> None:
        """Write a text unchanged, for another program to read. Raises KeyboardInterrupt if the reader has gone."""
        self._text_only = True
        self._written.write(text)
        self._written.flush()
        self._text_only = False
        if self._written.gone:
            raise KeyboardInterrupt

    def _warn_of_lost_output(self, reason: str) -> None:
        if not self._text_only:
            self.warn(f"standard output can no longer be written ({reason}); what has begun goes on")

    @contextlib.contextmanager
    def warnings_of(self, logger: str) -> Iterator[None]:
        """Print the warnings of this logger as the sweep's own while the body runs."""
        log, handler = logging.getLogger(logger), _WarningHandler(self.warn)
        propagate, log.propagate = log.propagate, False
        log.addHandler(handler)
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.propagate = propagate

    @contextlib.contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Print what the body does, with a spinner on a terminal."""
        if self._out.is_terminal:
            with self._out.status(f"{what} ..."):
                yield
        else:
            self._out.print(f"{what} ...")
            yield

    def plan(self, sweep: Sweep, todo: Sequence[Trial], nodes: Sequence[Node]) -> None:
        """Print what is about to run, where, and where its results go."""
        self._names = trial_names(sweep.trials)
        self.progress.expect(self._names, len(todo))
        self._out.print(plan_table(sweep, todo, nodes))

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
        todo: Sequence[Trial],
        estimates: Sequence[Estimate | None],
        memory_mb: Callable[[Trial], float | None],
        nodes: Sequence[Node],
        at_once: int | None,
    ) -> None:
        """Print the planned trials with the time and the memory (MB, of 2**20 bytes) that they are expected to take.

        `at_once` is the number of trials that run side by side; None: as many as fit on the nodes.
        """
        self._out.print(forecast_table(self._names, todo, estimates, memory_mb))
        for line in forecast_lines(todo, estimates, nodes, at_once):
            self._out.print(line)

    def end(self, recorder: Recorder) -> None:
        """Print the table of all results, what is missing, and where to look further."""
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
            lacks = f"lacks {counted(count, 'result')}" if count else "is not complete"
            complete = commands.sync(sweep.folder)
            self.warn(f"{sink} {lacks}: {reason.removeprefix(f'{sink}: ')}; `{complete}` completes it")
        if settings := sweep.facts.get("tracking", {}).get("mlflow"):
            page = next((sink.page for sink in recorder.outbox.sinks if hasattr(sink, "page")), "")
            self._out.print(f"Compare  {_how_to_compare(settings['uri'], page)}", markup=False, soft_wrap=True)


def _how_to_compare(uri: str, page: str) -> str:
    """How to open a page of the MLflow that keeps the runs: its address, or the command that serves them."""
    if uri.startswith("http"):
        return f"open {uri.rstrip('/')}/{page}"
    here = f"sqlite:///{Path.cwd()}/mlflow.db"
    command = "mlflow ui" if uri == here else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
    return f"{command}, then http://127.0.0.1:5000/{page}"
