from __future__ import annotations

import math

import pytest

import nets
from nets import keras_names
from nets.counting import optimizer_state


@pytest.mark.parametrize("name", sorted(keras_names.optimizers()))
def test_the_size_is_that_of_the_variables_that_are_built(name: str) -> None:
    config = {"name": name, **({"momentum": 0.9} if name == "momentum" else {}), "use_ema": name == "adamax"}
    variables = nets.build("tiny").trainable_variables
    built = keras_names.make_optimizer(config)
    built.build(variables)
    # Besides the step and the learning rate, some keep a number or two of no consequence.
    expected = sum(math.prod(each.shape) for each in built.variables if each.shape and each.shape != (1,))
    counted = optimizer_state.size(keras_names.make_optimizer(config), variables)
    assert abs(counted - expected) <= 2 * len(variables)
    assert (counted == 0) == (name == "sgd")
