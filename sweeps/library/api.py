"""Sweeps from Python: `sweep` runs one, `read` reads one that has run or still runs; both return a `SweepResult`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, cast

from sweeps import errors
from sweeps.errors import DispatchError, SweepError, UsageError
from sweeps.library import background, overrides
from sweeps.outcome import Outcome
from sweeps.typed import command_line
from sweeps.typed.arguments import Arguments
from sweeps.typed.keys import Keys, Value
from tracking.folder import folders
from tracking.folder.journal import Journal, JournalError
from tracking.record import Result, Trial
from tracking.sinks.mlflow import moved

if TYPE_CHECKING:
    import pandas

ROOT = Path(__file__).resolve().parents[2]
log = logging.getLogger("sweeps")
_FOLDER = "hydra.sweep.dir"
_NEW_FOLDER = "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S-%f}"
"""Replaces Hydra's own, which two sweeps that begin in the same second would share."""


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """A sweep and its results so far."""

    sweep_id: str | None
    """None: nothing was planned here, as when a sweep is resumed that only the cluster knows."""
    folder: Path | None
    """The sweep's folder on this machine; None: it has none, as after `dry_run`, or it is made on the cluster."""
    trials: tuple[Trial, ...] = field(repr=False)
    """The planned trials, in order."""
    results: tuple[Result, ...] = field(repr=False)
    """The results so far, in the plan's order."""
    exit_code: int
    """As the command line's: 0 every trial is ok, or the job was submitted; 1 some trial is not ok or has no result."""
    job: str | None = None
    """The id or name of the batch job that runs the sweep."""
    text: str = field(default="", repr=False)
    """What the command line prints: the table, with `dry_run` the plan or the batch job."""

    @property
    def finished(self) -> bool:
        """Whether every planned trial has a result."""
        return 0 < len(self.trials) == len(self.results)

    @property
    def ok(self) -> bool:
        """Whether every planned trial has a result and is ok."""
        return self.finished and all(result.ok for result in self.results)

    def frame(self) -> pandas.DataFrame:
        """Return a row per trial and pass, with the columns of `results.csv`: seconds in `*_s`, MiB in `*_mb`."""
        from tracking.analysis.frame import frame

        return frame(self.results, self.trials)


def sweep(
    *arguments: str | Sequence[str] | Mapping[str, Value],
    folder: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **keys: Unpack[Keys],
) -> SweepResult:
    """Run a sweep, wait for its end and return its results.

    The sweep is given as on the command line, `sweep("model=vgg16", "batch=1,2")`, by its keys,
    `sweep(model="vgg16", batch=[1, 2])`, or by a mapping with dotted ones, `sweep({"protocol.steps": 10})`. Of keys and
    mappings, a list is a grid, a tuple is one value with several parts, and text is taken as it is, commas included.
    The results go to `folder`, by default a new one in `multirun/`. With `progress`, what the command line prints is
    printed as it comes. Warnings go to the logger `sweeps`.

    The sweep runs in a process of its own, with this one's current folder and environment, so this function can be
    called in a notebook, a thread or another Hydra application, and leaves nothing behind. An exception that ends the
    wait (Ctrl-C) ends the sweep, too; `resume="latest"` runs what is left. A batch job is submitted and not waited for:
    `read(folder)` has its results later.

    Raises UsageError with all `problems` where nothing could run, StoppedError by `fail_fast`, and DispatchError where
    the machinery fails. A trial that fails is no exception: see `SweepResult.ok`.
    """
    words = overrides.words(arguments, cast("Mapping[str, Value]", keys))
    typed = Arguments(program=_program(), words=("-m", *words))
    if folder is not None:
        if "resume" in typed.keys:
            raise UsageError(["folder: expected none with resume, which has the sweep's own."])
        typed = typed.with_words([*typed.words, f"{_FOLDER}={command_line.text(str(Path(folder).absolute()))}"])
    elif not typed.keys & {_FOLDER, "resume"}:
        typed = typed.with_words([*typed.words, f"{_FOLDER}={_NEW_FOLDER}"])
    texts: list[str] = []

    def written(text: str) -> None:
        texts.append(text)
        if progress:
            _print(text)

    outcome = background.run(typed, written=written, warned=log.warning)
    if outcome.error:
        raise _error(outcome)
    return _result(outcome, "".join(texts))


def read(name: str | os.PathLike[str] = folders.LATEST) -> SweepResult:
    """Return a sweep's results so far, by its folder, its id, or `latest` for the newest below the current folder.

    Raises UsageError if there is no such sweep.
    """
    try:
        return _in_folder(folders.find(os.fspath(name), Path.cwd()).absolute(), None)
    except JournalError as error:
        raise UsageError([str(error)]) from error


def _result(outcome: Outcome, text: str) -> SweepResult:
    if outcome.folder is not None:
        try:
            return _in_folder(Path(outcome.folder), outcome, text)
        except JournalError as error:
            raise SweepError(str(error)) from error
    return SweepResult(
        sweep_id=outcome.sweep_id,
        folder=None,
        trials=(),
        results=(),
        exit_code=outcome.exit_code,
        job=outcome.job,
        text=text,
    )


def _in_folder(folder: Path, outcome: Outcome | None, text: str = "") -> SweepResult:
    """Return the sweep in this folder. Raises JournalError."""
    journal = Journal(folder)
    plan = moved.follow(journal.read_plan(), folder)
    known = {result.trial_id: result for result in journal.read()}
    results = tuple(known[trial.trial_id] for trial in plan.trials if trial.trial_id in known)
    ok = len(results) == len(plan.trials) and all(result.ok for result in results)
    return SweepResult(
        sweep_id=plan.sweep_id,
        folder=folder,
        trials=plan.trials,
        results=results,
        exit_code=outcome.exit_code if outcome else int(not ok),
        job=outcome.job if outcome else None,
        text=text,
    )


def _error(outcome: Outcome) -> SweepError:
    """The exception that the sweep ended with."""
    if outcome.error == UsageError.__name__:
        error: SweepError = UsageError(outcome.problems)
    elif outcome.error == KeyboardInterrupt.__name__:
        rest = "" if outcome.folder is None else f"; sweep(resume={outcome.folder!r}) runs what is left"
        error = DispatchError(f"the process that ran the sweep was interrupted{rest}")
    else:
        kind = getattr(errors, outcome.error, SweepError)
        error = kind("\n".join(outcome.problems))
    error.folder = None if outcome.folder is None else Path(outcome.folder)
    return error


def _program() -> str:
    """Return the script whose command line does the same, as it is called from the current folder."""
    script = ROOT / "sweeps" / "run.py"
    return str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)


def _print(text: str) -> None:
    """Print the sweep's output, as far as this process's own output can take it."""
    try:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        pass  # an output that is closed or missing is no reason to end a sweep
