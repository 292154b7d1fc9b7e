"""The MLflow sink on a real SQLite database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.records import STARTED_AT, make_result, make_sweep, write_journal
from tests.tracking.conftest import Runs, record
from tracking.record import Result
from tracking.schema.device import Device
from tracking.schema.protocols import Classic
from tracking.sink import SinkError
from tracking.sinks.mlflow import content
from tracking.sinks.mlflow.sink import MlflowSink
from tracking.sinks.mlflow.source import read_sweep

ROOT = Path(__file__).parents[4]


def with_files(folder: Path, results: Sequence[Result]) -> None:
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "time_per_batch_forward.png").write_bytes(b"png")
    (folder / "report.html").write_text("<p>report</p>")
    (folder / "plan.json").write_text("{}")
    for result in results:
        (folder / "trials" / result.trial_id).mkdir(parents=True)
        (folder / "trials" / result.trial_id / "log.txt").write_text(f"batch {result.trial.batch}\n")


def test_sweep_is_a_parent_and_nested_children(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    results = [make_result(batch=batch, protocol=Classic(steps=30)) for batch in (4, 8)]
    results.append(make_result(batch=16, status="oom", protocol=Classic(steps=30)))
    sweep = make_sweep(results, tmp_path / "sweep")
    with_files(tmp_path / "sweep", results)
    record(uri, sweep, results)
    assert capfd.readouterr() == ("", "")

    runs = Runs(uri)
    parent = runs.parent
    assert parent.info.run_name == "vgg16 b=4,8,16 cpu"
    assert parent.info.status == "FAILED"
    assert parent.info.start_time == (STARTED_AT - 10) * 1000
    tags = parent.data.tags
    assert tags["sweep_id"] == sweep.sweep_id
    assert tags["mlflow.source.name"] == "sweeps/run.py"
    assert tags["mlflow.source.git.commit"] == "0123abc"
    assert tags["host.hostname"] == "driver"
    note = "3 trials: 2 ok, 1 oom. Measured on node1. Code: this tool at commit 0123abc."
    assert note in tags["mlflow.note.content"]
    assert "vgg16 b=16: **oom**, ResourceExhaustedError" in tags["mlflow.note.content"]
    assert set(runs.artifacts(parent)) == {"plan.json", "report.html", "results.csv"}
    assert runs.artifacts(parent, "plots") == ["plots/time_per_batch_forward.png"]
    assert runs.text(parent, "results.csv", tmp_path / "down").count("\n") == 6
    measured = [result.passes["forward"] for result in results[:2]]
    assert runs.history(parent, "vgg16/cpu/forward/mean_s") == [(4, measured[0].mean_s), (8, measured[1].mean_s)]
    assert runs.history(parent, "vgg16/cpu/forward_backward/images_per_s") == [
        (result.trial.batch, result.trial.batch / result.passes["forward_backward"].mean_s) for result in results[:2]
    ]

    child, failed = runs.by_batch[4], runs.by_batch[16]
    assert child.info.run_name == "vgg16 b=4"
    assert (child.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert child.info.start_time == STARTED_AT * 1000
    assert child.info.end_time == round((STARTED_AT + results[0].wall_s) * 1000)
    assert (
        child.data.params.items()
        >= {
            "model": "vgg16",
            "batch": "4",
            "device": "cpu",
            "precision": "float32",
            "compile": "graph",
            "passes": "forward,forward_backward",
            "protocol": "classic",
            "protocol.burn_in": "10",
            "protocol.steps": "30",
            "task": "benchmark",
            "seed": "0",
            "repeat": "0",
        }.items()
    )
    assert (
        child.data.tags.items()
        >= {
            "trial_id": results[0].trial_id,
            "sweep_id": sweep.sweep_id,
            "status": "ok",
            "host": "node1",
            "host.tensorflow": "2.21.0",
            "mlflow.parentRunId": parent.info.run_id,
        }.items()
    )
    assert failed.data.tags["error"].startswith("ResourceExhaustedError: OOM")
    figures = results[0].passes["forward"].figures(4)
    assert {key: child.data.metrics[f"forward/{key}"] for key in figures} == figures
    assert child.data.metrics["memory/peak_rss_mb"] == 904.0
    assert runs.history(child, "forward/step_s") == list(enumerate(results[0].passes["forward"].step_s))
    assert set(runs.artifacts(child)) == {"layers.json", "log.txt"}
    assert set(runs.artifacts(child, "plots")) == {"plots/steps_forward.png", "plots/steps_forward_backward.png"}
    assert runs.text(child, "log.txt", tmp_path / "down") == "batch 4\n"
    assert set(runs.artifacts(failed)) == {"log.txt"}
    # load_table finds the runs by MLflow's own tag, at MLflow's global address.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    table = runs.client.load_table(runs.experiment.experiment_id, "layers.json", [child.info.run_id])
    assert list(table.columns) == ["name", "kind", "output shape", "parameters", "FLOPs"]
    assert table["output shape"][1] == "4x56x56x64"


def test_facts_of_the_trials_machines_are_in_the_sweeps_run_once(uri: str, tmp_path: Path) -> None:
    host = {"hostname": "node1", "gpu": "H100", "gpu_driver": "550.1", "cuda": "12.4", "onednn": "on"}
    results = [make_result(batch=batch, device="gpu", host=host) for batch in (1, 2)]
    results.append(make_result(batch=4, device="gpu", host=host | {"gpu": "A100", "onednn": "off"}))
    sweep = make_sweep(results, tmp_path, facts={"hostname": "driver", "cuda": "12.4"})
    write_journal(sweep)
    sink = MlflowSink(uri)
    sink.open(sweep)
    sink.write(results[0])
    record(uri, sweep, results)
    runs = Runs(uri)
    facts = {key: text for key, text in runs.parent.data.tags.items() if key.startswith("host.")}
    assert facts == {f"host.{key}": text for key, text in host.items()} | {"host.hostname": "driver"}
    own = {
        batch: {key for key in run.data.tags if key.startswith("host.")} - {"host.hostname"}
        for batch, run in runs.by_batch.items()
    }
    assert own == {1: set(), 2: set(), 4: {"host.gpu", "host.onednn"}}
    read = {result.trial.batch: result.host for result in read_sweep(sweep.sweep_id, uri, LookupError())[1]}
    assert {batch: (host["gpu"], host["onednn"]) for batch, host in read.items()} == {
        1: ("H100", "on"),
        2: ("H100", "on"),
        4: ("A100", "off"),
    }


def test_long_histories_and_odd_values_fit(uri: str, tmp_path: Path) -> None:
    result = make_result(
        steps=2_500,
        device=Device(name="gpu0", kind="gpu", gpus=2, resources={"rack/a": 1}),
        model_args={f"argument {i} <&>": "x" * 200 for i in range(120)} | {"long": "y" * 10_000, "none": None},
        host={"hostname": "node1", "gpus": [{"name": "H100"}], "odd=key": {"a/b": "ü"}, "big": "z" * 9_000},
        quality=("noise " * 3_000,),
    )
    result = replace(result, limits={"peak_gflops_per_s": float("nan"), "copy_gb_per_s": float("inf")})
    sweep = make_sweep([result], tmp_path)
    record(uri, sweep, [result])
    runs = Runs(uri)
    (child,) = runs.children
    history = runs.history(child, "forward/step_s")
    assert len(history) == content.HISTORY
    assert (history[0][0], history[-1][0]) == (0, 2_499)
    steps = result.passes["forward"].step_s
    assert all(value == steps[step] for step, value in history)
    assert child.data.metrics["forward/steps"] == 2_500
    assert child.data.params["device"] == "gpu0 2 gpus"
    assert len(child.data.params) > 120
    assert child.data.tags["host.gpus"] == '[{"name": "H100"}]'


def test_write_needs_an_open_sink(uri: str) -> None:
    with pytest.raises(SinkError, match="expected an opened sink"):
        MlflowSink(uri).write(make_result())


def test_password_in_the_command_is_kept_out(uri: str, tmp_path: Path) -> None:
    results = [make_result()]
    sweep = replace(
        make_sweep(results, tmp_path, facts={"tracking": {"mlflow": {"uri": "http://***@host"}}}),
        command="python sweeps/run.py tracking.uri=http://me:p@ss:word@host:5000",
    )
    record(uri, sweep, results)
    runs = Runs(uri)
    everything = json.dumps([run.to_dictionary() for run in (runs.parent, *runs.children)])
    assert "ss:word" not in everything
    assert "tracking.uri=http://***@host:5000" in everything
