"""`cluster.sbatch` in the forms that people type."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.jobs.slurm import sbatch_options


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ({}, []),
        (None, []),
        ("--qos=high --constraint=a100", ["--qos=high", "--constraint=a100"]),
        ("--qos high -C a100 --exclusive", ["--qos high", "-C a100", "--exclusive"]),
        (["--qos=high", "-C a100"], ["--qos=high", "-C a100"]),
        (["--qos", "high"], ["--qos high"]),
        ({"qos": "high", "mail_type": "END", "C": "a100", "exclusive": True, "contiguous": False}, None),
        ("--comment='two words # no comment'", ['"--comment=two words # no comment"']),
        ({"constraint": "a100&ib|b", "exclude": "n[1-3]"}, ["--constraint=a100&ib|b", "--exclude=n[1-3]"]),
    ],
)
def test_every_form_becomes_lines_of_the_script(value: Any, lines: list[str] | None) -> None:
    assert sbatch_options.problems(value) == []
    wanted = ["--qos=high", "--mail-type=END", "-C a100", "--exclusive"] if lines is None else lines
    assert sbatch_options.lines(value, {}) == wanted


@pytest.mark.parametrize("value", ["--dependency=afterok:1 --gres=lscratch:9", "-d afterok:1 --gre lscratch:9"])
def test_what_a_user_adds_to_our_options_does_not_replace_them(value: str) -> None:
    ours = {"dependency": "singleton", "gres": "gpu:2"}
    assert sbatch_options.lines(value, ours) == ["--dependency=afterok:1,singleton", "--gres=lscratch:9,gpu:2"]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("qos=high", "expected options of sbatch, such as +cluster.sbatch.qos=high, or "),
        ("--qos=high a100", "Received: 'a100'."),
        (["--qos=high", "a100"], "Received: 'a100'."),
        (7, "Received: 7."),
        ([1], "Received: [1]."),
        ("--comment='open", "No closing quotation"),
        ("--comment='a\nb'", "expected one line"),
        ("--comment='a\"b'", "without quotation marks"),
        ("--array=1-3", "expected no --array: one job runs the whole sweep. Received: '--array=1-3'."),
        ("-a1-3", "expected no --array"),
        ("--arr=1-3", "expected no --array"),
        ({"a": "1-3"}, "expected no --array"),
        ("--output=x", "expected no --output: the output is in the sweep's folder"),
        ("-N 4", "expected cluster.nodes for --nodes. Received: '-N 4'."),
        ({"time": "1:00"}, "expected cluster.time for --time"),
        ("--parti=gpu", "expected cluster.partition for --parti"),
        ("--dependency=afterok:1?afterok:2", "expected dependencies joined by commas"),
    ],
)
def test_each_option_that_our_jobs_cannot_have_is_one_problem(value: Any, sentence: str) -> None:
    (problem,) = sbatch_options.problems(value)
    assert problem.startswith("cluster.sbatch: ")
    assert sentence in problem


@pytest.mark.parametrize(
    "value", ["--time-min=5", "--wait-all-nodes=1", "--nodelist=n1", "--mem-per-cpu=2G", "-q high"]
)
def test_a_name_that_begins_like_one_of_ours_is_another_option(value: str) -> None:
    assert sbatch_options.problems(value) == []
