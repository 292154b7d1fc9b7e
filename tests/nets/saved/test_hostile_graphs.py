"""Graphs of SavedModels that do more than compute, or that nothing can call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from nets.saved import loading
from nets.saved.kinds import SavedModelError
from tests.nets.saved.test_hostile_models import TRUST, expect_refused
from tests.support.models import saved


def _write(canary: Path) -> Callable[[Any], Any]:
    def call(image: Any) -> Any:
        tf.io.write_file(str(canary), "x")
        return image

    return call


def _print(canary: Path) -> Callable[[Any], Any]:
    def call(image: Any) -> Any:
        tf.print("x", output_stream=f"file://{canary}")
        return image

    return call


def _python(canary: Path) -> Callable[[Any], Any]:
    def touch(image: Any) -> Any:
        canary.touch()
        return image

    return lambda image: tf.ensure_shape(tf.numpy_function(touch, [image], tf.float32), (None, 4))


def _read(_: Path) -> Callable[[Any], Any]:
    return lambda image: image + tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32)


def _map(_: Path) -> Callable[[Any], Any]:
    def call(image: Any) -> Any:
        first = tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=[4], memory_region_name="/etc/passwd")
        return image + tf.cast(tf.reduce_sum(tf.cast(first, tf.int32)), tf.float32)

    return call


def _nested(canary: Path) -> Callable[[Any], Any]:
    return lambda image: tf.cond(tf.reduce_sum(image) > 1e9, lambda: _write(canary)(image), lambda: image)


def _dataset(_: Path) -> Callable[[Any], Any]:
    return lambda image: image + tf.data.TextLineDataset("/etc/passwd").reduce(0.0, lambda total, _: total + 1)


GRAPHS: dict[str, tuple[Callable[[Path], Callable[[Any], Any]], str]] = {
    "writes a file": (_write, "WriteFile"),
    "prints into a file": (_print, "PrintV2"),
    "calls Python": (_python, "PyFunc"),
    "reads a file": (_read, "ReadFile"),
    "maps a file": (_map, "ImmutableConst"),
    "writes a file at times": (_nested, "WriteFile"),
    "reads lines": (_dataset, "Dataset"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_a_graph_that_does_more_than_compute_is_refused(case: str, tmp_path: Path) -> None:
    make, operation = GRAPHS[case]
    canary = tmp_path / "canary"
    path = saved.of_graph(tmp_path / "my", make(canary))
    canary.unlink(missing_ok=True)
    expect_refused(path, canary, "operations that may do more: ", operation, TRUST)
    if case == "writes a file":
        loading.load(path, trust=True)(tf.zeros((1, 4)))
        assert canary.exists()


def test_what_runs_while_a_graph_is_loaded_is_checked_as_well(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\nb\n")
    line = tf.lookup.TextFileIndex.LINE_NUMBER
    words = tf.lookup.TextFileInitializer(
        str(tmp_path / "words.txt"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, line
    )
    table = tf.lookup.StaticHashTable(words, 0)
    path = saved.of_graph(
        tmp_path / "my", lambda image: image + tf.cast(table.lookup(tf.constant("a")), tf.float32), table
    )
    expect_refused(path, tmp_path / "canary", "InitializeTableFromTextFileV2", TRUST)


def test_a_function_that_is_called_for_saving_is_not_loaded(tmp_path: Path) -> None:
    """The saver's own functions, which read and write files, are left out of what is loaded, under whatever name."""
    from tensorflow.core.protobuf import saved_model_pb2

    canary = tmp_path / "canary"
    path = saved.of_graph(tmp_path / "my", _write(canary))
    canary.unlink(missing_ok=True)
    message = saved_model_pb2.SavedModel()
    message.ParseFromString((path / "saved_model.pb").read_bytes())
    graph = message.meta_graphs[0]
    (writer,) = [
        each.signature.name for each in graph.graph_def.library.function if "WriteFile" in {n.op for n in each.node_def}
    ]
    node = next(node for node in graph.graph_def.node if node.name == graph.saver_def.restore_op_name)
    node.attr["f"].func.name = writer
    (path / "saved_model.pb").write_bytes(message.SerializeToString())
    with pytest.raises(SavedModelError):
        loading.load(path)
    assert not canary.exists()


def test_a_damaged_graph_is_refused(tmp_path: Path) -> None:
    path = saved.of_graph(tmp_path / "my", lambda image: image)
    whole = (path / "saved_model.pb").read_bytes()
    for content in (b"", whole[:-100], b"\xff" * 50):
        (path / "saved_model.pb").write_bytes(content)
        expect_refused(path, tmp_path / "canary", "Received: ")


ENDPOINTS: dict[str, tuple[str, Any, str]] = {
    "another name": ("predict", tf.TensorSpec((None, 4)), "Received: predict"),
    "no batch": ("serve", tf.TensorSpec(()), "inputs with a batch axis. Received: x of shape ()"),
    "any rank": ("serve", tf.TensorSpec(None), "inputs with a batch axis. Received: x of shape <unknown>"),
    "no input": ("serve", None, "expected serve to take tensors"),
}


@pytest.mark.parametrize("case", ENDPOINTS)
def test_what_cannot_be_called_is_known_before_it_is_loaded(case: str, tmp_path: Path) -> None:
    name, spec, words = ENDPOINTS[case]
    module = tf.Module()
    function: Any = (lambda: tf.constant(1.0)) if spec is None else (lambda x: 2.0 * x)
    traced = tf.function(function, input_signature=[] if spec is None else [tf.TensorSpec(spec.shape, name="x")])
    tf.saved_model.save(module, str(tmp_path / "my"), signatures={name: traced})
    expect_refused(tmp_path / "my", tmp_path / "canary", words)


def test_a_graph_without_its_variables_is_refused(tmp_path: Path) -> None:
    path = saved.of_graph(tmp_path / "my", lambda image: image)
    (path / "variables" / "variables.index").unlink()
    with pytest.raises(SavedModelError, match=r"expected variables/variables\.index in it"):
        loading.outline(path)
