"""What `benchmarks/gpu.sh` writes and keeps, without a GPU: a journal with failed passes, PyTorch out of time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tracking.folder.journal import Journal
from tracking.record import Device, Failure, Result, Sweep
from tracking.schema.measurement import Measurement

ROOT = Path(__file__).resolve().parents[2]
GPU = Device(name="gpu", kind="gpu", gpus=1)
STEADY = Measurement(first_call_s=1.0, warmup_s=(), step_s=(0.1,) * 9, stopped="target", flops=10**9)
OOM = Failure(kind="ResourceExhaustedError", message="OOM when allocating")


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


def test_a_journal_with_failed_passes_is_written_in_full(tmp_path: Path) -> None:
    from gpu_plan import Grid, points
    from gpu_report import write

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
    found = json.loads((tmp_path / "gpu.json").read_text())
    told = [(row["model"], row["pass"], row["status"]) for row in found["points"]]
    models = [trial.model for trial in trials]
    assert told == [
        (models[0], "forward", "ok"),
        (models[0], "forward_backward", "ok"),
        (models[1], "forward", "ok"),
        (models[1], "forward_backward", "oom"),
        (models[2], "forward", "oom"),
        (models[2], "forward_backward", "oom"),
    ]
    assert len(found["left_out"]) == 1
    tables = (tmp_path / "tables.md").read_text()
    assert f"| {models[1]} | 256 | bfloat16 | graph | forward_backward | oom | OOM when allocating |" in tables
    assert (tmp_path / "report.html").is_file()


def test_what_pytorch_had_no_time_for_is_done_by_the_next_call(tmp_path: Path) -> None:
    from gpu_tables import GPU as GRID
    from gpu_tables import torch

    measured = {"model": "vgg16", "batch": 256, "precision": "bfloat16", "mode": "nchw", "pass": "forward_backward"}
    late = {"model": "vgg16", "batch": 256, "precision": "tf32", "mode": "nchw"}
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'
        f"case \"$*\" in *--known*) echo '{json.dumps(late | {'pass': 'forward_backward'})}'; exit;; esac\n"
        f"echo '{json.dumps(measured)}'\necho '{json.dumps(late | {'error': 'left out: no time left'})}'\n"
    )
    python.chmod(0o755)
    assert [row.get("error") for row in torch(str(python), GRID, 9.0, tmp_path)] == [None, "left out: no time left"]
    again = torch(str(python), GRID, 9.0, tmp_path)
    assert [(row["precision"], "error" in row) for row in again] == [("bfloat16", False), ("tf32", False)]
    assert f"--known {tmp_path}/torch.jsonl" in (tmp_path / "asked").read_text().splitlines()[1]


def test_without_pytorch_there_is_one_entry_that_says_why(tmp_path: Path) -> None:
    from gpu_tables import GPU as GRID
    from gpu_tables import torch

    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'torch'\" >&2\nexit 1\n")
    python.chmod(0o755)
    (row,) = torch(str(python), GRID, 9.0, tmp_path)
    assert row["error"] == "PyTorch was not measured: ModuleNotFoundError: No module named 'torch'"


def test_a_calibration_ends_in_time(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_tables
    from gpu_tables import REHEARSAL, Run

    monkeypatch.setattr(gpu_tables, "LEAST_S", 0.001)
    with Journal(tmp_path) as journal:
        run = Run(
            grid=REHEARSAL, folder=tmp_path, server=server, end=time.monotonic(), journal=journal, results={}, limits={}
        )
        run.calibrate()
    assert run.limits == {"bfloat16": {}, "float32": {}}  # which takes longer than a millisecond
