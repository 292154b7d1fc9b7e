from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from tests.support.records import STARTED_AT, make_result, make_sweep, write_journal
from tests.tracking.conftest import Runs
from tracking.analysis.metrics import spread
from tracking.folder.journal import Journal
from tracking.record import PASSES, Result
from tracking.schema.measurement import Measurement
from tracking.sinks.mlflow.sink import MlflowSink
from tracking.tables.results_table import results_table

ROOT = Path(__file__).parents[2]


def rendered(table: RenderableType) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def keep(folder: Path, results: list[Result], written: int) -> None:
    write_journal(make_sweep(results, folder), results[:written])


def show(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tracking" / "show.py"), *arguments]
    environment = os.environ | {"COLUMNS": "200", "TZ": "UTC"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    both = [make_result(batch=batch, sweep_id="20251009-080000-aaaaaa") for batch in (4, 8)]
    keep(tmp_path / "multirun" / "2025-10-09" / "08-00-00", both, written=1)
    one = [make_result(model="tiny", sweep_id="20251009-090000-bbbbbb", status="oom")]
    keep(tmp_path / "outputs" / "2025-10-09" / "09-00-00", one, written=1)
    return tmp_path


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((0.450, 0.486), "468 ± 18 ms"),
        ((4.30, 4.44), "4.370 ± 0.070 s"),
        ((2.1e-4, 2.3e-4), "220 ± 10 µs"),
        ((0.1,), "100.00 ± 0.00 ms"),
        ((100.0, 300.0), "200 ± 100 s"),
        ((2e-8, 4e-8), "0.030 ± 0.010 µs"),
    ],
)
def test_spread_in_the_unit_that_suits(steps: tuple[float, ...], text: str) -> None:
    assert spread(Measurement(first_call_s=1, warmup_s=(), step_s=steps, stopped="steps")) == text


def test_results_table() -> None:
    results = [
        make_result(batch=4, noise=0.0, quality=("clock [slow]",)),
        make_result(batch=8, status="oom"),
        make_result(batch=16, passes=("forward",), noise=0.0),
    ]
    text = rendered(results_table(results))
    head, _, first, second, third = (line for line in text.splitlines() if line.strip())
    assert head.split() == ["trial", "status", "forward", "images/s", "forward+backward", "images/s", "remarks"]
    assert "vgg16 b=4" in first
    assert "300.00 ± 0.00 ms" in first
    assert "13.33" in first
    assert "clock [slow]" in first
    assert "oom" in second
    assert "ResourceExhaustedError: OOM when allocating" in second
    assert third.split()[-2:] == ["160", "good"]
    assert rendered(results_table([])).strip().startswith("trial   status")


def test_where_there_is_no_room_for_remarks_they_stand_below() -> None:
    results = [
        make_result(batch=4, noise=0.0, quality=("contention: others took 9%", "too few steps: 3")),
        make_result(batch=8, noise=0.0),
    ]
    out = io.StringIO()
    Console(file=out, width=80).print(results_table(results))
    lines = [line.strip() for line in out.getvalue().splitlines() if line.strip()]
    assert lines[0].split() == ["trial", "status", "forward", "images/s", "forward+backward", "images/s"]
    assert lines[2].startswith("vgg16 b=4   ok")
    assert lines[4:] == ["vgg16 b=4: contention, too few steps", "1 of 2: good"]


def test_passes_that_do_not_fit_beside_each_other_stand_below_each_other() -> None:
    results = [
        make_result(batch=4, noise=0.0, passes=PASSES, inputs={"length": 128}),
        make_result(batch=8, status="oom", passes=PASSES, inputs={"length": 128}),
    ]
    out = io.StringIO()
    Console(file=out, width=80).print(results_table(results))
    lines = [line.strip() for line in out.getvalue().splitlines() if line.strip()]
    assert lines[0].split() == ["trial", "status", "pass", "time", "per", "step", "images/s", "tokens/s"]
    assert lines[2].split() == ["vgg16", "b=4", "ok", "forward", "100.00", "±", "0.00", "ms", "40", "5,120"]
    assert lines[3].split()[:2] == ["forward+backward", "300.00"]
    assert lines[4].split()[:3] == ["training", "step", "300.00"]
    assert lines[5].split() == ["vgg16", "b=8", "oom"]
    assert lines[6].startswith("vgg16 b=8: ResourceExhaustedError")
    assert max(map(len, out.getvalue().splitlines())) <= 80
    head = rendered(results_table(results)).split("\n")[1]
    assert [*head.split()][:5] == ["trial", "status", "forward", "images/s", "tokens/s"]


def test_list_of_sweeps(home: Path) -> None:
    (home / "multirun" / "damaged").mkdir()
    (home / "multirun" / "damaged" / "plan.json").write_text("{")
    answer = show(home)
    assert answer.returncode == 0
    lines = [line for line in answer.stdout.splitlines() if "2025" in line]
    assert len(lines) == 2
    first = next(line for line in lines if "aaaaaa" in line)
    assert "1 ok, 1 not_run" in first
    assert "vgg16" in first
    assert "multirun/2025-10-09/08-00-00" in first
    assert "2025-10-09 08:53" in first
    assert "damaged/plan.json is not a sweep's plan" in answer.stderr


@pytest.mark.parametrize("name", ["multirun/2025-10-09/08-00-00", "20251009-080000-aaaaaa", "20251009-08"])
def test_one_sweep_by_folder_id_or_beginning(home: Path, name: str) -> None:
    answer = show(home, name)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "python sweeps/run.py -m model=vgg16 batch=4,8" in answer.stdout
    assert "vgg16 b=4" in answer.stdout
    assert "vgg16 b=8" not in answer.stdout


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("20251009-080000-aaaaab", "Received: '20251009-080000-aaaaab'; did you mean '20251009-080000-aaaaaa'?"),
        ("20251009", "Received: '20251009', which begins 20251009-080000-aaaaaa, 20251009-090000-bbbbbb"),
    ],
)
def test_unknown_sweep(home: Path, name: str, sentence: str) -> None:
    answer = show(home, name)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.endswith(f"{sentence}; and there is no {home}/mlflow.db where MLflow might have it\n")


def test_sweep_whose_folder_is_elsewhere_is_shown_alike_from_mlflow(uri: str, tmp_path: Path) -> None:
    tokens = {"tokens": {"dtype": "int32", "shape": [4, 128], "lowest": 0, "highest": 99, "length": 128}}
    doubts = ("above peak: 120% of what it can do; some was not done (forward)", "clock: fell (forward_backward)")
    tuned = replace(
        make_result("tiny", task="finetune", passes=()), curves={"val/accuracy": ((1, 0.5), (2, 0.75), (3, 0.7))}
    )
    results = [
        make_result(batch=1, quality=doubts),
        make_result(batch=2, steps=1500, started_at=STARTED_AT + 60),
        make_result(batch=4, status="oom", started_at=STARTED_AT + 120),
        replace(tuned, metrics={"val/accuracy": 0.75, "best/epoch": 2.0}, started_at=STARTED_AT + 180),
        make_result("net", target="mine.net", fed=tokens, passes=PASSES, started_at=STARTED_AT + 240),
    ]
    folder = tmp_path / "away" / "multirun" / "day" / "time"
    keep(folder, results, written=5)
    sink, sweep = MlflowSink(uri), Journal(folder).read_plan()
    sink.open(sweep)
    for result in results:
        sink.write(result)
    sink.close(sweep, results)
    here = tmp_path / "away"
    shown = [show(here, sweep.sweep_id)]
    shown += [show(tmp_path, sweep.sweep_id), show(here, Runs(uri).parent.info.run_id, "--uri", uri)]
    for answer in shown:
        assert (answer.returncode, answer.stderr) == (0, "")
        assert answer.stdout == shown[0].stdout
    for word in ("75.0%", "ResourceExhaustedError: OOM", "above peak, clock", "good", "1 oom", "samples/s", "tokens/s"):
        assert word in shown[0].stdout
