"""Where in MLflow's pages a sweep is looked at, and which columns its list of runs shows there.

MLflow 3 opens an experiment in its view for language models, and its list of runs without a parameter or metric. Both
can be set in an address: a view that somebody shares is a tag of the experiment, and the address names it.
"""

from __future__ import annotations

import json

from tracking.record import PASSES

_NAME = "sweeps"
TAG = f"mlflow.sharedViewState.{_NAME}"
"""The experiment's tag with the view."""
_COLUMNS = (
    "attributes.`Duration`",
    *(f"metrics.`{name}/{figure}`" for name in PASSES for figure in ("images_per_s", "mean_s")),
    *(f"params.`{name}`" for name in ("model", "batch", "device", "precision", "compile")),
    *(f"tags.`{name}`" for name in ("status", "quality")),
)
VIEW = json.dumps({"selectedColumns": _COLUMNS})
"""The tag's value: MLflow's own form of a shared view, as far as it differs from the usual one."""


def page(experiment_id: str = "") -> str:
    """The address, below the server's, of an experiment's list of runs; of all experiments where none is known."""
    if not experiment_id:
        return "#/experiments?workflowType=machine_learning"
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={_NAME}"
