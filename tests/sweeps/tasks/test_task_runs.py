"""The tasks other than the benchmark, through the command line, as a user runs them."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support import logged_model
from tests.support.picture_data import make_shapes, picture, save_bvlc, size_of
from tests.support.sweep_command import journal, only_sweep, run
from tracking.record import Result

SMALL = ["task=finetune", "task.data=shapes", "model=tiny", "model.image_size=32", "batch=16", "task.optimizer=adam"]


def results(sweep: Path) -> list[Result]:
    return [Result.from_json(line) for line in journal(sweep)]


def test_alexnet_learns_with_only_its_last_layer_trained(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", 50)
    save_bvlc(tmp_path / "bvlc_alexnet.npy")
    done = run(
        tmp_path,
        *("task=finetune", "task.data=shapes", "model=alexnet", "model.weights=bvlc_alexnet.npy", "model.keep_prob=1"),
        *("task.skip_layers=[fc8]", "task.train_layers=[fc8]", "task.epochs=5", "task.learning_rate=0.003"),
        *("task.optimizer=adam", "task.patience=3", "task.save_model=false", "tracking=csv", "cluster=inline"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = results(only_sweep(tmp_path))
    assert result.metrics["val/accuracy"] > 0.9
    assert "Calibrating" not in done.stdout
    assert f"validation accuracy {result.metrics['val/accuracy']:.1%}" in done.stdout


def test_a_sweep_over_learning_rates_one_of_which_diverges(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", 25)
    done = run(tmp_path, "-m", *SMALL, "task.epochs=8", "task.learning_rate=0.05,0.01,1e30", "device.cpus=1", "seed=3")
    assert done.returncode == 1, done.stdout + done.stderr
    sweep = only_sweep(tmp_path)
    found = {result.trial.task_args["learning_rate"]: result for result in results(sweep)}
    assert {rate: result.status for rate, result in found.items()} == {0.05: "ok", 0.01: "ok", 1e30: "error"}
    assert found[1e30].error is not None
    assert found[1e30].error.kind == "DivergedError"
    assert "became " in done.stdout
    assert found[0.05].metrics["val/accuracy"] > 0.9
    assert all(len(result.host["cores"]) == 1 for result in found.values())
    assert size_of(sweep / "plots" / "val_accuracy_over_learning_rate.png")[0] > 600
    assert "Highest val/accuracy: " in (sweep / "report.html").read_text()
    with (sweep / "results.csv").open(newline="") as file:
        rows = {float(row["task.learning_rate"]): row for row in csv.DictReader(file)}
    assert float(rows[0.05]["val/accuracy"]) == found[0.05].metrics["val/accuracy"]
    assert "forward" not in rows[0.05]
    assert "mean_s" not in rows[0.05]

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'sweeps'")
    runs = client.search_runs([experiment.experiment_id])
    children = {float(r.data.params["task_args.learning_rate"]): r for r in runs if "trial_id" in r.data.tags}
    good = children[0.05]
    history = client.get_metric_history(good.info.run_id, "val/accuracy")
    assert [(point.step, point.value) for point in history] == list(found[0.05].curves["val/accuracy"])
    assert good.data.metrics["best/val/accuracy"] == found[0.05].metrics["val/accuracy"]
    files = {
        file.path for folder in (None, "plots", "model") for file in client.list_artifacts(good.info.run_id, folder)
    }
    assert {"log.txt", "confusion_matrix.csv", "plots/training.png", "plots/samples.png", "model/MLmodel"} <= files
    with (sweep / "trials" / found[0.05].trial_id / "files" / "validation.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    loaded = logged_model.predictions(
        f"runs:/{good.info.run_id}/model", [str(tmp_path / row["image"])], tmp_path, f"sqlite:///{tmp_path}/mlflow.db"
    )
    assert loaded["label"] == [row["predicted class"]]
    assert loaded["probability"] == pytest.approx([float(row["probability"])], abs=1e-5)
    assert children[1e30].data.tags["error"].startswith("DivergedError: ")
    (parent,) = [r for r in runs if "trial_id" not in r.data.tags]
    plots = [file.path for file in client.list_artifacts(parent.info.run_id, "plots")]
    assert "plots/val_accuracy_over_learning_rate.png" in plots


@pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None,
    reason="needs hydra-optuna-sweeper: pip install '.[optuna]'",
)
def test_optuna_finds_a_learning_rate(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", 15)
    done = run(
        tmp_path, "-m", *SMALL, "hydra/sweeper=optuna", "objective=val/accuracy", "hydra.sweeper.direction=maximize",
        "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=1", "hydra.sweeper.sampler.seed=1",
        "task.learning_rate=tag(log, interval(0.0001, 0.1))",
        "task.epochs=4", "task.save_model=false", "tracking=csv", "cluster=inline",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    sweep = only_sweep(tmp_path)
    found = results(sweep)
    assert len({result.trial.task_args["learning_rate"] for result in found}) == 4
    best = max(found, key=lambda result: result.metrics["val/accuracy"])
    chosen = (sweep / "optimization_results.yaml").read_text()
    assert json.loads((sweep / "plan.json").read_text())["facts"]["objective"] == "val/accuracy"
    assert f"best_value: {best.metrics['val/accuracy']}" in chosen
    assert (sweep / "plots" / "val_accuracy_over_learning_rate.png").is_file()


def test_nets_are_compared_on_the_same_pictures(tmp_path: Path) -> None:
    for i in range(3):
        picture("ring", i).save(tmp_path / f"{i}.png")
    done = run(
        tmp_path,
        "-m",
        "task=classify",
        "model=tiny",
        "model._target_=null,tests.support.models.healthy.small",
        "task.images='*.png'",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [result.metrics["pictures"] for result in results(only_sweep(tmp_path))] == [3, 3]
    assert done.stdout.count("2.png") == 2


def test_bad_data_runs_nothing(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", 3, ("disc", "ring"))
    (tmp_path / "shapes" / "empty").mkdir()
    (tmp_path / "shapes" / "ring" / "000.jpg").write_bytes(b"no picture")
    done = run(tmp_path, "-m", "task=finetune", "task.data=shapes", "model=alexnet,alexnet_conv", "task.epochs=0,1")
    assert done.returncode == 2
    assert "expected pictures in every class. Received: none of empty." in done.stderr
    assert "1 picture cannot be used; task.unreadable=skip leaves such out" in done.stderr
    assert "model=alexnet_conv task=finetune: expected a net with classes." in done.stderr
    assert "task.epochs=0: expected at least 1." in done.stderr
    assert not list(tmp_path.glob("m*"))
