from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.records import make_result, make_sweep
from tracking import compare
from tracking.journal import Journal
from tracking.record import Result

SCRIPT = Path(compare.__file__)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def keep(results: Sequence[Result], folder: str, sweep_id: str = "a-sweep") -> Path:
    place = Path(folder)
    results = [replace(result, sweep_id=sweep_id) for result in results]
    with Journal(place) as journal:
        journal.write_plan(make_sweep(results, place))
        for result in results:
            journal.append(result)
    return place


def side(factor: float, seed: int, batches: Sequence[int] = (1, 2), **fields: object) -> list[Result]:
    return [
        make_result("vgg16", b, mean=0.1 * b * factor, noise=0.005, repeat=r, seed=seed, **fields)  # type: ignore[arg-type]
        for b in batches
        for r in range(4)
    ]


def test_verdicts_table_picture_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    keep(side(1.0, 1), "base")
    keep(side(1.1, 2), "new")
    assert compare.main(["base", "new"]) == 0
    out = capsys.readouterr().out
    assert out.count("SLOWER") == 4 + 1
    assert "vgg16 b=2" in out
    assert "Drawn    compare.png" in out
    with Image.open("compare.png") as image:
        assert image.convert("L").entropy() > 0.3  # not blank
    assert compare.main(["base", "new", "--fail-on", "slower", "--output", "x/y.png"]) == 3
    assert Path("x/y.png").is_file()
    assert compare.main(["new", "base", "--fail-on", "slower"]) == 0
    assert "4 FASTER" in capsys.readouterr().out


def test_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    keep(side(1.0, 1), "base")
    keep(side(1.1, 2), "new")
    assert compare.main(["base", "new", "--threshold", "0.2", "--fail-on", "slower"]) == 0
    assert "4 SAME" in capsys.readouterr().out


def test_one_run_a_side_says_what_it_cannot_show(capsys: pytest.CaptureFixture[str]) -> None:
    keep([make_result(seed=1)], "base")
    keep([make_result(seed=2)], "new")
    assert compare.main(["base", "new"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "a difference below 12% stays UNDECIDED. To see more, sweep both with repeats=5" in told


def test_a_lost_trial_fails_and_others_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    keep([*side(1.0, 1), make_result("alexnet")], "base")
    keep([*side(1.0, 2, (1,)), *side(1.0, 2, (2,), status="oom"), make_result("tiny")], "new")
    assert compare.main(["base", "new", "--fail-on", "slower"]) == 3
    out = capsys.readouterr().out
    assert "Only in BASE: alexnet b=4" in out
    assert "Only in NEW: tiny b=4" in out
    assert "Measured in BASE, in NEW oom in 4 of 4 runs: vgg16 b=2" in out


def test_a_sweep_that_was_interrupted_does_not_pass_the_gate(capsys: pytest.CaptureFixture[str]) -> None:
    keep(side(1.0, 1), "base")
    with Journal(keep(side(1.0, 2, (1,)), "new")) as journal:
        journal.write_plan(make_sweep(side(1.0, 2), Path("new")))
    assert compare.main(["base", "new", "--fail-on", "slower"]) == 3
    assert "new: 4 planned trials have no result" in capsys.readouterr().out
    assert compare.main(["new", "base", "--fail-on", "slower"]) == 0


def test_unlike_hosts_are_refused_and_compared_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    keep(side(1.0, 1, host={"hostname": "macbook", "cpu_model": "i5"}), "base")
    keep(side(0.1, 2, host={"hostname": "desktop", "cpu_model": "i7"}), "new")
    assert compare.main(["base", "new"]) == 2
    assert "expected like hosts, or --across-hosts. The hosts differ in cpu_model: i5 and i7" in capsys.readouterr().err
    assert not Path("compare.png").exists()
    assert compare.main(["base", "new", "--across-hosts"]) == 0
    assert "Unlike   cpu_model: i5 and i7" in capsys.readouterr().out
    for name in ("", "_time_forward", "_speedup_forward", "_time_forward_backward", "_speedup_forward_backward"):
        assert Path(f"compare{name}.png").is_file()


def test_unlike_devices_need_across_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    keep([make_result(device="cpu")], "base")
    keep([make_result(device="gpu", mean=0.01)], "new")
    assert compare.main(["base", "new"]) == 2
    assert "they differ in device; --across-hosts pairs unlike devices" in capsys.readouterr().err
    assert compare.main(["base", "new", "--across-hosts"]) == 0
    assert "cpu > gpu" in capsys.readouterr().out


def test_ids_are_found_under_multirun(capsys: pytest.CaptureFixture[str]) -> None:
    keep(side(1.0, 1), "multirun/2026-01-01/10-00-00", "20260101-100000-aaaaaa")
    keep(side(1.0, 2), "outputs/2026-01-02/10-00-00", "20260102-100000-bbbbbb")
    assert compare.main(["20260101-100000-aaaaaa", "20260102"]) == 0
    assert "Verdicts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["base", "nosuch"], "Received: 'nosuch'"),
        (["base", "failed"], "expected a sweep with measured trials. Received: failed, with none"),
        (["base", "other"], "they differ in model"),
        (["base", "empty"], "expected a sweep's folder"),
    ],
)
def test_what_cannot_be_compared(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    keep([make_result()], "base")
    keep([make_result(status="oom")], "failed")
    keep([make_result("alexnet")], "other")
    Path("empty").mkdir()
    assert compare.main(arguments) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "b", "--threshold", "2"], ["a", "b", "--fail-on", "faster"]])
def test_bad_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        compare.main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_as_a_script_in_a_pipe() -> None:
    keep(side(1.0, 1), "base")
    keep(side(1.2, 2), "new")
    done = subprocess.run(
        [sys.executable, SCRIPT, "base", "new", "--fail-on", "slower"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "vgg16 b=1" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    code = "import sys, tracking.compare; print([m for m in ('mlflow', 'matplotlib', 'ray') if m in sys.modules])"
    light = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=SCRIPT.parent.parent
    )
    assert light.stdout.strip() == "[]"
