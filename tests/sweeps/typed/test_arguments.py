from __future__ import annotations

import pytest

from sweeps.typed.arguments import Arguments, key_of
from sweeps.typed.command_line import fixed_by_plan


def typed(*words: str) -> Arguments:
    return Arguments(program="sweeps/run.py", words=words)


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("batch=1,2", "batch"),
        ("+tracking.uri=http://a?b=c", "tracking.uri"),
        ("++model.width=3", "model.width"),
        ("~model.image_size", "model.image_size"),
        ("model@other=tiny", "model"),
    ],
)
def test_a_word_sets_or_removes_one_key(word: str, key: str) -> None:
    assert key_of(word) == key
    assert typed(word).keys == {key}


def test_options_set_no_key() -> None:
    assert typed("-m", "--config-name=other", "batch=1").keys == {"batch"}


def test_a_key_is_set_by_itself_and_by_those_below_it() -> None:
    arguments = typed("cluster.setup.shell=x", "tracking=csv")
    assert arguments.sets("cluster.setup")
    assert arguments.sets("cluster")
    assert arguments.sets("tracking")
    assert not arguments.sets("cluster.set")
    assert not arguments.sets("tracking.uri")


def test_the_last_word_of_a_key_counts() -> None:
    arguments = typed("batch=1", "resume=a", "batch=2", "batch.more=3")
    assert arguments.last("batch") == "batch=2"
    assert arguments.last("cluster") is None


def test_other_words_are_read_again() -> None:
    arguments = typed("batch=1")
    assert arguments.keys == {"batch"}
    assert arguments.with_words(["seed=1"]).keys == {"seed"}
    assert arguments.keys == {"batch"}


@pytest.mark.parametrize(
    ("words", "here"),
    [
        ((), True),
        (("-m", "batch=1,2", "cluster=local"), True),
        (("--multirun", "cluster=inline"), True),
        (("cluster=ray",), False),
        (("cluster=local,ray",), False),
        (("--cfg=job",), False),
    ],
)
def test_trials_run_on_this_machine_unless_the_words_say_otherwise(words: tuple[str, ...], here: bool) -> None:
    assert typed(*words).runs_trials_here is here


def test_the_command_is_one_for_a_shell_without_secrets() -> None:
    shown = typed("-m", "batch=1,2", "tracking.uri=http://me:hush@host").command
    assert shown.startswith("python sweeps/run.py -m batch=1,2 ")
    assert "hush" not in shown


def test_a_plan_fixes_the_keys_of_its_trials() -> None:
    allowed = ("resume=latest", "rerun=failed", "timeout_s=9", "cluster=ray", "hydra.run.dir=x", "tracking.uri=y", "-m")
    assert fixed_by_plan(typed(*allowed, "batch=1", "+model.width=2", "hydra/sweeper=grid")) == [
        "batch=1",
        "+model.width=2",
    ]
