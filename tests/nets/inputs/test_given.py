"""What the config's group `inputs` says of which input."""

from __future__ import annotations

import pytest

from nets.errors import InputError
from nets.inputs.given import Setting, read


def test_keys_without_a_name_are_of_the_only_input() -> None:
    given = read({"shape": [8, 3], "high": 9, "length": 5})
    assert given.length == 5
    assert given.settings(["words"]) == [Setting(shape=(8, 3), high=9)]
    with pytest.raises(InputError, match=r"inputs.shape: expected a model with one input. .* 2, a, b; set \+inputs.a"):
        given.settings(["a", "b"])


def test_keys_with_a_name_are_of_that_input() -> None:
    given = read({"b": {"low": 1, "shape": [4]}, "length": None})
    assert given.settings(["a", "b"]) == [Setting(), Setting(low=1, shape=(4,))]
    with pytest.raises(InputError, match=r"inputs.b: the model has no input 'b'. Did you mean bb\? Its inputs: a, bb"):
        given.settings(["a", "bb"])


def test_the_only_input_has_a_second_name_and_its_settings_add_up() -> None:
    assert read({"high": 9, "input": {"low": 3}}).settings(["words"]) == [Setting(low=3, high=9)]


def test_an_input_may_be_called_like_a_key() -> None:
    given = read({"shape": {"shape": [4]}, "length": {"high": 3}})
    assert given.settings(["length", "shape"]) == [Setting(high=3), Setting(shape=(4,))]
    assert given.length is None


def test_arguments_of_a_callable_say_nothing_about_inputs() -> None:
    assert read({"_target_": "my.batch", "length": 5, "shape": [1]}) == read({})
