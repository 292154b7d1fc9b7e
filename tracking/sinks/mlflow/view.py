"""The address of a sweep on MLflow's pages, and the columns of its list of runs there.

MLflow 3 opens an experiment in its view for language models, with no parameter or metric in its list of runs. An
address can set both: a shared view is a tag of the experiment, and the address names it.
"""

from __future__ import annotations

import json

from tracking.analysis import metrics
from tracking.axes import of_role
from tracking.record import PASSES

_NAME = "sweeps"
TAG = f"mlflow.sharedViewState.{_NAME}"
"""The experiment's tag with the view."""


def shared_view() -> str:
    """The tag's value: MLflow's own form of a shared view, as far as it differs from the usual one."""
    figures = [f"metrics.`{metric.key(name)}`" for name in PASSES for metric in metrics.METRICS if metric.shown]
    params = [f"params.`{name}`" for name in ("model", *(axis.name for axis in of_role("position", "variant")))]
    columns = ["attributes.`Duration`", *figures, *params, "tags.`status`", "tags.`quality`"]
    return json.dumps({"selectedColumns": columns})


def page(experiment_id: str = "") -> str:
    """The address, below the server's, of an experiment's list of runs; of all experiments where none is known."""
    if not experiment_id:
        return "#/experiments?workflowType=machine_learning"
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={_NAME}"
