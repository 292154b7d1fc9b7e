"""When `tracking/compare.py` fails a build: slower, undecided, lost or interrupted sweeps."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.records import make_result, make_sweep, write_journal
from tests.tracking.compare.sides import command, keep, side
from tracking import compare
from tracking.folder.journal import Journal

CONTENTION = tuple(f"contention: others had 45% of the cores ({name})" for name in ("forward", "forward_backward"))


def test_what_new_lost_fails_by_default() -> None:
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
    write_journal(make_sweep(side(1.0, 2, (1,)), Path("planned")))
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


def test_undecided_passes_no_gate_that_counts_it_as_a_failure() -> None:
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
