"""What `tracking/compare.py` prints and draws, and which sweeps it refuses to compare."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.records import make_result
from tests.tracking.compare.sides import SCRIPT, command, keep, side
from tracking import compare


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
    printed = " ".join(capsys.readouterr().out.split())
    assert "a difference below 12% stays UNDECIDED. To see more, sweep both with repeats=5" in printed


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
        printed = " ".join(out.split())
        assert re.search(
            r"Finds a slow-down of 7\.\d% or more would have been called SLOWER in each; the least sensitive is vgg16",
            printed,
        )


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
