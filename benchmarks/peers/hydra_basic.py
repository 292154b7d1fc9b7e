"""Runs jobs that only log one number to MLflow through one of Hydra's launchers.

usage: hydra_basic.py TRIALS FOLDER [LAUNCHER]; prints the total seconds, and those from the first run's start to the
last one's end, as JSON. LAUNCHER: basic (default: in this process) or ray (hydra-ray-launcher, all cores for each job).
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import hydra
import mlflow
from omegaconf import DictConfig

FOLDER = "BENCHMARK_FOLDER"


@hydra.main(version_base="1.3", config_path=None)
def job(cfg: DictConfig) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{os.environ[FOLDER]}/mlflow.db")
    mlflow.set_experiment("hydra")
    with mlflow.start_run():
        mlflow.log_params({"batch": cfg.batch})
        mlflow.log_metrics({"mean_s": 0.001 * cfg.batch})


def main(trials: int, folder: Path, launcher: str) -> None:
    start = time.perf_counter()
    os.environ[FOLDER] = str(folder)
    # MLflow's migrations take seconds and would run in every worker at once.
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("hydra")
    sys.argv[1:] = [
        "-m",
        f"+batch=range(1,{trials + 1})",
        f"hydra.sweep.dir={folder}/sweep",
        f"hydra/launcher={launcher}",
    ]
    if launcher == "ray":
        cores = os.cpu_count()
        sys.argv += [f"+hydra.launcher.ray.remote.num_cpus={cores}", f"+hydra.launcher.ray.init.num_cpus={cores}"]
    job()
    total_s = time.perf_counter() - start
    runs = mlflow.search_runs(experiment_names=["hydra"], output_format="list", max_results=trials + 1)
    if len(runs) != trials or any(run.info.status != "FINISHED" for run in runs):
        raise RuntimeError(f"expected {trials} finished runs. Received: {len(runs)}")
    span_ms = max(run.info.end_time for run in runs) - min(run.info.start_time for run in runs)
    print(json.dumps({"total_s": total_s, "trials_s": span_ms / 1000}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), *(sys.argv[3:] or ["basic"]))
