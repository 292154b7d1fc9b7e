from __future__ import annotations

from typing import Any

import pytest

from tracking.analysis.host_facts import allow_option, not_allowed, unknown_names, unlike_facts

FACTS = {"hostname": "a", "cpu_model": "X", "cores": [0, 1], "tensorflow": "2.21", "ray": "2.60"}


def unlike(base: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return unlike_facts([([base], [new])])


def test_unlike_facts_are_those_that_matter() -> None:
    others = {"hostname": "b", "cpu_model": "Y", "cores": [2, 3], "tensorflow": "2.20", "ray": "2.61", "keras": "3"}
    assert unlike({**FACTS, "gpu": "H100"}, others) == {"cpu_model": ("X", "Y"), "tensorflow": ("2.21", "2.20")}
    assert unlike(FACTS, FACTS | {"cores": [5]}) == {"number of cores": ("2", "1")}
    assert unlike(FACTS, FACTS) == {}
    assert unlike(FACTS, {}) == {}


@pytest.mark.parametrize(
    ("base", "new", "expected"),
    [
        ({"env": {}}, {"env": {"XLA_FLAGS": "--a"}}, {"env.XLA_FLAGS": ("unset", "--a")}),
        ({"env": {"XLA_FLAGS": "--a"}}, {"env": {}}, {"env.XLA_FLAGS": ("--a", "unset")}),
        ({"env": {"XLA_FLAGS": "--a"}}, {"env": {"XLA_FLAGS": "--b"}}, {"env.XLA_FLAGS": ("--a", "--b")}),
        ({"env": {"XLA_FLAGS": "--a"}}, {"env": {"XLA_FLAGS": "--a"}}, {}),
        ({}, {"env": {"XLA_FLAGS": "--a"}}, {}),  # an older record does not tell
        ({"env": {"CUDA_VISIBLE_DEVICES": "0"}}, {"env": {"CUDA_VISIBLE_DEVICES": "1"}}, {}),
        ({"env": {}}, {"env": {}, "cpu_quota": 1.5}, {"cpu_quota": ("none", "1.5")}),
        ({"env": {}, "memory_limit_mb": 512}, {"env": {}}, {"memory_limit_mb": ("512", "none")}),
        ({}, {"env": {}, "cpu_quota": 1.5}, {}),
        ({"env": {}}, {"env": {}, "gpu": "H100"}, {}),
        ({"in_force": {"inputs": {"x": 1}}}, {"in_force": {"inputs": {"x": 2}}}, {"in_force.inputs.x": ("1", "2")}),
    ],
)
def test_what_one_side_alone_has(base: dict[str, Any], new: dict[str, Any], expected: dict[str, Any]) -> None:
    assert unlike(base, new) == expected


def test_a_side_of_which_some_runs_had_a_variable_is_unlike_one_of_which_all_had() -> None:
    with_flag, without = {"env": {"XLA_FLAGS": "--a"}}, {"env": {}}
    assert unlike_facts([([with_flag, without], [with_flag])]) == {"env.XLA_FLAGS": ("--a or unset", "--a")}


def test_names_cover_facts() -> None:
    facts = ["env.OMP_NUM_THREADS", "env.XLA_FLAGS", "number of cores", "os", "python"]
    assert not_allowed(facts, []) == facts
    assert not_allowed(facts, ["kernel", "cores", "env"]) == ["python"]
    assert not_allowed(facts, ["os", "env.XLA_FLAGS", "number of cores"]) == ["env.OMP_NUM_THREADS", "python"]
    assert allow_option(["number of cores", "os"]) == "--allow cores,os"


def test_unknown_names_get_the_nearest() -> None:
    hosts = [{"python": "3.11", "in_force": {"threads": 2}}]
    fine = [
        "kernel",
        "os",
        "cores",
        "env",
        "env.ANYTHING",
        "in_force",
        "in_force.threads",
        "gpu",
        "cpu_quota",
        "python",
    ]
    assert unknown_names([name for name in fine if name != "os"], hosts) == []
    (problem,) = unknown_names(["phyton", "python"], hosts)
    assert problem == "--allow: expected names of facts about hosts. Received: 'phyton'. Did you mean python?"
    (problem,) = unknown_names(["zzz"], hosts)
    assert "Known are" in problem
