"""The files that `benchmarks/gpu.sh` writes, without a GPU: failed passes, PyTorch out of time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.gpu import tables
from benchmarks.gpu.plan import Grid, points
from benchmarks.gpu.report import write
from tracking.folder.journal import Journal
from tracking.record import Failure, Result, Sweep
from tracking.schema.device import Device
from tracking.schema.measurement import Measurement

GPU = Device(name="gpu", kind="gpu", gpus=1)
STEADY = Measurement(first_call_s=1.0, warmup_s=(), step_s=(0.1,) * 9, stopped="target", flops=10**9)
OOM = Failure(kind="ResourceExhaustedError", message="OOM when allocating")


def test_a_journal_with_failed_passes_is_written_in_full(tmp_path: Path) -> None:
    trials = tuple(points(Grid(device=GPU))[:4])
    whole = Result(trial=trials[0], sweep_id="gpu", status="ok", passes={"forward": STEADY, "forward_backward": STEADY})
    half = Result(trial=trials[1], sweep_id="gpu", status="oom", passes={"forward": STEADY}, error=OOM)
    none = Result(trial=trials[2], sweep_id="gpu", status="oom", error=OOM)
    sweep = Sweep(sweep_id="gpu", folder=str(tmp_path), command="", created_at=time.time(), trials=trials)
    with Journal(tmp_path) as journal:
        journal.write_plan(sweep)
        for result in (whole, half, none):
            journal.append(result)
        write(sweep, list(journal.read()), [{"error": "PyTorch was not measured"}], {}, {})
    written = json.loads((tmp_path / "gpu.json").read_text())
    rows = [(row["model"], row["pass"], row["status"]) for row in written["points"]]
    models = [trial.model for trial in trials]
    assert rows == [
        (models[0], "forward", "ok"),
        (models[0], "forward_backward", "ok"),
        (models[1], "forward", "ok"),
        (models[1], "forward_backward", "oom"),
        (models[2], "forward", "oom"),
        (models[2], "forward_backward", "oom"),
    ]
    assert len(written["left_out"]) == 1
    markdown = (tmp_path / "tables.md").read_text()
    assert f"| {models[1]} | 256 | bfloat16 | graph | forward_backward | oom | OOM when allocating |" in markdown
    assert (tmp_path / "report.html").is_file()


def test_the_next_call_measures_what_pytorch_had_no_time_for(tmp_path: Path) -> None:
    measured = {"model": "vgg16", "batch": 256, "precision": "bfloat16", "mode": "nchw", "pass": "forward_backward"}
    late = {"model": "vgg16", "batch": 256, "precision": "tf32", "mode": "nchw"}
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        f"case \"$*\" in *--known*) echo '{json.dumps(late | {'pass': 'forward_backward'})}'; exit;; esac\n"
        f"echo '{json.dumps(measured)}'\necho '{json.dumps(late | {'error': 'left out: no time left'})}'\n"
    )
    python.chmod(0o755)
    assert [row.get("error") for row in tables.torch(str(python), tables.GPU, 9.0, tmp_path)] == [
        None,
        "left out: no time left",
    ]
    again = tables.torch(str(python), tables.GPU, 9.0, tmp_path)
    assert [(row["precision"], "error" in row) for row in again] == [("bfloat16", False), ("tf32", False)]
    assert f"--known {tmp_path}/torch.jsonl" in (tmp_path / "calls").read_text().splitlines()[1]


def test_without_pytorch_one_entry_gives_the_reason(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'torch'\" >&2\nexit 1\n")
    python.chmod(0o755)
    (row,) = tables.torch(str(python), tables.GPU, 9.0, tmp_path)
    assert row["error"] == "PyTorch was not measured: ModuleNotFoundError: No module named 'torch'"


def test_a_calibration_ends_in_time(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LEAST_S", 0.001)
    with Journal(tmp_path) as journal:
        run = tables.Run(
            grid=tables.REHEARSAL,
            folder=tmp_path,
            server=server,
            end=time.monotonic(),
            journal=journal,
            results={},
            limits={},
        )
        run.calibrate()
    assert run.limits == {"bfloat16": {}, "float32": {}}  # no calibration fits into a millisecond
