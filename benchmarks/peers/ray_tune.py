"""Runs trials that only report one number through Ray Tune with its MLflow callback.

usage: ray_tune.py TRIALS FOLDER; prints the total seconds, and those of `fit`, as JSON.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback


def no_op(config: dict[str, int]) -> None:
    tune.report({"mean_s": 0.001 * config["batch"]})


def main(trials: int, folder: Path) -> None:
    start = time.perf_counter()
    ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    callback = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="tune")
    # All cores for each trial, as a benchmark needs them; Tune's own default would be one core per trial.
    trainable = tune.with_resources(no_op, {"cpu": int(ray.cluster_resources()["CPU"])})
    tuner = tune.Tuner(
        trainable,
        param_space={"batch": tune.grid_search(list(range(1, trials + 1)))},
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), callbacks=[callback], verbose=0),
    )
    ready = time.perf_counter()
    results = tuner.fit()
    done = time.perf_counter()
    if results.num_errors or len(results) != trials:
        raise RuntimeError(f"expected {trials} good trials. Received: {results}")
    ray.shutdown()
    print(json.dumps({"total_s": time.perf_counter() - start, "trials_s": done - ready}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
