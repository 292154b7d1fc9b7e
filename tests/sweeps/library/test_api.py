"""Sweeps from Python, called as notebooks, pipelines and other applications call them."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas
import psutil
import pytest

import sweeps
from sweeps import DispatchError, UsageError, read, sweep
from sweeps.library.api import SweepResult
from tests.support.sweep_command import left_in

ROOT = Path(__file__).resolve().parents[3]
CHEAP: dict[str, Any] = {
    "cluster": "inline",
    "tracking": "csv",
    "calibrate": False,
    "protocol": {"name": "classic", "burn_in": 1, "steps": 3},
}
APPLICATION = """
import asyncio, json, logging, os, signal, sys
from pathlib import Path
import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from sweeps import sweep

def here():
    handlers = [(str(handler), logger.level) for logger in (logging.getLogger(), logging.getLogger("hydra"))
                for handler in logger.handlers]
    signals = [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    return [sys.path[:], sys.argv[:], dict(os.environ), handlers, signals, str(Path.cwd()), HydraConfig.get().job.name,
            id(GlobalHydra.instance().hydra), {"ray", "tensorflow", "mlflow", "matplotlib"} & set(sys.modules)]

async def both():
    keys = json.loads(sys.stdin.read())
    one = asyncio.to_thread(sweep, "model=tiny", batch=1, folder="sweep 1", **keys)
    two = asyncio.to_thread(sweep, "model=tiny", batch=2, **keys)
    return [*await asyncio.gather(one, two), sweep(["model=tiny", "batch=1,2"], dry_run=True, folder="planned")]

@hydra.main(version_base=None, config_path=None)
def application(cfg):
    before = here()
    one, two, planned = asyncio.run(both())
    assert here() == before, (before, here())
    assert one.ok and two.ok and one.folder == Path("sweep 1").absolute()
    assert two.folder.parent.parent == Path("multirun").absolute() and len(two.folder.name) > len("HH-MM-SS")
    assert (planned.folder, planned.sweep_id, planned.trials, planned.exit_code) == (None, None, (), 0)
    assert "Nothing was run." in planned.text and not Path("planned").exists()
    sys.stderr.write("done")

application()
"""


def python(code: str, folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Run a script, which nothing of the kind `if __name__ == "__main__"` protects."""
    script = folder / "script.py"
    script.write_text(code)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, str(script), *arguments]
    return subprocess.Popen(command, cwd=folder, env=env, text=True, **pipes, **options)


def test_an_application_with_hydra_and_asyncio_finds_itself_as_it_was(tmp_path: Path) -> None:
    with python(APPLICATION, tmp_path, "+mine=1") as process:
        out, err = process.communicate(json.dumps(CHEAP), timeout=200)
    assert (out, err, process.returncode) == ("", "done", 0)
    assert left_in(tmp_path) == []


def test_results_are_records_and_a_table(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A trial that fails is a row; with progress, it is printed as it comes; a warning is the logger's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    with caplog.at_level(logging.WARNING, "sweeps"):
        done = sweep(
            "model=tiny",
            {"model._target_": [None, "tests.support.models.failing.raising"]},
            batch=1,
            progress=True,
            **CHEAP,
        )
    assert "1/2  tiny b=1  ok" in (printed := capsys.readouterr().out)
    assert done.text == printed
    assert any("TF_ENABLE_ONEDNN_OPTS" in record.message for record in caplog.records)
    assert [result.status for result in done.results] == ["ok", "error"]
    assert (done.ok, done.finished, done.exit_code, done.job, len(done.trials)) == (False, True, 1, None, 2)
    assert done.folder is not None
    assert done.folder.is_relative_to(tmp_path / "multirun")
    frame = done.frame()
    written = pandas.read_csv(done.folder / "results.csv")
    assert list(frame.columns) == list(written.columns)
    assert frame[["name", "pass", "status"]].fillna("").to_numpy().tolist() == [
        ["tiny b=1", "forward", "ok"],
        ["tiny b=1", "forward_backward", "ok"],
        ["raising b=1", "", "error"],
    ]
    assert frame["mean_s"].dtype == "Float64"
    assert frame["mean_s"][0] == pytest.approx(done.results[0].passes["forward"].mean_s)
    assert [read(name) for name in ("latest", done.sweep_id, done.folder)] == [_alone(done)] * 3
    command = json.loads((done.folder / "plan.json").read_text())["command"]
    assert shlex.split(command)[:3] == ["python", str(ROOT / "sweeps" / "run.py"), "-m"]
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    pasted = subprocess.run(f"{command} dry_run=true", shell=True, env=env, capture_output=True, text=True, check=False)
    assert pasted.returncode == 0, pasted.stderr
    assert "Trials   2 " in pasted.stdout
    assert "step_s" not in repr(done)
    assert sweep(resume=done.folder, **{key: CHEAP[key] for key in ("cluster", "tracking")}).results == done.results


def _alone(done: SweepResult) -> SweepResult:
    """What of a result is known without the command that made it."""
    return replace(done, text="")


def test_all_problems_are_raised_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as raised:
        sweep("modle=vgg16", batch=[0, "two"], passes=["sideways"])  # type: ignore[list-item]
    sentences = "\n".join(raised.value.problems)
    for words in ("Did you mean model", "batch=0: expected at least 1", "batch=two: expected a", "passes=[sideways]: "):
        assert words in sentences
    assert raised.value.folder is None
    with pytest.raises(UsageError, match="expected none with resume"):
        sweep(resume="latest", folder="x")
    with pytest.raises(UsageError, match="expected a sweep's folder"):
        read("latest")
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


LONG = """
from sweeps import DispatchError, sweep
try:
    keys = {"cluster": "inline", "tracking": "none", "calibrate": False}
    sweep("model=tiny,vgg16", "protocol=classic", {"protocol.steps": 99}, batch=1, progress=True, **keys)
except KeyboardInterrupt:
    print("interrupted", flush=True)
except DispatchError as error:
    print(error.folder, error, sep="\\n")
"""
"""A sweep whose second trial takes longer than a test waits for."""


def wait_for_the_first(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith("1/2"):
        assert line, process.stderr and process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_sweep_ends_with_its_caller(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C is raised where the sweep has ended in order; whatever kills the caller ends the sweep, too."""
    with python(LONG, tmp_path) as process:
        wait_for_the_first(process)
        process.send_signal(number)
        rest = process.stdout.read() if process.stdout else ""
    assert (process.returncode, rest) == ((0, "interrupted\n") if number == signal.SIGINT else (-number, ""))
    check_what_is_kept(tmp_path)


def check_what_is_kept(folder: Path) -> Path:
    """The first of two trials, and no process; return the sweep's folder."""
    assert left_in(folder) == []
    (plan,) = folder.glob("multirun/*/*/plan.json")
    kept = read(plan.parent)
    assert [result.status for result in kept.results] == ["ok"]
    assert (kept.finished, kept.ok, kept.exit_code, len(kept.trials)) == (False, False, 1, 2)
    return plan.parent


def test_a_driver_that_is_killed_is_an_error_that_names_what_is_kept(tmp_path: Path) -> None:
    with python(LONG, tmp_path) as process:
        wait_for_the_first(process)
        (driver,) = psutil.Process(process.pid).children()
        driver.kill()
        folder, sentence = process.stdout.read().splitlines() if process.stdout else ("", "")
    assert sentence == "the process that ran the sweep was killed by signal 9: it printed nothing"
    assert check_what_is_kept(tmp_path) == Path(folder)


def test_a_driver_that_dies_is_an_error_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nsys.stderr.write('no luck\\n')\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DispatchError, match=r"^the process that ran the sweep was killed by signal 6: no luck$"):
        sweep(model="tiny")


def use_sbatch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an `sbatch` that takes everything."""
    folder.mkdir()
    (folder / "sbatch").write_text("#!/bin/sh\necho '4711;cluster'\n")
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_batch_job_is_submitted_and_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    use_sbatch(tmp_path / "bin", monkeypatch)
    done = sweep(model="tiny", batch=[1, 2], cluster={"name": "slurm", "setup": ["true"]}, folder="a sweep, mine")
    assert (done.job, done.exit_code, done.folder) == ("4711", 0, tmp_path / "a sweep, mine")
    assert (done.finished, done.ok, done.results, len(done.trials)) == (False, False, (), 2)
    assert "Job      4711" in done.text
    assert len(done.frame()) == 0
    assert done.folder is not None
    assert read(done.folder).sweep_id == done.sweep_id


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_documented_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a net that is fast, and `sbatch` being a script."""
    monkeypatch.chdir(tmp_path)
    quick = partial(_quick, sweep)
    monkeypatch.setattr(sweeps, "sweep", quick, raising=False)
    names: dict[str, Any] = {}
    smaller = {"vgg16": "tiny", "[1, 2, 4, 8]": "[1, 2]", "[1, 2, 4]": "[1, 2]"}
    first, wrong, *pipeline = (re.sub("|".join(map(re.escape, smaller)), _in(smaller), block) for block in blocks())
    exec(first, names)
    assert "images/s" in capsys.readouterr().out
    assert len(names["done"].results) == 4
    exec(wrong, names)
    assert "Did you mean" in capsys.readouterr().out
    for block in pipeline:
        exec(block, names)
    table = names["measure"]("tiny", "measured")
    assert pandas.read_csv(table)["batch"].unique().tolist() == [1, 2]
    assert names["measure"]("tiny", "measured") == table
    assert names["is_done"]("measured")
    use_sbatch(tmp_path / "bin", monkeypatch)
    assert names["submit"]("submitted") == "4711"
    assert not names["is_done"]("submitted")


def _in(replacements: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    return lambda match: replacements[match[0]]


def _quick(run: Callable[..., SweepResult], *arguments: Any, **keys: Any) -> SweepResult:
    kept = {key: CHEAP[key] for key in ("cluster", "tracking")}
    return run(*arguments, **(kept if "resume" in keys else CHEAP) | keys)
