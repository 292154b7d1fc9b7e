"""Work that was not done, as a user meets it: what is fed, what is computed and what is differentiated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.sweep_command import journal, only_sweep, run

QUICK = ["cluster=inline", "tracking=none", "calibrate=false", "protocol=classic", "protocol.steps=6"]


def sweep(folder: Path, *arguments: str, code: int) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The results and the logs of one command, by `model.kind` or, without, by the name of the model."""
    done = run(folder, "-m", *arguments, *QUICK, "protocol.burn_in=1")
    assert done.returncode == code, done.stdout + done.stderr
    found, logs = {}, {}
    for line in journal(only_sweep(folder)):
        trial = line["trial"]
        kind = " ".join([trial["model_args"].get("kind", trial["model"]), *_words(trial)])
        found[kind] = line
        logs[kind] = (only_sweep(folder) / "trials" / line["trial_id"] / "log.txt").read_text()
    return found, logs


def _words(trial: dict[str, Any]) -> list[str]:
    inputs = [f"{key}={value}" for setting in trial["inputs"].values() for key, value in setting.items()]
    return inputs if trial["compile"] == "graph" else [*inputs, trial["compile"]]


def spied(log: str) -> set[tuple[float, float, int]]:
    """What the spy layer saw in any step: lowest, highest, distinct values."""
    return {
        (float(low), float(high), int(count)) for low, high, count in re.findall(r"^SPY (\S+) (\S+) (\d+)", log, re.M)
    }


def test_whole_numbers_are_drawn_over_the_range_that_their_lookups_allow(tmp_path: Path) -> None:
    known = {
        **dict.fromkeys(("embedding", "take", "gather", "one_hot", "category", "smallest"), (0, 999)),
        "masked": (1, 999),
        "vocabulary": (7, 700),
    }
    target = "model._target_=tests.support.models.odd_graphs.tokens"
    found, logs = sweep(tmp_path, target, f"+model.kind={','.join(known)}", "batch=8", "passes=[forward]", code=0)
    for kind, (low, high) in known.items():
        fed = found[kind]["host"]["in_force"]["inputs"]["tokens"]
        assert spied(logs[kind]) == {(fed["lowest"], fed["highest"], fed["distinct"])}, kind
        assert (fed["dtype"], fed["shape"]) == ("int32", [8, 64])
        if kind == "vocabulary":
            assert (fed["lowest"], fed["highest"], fed["distinct"]) == (7, 700, 3)
            continue
        # 512 draws of 1,000: all but certainly in the first and last 5%, and about 400 different ones.
        assert low <= fed["lowest"] < 50, kind
        assert 950 <= fed["highest"] <= high, kind
        assert 350 < fed["distinct"] < 450, kind
    done = run(tmp_path, "-m", target, "+model.kind=offset,counts,embedding", *QUICK, "dry_run=true", COLUMNS="300")
    assert done.returncode == 2
    for words in ("calculates with it before it looks it up", "does not look it up"):
        assert (
            f"the range of tokens, int32 [64] is not known: the net {words}. Set +inputs.tokens.high=N" in done.stderr
        )


def test_a_range_is_set_by_the_inputs_name_and_never_wider_than_the_lookup(tmp_path: Path) -> None:
    target = ["model._target_=tests.support.models.odd_graphs.tokens", "passes=[forward]", "batch=8"]
    found, logs = sweep(
        tmp_path,
        *target,
        "+model.kind=counts,embedding",
        "+inputs.tokens.high=100,1000",
        "+inputs.tokens.low=5",
        code=0,
    )
    for kind in ("counts high=100 low=5", "embedding high=100 low=5"):
        ((low, high, distinct),) = spied(logs[kind])
        assert 5 <= low < 10
        assert 95 <= high < 100
        assert 85 < distinct <= 95
    assert len({line["trial_id"] for line in found.values()}) == 4
    beyond = ["+model.kind=embedding", "+inputs.tokens.high=1001", "dry_run=true"]
    done = run(tmp_path, *target, *QUICK, *beyond, COLUMNS="300")
    assert done.returncode == 2
    assert "inputs.tokens: expected low of at least 0 and high of at most 1000, as many as" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (["+inputs.tokens.hihg=3"], ["inputs.tokens.hihg: an input has no key 'hihg'. Did you mean high?"]),
        (
            ["+inputs.tokens.high=many", "+inputs.other=4"],
            [
                "inputs.tokens.high=many: expected a whole number",
                "inputs.other=4: inputs has no key 'other'. Valid: _target_, dtype",
            ],
        ),
        (["+inputs.tokens.high=3", "+inputs.tokens.low=3"], ["inputs.tokens: expected low < high"]),
        (["inputs.tokens.high=3"], ["inputs has no key 'tokens.high'. Write +inputs.tokens.high=3 to add it."]),
        (["model._target_=null", "+inputs.image.high=3"], ["inputs: expected model._target_ or model=file with it"]),
    ],
)
def test_a_bad_range_is_refused_before_anything_runs(
    tmp_path: Path, arguments: list[str], sentences: list[str]
) -> None:
    done = run(tmp_path, "model._target_=tests.support.models.odd_graphs.tokens", *QUICK, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    for sentence in sentences:
        assert sentence in done.stderr.replace("\n", " ")


def test_a_pass_that_differentiates_or_computes_nothing_is_an_error(tmp_path: Path) -> None:
    kinds = "frozen,no_gradient,some_gradient,zeros,twice,log,raw,sliced,loop,fourier"
    found, logs = sweep(
        tmp_path,
        "model._target_=tests.support.models.odd_graphs.broken",
        f"+model.kind={kinds}",
        "batch=2",
        "compile=graph,xla",
        code=1,
    )
    for compiler in ("", " xla"):
        for kind, words in (("frozen", "no trainable variable"), ("no_gradient", "no gradient for any of its 2")):
            line = found[kind + compiler]
            assert (line["status"], list(line["passes"])) == ("error", ["forward"])
            assert words in line["error"]["message"]
            assert "set passes=[forward]" in line["error"]["message"]
        line = found["zeros" + compiler]
        assert (line["status"], line["passes"]) == ("error", {})
        assert "result depends on its input" in line["error"]["message"]
        line = found["some_gradient" + compiler]
        lost = ["lost/kernel", "lost/bias"]
        assert line["host"]["in_force"]["forward_backward"]["without_gradient"] == lost
        assert "no gradient: lost/kernel, lost/bias" in logs["some_gradient" + compiler]
        # Three products forward, of which only the last has a gradient, that of its kernel.
        assert line["host"]["in_force"]["forward_backward"]["products"] == 2 * 2 * (192 * 4 + 2 * 4 * 4)
        line = found["twice" + compiler]
        assert line["passes"]["forward"]["evidence"]["work_share"] == pytest.approx((192 + 4) / (2 * 192 + 4))
        assert any(reason.startswith("work: 51% of the layers' products") for reason in line["quality"])
        line = found["log" + compiler]
        assert line["passes"]["forward"]["evidence"]["nonfinite_outputs"] == 1
        assert any(reason.startswith("not finite: ") for reason in line["quality"])
        line = found["raw" + compiler]
        assert {measured["flops"] for measured in line["passes"].values()} == {None}
        assert "not counted: the graph multiplies" in line["host"]["in_force"]["forward"]["flops"]
        for kind, operation in (("loop", "While"), ("fourier", "FFT")):
            line = found[kind + compiler]
            assert {measured["flops"] for measured in line["passes"].values()} == {None}, line
            words = f"not counted: the graph does not say what is in {operation}"
            assert line["host"]["in_force"]["forward"]["flops"] == words
    # XLA computes nothing that a slice of the result does not need; TensorFlow's own optimiser does.
    line = found["sliced xla"]
    share = 192 * 4 / (192 * 64 + 64 * 64 + 192 * 4)
    assert line["passes"]["forward"]["evidence"]["work_share"] == pytest.approx(share)
    assert any(reason.startswith("work: 4% of the layers' products") for reason in line["quality"])
    assert found["sliced"]["passes"]["forward"]["evidence"]["work_share"] == 1
    report = (only_sweep(tmp_path) / "report.html").read_text()
    assert "FLOPs of broken" in report


def test_a_subclassed_model_is_built_and_listed_once(tmp_path: Path) -> None:
    target = "model._target_=tests.support.models.odd_graphs.subclassed"
    sweep(tmp_path, target, "+model.build=true", "batch=2", "compile=graph,eager", code=0)
    lines = journal(only_sweep(tmp_path))
    for line in lines:
        assert [row["name"] for row in line["layers"]] == ["conv", "flatten", "dense"]
        assert line["host"]["in_force"]["inputs"]["image"]["shape"] == [2, 8, 8, 3]
        products = 2 * 2 * (36 * 4 * 27 + 144 * 3)
        assert line["host"]["in_force"]["forward"]["products"] == products
    assert len(lines) == 2
