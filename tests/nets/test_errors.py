"""The line of an exception's text that says what happened."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

from nets.errors import cause


def test_words_of_an_error_in_a_graph_and_in_a_layer() -> None:
    looked_up = keras.Sequential([keras.Input((2,), dtype="int32"), keras.layers.Embedding(3, 2)])
    beyond = tf.constant([[0, 7]])
    for call in (looked_up, tf.function(looked_up, autograph=False)):
        with pytest.raises(tf.errors.InvalidArgumentError) as raised:
            call(beyond)
        words = cause(raised.value)
        assert "indices[0,1] = 7 is not in [0, 3)" in words
        assert "function_node" not in words
        assert "\x1b" not in words
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        looked_up(beyond)
    assert cause(raised.value).startswith("Embedding.call(): ")


def test_other_words_are_left_as_they_are() -> None:
    assert cause("\n one\ntwo") == "one"
    assert cause("") == ""
    assert cause("Graph execution error:") == "Graph execution error:"
