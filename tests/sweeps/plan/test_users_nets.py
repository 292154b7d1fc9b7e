"""Nets of the user's own, looked at before any trial: what is known of them, and that their faults stay theirs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sweeps.plan import preflight
from sweeps.plan.preflight import Preflight, key
from sweeps.worker.forkserver import ForkServer
from tracking.record import Trial

KIND = "tests.support.models.any_kind"

FAULTS = """
import os, time
from tests.support.models.any_kind import custom_layer

def crashes():
    os.abort()

def leaves():
    raise SystemExit(0)

def hangs():
    time.sleep(3600)

def fails():
    raise ValueError("no")

def needs_values():
    model = custom_layer()
    model.set_weights([weight + 1 for weight in model.get_weights()])
    return model

def fine():
    return custom_layer()

def nothing():
    return None
"""


def trial(name: str, module: str = KIND, **fields: object) -> Trial:
    return Trial(model=name, batch=2, target=f"{module}.{name}", **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A fork server that is started in a folder with a module of faults."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "net_faults.py").write_text(FAULTS)
    with ForkServer(folder) as server:
        server.wait_ready()
        yield server.address


def test_sizes_and_operations_of_any_model(server: str) -> None:
    looked = Preflight()
    trials = [
        trial("lstm", inputs={"length": 9}, passes=("train_step",), optimizer={"name": "adam"}),
        trial("subclassed", inputs={"shape": [10, 12, 3]}),
        trial("tokens"),
    ]
    assert looked.problems_of_users(trials, lambda: server, flops=True) == []
    lstm, subclassed, tokens = (looked.nets[key(each)] for each in trials)
    parameters = 4 * (4 * (6 + 4 + 1)) + 5
    assert lstm.parameter_mb * 2**20 == 4 * parameters
    assert lstm.state_mb * 2**20 == 4 * 2 * parameters
    assert lstm.forward_flops is not None
    assert lstm.forward_flops > 2 * 9 * 4 * 4 * (6 + 4)
    assert subclassed.training_flops is not None
    assert tokens.largest_mb * 2**20 == 4 * 12 * 50
    assert looked.memory_mb(trials[0]) is not None


def test_what_trials_would_refuse_is_a_sentence(server: str) -> None:
    problems = Preflight().problems_of_users(
        [trial("lstm"), trial("tokens", inputs={"high": 51}), trial("two_inputs", inputs={"on": {"shape": [3]}})],
        lambda: server,
    )
    assert [problem.partition(": ")[0] for problem in problems] == [
        f"model._target_={KIND}.{name}" for name in ("lstm", "tokens", "two_inputs")
    ]


def test_the_batch_may_say_what_is_missing(server: str) -> None:
    looked = Preflight()
    assert looked.problems_of_users([trial("open_image", inputs={"_target_": f"{KIND}.batch"})], lambda: server) == []
    assert looked.nets == {}


def test_what_else_goes_wrong_is_left_to_the_trials(address: str) -> None:
    looked = Preflight()
    names = ("crashes", "leaves", "fails", "needs_values", "nothing", "fine")
    trials = [trial(name, "net_faults") for name in names]
    (problem,) = looked.problems_of_users(trials, lambda: address)
    assert problem == (
        "model._target_=net_faults.nothing: expected net_faults.nothing to return a keras.Model. Received: NoneType"
    )
    assert [name for name, each in zip(names, trials, strict=True) if key(each) in looked.nets] == [
        "needs_values",
        "fine",
    ]


def test_a_net_that_hangs_takes_no_longer_than_all_may(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "USERS_S", 3.0)
    looked = Preflight()
    trials = [trial("fine", "net_faults"), trial("hangs", "net_faults")]
    assert looked.problems_of_users(trials, lambda: address) == []
    assert list(looked.nets) == [key(trials[0])]
    monkeypatch.setattr(preflight, "USERS_S", 3600.0)
    assert looked.problems_of_users(trials, lambda: address) == []  # each is looked at once
