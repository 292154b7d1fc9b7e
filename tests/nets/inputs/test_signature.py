"""The inputs of models of every kind, with what the user says where their signature leaves something open."""

from __future__ import annotations

from typing import Any

import keras
import pytest
import tensorflow as tf
from keras import layers

from nets.errors import InputError
from nets.inputs import given, signature
from nets.inputs.given import Given
from nets.inputs.sizes import Input


def taken(model: keras.Model, **inputs: Any) -> Any:
    return signature.inputs(model, given.read(inputs))


def mixed() -> keras.Model:
    """A picture of any size, words of any number, and their mask."""
    picture = keras.Input((None, None, 3), name="picture")
    words, mask = keras.Input((None,), dtype="int32", name="words"), keras.Input((None,), dtype="bool", name="mask")
    x = layers.GlobalAveragePooling2D()(picture)
    y = layers.GlobalAveragePooling1D()(layers.Embedding(9, 3)(words), mask=mask)
    return keras.Model({"picture": picture, "text": [words, mask]}, layers.Dense(2)(layers.Concatenate()([x, y])))


def image(*shape: int | None) -> keras.Model:
    each = keras.Input(shape, name="image")
    return keras.Model(each, layers.ReLU()(each), name="open")


class Subclassed(keras.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="mine")
        self.dense = layers.Dense(2)

    def call(self, values: Any) -> Any:
        return self.dense(values["a"] + values["b"] if isinstance(values, dict) else values)


def test_one_length_closes_every_time_axis_in_the_models_own_structure() -> None:
    assert taken(mixed(), length=7, picture={"shape": [8, 6, 3]}) == {
        "picture": Input("picture", (8, 6, 3), "float32"),
        "text": [Input("words", (7,), "int32", length=7), Input("mask", (7,), "bool", length=7)],
    }


def test_a_shape_is_also_the_length_of_its_time_axis() -> None:
    each = keras.Input((None, 4))
    assert taken(keras.Model(each, layers.LSTM(2)(each)), shape=[5, 4]) == Input("input", (5, 4), "float32", length=5)


def test_inputs_without_names_are_called_by_their_place() -> None:
    pair = [keras.Input((2,)), keras.Input((3,))]
    model = keras.Model(pair, layers.Concatenate()(pair))
    assert [each.name for each in taken(model)] == ["input_0", "input_1"]


@pytest.mark.parametrize(
    ("model", "inputs", "words"),
    [
        (image(None, None, 3), {}, "Received: image, float32 [None,None,3]. Set inputs.shape=[N,N,3]"),
        (image(None, 3), {}, "Received: image, float32 [None,3]. Set inputs.length=N or inputs.shape=[N,3]"),
        (image(None, None, 3), {"length": 4}, "Received: image, float32 [None,None,3]. Set inputs.shape=[N,N,3]"),
        (
            image(8, 3),
            {"length": 4},
            "inputs.length=4: expected open to have an input with one open axis. Received: im",
        ),
        (image(None, 3), {"shape": [8, 1]}, "inputs.shape=[8,1]: expected sizes that fit image, float32 [None,3] with"),
        (image(None, 3), {"shape": [2, 8, 3]}, "channels last. Leave the batch out"),
        (image(8), {"dtype": "int32"}, "inputs.image.dtype=int32: expected float32, as the model states"),
        (mixed(), {"length": 4}, "picture, float32 [None,None,3]. Set +inputs.picture.shape=[N,N,3]"),
        (
            mixed(),
            {"word": {"high": 3}},
            "inputs.word: the model has no input 'word'. Did you mean words? Its inputs: ",
        ),
        (Subclassed(), {}, "Received: mine, a Subclassed that was not built. Set inputs.shape=[N,...], the sizes"),
        (Subclassed(), {"length": 4}, "Received: mine, a Subclassed that was not built. Set inputs.shape=[N,...]"),
        (
            keras.Sequential([layers.Dense(1)], name="row"),
            {},
            "Received: row, a Sequential that was not built. Set inp",
        ),
    ],
)
def test_what_stays_open_is_refused_with_the_key_to_set(model: Any, inputs: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as refused:
        taken(model, **inputs)
    assert words in str(refused.value)


def test_a_sparse_input_is_refused() -> None:
    each = keras.Input((8,), sparse=True, name="bag")
    with pytest.raises(InputError, match=r"expected dense inputs. Received: bag, float32 \[8\], which is sparse"):
        taken(keras.Model(each, layers.Dense(2)(each)))


def test_a_subclassed_model_is_built_by_a_call_with_what_is_given() -> None:
    model = Subclassed()
    assert taken(model, shape=[6]) == Input("values", (6,), "float32")
    assert [tuple(weight.shape) for weight in model.weights] == [(6, 2), (2,)]
    assert taken(Subclassed(), shape=[6], dtype="float16").dtype == "float16"
    by_key = taken(Subclassed(), a={"shape": [4]}, b={"shape": [4]})
    assert by_key == {"a": Input("a", (4,), "float32"), "b": Input("b", (4,), "float32")}


def test_a_built_subclassed_model_takes_other_sizes_than_it_was_built_with() -> None:
    class Pooled(Subclassed):
        def call(self, values: Any) -> Any:
            return self.dense(keras.ops.mean(values, axis=1))

    model = Pooled()
    model(keras.ops.zeros((1, 7, 3)))
    assert taken(model).shape == (7, 3)
    again = Pooled()
    again(keras.ops.zeros((1, 7, 3)))
    assert taken(again, shape=[9, 3]).shape == (9, 3)


def test_a_sequential_model_is_built_for_a_given_shape() -> None:
    model = keras.Sequential([layers.Conv1D(4, 3), layers.GlobalAveragePooling1D()])
    assert taken(model, shape=[20, 2]) == Input("input", (20, 2), "float32")
    assert model.output_shape == (None, 4)


def test_the_users_own_batch_gives_sizes_names_and_structure() -> None:
    batch = signature.of_tensors({"a": tf.zeros((5, 4)), "b": tf.zeros((5, 4))})
    model = Subclassed()
    assert signature.inputs(model, Given(batch=batch, batch_size=5)) == batch
    assert len(model.weights) == 2
    each = keras.Input((None, 4), name="row")
    recurrent = keras.Model(each, layers.LSTM(2)(each))
    batch = signature.of_tensors(tf.zeros((5, 7, 4)))
    assert signature.inputs(recurrent, Given(batch=batch)) == Input("row", (7, 4), "float32", length=7)
    for unfit, words in (
        (
            tf.zeros((5, 7, 3)),
            r"expected a batch of samples that fit row, float32 \[None,4\]. Received: input, float32",
        ),
        ([tf.zeros((5, 7, 4))] * 2, r"in the structure of functional.*'s inputs, row. Received: \[input_0, input_1\]"),
    ):
        with pytest.raises(InputError, match=words):
            signature.inputs(recurrent, Given(batch=signature.of_tensors(unfit)))


def test_shapes_are_written_channels_last_in_either_layout() -> None:
    keras.config.set_image_data_format("channels_first")
    try:
        first = image(3, None, None)
        assert taken(first, shape=[8, 6, 3]).shape == (3, 8, 6)
        with pytest.raises(InputError, match=r"Set inputs.shape=\[N,N,3\]"):
            taken(first)
    finally:
        keras.config.set_image_data_format("channels_last")
