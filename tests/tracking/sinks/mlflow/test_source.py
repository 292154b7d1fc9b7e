from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.records import make_result, make_sweep, write_journal
from tracking import compare
from tracking.record import Result
from tracking.sinks.mlflow.sink import MlflowSink
from tracking.sinks.mlflow.source import SourceError, read_sweep

MISSING = LookupError("no such folder")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sweeps of the same grid; the second is slower and one of its trials fails."""
    folder = tmp_path_factory.mktemp("mlflow")
    for sweep_id, factor in (("first", 1.0), ("second", 1.5)):
        results = [
            make_result(batch=batch, mean=0.1 * factor, sweep_id=sweep_id, seed=round(factor), steps=steps)
            for batch, steps in ((1, 20), (2, 1500))
        ]
        results.append(make_result("alexnet", status="ok" if factor == 1 else "oom", sweep_id=sweep_id))
        sweep = make_sweep(results, folder / "elsewhere" / sweep_id, facts={"cpu": "Example CPU @ 2.00GHz"})
        write_journal(sweep)
        sink = MlflowSink(f"sqlite:///{folder}/mlflow.db")
        sink.open(sweep)
        for result in results:
            sink.write(result)
        sink.close(sweep, results)
    return folder / "mlflow.db"


@pytest.fixture(autouse=True)
def _beside_the_database(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(database.parent)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def by_id(results: list[Result]) -> dict[str, Result]:
    return {result.trial_id: result for result in results}


def test_trials_statuses_hosts_and_steps_come_back(database: Path) -> None:
    read = by_id(read_sweep("second", f"sqlite:///{database}", MISSING)[1])
    written = by_id(
        [
            make_result(batch=1, mean=0.1 * 1.5, sweep_id="second", seed=2, steps=20),
            make_result("alexnet", status="oom", sweep_id="second"),
        ]
    )
    for trial_id, result in written.items():
        assert read[trial_id].trial == result.trial
        assert read[trial_id].status == result.status
        assert read[trial_id].host["tensorflow"] == "2.21.0"
        assert {name: m.step_s for name, m in read[trial_id].passes.items()} == {
            name: m.step_s for name, m in result.passes.items()
        }


def test_a_long_history_comes_back_thinned(database: Path) -> None:
    thinned = [r for r in read_sweep("first", f"sqlite:///{database}", MISSING)[1] if r.trial.batch == 2]
    assert 500 < len(thinned[0].passes["forward"].step_s) <= 1000


def test_sweep_ids_and_parent_runs_compare(capsys: pytest.CaptureFixture[str]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient("sqlite:///mlflow.db")
    (parent,) = client.search_runs(["1"], "tags.sweep_id = 'second' and tags.trials != ''")
    assert compare.main(["first", parent.info.run_id, "--fail-on", "slower", "--output", "a.png"]) == 3
    out = capsys.readouterr().out
    assert "4 SLOWER" in out
    assert "Failed   alexnet b=4: measured in BASE, in NEW oom" in out


def test_a_sweep_that_ended_early_does_not_pass_the_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = [make_result(batch=batch, mean=0.1, sweep_id="partial", seed=1, steps=20) for batch in (1, 2)]
    sweep = make_sweep(results, tmp_path)
    write_journal(sweep)
    uri = f"sqlite:///{tmp_path}/partial.db"
    sink = MlflowSink(uri)
    sink.open(sweep)
    sink.write(results[0])
    sink.close(sweep, results[:1])
    picture = str(tmp_path / "a.png")
    assert compare.main(["partial", "partial", "--uri", uri, "--fail-on", "slower", "--output", picture]) == 3
    assert "partial: 1 planned trials have no result" in capsys.readouterr().out


@pytest.mark.parametrize("wanted", ["nosuch", "not an id'", "0" * 32])
def test_what_is_not_there(wanted: str, database: Path) -> None:
    with pytest.raises(SourceError, match=re.escape(f"no such folder; nor is it in MLflow at sqlite:///{database}")):
        read_sweep(wanted, None, MISSING)


def test_a_trials_run_is_no_sweep(database: Path) -> None:
    from mlflow import MlflowClient

    child = next(run for run in MlflowClient(f"sqlite:///{database}").search_runs(["1"]) if "trial_id" in run.data.tags)
    with pytest.raises(SourceError, match=r"expected a finished sweep's parent run. Received: run .*no plan\.json"):
        read_sweep(child.info.run_id, None, MISSING)


def test_no_database(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such folder; and there is no .*none\.db where MLflow might have it"):
        read_sweep("first", f"sqlite:///{tmp_path}/none.db", MISSING)
    assert not (tmp_path / "none.db").exists()


def test_settings_and_limits_of_a_trials_host_are_not_the_drivers(tmp_path: Path) -> None:
    """Their absence has a meaning, so a trial that has none must not be given those of the sweep's driver."""
    driver = {"env": {"XLA_FLAGS": "--mine"}, "cpu_quota": 0.5, "memory_limit_mb": 900, "python": "3.11.2"}
    settings = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--theirs"}
    results = [
        make_result(batch=1, steps=20, sweep_id="nodes", host={"hostname": "n1", "env": {}}),
        make_result(batch=2, steps=20, sweep_id="nodes", host={"hostname": "n2", "env": settings, "cpu_quota": 2.0}),
    ]
    sweep = make_sweep(results, tmp_path, facts=driver)
    write_journal(sweep)
    uri = f"sqlite:///{tmp_path}/nodes.db"
    sink = MlflowSink(uri)
    sink.open(sweep)
    for result in results:
        sink.write(result)
    sink.close(sweep, results)
    read = by_id(read_sweep("nodes", uri, MISSING)[1])
    free, limited = (read[result.trial_id].host for result in results)
    assert (free["env"], free["python"]) == ({}, "3.11.2")
    assert not {"cpu_quota", "memory_limit_mb"} & free.keys()
    assert (limited["env"], limited["cpu_quota"]) == (settings, "2.0")
