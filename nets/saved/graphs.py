"""Loads a SavedModel as a `keras.Model` around its graph.

Keras' `model.export` and `ExportArchive` write such folders, and so does `tf.saved_model.save`. They hold the graph of
inference only: in a training pass, dropout stays off and batch statistics stay as saved.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from nets.errors import InputError
from nets.saved import graph_check
from nets.saved.description import reading
from nets.saved.kinds import GRAPH, SavedModelError

_ENDPOINTS = ("serve", "serving_default")
_VARIABLES = "variables/variables.index"
_MOST_BYTES = 2**31
"""The largest file that TensorFlow writes as one message."""


class Endpoint(keras.layers.Layer):
    """A function of a SavedModel as a layer, with the variables that it uses; trainable where they were saved so."""

    def __init__(self, function: Any, whole: Any, names: Mapping[str, str]) -> None:
        """`whole` owns the function's variables; `names` are its arguments, by those of the model's inputs."""
        super().__init__(name="saved_graph", dtype="float32", autocast=False)
        self._function, self._whole, self._names = function, whole, dict(names)
        for index, variable in enumerate(function.variables):
            weight = keras.Variable(
                initializer=variable,
                shape=variable.shape,
                dtype=variable.dtype.name,
                trainable=variable.trainable,
                name=f"{index}_{variable.name.partition(':')[0].replace('/', '_')}",
            )
            self._track_variable(weight)
        self.built = True

    def call(self, inputs: Mapping[str, Any]) -> Any:
        """Return the graph's output, or a dictionary of several by name."""
        takes = self._function.structured_input_signature[1]
        for name, tensor in inputs.items():
            if not takes[self._names[name]].shape[:1].is_compatible_with(tensor.shape[:1]):
                batch = takes[self._names[name]].shape[0]
                raise InputError(
                    f"expected batch={batch}, the only one that the SavedModel takes. Received: batch={tensor.shape[0]}"
                )
        outputs = self._function(**{self._names[name]: tensor for name, tensor in inputs.items()})
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def is_saved_graph(model: keras.Model) -> bool:
    """Whether the model was loaded from a SavedModel, so that it computes the same in training as in inference."""
    return any(isinstance(layer, Endpoint) for layer in model.layers)


def load(path: Path, *, trust: bool = False) -> keras.Model:
    """Return a functional model of the SavedModel's endpoint `serve` or `serving_default`.

    Its inputs have the names, shapes and types of the endpoint's signature. Raises SavedModelError.
    """
    if trust:
        with reading(path):
            return _model(path, tf.saved_model.load(str(path)))
    with reading(path), tempfile.TemporaryDirectory() as folder:
        # What is loaded is what was checked.
        Path(folder, GRAPH).write_bytes(_checked(path).SerializeToString())
        for name in ("variables", "assets"):
            if (path / name).is_dir():
                Path(folder, name).symlink_to((path / name).resolve())
        return _model(path, tf.saved_model.load(folder))


def expect_harmless(path: Path) -> None:
    """Raise SavedModelError for a graph that may do more than compute, or that nothing can call."""
    with reading(path):
        saved = _checked(path)
        _expect_callable(path, saved.meta_graphs[0])


def _checked(path: Path) -> Any:
    """Return the SavedModel's message without its functions for saving, which nothing here calls.

    Raises SavedModelError where others may do more than compute.
    """
    file = path / GRAPH
    if (size := file.stat().st_size) > _MOST_BYTES:
        raise SavedModelError(f"{path}: expected {GRAPH} of at most 2 GB. Received: {size / 2**30:,.1f} GB")
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString(file.read_bytes())
    if len(saved.meta_graphs) != 1 or not saved.meta_graphs[0].HasField("object_graph_def"):
        raise SavedModelError(
            f"{path}: expected a SavedModel of TensorFlow 2, as model.export(FOLDER) of Keras writes it. "
            "Received: one of TensorFlow 1"
        )
    graph = saved.meta_graphs[0]
    _drop_saver(graph)
    # Of the nodes outside of functions, only constants are read.
    constants = [node for node in graph.graph_def.node if node.op == "Const"]
    del graph.graph_def.node[:]
    graph.graph_def.node.extend(constants)
    if bad := graph_check.refused(list(graph.graph_def.library.function), graph.graph_def.node):
        raise SavedModelError(
            f"{path}: expected a graph that only computes. Received: operations that may do more: {bad}; "
            "set model.trust=true if you trust whoever made it"
        )
    return saved


def _expect_callable(path: Path, graph: Any) -> None:
    """Raise SavedModelError where the folder lacks the endpoint, its tensors, or the file of the variables."""
    _expect_endpoint(path, graph.signature_def)
    name = next(name for name in _ENDPOINTS if name in graph.signature_def)
    endpoint = graph.signature_def[name]
    _expect_tensors(path, name, endpoint.inputs, endpoint.outputs)
    for argument, tensor in sorted(endpoint.inputs.items()):
        _expect_batch(path, argument, tf.TensorShape(tensor.tensor_shape))
    if not (path / _VARIABLES).is_file():
        raise SavedModelError(f"{path}: expected {_VARIABLES} in it. Received: a folder without it")


def _expect_endpoint(path: Path, endpoints: Mapping[str, Any]) -> None:
    if not any(name in endpoints for name in _ENDPOINTS):
        others = ", ".join(name for name in endpoints if not name.startswith("__")) or "none at all"
        raise SavedModelError(
            f"{path}: expected an endpoint named {' or '.join(_ENDPOINTS)}, as model.export(FOLDER) writes. "
            f"Received: {others}"
        )


def _expect_tensors(path: Path, name: str, takes: Mapping[str, Any], gives: Mapping[str, Any]) -> None:
    if not takes or not gives:
        raise SavedModelError(f"{path}: expected {name} to take tensors and to return some. Received: neither or one")


def _expect_batch(path: Path, argument: str, shape: tf.TensorShape) -> None:
    if shape.rank in (None, 0):
        raise SavedModelError(f"{path}: expected inputs with a batch axis. Received: {argument} of shape {shape}")


def _drop_saver(graph: Any) -> None:
    """Remove the functions that TensorFlow 1 would save and restore the variables with: they name files."""
    saver = {graph.saver_def.restore_op_name, graph.saver_def.save_tensor_name.partition(":")[0]}
    names = {node.attr["f"].func.name for node in graph.graph_def.node if node.name in saver}
    kept = [function for function in graph.graph_def.library.function if function.signature.name not in names]
    del graph.graph_def.library.function[:]
    graph.graph_def.library.function.extend(kept)


def _model(path: Path, whole: Any) -> keras.Model:
    """Return the model around the endpoint of a loaded SavedModel."""
    endpoints = getattr(whole, "signatures", {})
    _expect_endpoint(path, endpoints)
    name = next(name for name in _ENDPOINTS if name in endpoints)
    function = endpoints[name]
    takes, gives = function.structured_input_signature[1], function.structured_outputs
    _expect_tensors(path, name, takes, gives)
    inputs = {}
    for argument, spec in takes.items():
        _expect_batch(path, argument, spec.shape)
        inputs[argument] = keras.Input(batch_shape=tuple(spec.shape), dtype=spec.dtype.name, name=argument)
    outputs = Endpoint(function, whole, {each: each for each in inputs})(inputs)
    only = next(iter(inputs.values())) if len(inputs) == 1 else inputs
    return keras.Model(only, outputs, name="".join(c if c.isalnum() else "_" for c in path.name) or "saved_model")
