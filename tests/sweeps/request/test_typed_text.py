"""Values that stay the texts that were typed, whatever Hydra would make of them."""

from __future__ import annotations

import pytest

from sweeps.request import typed_text
from sweeps.typed.arguments import Arguments


def as_typed(word: str) -> str:
    (read,) = typed_text.as_typed(Arguments(program="sweeps/run.py", words=(word,))).words
    return read


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("cluster.node_selector={gpu: true}", "+cluster.node_selector={gpu: 'true'}"),
        (
            "cluster.node_selector={a: 1e3, b: 1.30, c: null, d: on, e: 0123, f: TRUE}",
            "+cluster.node_selector={a: '1e3',b: '1.30',c: 'null',d: 'on',e: '0123',f: 'TRUE'}",
        ),
        ("+device.node_labels.rack=1.10", "+device.node_labels.rack='1.10'"),
        ("device.node_labels={a/b.c: 7}", "+device.node_labels={a/b.c: '7'}"),
        (
            "cluster.tolerations=[pool=a:NoSchedule,{key: b, value: true},'c']",
            "cluster.tolerations=['pool=a:NoSchedule',{key: 'b',value: 'true'},'c']",
        ),
        ("cluster.image_pull_secrets=[1e3]", "cluster.image_pull_secrets=['1e3']"),
        ("cluster.node_selector={a: 'it\\'s'}", "+cluster.node_selector={a: 'it\\'s'}"),
    ],
)
def test_a_text_stays_as_it_was_typed(typed: str, read: str) -> None:
    assert as_typed(typed) == read
    assert as_typed(read) == read


@pytest.mark.parametrize(
    "argument",
    [
        *("-m", "model=tiny", "batch=1,2", "timeout_s=1e3", "device.resources={disk: 1}", "--config-dir=a"),
        *("~cluster.node_selector", "cluster.node_selector={zone: ${oc.env:ZONE}}", "device.node_labels={a: 1},{a: 2}"),
        *("cluster.node_selector=gpu", "cluster.tolerations=gpu:NoSchedule", "cluster.node_selector={a: it's}"),
    ],
)
def test_everything_else_is_left_to_hydra(argument: str) -> None:
    assert as_typed(argument) == argument


def test_no_choice_from_a_config_group() -> None:
    assert as_typed("optimizer=null") == "~optimizer"
    assert as_typed("loss=null") == "loss=null"
