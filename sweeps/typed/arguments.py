"""A command's arguments, read from `sys.argv` or given to `sweeps.sweep` once, and handed to whoever goes by them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tracking.redact import redact_arguments


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What was typed after `python`: the program, and the words that follow it."""

    program: str
    words: tuple[str, ...]

    @property
    def overrides(self) -> list[str]:
        """The words that set a key."""
        return [word for word in self.words if "=" in word and not word.startswith("-")]

    @property
    def command(self) -> str:
        """The command as a shell takes it, without its secrets."""
        return shlex.join(redact_arguments(["python", self.program, *self.words]))

    @property
    def runs_trials_here(self) -> bool:
        """Whether they ask for trials on this machine, as far as can be said before Hydra reads them."""
        flags = {word for word in self.words if word.startswith("-")}
        clusters = {word for word in self.words if word.startswith("cluster=")}
        return flags <= {"-m", "--multirun"} and clusters <= {"cluster=local", "cluster=inline"}
