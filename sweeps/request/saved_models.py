"""The keys of `model=file`, a saved model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nets.saved import kinds
from sweeps.wording import nearest, needs

NAME = "file"
"""The choice of `model` that is a saved model."""
_KEYS = ("path", "trust", "weights")


def is_one(model: Mapping[str, Any]) -> bool:
    """Whether the group `model` describes a saved model; a callable of the user's may take a `path` of its own."""
    return model["_target_"] is None and (model["name"] == NAME or model.get("path") is not None)


def problems(values: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[str]:
    """Return every problem of the group and of what it is combined with, as far as the names show it."""
    model = values["model"]
    path = model.get("path")
    if "trust" not in model:  # path was added to another choice
        return [needs(f"model.path={path}", f"model={NAME}", f"model={model['name']}")]
    refusals = [
        f"model.{key}: a saved model has no argument {key!r}.{nearest(key, _KEYS)}"
        for key in arguments
        if key != "trust"
    ]
    if not isinstance(model["trust"], bool):
        refusals.append(f"model.trust={model['trust']}: expected true or false.")
    if not path:
        return [*refusals, f"model={NAME}: expected model.path with it: {kinds.EXPECTED}."]
    if not isinstance(path, str):
        return [*refusals, f"model.path={path}: expected {kinds.EXPECTED}."]
    if misnamed := kinds.misnamed(path):
        refusals.append(f"model.path={path}: {misnamed}")
    is_graph = kinds.kind_of(path) == "saved_model"
    if is_graph and values["compile"] == "eager":
        refusals.append(
            "compile=eager: expected compile=graph or xla, as a SavedModel is a graph. "
            f"Received: model.path={path}, a SavedModel."
        )
    if is_graph and values["task"]["name"] == "finetune":
        refusals.append(
            "task=finetune: expected a .keras or .h5 file as model.path, whose layers can train. "
            f"Received: model.path={path}, a SavedModel, which holds the graph of inference."
        )
    if values["layout"] == "channels_first":
        refusals.append(
            f"layout=channels_first: expected a net that is built from code, as a saved model keeps the order of axes "
            f"that it was saved with. Received: model.path={path}."
        )
    if model["weights"] is not None and is_graph:
        refusals.append(
            f"model.weights={model['weights']}: expected a .keras or .h5 file as model.path. Received: "
            f"model.path={path}, a SavedModel, which has its own."
        )
    return refusals
