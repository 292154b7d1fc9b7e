"""Records out of JSON that anybody may have written: a FormatError, or a record that goes to JSON and back."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.records import make_result, make_sweep
from tracking.record import Result, Sweep, Trial
from tracking.schema.reading import FormatError

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
RESULT = make_result(
    host={"hostname": "node1", "cores": [0, 1], "in_force": {"forward": {"threads": 2}}},
    quality=("drift",),
    task_args={"top": 5},
    inputs={"tokens": {"low": 0, "high": 9}},
    steps=6,
).to_json() | {"metrics": {"loss": 0.5}, "curves": {"train/loss": [[1, 0.5], [2, 0.25]]}}
FAILED = make_result(status="error").to_json()
PLAN = make_sweep([make_result(), make_result(batch=8)], folder="/tmp/s").to_json()
TRIAL = RESULT["trial"]


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


_ODD: list[Callable[[], Any]] = [
    *(
        lambda value=value: value
        for value in (None, True, False, "", "x", "\ud800", "\0", "../../etc", "\n", "ok", 0, -1)
    ),
    *(lambda value=value: value for value in (1, 0.5, -0.0, 1e308, float("nan"), float("inf"), 2**63, 2**64, 10**400)),
    *(lambda value=value: value for value in (b"x", 1j, (1, 2))),
    *(list, dict, lambda: [[]], lambda: [None], lambda: {"": {}}, lambda: {1: 2}, lambda: {None: 1}),
    *(lambda: 10**5000, lambda: -(10**400), lambda: {1, 2}, object),
    *(lambda: deep(33), lambda: deep(2000), lambda: {"a": deep(2000)}),
]
ODD = st.one_of(
    st.sampled_from(range(len(_ODD))).map(lambda index: _ODD[index]()),  # Hypothesis would write some of them
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within a value, that to itself included, no deeper than records go."""
    if len(way) > 6:
        return [way]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(place for key, each in inner for place in places(each, (*way, key)))]


@st.composite
def mutated(draw: st.DrawFn, *valid: dict[str, Any]) -> Any:
    """A valid record with up to three things in it replaced, left out or added."""
    record = copy.deepcopy(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 3))):
        way = draw(st.sampled_from(places(record)))
        if not way:
            if draw(st.booleans()):
                record[draw(st.text(max_size=5))] = draw(ODD)
            continue
        *outer, key = way
        inner = record
        for step in outer:
            inner = inner[step]
        what = draw(st.sampled_from(["replace", "remove", "add"]))
        if what == "remove":
            del inner[key]
        elif what == "add" and isinstance(inner, dict):
            inner[draw(st.text(max_size=5))] = draw(ODD)
        else:
            inner[key] = draw(ODD)
    return record


@pytest.mark.parametrize(
    ("kind", "valid"),
    [(Result, (RESULT, FAILED)), (Sweep, (PLAN,)), (Trial, (TRIAL,))],
    ids=["Result", "Sweep", "Trial"],
)
def test_what_is_no_record_is_a_format_error(kind: Any, valid: tuple[dict[str, Any], ...]) -> None:
    @settings(max_examples=EXAMPLES)
    @given(mutated(*valid) | ODD)
    def check(data: Any) -> None:
        try:
            record = kind.from_json(data)
        except FormatError as error:
            refused = str(error)
        else:
            refused = ""
        assert len(refused.encode()) < 500
        if refused:
            return
        again = json.loads(json.dumps(record.to_json()))
        assert json.dumps(kind.from_json(again).to_json()) == json.dumps(again)

    check()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "fine"}, "status: expected one of ok, oom"),
        ({"sweep_id": "a\nb"}, "sweep_id: expected letters, digits"),
        ({"sweep_id": ".."}, "sweep_id: expected letters, digits"),
        ({"trial_id": "../x"}, "trial_id: expected letters, digits"),
        ({"trial": TRIAL | {"batch": -4}}, r"trial\.batch: expected a whole number from 1 to .* Received: -4"),
        ({"trial": TRIAL | {"batch": True}}, r"trial\.batch: expected a whole number. Received: True"),
        ({"trial": TRIAL | {"bacth": 4}}, r"trial\.bacth: expected a field of a Trial, such as batch"),
        ({"metrics": {"loss": 10**400}}, r"metrics\.loss: expected a finite number. Received: an integer of 1329 bits"),
        ({"layers": [{"name": "a"}]}, r"layers\[0\]: expected the keys kind, output_shape"),
        ({"passes": {"forward": RESULT["passes"]["forward"] | {"step_s": [0.1, float("nan")]}}}, r"step_s\[1\]"),
        ({"passes": {"forward": RESULT["passes"]["forward"] | {"step_s": []}}}, "a list that is not empty"),
        (
            {"passes": {"forward": RESULT["passes"]["forward"] | {"evidence": {"others_share": 0.0}}}},
            r"passes\.forward\.evidence: expected others_cores, steal_share, wall_s beside others_share",
        ),
        ({"host": {"in_force": {"forward": 3}}}, "host: expected in_force to be an object of objects"),
        ({"host": deep(40)}, "host: expected an object"),
        ({"host": {"a": deep(40)}}, "expected at most 32 nested levels"),
    ],
)
def test_the_field_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        Result.from_json(RESULT | change)


def test_nan_is_a_figure_and_whole_numbers_stay_whole() -> None:
    result = Result.from_json(RESULT | {"metrics": {"loss": float("nan"), "pictures": 3, "worst": float("-inf")}})
    assert json.dumps(result.to_json()["metrics"]) == '{"loss": NaN, "pictures": 3, "worst": -Infinity}'


def test_records_from_before_there_were_these_fields_are_read() -> None:
    old = copy.deepcopy(RESULT)
    for key in ("metrics", "curves"):
        del old[key]
    for key in ("layout", "inputs", "profile"):
        del old["trial"][key]
    for key in ("memory_mb", "gpu_memory_mb", "accelerator", "node_labels", "exclusive_node"):
        del old["trial"]["device"][key]
    result = Result.from_json(old)
    assert result.curves == {}
    # The id as the first version made it: what came later is no part of it while it has its default.
    assert Trial.from_json(old["trial"] | {"layout": "channels_last"}).trial_id == result.trial_id
