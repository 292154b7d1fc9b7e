"""New and resumed sweeps, without a session: configs in, plans and refusals out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from omegaconf import DictConfig

from sweeps.errors import UsageError
from sweeps.identity.sweep import FindNodes, Request, new, resumed, without_result
from sweeps.machine.node import Node
from sweeps.typed.arguments import Arguments
from tests.support.records import make_result, make_sweep
from tracking.folder.journal import Journal
from tracking.record import Result, Trial

NODE = Node(cpus=2)


pytestmark = pytest.mark.usefixtures("hydra")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def arguments(*words: str) -> Arguments:
    return Arguments(program="sweeps/run.py", words=words)


def composed(*overrides: str) -> DictConfig:
    return compose("config", ["model=tiny", "tracking=csv", *overrides])


def one_node(_: DictConfig, __: Sequence[Trial]) -> tuple[list[Node], list[str]]:
    return [NODE], []


def no_node(_: DictConfig, __: Sequence[Trial]) -> tuple[list[Node], list[str]]:
    return [], ["device.cpus=9: no node has 9 cores."]


class Resuming:
    """A command that resumes, with everything that it prints and does on the way."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warned: list[str] = []
        self.events: list[Any] = []

    def __call__(self, *words: str, nodes: FindNodes = one_node) -> Request:
        def find_nodes(cfg: DictConfig, trials: Sequence[Trial]) -> tuple[list[Node], list[str]]:
            self.events.append("nodes")
            return nodes(cfg, trials)

        return resumed(
            compose("config", list(words)),
            arguments(*words),
            find_nodes,
            say=self.lines.append,
            warn=self.warned.append,
            move_to=self.events.append,
        )


def planned(folder: Path, results: Sequence[Result], facts: dict[str, Any] | None = None, **trial: Any) -> list[Trial]:
    """The trials of a sweep whose plan and journal are written into the folder, the last of them without a result."""
    sweep = make_sweep(results, folder, facts=facts or {})
    trials = tuple(replace(each, **trial) for each in sweep.trials)
    with Journal(folder) as journal:
        journal.write_plan(replace(sweep, trials=trials))
        for result, each in list(zip(results, trials, strict=True))[:-1]:
            journal.append(replace(result, trial=each))
    return list(trials)


def test_a_new_sweep_has_every_trial_once_in_the_order_that_was_chosen(tmp_path: Path) -> None:
    configs = [composed(f"batch={batch}", "repeats=2") for batch in (1, 2, 1)]
    request = new(configs[0], iter(configs[1:]), tmp_path / "home", arguments("batch=1,2,1"), one_node)
    assert [[(trial.batch, trial.repeat) for trial in repeats] for repeats in request.points] == [
        [(1, 0), (1, 1)],
        [(2, 0), (2, 1)],
        [(1, 0), (1, 1)],
    ]
    assert len(request.trials) == len(request.sweep.trials) == 4
    assert [trial.repeat for trial in request.trials] == [0, 0, 1, 1]
    assert request.nodes == [NODE]
    assert request.config is configs[0]
    assert request.tracking.keys() == {"csv"}
    assert request.sweep.folder == str(tmp_path / "home")
    assert request.sweep.command == "python sweeps/run.py batch=1,2,1"
    assert request.sweep.facts["started_in"] == str(tmp_path)
    in_order = new(composed("repeats=2", "order=grid"), iter([]), tmp_path / "other", arguments(), one_node)
    assert [trial.repeat for trial in in_order.trials] == [0, 1]


def test_nodes_are_looked_for_with_one_trial_of_each_point(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    def find_nodes(_: DictConfig, trials: Sequence[Trial]) -> tuple[list[Node], list[str]]:
        seen.append([trial.batch for trial in trials])
        return [NODE], []

    new(composed("repeats=3"), iter([composed("batch=2", "repeats=3")]), tmp_path, arguments(), find_nodes)
    assert seen == [[32, 2]]


def test_a_new_sweep_lists_every_problem_of_configs_nodes_and_folder(tmp_path: Path) -> None:
    planned(tmp_path / "taken", [make_result()])
    first, others = composed("batch=0"), [composed("retries=2")]
    with pytest.raises(UsageError) as raised:
        new(first, iter(others), tmp_path / "taken", arguments(), no_node)
    starts = ("batch=0: expected", "retries=2: retries applies", "device.cpus=9: no node", "expected a new folder")
    assert len(raised.value.problems) == len(starts)
    for problem, start in zip(raised.value.problems, starts, strict=True):
        assert problem.startswith(start)
    more = new(composed(), iter([]), tmp_path / "taken", arguments(), one_node, begun=True)
    assert more.sweep.folder == str(tmp_path / "taken")


def test_a_job_keeps_the_id_and_the_command_that_it_was_submitted_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPS_SUBMITTED", '{"sweep_id": "mine", "command": "python sweeps/run.py cluster=ray_job"}')
    submitted = new(composed(), iter([]), tmp_path / "sweep-mine", arguments("cluster=ray"), one_node).sweep
    assert (submitted.sweep_id, submitted.command) == ("mine", "python sweeps/run.py cluster=ray_job")
    other = new(composed(), iter([]), tmp_path / "elsewhere", arguments("cluster=ray"), one_node).sweep
    assert other.sweep_id != "mine"


def test_a_resumed_sweep_runs_what_has_no_result(tmp_path: Path) -> None:
    trials = planned(tmp_path / "sweep", [make_result(batch=1, status="error"), make_result(batch=2)])
    resuming = Resuming()
    request = resuming("resume=sweep", "tracking=csv")
    assert request.trials == trials[1:]
    assert request.points == [trials]
    assert request.sweep.trials == tuple(trials)
    assert request.sweep.facts["tracking"].keys() == request.tracking.keys() == {"csv"}
    assert request.nodes == [NODE]
    assert resuming.events == [tmp_path, "nodes"]
    assert resuming.lines == []
    assert Resuming()("resume=sweep", "tracking=csv", "rerun=failed").trials == trials
    more_time = Resuming()("resume=sweep", "tracking=csv", "timeout_s=7")
    assert [trial.timeout_s for trial in more_time.trials] == [7]


def test_a_resumed_sweep_goes_on_as_its_plan_says_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    facts = {
        "cluster": "ray",
        "cluster_options": {"wait_s": 3.0},
        "settings": {"retries": 4},
        "tracking": {"mlflow": {"uri": "http://tracker.example", "experiment": "mine"}},
    }
    planned(tmp_path / "sweep", [make_result()], facts, weights="/data/w.npy")
    resuming = Resuming()
    request = resuming("resume=sweep")
    assert (request.config.cluster.name, request.config.cluster.wait_s, request.config.retries) == ("ray", 3, 4)
    folder = tmp_path / "sweep"
    assert resuming.lines == [
        f"Runs     weights /data/w.npy, as {folder} says",
        f"Goes on  with cluster=ray cluster.wait_s=3.0, as {folder} says; cluster=local replaces that",
        f"Sends    results to http://tracker.example, as {folder} says",
    ]
    with pytest.raises(UsageError) as raised:
        Resuming()("resume=sweep", nodes=no_node)
    misfit, remedy = raised.value.problems
    assert misfit.startswith("device.cpus=9")
    assert "its plan goes on with cluster=ray cluster.wait_s=3.0. " in remedy


def test_nothing_of_a_plan_that_is_not_trusted_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hush")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    facts = {"tracking": {"mlflow": {"uri": "http://tracker.example", "experiment": "mine"}}}
    planned(tmp_path / "sweep", [make_result()], facts)
    (tmp_path / "sweep").rename(tmp_path / "moved")
    resuming = Resuming()
    with pytest.raises(UsageError) as raised:
        resuming("resume=moved", "fail_fast=0")
    wrong, doubt = raised.value.problems
    assert wrong.startswith("fail_fast=0: ")
    assert doubt.startswith("resume=moved: expected a sweep of this user's own, or trust=true. Received: ")
    assert resuming.events == resuming.lines == []
    trusted = resuming("resume=moved", "trust=true")
    assert trusted.sweep.folder == str(tmp_path / "moved")
    assert resuming.lines == [f"Sends    results to http://tracker.example, as {tmp_path / 'moved'} says"]


def test_what_was_agreed_to_on_a_terminal_is_noted_for_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (trial,) = planned(tmp_path / "sweep", [make_result()])
    (tmp_path / "sweep" / "trials" / trial.trial_id).mkdir(parents=True)
    (tmp_path / "sweep" / "trials" / trial.trial_id / "log.txt").symlink_to("/elsewhere")
    questions: list[str] = []
    monkeypatch.setattr("tracking.sinks.trust.agreed", lambda doubts: questions.append(doubts) or True)
    assert Resuming()("resume=sweep", "tracking=csv").config.trust is True
    assert "log.txt is a link to /elsewhere" in questions[0]


def test_parts_that_a_new_sweep_would_refuse_are_refused_before_any_node_is_looked_for(tmp_path: Path) -> None:
    planned(tmp_path / "sweep", [make_result()], target="os.system")
    resuming = Resuming()
    with pytest.raises(UsageError, match=r"Received: os\.system"):
        resuming("resume=sweep", "tracking=csv")
    assert resuming.events == []


def test_a_change_of_the_code_is_a_warning_where_something_still_runs(tmp_path: Path) -> None:
    before = {"git_commit": "0" * 40, "git_clean": True}
    planned(tmp_path / "sweep", [make_result()], before)
    resuming = Resuming()
    request = resuming("resume=sweep", "tracking=csv")
    (warning,) = resuming.warned
    assert warning.startswith("the code has changed since the sweep was begun, and so may its figures: ")
    assert request.sweep.facts["git_resumed"]


def test_unknown_sinks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="csvs"):
        new(composed("tracking.sinks=[csvs]"), iter([]), tmp_path, arguments(), one_node)


def test_what_is_infeasible_is_not_run_again() -> None:
    results = [make_result(batch=batch, status=status) for batch, status in enumerate(("ok", "oom", "infeasible"), 1)]
    trials = [result.trial for result in results]
    fresh = make_result(batch=9).trial
    known = {result.trial_id: result for result in results}
    assert without_result([*trials, fresh], known, rerun=False) == [fresh]
    assert without_result([*trials, fresh], known, rerun=True) == [trials[1], fresh]
