"""Commands of this project, as they are printed for pasting into a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python(script: str, *arguments: str) -> str:
    """A command that runs this script of the project, such as `tracking/sync.py`, from the current folder."""
    place = script if Path.cwd() == ROOT else str(ROOT / script)
    return shlex.join(["python", place, *arguments])


def sync(folder: str | Path) -> str:
    """The command that sends the results of the sweep in this folder to its sinks."""
    return python("tracking/sync.py", shown(folder))


def shown(path: str | Path) -> str:
    """The path, relative to the current folder if it is below that."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
