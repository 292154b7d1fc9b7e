from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose

from sweeps.machine.node import Node
from sweeps.plan import checks as plan_checks
from sweeps.request import objective, schema
from sweeps.request.diagnosis import diagnose
from sweeps.tasks import METRICS
from sweeps.tasks.pictures import data_checks
from tests.support.picture_data import make_shapes, task_args

CONF = Path(__file__).resolve().parents[3] / "conf"
NODE = Node(cpus=2)


pytestmark = pytest.mark.usefixtures("hydra")


@pytest.fixture(autouse=True)
def no_cache() -> None:
    data_checks.problems.cache_clear()


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return make_shapes(tmp_path / "shapes", 3, ("disc", "ring"))


def problems(*overrides: str) -> list[str]:
    trial, problems = schema.read(compose("config", list(overrides)))
    return [*problems, *plan_checks.problems([trial], [NODE])]


def test_tasks_take_the_keys_that_the_interface_documents(shapes: Path) -> None:
    trial, problems = schema.read(compose("config", ["task=finetune", f"task.data={shapes}", "model=alexnet"]))
    assert problems == []
    assert trial.task_args == task_args("finetune", data=str(shapes))
    assert "num_classes" not in trial.model_args
    assert trial.passes == ()
    classify, problems = schema.read(compose("config", ["task=classify", f"task.images=[{shapes}]", "model=alexnet"]))
    assert problems == []
    assert classify.task_args == task_args("classify", images=[str(shapes)])
    assert classify.model_args["num_classes"] == 1000


def test_a_protocol_is_no_part_of_a_task_that_times_nothing(shapes: Path) -> None:
    common = ["task=finetune", f"task.data={shapes}", "model=alexnet"]
    ids = {
        schema.read(compose("config", [*common, *other]))[0].trial_id
        for other in ([], ["protocol=classic"], ["passes=[forward]"])
    }
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["task=finetune"], "task.data: expected a folder with one folder per class, or a list file."),
        (["task=classify"], "task.images=None: expected a file, a folder, a pattern"),
        (["task=finetune", "task.data=nowhere"], "task.data=nowhere: expected a folder or a list file."),
        (["task=classify", "task.images=no*.jpg"], "task.images=no*.jpg: expected a file, a folder or a pattern"),
        (["task=finetune", "task.data=SHAPES", "model=alexnet_conv"], "expected a net with classes. Did you mean "),
        (["task=finetune", "task.data=SHAPES", "task.epochs=0"], "task.epochs=0: expected at least 1. Received: 0."),
        (["task=finetune", "task.data=SHAPES", "task.learning_rate=0"], "task.learning_rate=0: expected more than 0."),
        (["task=finetune", "task.data=SHAPES", "task.validation=1"], "expected a share between 0 and 1."),
        (["task=finetune", "task.data=SHAPES", "task.mean=[1]"], "expected three values, one per channel"),
        (["task=finetune", "task.data=SHAPES", "task.patience=0"], "task.patience=0: expected at least 1."),
        (["task=classify", "task.images=SHAPES", "task.top=0"], "task.top=0: expected at least 1."),
        (["task=classify", "task.images=SHAPES", "task.labels=LABELS"], "1000 classes, one per line. Received: 2."),
        (["task=finetune", "task.data=SHAPES", "device=gpu", "device.gpus=2"], "task=finetune: expected one GPU."),
        (["task=finetune", "task.data=SHAPES", "objective=val/acuracy"], "Did you mean val/accuracy"),
        (["task=finetune", "task.data=SHAPES", "objective=forward/mean_s"], "expected the name of a figure."),
    ],
)  # fmt: skip
def test_bad_requests(shapes: Path, tmp_path: Path, overrides: list[str], words: str) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\n")
    given = [text.replace("SHAPES", str(shapes)).replace("LABELS", str(tmp_path / "labels.txt")) for text in overrides]
    if not any(text.startswith("model=") for text in given):
        given.append("model=alexnet")
    assert any(words in sentence for sentence in problems(*given)), problems(*given)


def test_a_command_line_gets_all_problems_and_nothing_else(shapes: Path) -> None:
    given = ["task=finetune", f"task.data={shapes}", "model=alexnet,vgg16", "task.learning_rate=0.1,fast"]
    assert diagnose([*given], CONF, [NODE]) == ["task.learning_rate=fast: expected a number. Received: 'fast'."]
    given = ["task=finetune", f"task.data={shapes}", "model=alexnet", "task.optimizer=sdg", "task.epoch=3"]
    first, second = diagnose([*given], CONF, [NODE])
    assert "expected one of sgd, adam, adamw, rmsprop. Received: 'sdg'. Did you mean sgd" in first
    assert "task has no key 'epoch'. Did you mean epochs" in second


def test_objectives_of_tasks() -> None:
    for task, names in METRICS.items():
        assert all(objective.problems(name, (), task) == [] for name in names)
