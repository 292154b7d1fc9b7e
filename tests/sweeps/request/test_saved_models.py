from __future__ import annotations

import pytest
from hydra import compose

from sweeps.request import schema
from sweeps.request.compose import drop_defaults_of_nets
from tracking.names import trial_names
from tracking.record import Trial

pytestmark = pytest.mark.usefixtures("hydra")


def read(*overrides: str) -> tuple[Trial, list[str]]:
    config = compose("config", list(overrides))
    drop_defaults_of_nets(config, overrides)
    return schema.read(config)


def test_a_saved_model_goes_by_its_file_and_its_path_is_said_where_that_is_not_enough() -> None:
    trials = [read("model=file", f"model.path={path}")[0] for path in ("/a/my.keras", "/b/my.h5", "/c/exported")]
    assert [(trial.model, trial.path, trial.model_args) for trial in trials] == [
        ("my", "/a/my.keras", {}),
        ("my", "/b/my.h5", {}),
        ("exported", "/c/exported", {}),
    ]
    names = [trial_names(trials)[trial.trial_id] for trial in trials]
    assert "/a/my.keras" in names[0]
    assert "/b/my.h5" in names[1]
    assert len({trial.trial_id for trial in trials}) == 3
    assert read("model=file", "model.path=/a/my.keras", "model.trust=true")[0].model_args == {"trust": True}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=file"], "model=file: expected model.path with it: a whole model: a .keras or .h5 file"),
        (["model=vgg16", "+model.path=a.keras"], "model.path=a.keras: expected model=file with it. Received: model=vg"),
        (["model=file", "model.path=a.weights.h5"], "Received: weights only; set model=NAME model.weights=a.weights."),
        (["model=file", "model.path=a.keras", "model.trust=maybe"], "model.trust=maybe: expected true or false."),
        (["model=file", "model.path=a.keras", "+model.classes=2"], "model.classes: a saved model has no argument"),
        (["model=file", "model.path=[a,b]"], "model.path=['a', 'b']: expected a whole model"),
        (["model=file", "model.path=a", "compile=eager"], "compile=eager: expected compile=graph or xla, as a SavedMo"),
        (
            ["model=file", "model.path=a", "task=finetune", "task.data=d"],
            "task=finetune: expected a .keras or .h5 file as model.path",
        ),
        (["model=file", "model.path=a", "model.weights=w.h5"], "model.weights=w.h5: expected a .keras or .h5 file as "),
        (["model=file", "model.path=a.h5", "layout=channels_first"], "layout=channels_first: expected a net that is "),
    ],
)
def test_what_makes_no_sense_is_one_sentence(overrides: list[str], words: str) -> None:
    (problem,) = read(*overrides)[1]
    assert words in problem


def test_a_callable_of_the_users_may_take_a_path_of_its_own() -> None:
    target = "model._target_=tests.support.models.healthy.small"
    for given in (("+model.path=a.keras",), ("model=file", "model.path=a.keras")):
        trial, _ = read(target, *given)
        assert (trial.model, trial.path, trial.model_args) == ("small", None, {"path": "a.keras"})
