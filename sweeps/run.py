"""The command: `python sweeps/run.py [-m] KEY=VALUE ...`.

Exit codes: 0 every trial ok; 1 the sweep finished, some trial failed; 2 bad request, nothing ran; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# As a script, this file's folder is first on the path, and the packages beside it cannot be found.
sys.path[:] = [str(ROOT), *(place for place in sys.path if place != str(ROOT / "sweeps"))]

from sweeps.errors import UsageError
from sweeps.typed import input_paths
from sweeps.typed.arguments import Arguments
from sweeps.worker.forkserver import LastingServer
from tracking import startup


@contextlib.contextmanager
def started(arguments: Arguments) -> Iterator[LastingServer]:
    """Prepare this process to run the sweep of these arguments, and yield the fork server for its trials.

    Raises UsageError if the current folder no longer exists.
    """
    startup.prepare()
    try:
        startup.own_modules_last()  # a user's nets lie in the current folder
    except OSError as error:
        raise UsageError([f"expected to be started in a folder that exists. Received: {error.strerror}."]) from error
    with LastingServer() as server:
        if arguments.runs_trials_here:
            with contextlib.suppress(UsageError):  # it is raised again where it can be reported
                server.start()  # imports TensorFlow, the longest wait, while this process imports the rest
        yield server


def main() -> int:
    """Run the command line in `sys.argv` and return its exit code."""
    arguments = Arguments(program=sys.argv[0], words=tuple(input_paths.quoted(sys.argv[1:])))
    try:
        with started(arguments) as server:
            from sweeps import command

            return command.main(server, arguments)
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
