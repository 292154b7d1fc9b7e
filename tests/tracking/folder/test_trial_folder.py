from __future__ import annotations

from pathlib import Path

from tracking.folder.trial_folder import SUMMARY, TrialFolder, trials_folder


def test_a_trials_folder_is_within_its_sweeps() -> None:
    folder = TrialFolder.within("/sweep", "a1")
    assert folder.path == trials_folder("/sweep") / "a1" == Path("/sweep/trials/a1")
    assert folder.log == Path("/sweep/trials/a1/log.txt")
    assert folder.summary == folder.path / SUMMARY == folder.files / "summary.txt"
    assert folder.top_ops("forward") == folder.profile("forward") / "top_ops.json"
    assert folder.profile("forward").is_relative_to(folder.files)
    assert list(folder.places()) == [folder.path, folder.log, folder.files, folder.checkpoints]


def test_names_within_a_sweep_are_relative() -> None:
    assert str(TrialFolder.within("", "a1").summary) == "trials/a1/files/summary.txt"
