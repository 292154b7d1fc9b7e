"""Python's values as words of a command line, and what Hydra reads in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from sweeps.errors import UsageError
from sweeps.library.overrides import words
from sweeps.request import options
from sweeps.typed.keys import Keys

CONF = Path(__file__).resolve().parents[3] / "conf"


@pytest.mark.parametrize(
    ("arguments", "keys", "wanted"),
    [
        (["model=vgg16", "batch=1,2"], {}, ["model=vgg16", "batch=1,2"]),
        ([["model=vgg16", "batch=1,2"], "~model.weights"], {}, ["model=vgg16", "batch=1,2", "~model.weights"]),
        ([], {"model": "vgg16", "batch": [1, 2], "seed": range(3)}, ["model=vgg16", "batch=1,2", "seed=0,1,2"]),
        ([{"protocol.steps": 3}], {"protocol": "classic"}, ["protocol.steps=3", "protocol=classic"]),
        ([], {"protocol": {"name": "classic", "steps": [3, 4]}}, ["protocol=classic", "protocol.steps=3,4"]),
        ([], {"passes": ["forward"]}, ["passes=[forward]"]),
        ([], {"optimizer": ["sgd", "adam"], "loss": "mse"}, ["optimizer=sgd,adam", "loss=mse"]),
        (
            [],
            {"optimizer": {"name": "adam", "learning_rate": [0.1, 0.01]}},
            ["optimizer=adam", "++optimizer.learning_rate=0.1,0.01"],
        ),
        ([], {"passes": [["forward"], ("forward_backward",)]}, ["passes=[forward],[forward_backward]"]),
        ([], {"cluster": {"setup": ["module load x", "a"]}}, ["cluster.setup=['module load x',a]"]),
        ([], {"model": {"_target_": "a.b", "n": (1, 2)}}, ["++model._target_=a.b", "++model.n=[1,2]"]),
        ([], {"device": {"resources": {"disk": 1}, "cpus": 2}}, ["++device.resources.disk=1", "device.cpus=2"]),
        ([], {"timeout_s": None, "calibrate": False, "batch": np.array([1, 2])}, ["timeout_s=null", "calibrate=false"]),
        ([], {"seed": np.int64(3), "model": {}, "task": {"data": Path("/a b")}}, ["seed=3", "task.data='/a b'"]),
    ],
)
def test_what_is_written_in_python_is_a_command_line(
    arguments: list[Any], keys: Mapping[str, Any], wanted: list[str]
) -> None:
    assert list(words(arguments, keys))[: len(wanted)] == wanted


HOSTILE = ["a,b", "1", "1_0", "-3", "1e3", "nan", "Inf", "true", "NULL", "", " ", "it's", "$HOME", "${x}", "[1]", "a=b"]
HOSTILE += ["{a: 1}", "range(1,3)", "a\\", "ü", "two\nlines", "a:b", "~x", "+x", "-m", "choice(a,b)"]


@pytest.mark.parametrize(
    "value", [*HOSTILE, 1, 1.5, 1e-9, True, None, float("inf"), (), ("1", "a,b", 2), {"a": ("x", 1)}]
)
def test_a_value_is_itself_in_hydra_whatever_is_in_it(value: object) -> None:
    """As a value, within a grid, and with the same type."""
    for given in (value, [value], [value, value]) if not isinstance(value, Mapping) else ([value], [value, value]):
        (word,) = words([], {"model": {"x": given}})
        parsed = OverridesParser.create().parse_override(word)
        if parsed.is_sweep_override():
            parsed = OverridesParser.create().parse_override(f"k={next(parsed.sweep_string_iterator())}")
        read = OmegaConf.to_container(OmegaConf.create({"k": parsed.value()}), resolve=True)
        assert isinstance(read, dict)
        wanted = {key: list(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value
        assert (
            (read["k"], type(read["k"])) == (list(value), list) if isinstance(value, tuple) else (wanted, type(value))
        )


def test_everything_that_cannot_be_an_override_is_named_together() -> None:
    with pytest.raises(UsageError) as raised:
        words(["batch", "--cfg", 3], {"batch": [], "model": {"_target_": print, "a b": 1}, "seed": {1, 2}})  # type: ignore[list-item, dict-item]
    assert [problem.partition(" Received: ")[0] for problem in raised.value.problems] == [
        "expected overrides such as 'batch=1,2' or mappings such as {'batch': [1, 2]}.",
        "expected overrides such as 'batch=1,2' or mappings such as {'batch': [1, 2]}.",
        "expected overrides such as 'batch=1,2' or mappings such as {'batch': [1, 2]}.",
        "batch: expected at least one value in a grid.",
        "model._target_: expected text, numbers, True, False, None, a path, or lists of these.",
        "expected the name of a key.",
        "seed: expected text, numbers, True, False, None, a path, or lists of these.",
    ]


def test_the_keywords_are_the_keys_of_the_config() -> None:
    assert Keys.__annotations__.keys() == options.Config.__dataclass_fields__.keys()


def test_every_key_that_holds_a_list_takes_one() -> None:
    options.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for group in ("cluster", "task", "tracking"):
            for path in (CONF / group).glob("*.yaml"):
                chosen = f"{group}={path.stem}"
                node = compose("config", [chosen])[group]
                for key in node:
                    if OmegaConf.is_list(node._get_node(key)):
                        assert words([], {group: {key: ["a", "b"]}}) == (f"{group}.{key}=[a,b]",), chosen
