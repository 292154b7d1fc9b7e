"""The command line after its start: Hydra, the session, and what an error means for the user."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import hydra
from hydra._internal.utils import _run_hydra, get_args_parser
from omegaconf import DictConfig

from sweeps import session
from sweeps.errors import SweepError, UsageError
from sweeps.identity import remembered, resume
from sweeps.machine.this_machine import this_node
from sweeps.outcome import Outcome
from sweeps.process import temporary
from sweeps.process.interrupts import EXIT_CODE, Interrupts
from sweeps.process.project import ROOT
from sweeps.request import options, typed_text
from sweeps.request.compose import ComposeError, drop_defaults_of_nets, text_of
from sweeps.request.diagnosis import diagnose
from sweeps.screen.terminal import Terminal
from sweeps.typed.arguments import Arguments
from sweeps.worker.forkserver import LastingServer
from tracking.folder import files
from tracking.folder.journal import JournalError
from tracking.text.redact import redact

CONF = ROOT / "conf"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of the file system that is written to, which may name no file."""


def command(cfg: DictConfig) -> None:
    """Run one trial. Hydra calls this where there is no `-m`; with `-m`, the launcher calls the session itself."""
    hydra_config = hydra.core.hydra_config.HydraConfig.get()
    os.chdir(hydra_config.runtime.cwd)  # with hydra.job.chdir, Hydra has left the folder that paths are relative to
    if hydra_config.output_subdir is not None:
        _without_secrets(Path(hydra_config.runtime.output_dir, hydra_config.output_subdir))
    drop_defaults_of_nets(cfg, hydra_config.overrides.task)
    try:
        session.current().run([cfg], folder=hydra_config.runtime.output_dir)
    except Exception as error:
        raise _Passing from error  # Hydra would print its own message for what it catches


def _without_secrets(folder: Path) -> None:
    """Redact secrets in the files in which Hydra keeps the config, where the user wants those files."""
    for path in folder.glob("*.yaml"):
        text = files.read(folder, path.name).decode()
        if (clean := redact(text)) != text:
            files.write(folder, path.name, clean.encode())


class _Passing(BaseException):
    """Carries an exception past Hydra."""


def _run(arguments: Arguments) -> None:
    """Have Hydra read the arguments and call `command` or the launcher, as `hydra.main` does with `sys.argv`."""
    hydra.version.setbase("1.3")
    parser = get_args_parser()
    parsed = parser.parse_args(_as_composed(arguments).words)
    if parsed.experimental_rerun is not None:
        raise UsageError(["--experimental-rerun: expected KEY=VALUE arguments; resume=FOLDER continues a sweep."])
    try:
        _run_hydra(
            args=parsed,
            args_parser=parser,
            task_function=command,
            config_path=str(CONF),
            config_name="config",
        )
    except _Passing as passing:
        if passing.__cause__ is not None:
            raise passing.__cause__ from None


def _as_composed(arguments: Arguments) -> Arguments:
    """Return the arguments for Hydra, with the resumed plan's cluster added where they set only its options."""
    return remembered.with_cluster(arguments, lambda: resume.find(text_of("resume", arguments), Path.cwd())[0])


def main(server: LastingServer, arguments: Arguments) -> int:
    """Run the command line with these arguments, its trials through `server`, and return its exit code."""
    terminal = Terminal()
    outcome = conduct(server, arguments, terminal)
    terminal.problems(outcome.problems)
    return outcome.exit_code


def conduct(server: LastingServer, arguments: Arguments, terminal: Terminal) -> Outcome:
    """Run the sweep that these arguments ask for, its trials through `server`, and return its outcome.

    The sweep takes this process over: it handles its signals, and Hydra and Ray change its environment.
    """
    options.register()
    # Without this, Hydra ends the process on an error instead of raising it.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    interrupts = Interrupts()
    interrupts.install()
    running = session.Session(terminal, interrupts, server, arguments)
    for_hydra = typed_text.as_typed(arguments)
    try:
        with temporary.scratch(), terminal.warnings_of("tracking"), running:
            _run(for_hydra)
    except UsageError as error:
        return _refused(running, error.problems)
    except ComposeError as error:
        return _refused(running, diagnose(_overrides(for_hydra), CONF, [this_node()]) or [str(error)])
    except OSError as error:
        if running.recorder is not None or not (error.filename or error.errno in _NO_ROOM):
            raise
        # Hydra creates the folder before anything is checked.
        received = f"{error.filename} ({error.strerror})" if error.filename else error.strerror
        problem = f"expected a results folder that can be written to. Received: {received}."
        return _refused(running, [problem, *diagnose(_overrides(for_hydra), CONF, [this_node()])])
    except (SweepError, JournalError) as error:
        return replace(running.outcome(), exit_code=1, error=type(error).__name__, problems=[str(error)])
    except KeyboardInterrupt as error:
        return replace(running.outcome(), exit_code=EXIT_CODE, error=type(error).__name__)
    return running.outcome()


def _overrides(arguments: Arguments) -> list[str]:
    return [override.word for override in _as_composed(arguments).overrides]


def _refused(running: session.Session, problems: Sequence[str]) -> Outcome:
    """Return the outcome of a refusal: exit code 2 if nothing ran, else 1.

    A sweeper that composes a batch at a time may reach a bad point only after others have run.
    """
    code = 2 if running.recorder is None else 1
    return replace(running.outcome(), exit_code=code, error=UsageError.__name__, problems=problems)
