from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.sources import provenance
from tests.support.sweep_command import QUICK, only_sweep, run

ROOT = Path(__file__).resolve().parents[3]


def git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=someone", "-c", "user.email=someone@example.com"]
    command = ["git", "-C", str(folder), *names, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "mine.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("data/\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def of_project(folder: Path, results: Path | None = None) -> dict[str, object]:
    facts = provenance.facts(folder, results or folder / "multirun/day/time")
    return {key: value for key, value in facts.items() if key.startswith("git_project")}


def test_the_commit_of_the_project_is_beside_the_tools(project: Path) -> None:
    facts = provenance.facts(project, project / "multirun")
    assert facts["git_project_commit"] == git(project, "rev-parse", "HEAD")
    assert facts["git_project_clean"] is True
    assert facts["git_commit"] == git(ROOT, "rev-parse", "HEAD")
    assert facts["git_clean"] is (git(ROOT, "status", "--porcelain") == "")


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("mine.py", False),
        ("new file.py", False),
        ("deep/other.py", False),
        ("data/pictures.npy", True),  # git ignores it
        ("multirun/2026-01-01/12-00-00/plan.json", True),
        ("outputs/2026-01-01/12-00-00/plan.json", True),
        ("mlruns/0/meta.yaml", True),
        ("mlartifacts/sweeps/log.txt", True),
        ("mlflow.db", True),
        ("mlflow.db-journal", True),
        ("elsewhere/plan.json", True),  # hydra.sweep.dir=elsewhere
        ("__pycache__/mine.cpython-311.pyc", True),
        ("deep/outputs/table.csv", False),
    ],
)
def test_clean_is_without_changes_but_for_what_sweeps_leave(project: Path, path: str, clean: bool) -> None:
    (project / path).parent.mkdir(parents=True, exist_ok=True)
    (project / path).write_text("x = 2\n")
    assert of_project(project, project / "elsewhere")["git_project_clean"] is clean


def test_a_sweep_may_be_started_deep_within_the_project(project: Path) -> None:
    deep = project / "experiments" / "first"
    (deep / "multirun").mkdir(parents=True)
    (deep / "multirun" / "plan.json").write_text("{}")
    assert of_project(deep)["git_project_clean"] is True
    (deep / "multirun" / "plan.json").unlink()
    (project / "mine.py").write_text("x = 3\n")
    assert of_project(deep)["git_project_clean"] is False


def test_where_git_does_not_tell_there_is_a_word_why(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert of_project(tmp_path) == {}  # no repository
    git(tmp_path, "init", "-q", "empty")
    assert of_project(tmp_path / "empty") == {"git_project_unknown": "empty"}
    git(tmp_path, "clone", "-q", "--bare", str(project), "bare")
    assert of_project(tmp_path / "bare") == {"git_project_unknown": "bare"}
    if os.geteuid() == 0:
        shutil.copytree(project, tmp_path / "theirs")
        for path in (tmp_path / "theirs", tmp_path / "theirs" / ".git"):
            os.chown(path, 12345, 12345)
        assert of_project(tmp_path / "theirs") == {"git_project_unknown": "ownership"}
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "empty" / ".git"))  # as within a hook of another repository
    assert of_project(project)["git_project_commit"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.facts(project, project) == {"git_unknown": "no-git", "git_project_unknown": "no-git"}


def test_a_copy_of_the_tool_in_somebody_elses_repository_has_no_commit(project: Path) -> None:
    (project / "data" / "sweeps").mkdir(parents=True)
    (project / "data" / "sweeps" / "provenance.py").write_text("")
    facts = provenance.facts(project, project, tool=project / "data")
    assert "git_commit" not in facts
    assert facts["git_project_clean"] is True


NET = """
import keras

def net():
    {line}
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
"""


def test_a_sweep_tells_the_projects_commit_and_that_it_goes_on_at_another(project: Path) -> None:
    (project / "mine.py").write_text(NET.format(line="raise ValueError"))
    first = git(project, "rev-parse", "HEAD")
    inline = ["cluster=inline", "tracking=none", "calibrate=false"]
    assert run(project, "model._target_=mine.net", "batch=1", *inline, *QUICK).returncode == 1
    sweep = only_sweep(project)
    facts = json.loads((sweep / "plan.json").read_text())["facts"]
    assert (facts["git_project_commit"], facts["git_project_clean"]) == (first, False)
    expected = f"the project at commit {first} with uncommitted changes"
    assert expected in (sweep / "report.html").read_text()

    (project / "mine.py").write_text(NET.format(line="pass"))
    git(project, "commit", "-q", "-a", "-m", "second")
    second = git(project, "rev-parse", "HEAD")
    done = run(project, "resume=latest", "rerun=failed", *inline)
    assert done.returncode == 0, done.stdout + done.stderr
    change = f"the project was at {first[:12]} with uncommitted changes and is at {second[:12]}"
    assert f"the code has changed since the sweep was begun, and so may its figures: {change}" in done.stderr
    assert f"resumed later: {change}" in (sweep / "report.html").read_text()
    shown = subprocess.run(
        [sys.executable, str(ROOT / "tracking" / "show.py"), "latest"], cwd=project, capture_output=True, text=True
    )
    assert f"the project at commit {first[:12]} with uncommitted changes; resumed later: {change}" in shown.stdout
