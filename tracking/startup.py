"""What every command does first, so that it works in a notebook, without a terminal and in an ASCII locale."""

from __future__ import annotations

import codecs
import os
import sys
from pathlib import Path

_PLAIN = {"±": "+/-", "…": "...", "×": "x", "µ": "u"}  # noqa: RUF001
"""Characters that this project prints, and their ASCII equivalents."""
_PROJECT = str(Path(__file__).resolve().parent.parent)
"""The folder of this project's packages, which is always on the path."""


def prepare() -> None:
    """Set the standard streams up so that printing cannot fail, and the environment so that libraries work in it.

    So matplotlib needs no notebook, and there is a home, which a container's user may lack.
    """
    _open_what_is_closed()
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="plain")
    # A notebook passes its own backend on to its commands; where it is not installed, matplotlib fails.
    os.environ["MPLBACKEND"] = "agg"
    try:
        Path.home()
    except RuntimeError:  # MLflow cannot even be imported then
        os.environ["HOME"] = "/"  # as Docker has it


def own_modules_last(folder: Path | None = None) -> None:
    """Let modules in the folder be imported, after the standard library's and those that are installed.

    So the user's nets are found, and their `statistics.py` is nobody else's. None: the current folder; another one
    takes its place at the end. Raises OSError where the current folder has gone.
    """
    here = str(Path.cwd())
    last = here if folder is None else str(folder)
    places = sys.path[:-1] if folder is not None and sys.path[-1:] == [here] and here != _PROJECT else sys.path
    sys.path[:] = [*(place for place in places if place not in ("", last)), last]


def _open_what_is_closed() -> None:
    """Open closed standard streams on the null device: the next opened file would take their place otherwise."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - stays open


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace a character that the stream's encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    return _PLAIN.get(character, character.encode("ascii", "backslashreplace").decode()), error.start + 1
