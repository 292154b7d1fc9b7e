"""Commands where they are started oddly: several oddities at once, because each sweep takes seconds."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sweep_command import COMMAND, QUICK, ROOT, journal, only_sweep, run

NET = """
import functools, keras

def net(width=2):
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.layers.Dense(width)(keras.layers.Flatten()(image)))

class Family:
    @staticmethod
    def static():
        return net(3)
    def __call__(self):
        return net(4)

partial = functools.partial(net, width=5)
instance = Family()
"""
CHEAP = ["cluster=inline", "tracking=csv", "calibrate=false", *QUICK]
SHADOWS = ("statistics", "queue", "json", "random", "types", "copy", "email", "tempfile")
NOTEBOOK = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
STRANGE = {
    "COLUMNS": "abc",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "PYTHONOPTIMIZE": "2",
    "RAY_ADDRESS": "192.0.2.1:5",
    "OMP_NUM_THREADS": "abc",
    "CUDA_VISIBLE_DEVICES": "²",
}


def odd_folder(folder: Path) -> Path:
    """A folder whose name no URI, shell or UTF-8 likes, with modules that nobody but its owner means."""
    place = folder / os.fsdecode(b"w\xef  %41#?&'\"\xf0\x9f\x98\x80")
    place.mkdir()
    for name in SHADOWS:
        (place / f"{name}.py").write_text("raise RuntimeError('somebody else has imported this')\n")
    (place / "mynet.py").write_text(NET)
    return place


def test_a_sweep_from_a_notebook_in_ascii_in_a_folder_of_odd_names(tmp_path: Path) -> None:
    here = odd_folder(tmp_path)
    targets = "mynet.net,mynet.partial,mynet.instance,mynet.Family.static"
    done = run(here, "-m", f"model._target_={targets}", "batch=1", *CHEAP, **NOTEBOOK, **ASCII, **STRANGE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " +/- " in done.stdout
    sweep = only_sweep(here)
    assert [line["status"] for line in journal(sweep)] == ["ok"] * 4
    with (sweep / "results.csv").open(encoding="utf-8") as file:
        assert len({row["trial_id"] for row in csv.DictReader(file)}) == 4
    assert (sweep / "report.html").stat().st_size > 0
    assert list(sweep.glob("plots/*.png"))
    for command in (["show.py", "latest"], ["show.py"], ["compare.py", str(sweep), str(sweep)]):
        words = [sys.executable, str(ROOT / "tracking" / command[0]), *command[1:]]
        env = {**os.environ, **NOTEBOOK, **ASCII}
        shown = subprocess.run(words, cwd=here, env=env, capture_output=True, check=False)
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.isascii()


def test_mlflow_in_folders_of_odd_names(tmp_path: Path) -> None:
    """SQLAlchemy and MLflow take no name that is not UTF-8, which is reported before anything runs."""
    done = run(odd_folder(tmp_path), "model._target_=mynet.net", "cluster=inline", "calibrate=false", *QUICK)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "expected a place for MLflow whose name is text in this locale. Received: " in done.stderr
    assert done.stderr.count("\n") == 1
    here = tmp_path / "it's w %41 #?\"é\N{GRINNING FACE}"
    here.mkdir()
    done = run(here, "model=tiny", "cluster=inline", "calibrate=false", *QUICK, **NOTEBOOK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert len(list(here.glob("mlartifacts/sweeps/*/artifacts/layers.json"))) == 1


def test_a_module_whose_name_another_one_has(tmp_path: Path) -> None:
    here = odd_folder(tmp_path)
    done = run(here, "model._target_=statistics.net", *CHEAP)
    assert done.returncode == 2
    assert "Received: ./statistics.py beside " in done.stderr
    assert "rename ./statistics.py to use it" in done.stderr
    (here / "broken.py").write_text("def net(:\n")
    done = run(here, "model._target_=broken.net", *CHEAP)
    assert done.returncode == 2
    assert "expected broken to be Python. Received: " in done.stderr
    assert "broken.py, line 1: invalid syntax" in done.stderr


def test_nets_print_in_ascii_whatever_lies_here(tmp_path: Path) -> None:
    for name in ("statistics", "queue", "random"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('somebody else has imported this')\n")
    env = os.environ | ASCII | NOTEBOOK | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "nets", "tiny"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "conv1" in done.stdout


def test_closed_streams_and_a_folder_that_has_gone(tmp_path: Path) -> None:
    words = " ".join(map(repr, [*COMMAND, "model=tiny", "batch=1", "dry_run=true", *CHEAP]))
    closed = subprocess.run(f"{words} <&- >&- 2>&-", shell=True, cwd=tmp_path, check=False)
    assert closed.returncode == 0
    gone = subprocess.run(
        f"mkdir gone && cd gone && rmdir ../gone && {words}", shell=True, cwd=tmp_path, capture_output=True, check=False
    )
    assert gone.returncode == 2
    assert (
        gone.stderr == b"error: expected to be started in a folder that exists. Received: No such file or directory.\n"
    )


@pytest.mark.parametrize("flag", ["-I", "-P"])
def test_isolated_python_finds_what_it_needs(tmp_path: Path, flag: str) -> None:
    words = [sys.executable, flag, *COMMAND[1:], "model=tiny", "batch=1", "dry_run=true", *CHEAP]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Nothing was run." in done.stdout
