from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweeps.machine.cores import available
from sweeps.worker import isolate, limits
from sweeps.worker.isolate import run_trial
from tracking.folder.trial_folder import TrialFolder
from tracking.record import Result, Trial
from tracking.schema.device import Device
from tracking.schema.protocols import Classic

TINY = Trial(model="tiny", batch=2, protocol=Classic(burn_in=1, steps=3))


def run(trial: Trial, server: str, tmp_path: Path) -> Result:
    cpu = {"CUDA_VISIBLE_DEVICES": "-1"}
    return run_trial(trial, sweep_id="s", server=server, cores=available(), env=cpu, folder=TrialFolder(tmp_path))


def failing(name: str) -> Trial:
    return replace(TINY, model=name, target=f"tests.support.models.failing.{name}")


def process_model(name: str, **arguments: object) -> Trial:
    return replace(TINY, model=name, target=f"tests.support.models.process.{name}", model_args=arguments)


@contextlib.contextmanager
def running_again(server: str) -> Iterator[int]:
    """The process id of the server, which is continued at the end if it was stopped."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(server)
        pid = int(struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_trial_comes_back_whole(server: str, tmp_path: Path) -> None:
    result = run(TINY, server, tmp_path)
    assert result.status == "ok", result.error
    assert list(result.passes) == ["forward", "forward_backward"]
    for measurement in result.passes.values():
        assert len(measurement.warmup_s) == 1
        assert len(measurement.step_s) == 3
        assert measurement.flops
        assert measurement.peak_rss_mb
    assert result.layers[0].output_shape[0] == 2
    assert result.host["cores"] == list(available())
    assert result.host["tensorflow"]
    assert {"fork", "setup", "build"} <= set(result.phases)
    log = (tmp_path / "log.txt").read_text()
    assert "conv1 [2, 8, 8, 4]" in log
    assert ": step 0, duration = " in log
    assert "Forward across 3 steps, " in log
    assert "Forward-backward across 3 steps, " in log
    assert log.rstrip().endswith("sec / batch")


@pytest.mark.parametrize(
    ("model", "status", "kind", "words"),
    [
        ("raising", "error", "ValueError", "a bad one"),
        ("segfaulting", "crashed", "SIGSEGV", "died of SIGSEGV"),
        ("killed", "crashed", "SIGKILL", "died of SIGKILL"),
        ("exiting", "crashed", "Exit7", "code 7"),
        ("aborting", "crashed", "SIGABRT", "died of SIGABRT"),
        ("aborting_out_of_memory", "oom", "SIGABRT", "out of memory: F0000 stream.cc:1 CUBLAS_STATUS_ALLOC_FAILED"),
        ("exhausting", "oom", "ResourceExhaustedError", "OOM"),
        ("out_of_gpu_memory", "oom", "InternalError", "Out of memory while trying to allocate"),
    ],
)
def test_a_failure_is_a_status_with_its_cause(
    server: str, tmp_path: Path, model: str, status: str, kind: str, words: str
) -> None:
    result = run(failing(model), server, tmp_path)
    assert result.status == status
    assert result.error is not None
    assert result.error.kind == kind
    assert words in result.error.message


def test_a_process_that_leaves_in_mid_trial_has_not_done_it(server: str, tmp_path: Path) -> None:
    result = run(replace(failing("exiting"), model_args={"code": 0}), server, tmp_path)
    assert result.status == "crashed"
    assert result.error is not None
    assert result.error.message == "the process exited with code 0 before it was done"


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGHUP, "SIGHUP"), (40, "Signal40"), (64, "SIGRTMAX")])
def test_a_process_may_die_of_a_signal_without_a_name(server: str, tmp_path: Path, number: int, kind: str) -> None:
    result = run(process_model("dying_of", number=int(number)), server, tmp_path)
    assert result.status == "crashed"
    assert result.error is not None
    assert result.error.kind == kind
    assert result.error.message == f"the process died of {kind}"


@pytest.mark.parametrize(("code", "number", "words"), [(None, 0, ""), (0, 0, ""), (3, 3, ""), ("text", 1, ": text")])
def test_an_exit_is_reported_with_its_code(server: str, tmp_path: Path, code: object, number: int, words: str) -> None:
    result = run(process_model("leaving", code=code), server, tmp_path)
    assert result.status == "crashed"
    assert result.error is not None
    assert result.error.kind == f"Exit{number}"
    assert result.error.message == f"the process exited with code {number} before it was done{words}"
    assert "in leaving" in result.error.detail


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("interrupt", "KeyboardInterrupt", "interrupt"),
        ("base", "_NoException", "base"),
        ("unreadable", "_UnreadableError", "its message cannot be read (ValueError)"),
    ],
)
def test_whatever_is_raised_is_that_trials_error(server: str, tmp_path: Path, what: str, kind: str, words: str) -> None:
    result = run(process_model("raising", what=what), server, tmp_path)
    assert result.status == "error"
    assert result.error is not None
    assert (result.error.kind, result.error.message) == (kind, words)


def test_a_copy_of_the_trials_process_says_nothing(server: str, tmp_path: Path) -> None:
    result = run(process_model("returning_twice"), server, tmp_path)
    assert result.status == "ok", result.error
    assert list(result.passes) == ["forward", "forward_backward"]


def test_a_trials_daemon_ends_before_the_next_begins(server: str, tmp_path: Path) -> None:
    result = run(process_model("starting_a_daemon", pid_file=str(tmp_path / "pid")), server, tmp_path)
    assert result.status == "ok", result.error
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("then", "limits_", "status", "kind"),
    [
        ("hang", {"timeout_s": 1.0}, "timeout", "Timeout"),
        ("grow", {"timeout_s": 200.0, "device": Device(memory_mb=1500)}, "oom", "MemoryLimit"),
        ("exit", {}, "crashed", isolate.LOST),
        ("finish", {}, "crashed", isolate.LOST),
    ],
)
def test_limits_hold_while_the_fork_server_is_stopped(
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    then: str,
    limits_: dict[str, Any],
    status: str,
    kind: str,
) -> None:
    monkeypatch.setattr(limits, "END_S", 0.5)
    with running_again(server):
        result = run(replace(process_model("stopping_its_server", then=then), **limits_), server, tmp_path)
    assert result.status == status
    assert result.error is not None
    assert result.error.kind == kind
    if kind == isolate.LOST:
        assert result.error.detail == "the fork server did not report the end of the trial's process within 0.5 s"


def test_a_server_that_starts_nothing_is_lost(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "START_S", 0.2)
    with running_again(server) as pid:
        os.kill(pid, signal.SIGSTOP)
        result = run(TINY, server, tmp_path)
    assert result.status == "crashed"
    assert result.error is not None
    assert result.error.kind == isolate.LOST
    assert result.error.detail == "the fork server did not start the trial's process within 0.2 s"


def test_a_limit_that_is_over_before_the_process_begins_is_a_time_limit(server: str, tmp_path: Path) -> None:
    result = run(replace(TINY, timeout_s=1e-6), server, tmp_path)
    assert result.status == "timeout", result.error


@pytest.mark.parametrize("text", ["", "a part"])
def test_a_trial_that_stops_itself_ends_at_its_time_limit(server: str, tmp_path: Path, text: str) -> None:
    result = run(replace(process_model("stopping_itself", text=text), timeout_s=1.0), server, tmp_path)
    assert result.status == "timeout", result.error


@pytest.mark.parametrize(("text", "times"), [("x", 2**25), ("x\n", 2**24), ("\0\x1b[31m", 2**20)])
def test_only_the_end_of_a_log_is_read_and_reported(server: str, tmp_path: Path, text: str, times: int) -> None:
    result = run(process_model("writing", text=text, times=times), server, tmp_path)
    assert (tmp_path / "log.txt").stat().st_size > 2**22
    assert result.error is not None
    assert result.error.kind == "Exit7"
    assert 0 < len(result.error.detail) < 10_000
    assert "\x1b" not in result.error.detail


@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "nothing"])
def test_what_has_replaced_a_log_is_not_read(server: str, tmp_path: Path, kind: str) -> None:
    result = run(process_model("replacing_its_log", kind=kind), server, tmp_path)
    assert result.error is not None
    assert (result.error.kind, result.error.detail) == ("Exit7", "")


def test_a_trial_ends_at_its_time_limit(server: str, tmp_path: Path) -> None:
    result = run(replace(failing("hanging"), timeout_s=1.0), server, tmp_path)
    assert result.status == "timeout"
    assert result.error is not None
    assert "timeout_s=1" in result.error.message
    assert result.wall_s >= 1.0


def test_a_trial_ends_at_its_memory_limit(server: str, tmp_path: Path) -> None:
    grown = replace(failing("growing"), timeout_s=200.0, device=Device(memory_mb=1500))
    result = run(replace(grown, model_args={"mb": 3000}), server, tmp_path)
    assert result.status == "oom"
    assert result.error is not None
    assert re.fullmatch(r"memory limit: \d+ MB resident, device.memory_mb=1500", result.error.message)
    within = run(replace(TINY, device=Device(memory_mb=1500)), server, tmp_path)
    assert within.status == "ok", within.error


def test_the_memory_of_what_a_process_starts_counts() -> None:
    hungry = "import time; held = bytearray(b'x') * (1500 * 2**20); time.sleep(3600)"
    with subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {hungry!r}])"],
        start_new_session=True,
    ) as parent:
        try:
            until = time.monotonic() + 120
            while limits.resident_mb(parent.pid) < 1500:
                assert time.monotonic() < until
                time.sleep(0.05)
        finally:
            os.killpg(parent.pid, signal.SIGKILL)
    assert limits.resident_mb(parent.pid) == 0


def test_a_server_that_is_not_there_is_lost(tmp_path: Path) -> None:
    result = run(TINY, str(tmp_path / "nothing"), tmp_path)
    assert result.status == "crashed"
    assert result.error is not None
    assert result.error.kind == isolate.LOST


def test_a_pass_that_was_measured_survives_the_next_ones_failure(server: str, tmp_path: Path) -> None:
    result = run(failing("failing_backward"), server, tmp_path)
    assert result.status == "error"
    assert list(result.passes) == ["forward"]
    assert result.layers


def test_nothing_passes_from_trial_to_trial(server: str, tmp_path: Path) -> None:
    """The same seed gives the same peak memory and layers again, after a trial with another precision and net."""
    run(replace(TINY, precision="bfloat16", batch=64), server, tmp_path)
    one, other = run(TINY, server, tmp_path), run(TINY, server, tmp_path)
    assert one.layers == other.layers
    peaks = [result.passes["forward"].peak_rss_mb or 0 for result in (one, other)]
    assert peaks[0] == pytest.approx(peaks[1], rel=0.05)


@pytest.mark.parametrize("compiler", ["graph", "xla", "eager"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compilers_and_precisions_run(server: str, tmp_path: Path, compiler: str, precision: str) -> None:
    result = run(replace(TINY, compile=compiler, precision=precision), server, tmp_path)  # type: ignore[arg-type]
    assert result.status == "ok", result.error


def test_a_callable_of_the_users_own_is_built(server: str, tmp_path: Path) -> None:
    result = run(
        replace(TINY, model="small", target="tests.support.models.healthy.small", model_args={"width": 6}),
        server,
        tmp_path,
    )
    assert result.status == "ok", result.error
    assert result.layers[-1].output_shape == (2, 6)
