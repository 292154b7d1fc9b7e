"""What XLA's program shows of the products of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf

from nets.counting import work
from nets.counting.layers import trace
from sweeps.tasks.graphs import flat_graph, graph_work, xla_program
from sweeps.tasks.timing.steps import step_function


def separable(inputs: Any) -> Any:
    return keras.layers.SeparableConv1D(8, 3)(keras.layers.DepthwiseConv1D(3)(inputs))


def attention(inputs: Any) -> Any:
    return keras.layers.Attention()([inputs, keras.layers.Dense(8)(inputs)])


def projections(inputs: Any) -> Any:
    return keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)


def tower(inputs: Any) -> Any:
    return keras.layers.Conv1DTranspose(8, 3)(keras.layers.Conv1D(8, 3, groups=2)(inputs))


@pytest.mark.parametrize("make", [separable, attention, projections, tower])
def test_rewritten_products_are_not_missed(make: Callable[[Any], Any]) -> None:
    """XLA turns convolutions into matrix products, moves transpositions, and forgets where some of them came from."""
    keras.backend.clear_session()
    inputs = keras.Input((16, 8))
    model = keras.Model(inputs, make(inputs))
    step = step_function("forward_backward", model, tf.ones((4, 16, 8)), "xla")
    program = xla_program.read(step.xla_program())
    flat = flat_graph.of_function(step.get_concrete_function())
    seen = graph_work.look(flat, None, step.inputs, "xla", program)
    counted = work.training(trace(model, 4, training=True)).products
    assert (seen.least, seen.most) == (counted, counted)


def test_products_of_a_program_are_counted_by_their_shapes() -> None:
    text = """
  %a = f32[4,192]{1,0} parameter(0)
  %b.1 = f32[192,8]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,8]{1,0} dot(%a, %b.1), lhs_contracting_dims={1}, metadata={op_name="outer/dense/MatMul"}
  %k = f32[3,3,2,8]{3,2,1,0} parameter(2)
  %c = f32[1,6,6,8]{3,2,1,0} convolution(%i, %k), window={size=3x3}, dim_labels=b01f_01io->b01f, feature_group_count=2
"""
    program = xla_program.read(text)
    assert program.products == 2 * 4 * 8 * 192 + 2 * 6 * 6 * 8 * 3 * 3 * 2
    assert program.has("dense/MatMul")
    assert not program.has("ense/MatMul")
