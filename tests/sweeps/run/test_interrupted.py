"""Sweeps that are cut short, by signals, by a closed terminal, a full disk or failing trials, and resumed."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.sweep_command import COMMAND, QUICK, journal, left_in, only_sweep, run, terminal_environment


def interrupted(folder: Path, arguments: list[str], after: str, number: signal.Signals) -> tuple[int, str]:
    """Run a sweep; after a line that starts with `after`, signal its process group, as a terminal does.

    Returns its exit code and all of its output.
    """
    with subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=terminal_environment(),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        output = []
        for line in process.stdout:
            output.append(line)
            if line.startswith(after):
                break
        os.killpg(process.pid, number)
        output.append(process.stdout.read())
        return process.wait(60), "".join(output)


def test_a_terminal_that_closes_interrupts(tmp_path: Path) -> None:
    """The system sends SIGHUP, and no word can be written any more."""
    (tmp_path / "go").touch()
    grid = ["-m", "model._target_=tests.support.models.healthy.waiting", "batch=1,2", "order=grid", *QUICK]
    command = [*COMMAND, *grid, "calibrate=false", "tracking=csv"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(command[0], command, terminal_environment())
    output = b""
    while b"1/2" not in output:
        output += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    sweep = only_sweep(tmp_path)
    assert [line["status"] for line in journal(sweep)] == ["ok"]
    for name in ("results.csv", "report.html"):
        assert (sweep / name).stat().st_size > 0, name
    assert left_in(tmp_path) == []


def test_a_reader_that_goes_away_costs_no_result(tmp_path: Path) -> None:
    arguments = ["-m", "model=tiny", "batch=1,2", *QUICK, "cluster=inline", "calibrate=false", "tracking=none"]
    reader = shlex.join([*COMMAND, *arguments]) + " | head -n 1; exit ${PIPESTATUS[0]}"
    done = subprocess.run(
        ["bash", "-c", reader],
        cwd=tmp_path,
        env=terminal_environment(),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "standard output can no longer be written (Broken pipe)" in done.stderr
    assert "Traceback" not in done.stderr
    assert [line["status"] for line in journal(only_sweep(tmp_path))] == ["ok", "ok"]


def test_an_interrupted_sweep_keeps_what_it_has_and_is_resumed(tmp_path: Path) -> None:
    grid = ["-m", "model._target_=tests.support.models.healthy.waiting", "batch=1,2,3", "order=grid", *QUICK]
    let_one_end = (tmp_path / "go").touch
    let_one_end()
    code, output = interrupted(tmp_path, [*grid, "calibrate=false", "tracking=csv"], "1/3", signal.SIGINT)
    assert code == 130, output
    assert left_in(tmp_path) == []
    sweep = only_sweep(tmp_path)
    before = journal(sweep)
    assert [line["status"] for line in before] == ["ok"]
    assert "2 of 3 trials have no result" in output
    assert f"resume={sweep.relative_to(tmp_path)}" in output
    assert "Traceback" not in output
    for name in ("results.csv", "report.html"):
        assert (sweep / name).stat().st_size > 0, name
    resuming = ["resume=latest", "cluster=inline", "calibrate=false", "tracking=csv"]
    let_one_end()
    code, output = interrupted(tmp_path, resuming, "1/2", signal.SIGTERM)
    assert code == 130, output
    assert len(journal(sweep)) == 2
    let_one_end()
    done = run(tmp_path, *resuming)
    assert done.returncode == 0, done.stdout + done.stderr
    after = journal(sweep)
    assert after[0] == before[0]
    assert sorted((line["trial"]["batch"], line["status"]) for line in after) == [(1, "ok"), (2, "ok"), (3, "ok")]
    assert not (tmp_path / "outputs").exists()


def test_a_sweep_stops_when_all_fail_alike(tmp_path: Path) -> None:
    grid = ["-m", "model=tiny", "batch=1,2,3,4", "model._target_=tests.support.models.failing.raising", "fail_fast=2"]
    done = run(tmp_path, *grid, "cluster=inline", "calibrate=false", "tracking=none", *QUICK)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "fail_fast=2: the first to end failed alike, ValueError: expected a good day" in done.stderr
    assert "2 of 4 trials have no result" in done.stdout
    assert len(journal(only_sweep(tmp_path))) == 2


def test_a_full_disk_ends_a_sweep_with_a_sentence_and_loses_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "none", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        many = ",".join(str(batch) for batch in range(1, 25))
        arguments = ["cluster=inline", "calibrate=false", "tracking=csv"]
        done = run(small, "-m", "model=tiny", f"batch={many}", *arguments, *QUICK)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert "trials have no result; run them with" in done.stdout
        sweep = only_sweep(small)
        kept = journal(sweep)
        assert 2 < len(kept) < 24
        assert subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        done = run(small, "resume=latest", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert journal(sweep)[: len(kept)] == kept
        assert len({line["trial_id"] for line in journal(sweep)}) == len(journal(sweep)) == 24
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
