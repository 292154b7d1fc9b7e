"""What nets of every kind of input are fed, and what their graphs compute, without timing anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import nets
from nets.counting import work
from nets.counting.layers import trace
from nets.inputs import given, signature
from sweeps.tasks.graphs import flat_graph, graph_work, inputs
from sweeps.tasks.graphs.inputs import InputError
from tracking.record import Trial

TRIAL = Trial(model="mine", batch=64)


def fed(model: keras.Model, trial: Trial = TRIAL) -> tuple[Any, dict[str, Any]]:
    made = inputs.feed(trial, trace(model, trial.batch))
    return made.tensors, dict(made.facts)


def tokens(dtype: str = "int32", rows: int = 40, name: str = "tokens") -> keras.Model:
    given = keras.Input((16,), dtype=dtype, name=name)
    return keras.Model(given, layers.Dense(2)(layers.Embedding(rows, 3)(given)))


def test_floats_that_become_indices_are_whole_and_in_range() -> None:
    """`keras.Input((16,))` before an embedding, as many tutorials have it, is a float: 0.1 of it is row 0."""
    values, facts = fed(tokens("float32"))
    assert values.dtype == tf.float32
    assert set(np.unique(values)) == set(range(40))
    assert facts["tokens"] == {
        "dtype": "float32",
        "shape": [64, 16],
        "lowest": 0,
        "highest": 39,
        "distinct": 40,
        "length": 16,
    }


def test_floats_without_room_for_the_indices_are_refused() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        given = keras.Input((16,), name="tokens")
        look_up = layers.Lambda(lambda x: tf.gather(tf.ones((1000, 3)), tf.cast(x, "int32")), output_shape=(16, 3))
        model = keras.Model(given, layers.Dense(2)(look_up(given)))  # Keras rounds a layer's floats to the policy's
        with pytest.raises(InputError, match="goes through bfloat16 before it is looked up; give the"):
            fed(model)
        assert fed(tokens("float32", rows=1000))[1]["tokens"]["distinct"] > 500  # but not an embedding's
    finally:
        keras.config.set_dtype_policy("float32")


def test_bytes_truth_values_and_floats() -> None:
    given = [
        keras.Input((8, 8, 3), dtype="uint8", name="picture"),
        keras.Input((192,), dtype="bool", name="mask"),
        keras.Input((192,), name="plain"),
    ]
    scaled = layers.Flatten()(layers.Rescaling(1 / 255)(given[0]))
    model = keras.Model(given, layers.Dense(2)(keras.ops.where(given[1], scaled, given[2])))
    values, facts = fed(model)
    assert [value.dtype.name for value in values] == ["uint8", "bool", "float32"]
    assert (facts["picture"]["lowest"], facts["picture"]["highest"], facts["picture"]["distinct"]) == (0, 255, 256)
    assert float(tf.reduce_mean(tf.cast(values[1], tf.float32))) == 0.5
    assert float(tf.math.reduce_std(values[2])) == pytest.approx(0.1, rel=0.05)


def test_inputs_by_name_are_fed_by_name() -> None:
    given = {"words": keras.Input((4,), dtype="int64", name="words"), "more": keras.Input((4,), name="more")}
    x = layers.Flatten()(layers.Embedding(9, 2)(given["words"]))
    model = keras.Model(given, layers.Dense(2)(layers.Concatenate()([x, given["more"]])))
    values, facts = fed(model)
    assert sorted(values) == sorted(facts) == ["more", "words"]
    assert (facts["words"]["dtype"], facts["words"]["highest"]) == ("int64", 8)
    with pytest.raises(InputError, match=r"has no input 'word'. Did you mean words"):
        fed(model, replace(TRIAL, inputs={"word": {"high": 4}}))
    with pytest.raises(InputError, match="expected an input of whole numbers"):
        fed(model, replace(TRIAL, inputs={"more": {"high": 4}}))


def test_the_only_input_has_a_second_name() -> None:
    assert fed(tokens(), replace(TRIAL, inputs={"input": {"low": 3, "high": 5}}))[1]["tokens"]["distinct"] == 2


class Gathering(keras.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="gathering")
        self.dense = layers.Dense(3)

    def call(self, words: Any) -> Any:
        return self.dense(tf.gather(tf.ones((20, 4)), words))


class Several(Gathering):
    def call(self, words: Any, more: Any) -> Any:
        return super().call(words) + more


def test_a_subclassed_model_is_fed_what_it_looks_up() -> None:
    model = Gathering()
    model(np.zeros((1, 7), "int32"))
    values, facts = fed(model)
    assert (values.dtype, facts["words"]["lowest"], facts["words"]["highest"]) == (tf.int32, 0, 19)
    several = Several()
    several(np.zeros((1, 7), "int32"), np.zeros((1, 1, 1), "float32"))
    with pytest.raises(ValueError, match=r"expected gathering to take one argument.* Received: call\(words, more\)"):
        fed(several)


def test_a_range_that_the_graph_cannot_tell_is_tried_once() -> None:
    given = keras.Input((16,), dtype="int32", name="tokens")
    model = keras.Model(given, layers.Dense(2)(layers.Embedding(40, 3)(given + 5)))
    traced = trace(model, 64)
    for high, legal in ((35, True), (36, False)):
        trial = replace(TRIAL, inputs={"tokens": {"high": high}})
        if legal:
            inputs.expect_legal(trial, inputs.feed(trial, traced), traced)
        else:
            with pytest.raises(InputError, match=r"expected numbers that the net's lookups allow.* = 40 is not in"):
                inputs.expect_legal(trial, inputs.feed(trial, traced), traced)


@pytest.mark.parametrize("training", [False, True], ids=["forward", "training"])
@pytest.mark.parametrize(
    ("name", "size"),
    [
        *[("tiny", 8), ("alexnet", 67), ("alexnet_conv", 67), ("vgg16", 32), ("inception_v3", 75)],
        *[("resnet_v2_50", 32), ("MobileNetV2", 32), ("ConvNeXtTiny", 32), ("Xception", 71)],
    ],
)
def test_graph_and_table_agree_on_the_products(name: str, size: int, training: bool) -> None:
    """What the layer table counts is, to the last product, what TensorFlow's own graph of the pass computes."""
    from sweeps.tasks.timing.steps import step_function

    keras.backend.clear_session()
    model = nets.build(name, image_size=size)
    traced = trace(model, 2, training=training)
    counted = work.training(traced) if training else work.forward(traced)
    batch = tf.zeros((2, size, size, 3))
    step = step_function("forward_backward" if training else "forward", model, batch, "graph")
    seen = graph_work.look(flat_graph.of_function(step.get_concrete_function()), None, step.inputs, "graph")
    assert (seen.least, seen.most) == (counted.products, counted.products)
    assert seen.needs_input
    assert not seen.hidden
    assert not counted.uncounted


class Positions(keras.layers.Layer):  # type: ignore[misc]
    """Adds a row of a table of 16 for each place of a sequence."""

    def __init__(self, *, dynamic: bool) -> None:
        super().__init__(name="positions")
        self.table, self.dynamic = keras.layers.Embedding(16, 4), dynamic

    def call(self, values: Any) -> Any:
        length = tf.shape(values)[1] if self.dynamic else keras.ops.shape(values)[1]
        return values + self.table((tf.range if self.dynamic else keras.ops.arange)(length))


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_sequence_longer_than_its_table_of_positions_is_refused(dynamic: bool) -> None:
    words = keras.Input((None,), dtype="int32")
    model = keras.Model(words, Positions(dynamic=dynamic)(keras.layers.Embedding(9, 4)(words)))

    def fed_with(length: int) -> None:
        trial = replace(TRIAL, inputs={"length": length})
        inputs.feed(trial, trace(model, trial.batch, inputs=signature.inputs(model, given.read(trial.inputs))))

    fed_with(16)
    with pytest.raises(InputError, match=r"expected rows below 16 .*positions.* Received: row 16"):
        fed_with(17)


def test_numbers_that_are_each_for_a_table_of_their_own_are_no_sequence() -> None:
    kinds = keras.Input((3,), dtype="int32", name="kinds")
    columns = [layers.Embedding(5 + place, 2)(kinds[:, place]) for place in range(3)]
    assert "length" not in fed(keras.Model(kinds, layers.Concatenate()(columns)))[1]["kinds"]
    assert fed(tokens())[1]["tokens"]["length"] == 16
