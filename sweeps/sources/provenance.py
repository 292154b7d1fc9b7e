"""Which code a sweep ran: the commits of this tool and of the user's project, and whether each was clean."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from sweeps.process.project import ROOT

_OUTPUTS = ("multirun", "outputs", "mlruns", "mlartifacts")
"""Folders that sweeps leave where they are started, beside `mlflow.db` and the files that SQLite keeps next to it."""
_CARRIED = "code-of-sweeps.json"
"""The file in a copy of the packages, which has no repository, with the commit that they are from."""
_PATIENCE_S = 5.0
"""How long git may take for a folder, seconds; a repository may be somebody's whole home."""
_REASONS = {"dubious ownership": "ownership", "must be run in a work tree": "bare", "Needed a single revision": "empty"}
"""Messages of git about a repository that it does not read, and the word for each."""
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
"""Variables that git sets for its hooks, which would make it read another repository than the folder's."""


class _GitError(Exception):
    """Git did not answer; the message is a word that says why, or empty where there is no repository."""


def facts(project: Path, results: Path, tool: Path = ROOT) -> dict[str, Any]:
    """Return which code a sweep runs that is started in the folder `project` and writes to the folder `results`.

    `git_commit` and `git_clean` are this tool's, where it is a checkout; `git_project_commit` and `git_project_clean`
    those of the repository that `project` is in, if it is in one. Clean: without uncommitted changes and untracked
    files, apart from sweeps' own results and what git ignores. Where git does not answer, `git_unknown` or
    `git_project_unknown` says why: `no-git`, `ownership` (safe.directory), `bare`, `empty`, `slow`, `failed`.
    Code that has travelled to another machine carries the facts of where it came from.
    """
    if (carried := _carried(tool)) is not None:
        project_too = project.resolve() == tool.resolve()
        return {key: value for key, value in carried.items() if project_too or not key.startswith("git_project")}
    known = _repository("git", tool, results)
    try:
        if "git_commit" in known and not _git(tool, "ls-files", "--", Path(__file__).relative_to(ROOT).as_posix()):
            known = {}  # a copy within somebody else's repository, which does not track it
    except _GitError:
        known = {}
    return known | _repository("git_project", project, results)


def carry(folder: Path, project: Path) -> None:
    """Write the facts of this code and of the folder `project` into a copy that will travel."""
    (folder / _CARRIED).write_text(json.dumps(facts(project, project / _OUTPUTS[0])))


def _carried(tool: Path) -> dict[str, Any] | None:
    try:
        known = json.loads((tool / _CARRIED).read_text())
    except (OSError, ValueError):
        return None
    return {key: value for key, value in known.items() if key.startswith("git_") and isinstance(value, str | bool)}


def _repository(prefix: str, folder: Path, results: Path) -> dict[str, Any]:
    known: dict[str, Any] = {}
    try:
        if _git(folder, "rev-parse", "--is-inside-work-tree").strip() != "true":
            raise _GitError("bare")
        known[f"{prefix}_commit"] = _git(folder, "rev-parse", "--verify", "HEAD").strip()
        top = Path(_git(folder, "rev-parse", "--show-toplevel").rstrip("\n"))
        entries = _git(folder, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames").split("\0")
        changed = [entry for entry in entries if entry and not _is_output(entry, top, folder, results)]
        known[f"{prefix}_clean"] = not changed
    except _GitError as error:
        known |= {f"{prefix}_unknown": str(error)} if str(error) else {}
    return known


def _is_output(entry: str, top: Path, folder: Path, results: Path) -> bool:
    """Return whether a line of git's status is an untracked file that sweeps, or Python running them, have left."""
    if not entry.startswith("?? "):
        return False
    path = top / entry[3:]
    if path.is_relative_to(results.resolve()) or "__pycache__" in path.parts:
        return True
    if not path.is_relative_to(folder.resolve()):
        return False
    first = path.relative_to(folder.resolve()).parts[0]
    return first in _OUTPUTS or first.startswith("mlflow.db")


def _git(folder: Path, *arguments: str) -> str:
    """Return what git prints. Raises _GitError."""
    env = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    env |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            env=env,
            timeout=_PATIENCE_S,
            check=False,
        )
    except FileNotFoundError:
        raise _GitError("no-git") from None
    except subprocess.TimeoutExpired:
        raise _GitError("slow") from None
    except (OSError, UnicodeDecodeError):
        raise _GitError("failed") from None
    if done.returncode:
        if "not a git repository" in done.stderr:
            raise _GitError("")
        raise _GitError(next((word for words, word in _REASONS.items() if words in done.stderr), "failed"))
    return done.stdout
