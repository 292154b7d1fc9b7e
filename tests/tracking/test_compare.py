from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.support.records import make_result, make_sweep
from tracking import compare
from tracking.folder.journal import Journal
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


def command(*arguments: str, columns: int = 140) -> tuple[int, str]:
    """The exit code of `python tracking/compare.py ...` and all that it printed, lines joined."""
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": str(columns)},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


CONTENTION = tuple(f"contention: others had 45% of the cores ({name})" for name in ("forward", "forward_backward"))


def test_verdicts_table_picture_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    keep(side(1.0, 1), "base")
    keep(side(1.1, 2), "new")
    assert compare.main(["base", "new"]) == 0
    out = capsys.readouterr().out
    assert "4 SLOWER; differences below 2% do not matter" in out
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


def test_what_new_lost_fails_without_being_asked_for() -> None:
    keep([*side(1.0, 1), make_result("alexnet"), make_result("never", status="oom")], "base")
    keep([*side(1.0, 2, (1,)), *side(1.0, 2, (2,), status="oom"), make_result("tiny")], "new")
    code, out = command("base", "new")
    assert code == 3
    assert "Only in BASE: alexnet b=4, never b=4" in out
    assert "Only in NEW: tiny b=4" in out
    assert "Failed   vgg16 b=2: measured in BASE, in NEW oom in 4 of 4 runs\n" in out
    assert "Failed   alexnet b=4: measured in BASE, not in NEW's grid\n" in out
    assert out.count("Failed") == 2  # what BASE could not run is no loss
    code, out = command("base", "new", "--allow-lost")
    assert code == 0
    assert "Lost     vgg16 b=2: measured in BASE, in NEW oom in 4 of 4 runs, which is allowed" in out


def test_a_lost_pass_or_repeat_fails(capsys: pytest.CaptureFixture[str]) -> None:
    base = side(1.0, 1, (1,))
    short = replace(base[0], status="oom", passes={"forward": base[0].passes["forward"]})
    keep(base, "base")
    keep([short, *base[1:]], "new")
    assert compare.main(["base", "new"]) == 3
    words = "Failed   vgg16 b=1: measured in BASE, in NEW oom in 1 of 4 runs, without forward_backward"
    assert words in capsys.readouterr().out


def test_new_that_measured_nothing_fails_and_base_that_measured_nothing_is_bad_usage() -> None:
    keep(side(1.0, 1, (1,)), "base")
    keep([make_result("vgg16", 1, status="error", repeat=repeat) for repeat in range(4)], "failed")
    with Journal(Path("planned")) as journal:
        journal.write_plan(make_sweep(side(1.0, 2, (1,)), Path("planned")))
    code, out = command("base", "failed")
    assert code == 3
    assert "Failed   vgg16 b=1: measured in BASE, in NEW error in 4 of 4 runs" in out
    code, out = command("base", "failed", "--allow-lost")  # it cannot tell, so it is not green
    assert code == 3
    assert "Failed   nothing was measured on both sides, so nothing was compared" in out
    assert compare.main(["base", "planned"]) == 3
    code, out = command("failed", "base")
    assert code == 2
    assert "expected a BASE with measured trials. Received: failed, with none (4 error)" in out


def test_a_sweep_that_was_interrupted_does_not_pass_the_gate(capsys: pytest.CaptureFixture[str]) -> None:
    keep(side(1.0, 1), "base")
    with Journal(keep(side(1.0, 2, (1,)), "new")) as journal:
        journal.write_plan(make_sweep(side(1.0, 2), Path("new")))
    assert compare.main(["base", "new"]) == 3
    out = capsys.readouterr().out
    assert "NEW new: 4 planned trials have no result" in out
    assert "Failed   vgg16 b=2: measured in BASE, without a result in NEW" in out
    assert compare.main(["base", "new", "--allow-lost"]) == 0
    assert compare.main(["new", "base"]) == 0


def test_undecided_passes_no_gate_that_is_told_so() -> None:
    keep([make_result(seed=1, passes=("forward",))], "base")
    keep([make_result(seed=2, mean=0.103, passes=("forward",))], "new")
    keep([make_result(seed=2, mean=0.13, passes=("forward",))], "slower")
    assert command("base", "new", "--fail-on", "slower")[0] == 0
    code, out = command("base", "new", "--fail-on", "slower,undecided")
    assert code == 3
    assert "Failed   vgg16 b=4, forward: UNDECIDED, 1.0" in out
    for words in (["undecided"], ["slower", "--fail-on", "undecided"]):
        assert compare.main(["base", "new", "--fail-on", *words]) == 3
        assert compare.main(["base", "slower", "--fail-on", *words]) == 3  # a slow-down is worse than not to know


def test_a_slowdown_that_is_not_excluded_fails_whatever_the_verdict() -> None:
    keep([make_result(seed=1, passes=("forward",))], "base")
    keep([make_result(seed=2, passes=("forward",))], "new")
    keep([make_result(seed=2, mean=0.115, passes=("forward",))], "slower")
    code, out = command("base", "new", "--largest", "0.1")
    assert code == 3
    assert "Failed   vgg16 b=4, forward: a slow-down of 10% is not excluded, " in out
    assert command("base", "new", "--largest", "0.2")[0] == 0
    code, out = command("base", "slower", "--fail-on", "slower", "--largest", "0.1")
    assert code == 3
    assert "Failed   vgg16 b=4, forward: SLOWER and a slow-down of 10% is not excluded, " in out
    assert out.count("Failed") == 1


def test_the_size_that_would_have_been_found_is_always_printed() -> None:
    keep(side(1.0, 1), "base")
    keep(side(1.0, 2), "new")
    for columns in (80, 140):
        code, out = command("base", "new", columns=columns)
        assert code == 0
        (row,) = (
            line for line in out.splitlines() if "vgg16 b=2 forward " in " ".join(line.split()) and "+ " not in line
        )
        assert re.search(r" \+7\.\d% (SAME|UNDECIDED)", row), out
        table = out.partition("Verdicts")[0]
        assert max(map(len, table.splitlines())) <= columns
        said = " ".join(out.split())
        assert re.search(
            r"Finds a slow-down of 7\.\d% or more would have been called SLOWER in each; the least sensitive is vgg16",
            said,
        )


def test_disturbed_runs_are_left_aside_and_a_doubling_is_found() -> None:
    base = [make_result(repeat=r, seed=r, passes=("forward",)) for r in range(5)]
    new = [
        make_result(
            repeat=r,
            seed=9 + r,
            mean=0.2 * (1 + 0.2 * r if r < 3 else 1),
            quality=CONTENTION[:1] if r < 3 else (),
            passes=("forward",),
        )
        for r in range(5)
    ]
    keep(base, "base")
    keep(new, "new")
    code, out = command("base", "new", "--fail-on", "slower")
    assert code == 3
    assert "Aside    NEW 5 runs, 3 disturbed left aside (contention): vgg16 b=4, forward" in out
    assert " 5/2 " in out
    code, out = command("new", "base")
    assert "1 FASTER" in out
    keep(new[:3], "all disturbed")
    code, out = command("base", "all disturbed", "--fail-on", "undecided")
    assert code == 3
    assert "Doubts   NEW 3 of 3 compared runs (contention), their typical step may be 2.00 times too long" in out
    _, out = command("all disturbed", "base")  # BASE may hide a slow-down of as much
    assert re.search(r"Finds +a slow-down of 1\d\d% or more would have been called SLOWER", out)


def test_work_that_may_be_missing_is_never_faster() -> None:
    doubt = ("above peak: 400% of what the device can do; some of the work was not done (forward)",)
    keep([make_result(repeat=r, seed=r, passes=("forward",)) for r in range(3)], "base")
    keep([make_result(repeat=r, seed=r, mean=0.001, quality=doubt, passes=("forward",)) for r in range(3)], "new")
    code, out = command("base", "new", "--fail-on", "undecided", "--across-hosts")
    assert code == 3
    assert "1 UNDECIDED" in out
    assert Path("compare_speedup_forward.png").is_file()  # an interval without an end is drawn


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


def test_named_facts_may_differ() -> None:
    facts = {"hostname": "a", "os": "Linux 5.10", "python": "3.11.2", "cores": [0, 1], "env": {}}
    keep(side(1.0, 1, host=facts), "base")
    others = {"hostname": "b", "os": "Linux 6.1", "python": "3.12.1", "env": {"XLA_FLAGS": "--xla_foo"}}
    keep(side(1.0, 2, host={**facts, **others}), "new")
    code, out = command("base", "new", "--allow", "kernel")
    assert code == 2
    assert (
        "The hosts differ in env.XLA_FLAGS: unset and --xla_foo; python: 3.11.2 and 3.12.1. "
        "Where that does not matter: --allow kernel,env.XLA_FLAGS,python\n" in out
    )
    code, out = command("base", "new", "--allow", "kernel,env.XLA_FLAGS", "--allow", "python")
    assert code == 0
    assert "Unlike   os: Linux 5.10 and Linux 6.1" in out
    assert command("base", "new", "--allow", "os,python,env")[0] == 0
    code, out = command("base", "new", "--allow", "kernle,phyton")
    assert code == 2
    assert "Received: 'kernle'. Did you mean kernel?" in out
    assert "Received: 'phyton'. Did you mean python?" in out


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
        (["failed", "base"], "expected a BASE with measured trials. Received: failed, with none (1 oom)"),
        (["nosuch", "empty"], "Received: 'nosuch'"),
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


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a"],
        ["a", "b", "--threshold", "2"],
        ["a", "b", "--largest", "10"],
        ["a", "b", "--fail-on", "slower,faster"],
    ],
)
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
