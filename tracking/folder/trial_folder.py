"""The folder of one trial within its sweep's folder, and the names in it. Paths only: nothing is read or made here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tracking.record import Pass

LOG = "log.txt"
FILES = "files"
SUMMARY = f"{FILES}/summary.txt"
"""The text that a task leaves for the user."""


def trials_folder(sweep: str | Path) -> Path:
    """The folder, within a sweep's, that holds those of its trials."""
    return Path(sweep, "trials")


@dataclass(frozen=True)
class TrialFolder:
    """A trial's own folder; whatever its code leaves there may be anything."""

    path: Path

    @classmethod
    def within(cls, sweep: str | Path, trial_id: str) -> TrialFolder:
        """The trial's folder in that of its sweep; with an empty `sweep`, paths are relative to the sweep's folder."""
        return cls(trials_folder(sweep) / trial_id)

    @property
    def log(self) -> Path:
        """What the trial's process writes to standard output and error."""
        return self.path / LOG

    @property
    def files(self) -> Path:
        """What becomes the trial's MLflow artifacts, under the same relative paths."""
        return self.path / FILES

    @property
    def summary(self) -> Path:
        return self.path / SUMMARY

    def profile(self, name: Pass) -> Path:
        """The folder of a profiled pass."""
        return self.files / "profile" / name

    def top_ops(self, name: Pass) -> Path:
        """The table of what the step of a profiled pass spent its time on."""
        return self.profile(name) / "top_ops.json"

    @property
    def checkpoints(self) -> Path:
        """What a trial continues from when it is run again on the same machine; it stays there."""
        return self.path / "checkpoints"

    def places(self) -> Iterator[Path]:
        """The folder and everything in it that a trial writes to."""
        yield from (self.path, self.log, self.files, self.checkpoints)
