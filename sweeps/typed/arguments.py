"""A command's arguments: read once, from `sys.argv` or `sweeps.sweep`, and passed on to whoever depends on them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from tracking.text.redact import redact_arguments

HERE = ("inline", "local")
"""The kinds of cluster that are this machine, known before `sweeps.clusters.kinds`, which takes a second to import."""


class Override(NamedTuple):
    """A word that sets a key, `KEY=VALUE`."""

    word: str
    key: str
    """`tracking.uri` of `+tracking.uri=...`, `tracking` of `tracking=csv`."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What was typed after `python`: the program, and the words that follow it."""

    program: str
    words: tuple[str, ...]

    @cached_property
    def overrides(self) -> tuple[Override, ...]:
        """The words that set a key, in order."""
        return tuple(Override(word, key_of(word)) for word in self.words if "=" in word and not word.startswith("-"))

    @cached_property
    def keys(self) -> frozenset[str]:
        """Every key that the words set or remove."""
        return frozenset(key_of(word) for word in self.words if not word.startswith("-"))

    @property
    def command(self) -> str:
        """The command as a shell takes it, without its secrets."""
        return shlex.join(redact_arguments(["python", self.program, *self.words]))

    @property
    def runs_trials_here(self) -> bool:
        """Whether the trials run on this machine, as far as can be said before Hydra reads the words."""
        options = {word for word in self.words if word.startswith("-")}
        clusters = {override.word for override in self.overrides if override.word.startswith("cluster=")}
        return options <= {"-m", "--multirun"} and clusters <= {f"cluster={name}" for name in HERE}

    def sets(self, key: str) -> bool:
        """Return whether a word sets this key, or one below it."""
        return any(name == key or name.startswith(f"{key}.") for name in self.keys)

    def last(self, key: str) -> str | None:
        """Return the last word that sets exactly this key, the one that counts; None without one."""
        return next((override.word for override in reversed(self.overrides) if override.key == key), None)

    def with_words(self, words: Iterable[str]) -> Arguments:
        """Return the same command with other words."""
        return replace(self, words=tuple(words))


def key_of(word: str) -> str:
    """Return the key that an override sets or removes."""
    return re.split("[=@]", word.lstrip("+~"), maxsplit=1)[0]
