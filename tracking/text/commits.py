"""Describes the commits in a sweep's facts: the tool's own, and that of the project in which the sweep was started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WHOSE = {"git": "this tool", "git_project": "the project"}
"""Prefixes of the facts, and whose commit they hold."""
_SHORT = 12


def commit_words(facts: Mapping[str, Any], prefix: str, digits: int = _SHORT) -> str:
    """The commit under this prefix (`git` or `git_project`), e.g. `0123abc with uncommitted changes`; empty: none."""
    if not (commit := facts.get(f"{prefix}_commit")):
        return ""
    return str(commit)[:digits] + (" with uncommitted changes" if facts.get(f"{prefix}_clean") is False else "")


def commits(facts: Mapping[str, Any], digits: int = _SHORT) -> list[str]:
    """Phrases about the code that a sweep ran, from its facts; empty where they say nothing.

    Where tool and project are one repository it is named once.
    """
    phrases: dict[str, str] = {}
    for prefix, whose in _WHOSE.items():
        if commit := commit_words(facts, prefix, digits):
            phrases.setdefault(commit, f"{whose} at commit {commit}")
        if why := facts.get(f"{prefix}_unknown"):
            what = "whether it is clean" if commit else f"the commit of {whose}"
            phrases[f"{prefix} unknown"] = f"{what} is not known ({why})"
    return [*phrases.values(), *(f"resumed later: {change}" for change in changes(facts))]


def changes(facts: Mapping[str, Any]) -> list[str]:
    """How the code had changed each time that the sweep was resumed."""
    known = facts.get("git_resumed")
    return [str(change) for change in known] if isinstance(known, list | tuple) else []


def differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Clauses on how the code of a resumed sweep differs from the code that began it; empty: it does not.

    A repository that is unknown on either side is passed over.
    """
    changes = []
    for prefix, whose in _WHOSE.items():
        before, after = commit_words(begun, prefix), commit_words(now, prefix)
        if before and after and before != after:
            changes.append(f"{whose} was at {before} and is at {after}")
    return "; ".join(changes)
