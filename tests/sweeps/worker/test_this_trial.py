from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.worker import this_trial
from tracking.folder.trial_folder import TrialFolder


def test_a_process_finds_the_folder_of_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = TrialFolder(tmp_path / "trial")
    for name, value in this_trial.environment(folder).items():
        monkeypatch.setenv(name, value)
    assert this_trial.folder() == folder
    (this_trial.files() / "note.txt").write_text("from an earlier try")
    this_trial.clear_files()
    assert list(this_trial.files().iterdir()) == []
    assert this_trial.checkpoints() == folder.checkpoints
    assert folder.checkpoints.is_dir()


def test_outside_a_trial_there_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWEEPS_TRIAL_FOLDER", raising=False)
    with pytest.raises(RuntimeError, match="expected the process of a trial"):
        this_trial.files()
