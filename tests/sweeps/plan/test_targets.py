from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.plan import targets
from sweeps.worker.forkserver import ForkServer
from tests.support.sweep_command import journal, only_sweep, run
from tests.sweeps.typed.test_input_paths import QUICK
from tracking.record import Trial

MODULES = {
    "fine": "def net(width): raise RuntimeError('called')\n",
    "lacks": "import no_such_package\ndef net(): ...\n",
    "raises": "def _f():\n    raise ValueError('no GPU\\nhere')\n_f()\n",
    "leaves": "import sys\nsys.exit(3)\n",
    "crashes": "import os, sys\nprint('last words', file=sys.stderr, flush=True)\nos.abort()\n",
    "hangs": "import time\nwhile True:\n    time.sleep(9)\n",
    "value": "net = 3\nglobals()['other'] = 4\n",
    "stutters": """
import contextlib, os
for descriptor in range(3, 30):
    with contextlib.suppress(OSError):
        os.write(descriptor, b"x" * 9)
""",
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A fork server that is started in a folder with these modules, elsewhere than the tests are."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in MODULES.items():
        (folder / f"{name}.py").write_text(text)
    with ForkServer(folder) as server:
        server.wait_ready()
        yield server.address


def looked(address: str, *names: str, seconds: float = 60.0, **args: object) -> targets.Imports:
    return targets.look([targets.Target(name, args) for name in names], address, seconds)


def test_a_target_is_imported_and_not_called(address: str) -> None:
    found = looked(address, "fine.net", width=3)
    assert found.problems == {}
    assert len(found.digests["model._target_=fine.net"]) == 16


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lacks.net", "ModuleNotFoundError: No module named 'no_such_package' ("),
        ("raises.net", "/raises.py, line 2)"),
        ("leaves.net", "its import has ended the process with code 3"),
        ("crashes.net", "its import was killed by SIGABRT: last words"),
        ("value.net", "expected value.net to be a callable. Received: int"),
        ("fine.nets", "fine has no 'nets'. Did you mean net"),
        ("fien.net", "There is no module 'fien'. Did you mean fine"),
        ("fine.net", "missing a required argument: 'width'"),
        ("stutters.net", ""),
    ],
)
def test_whatever_an_import_does_is_a_sentence(address: str, name: str, words: str) -> None:
    problem = looked(address, name, "nets.architectures.tiny.tiny").problems[f"model._target_={name}"]
    assert words in problem
    assert "\n" not in problem
    assert (
        "model._target_=nets.architectures.tiny.tiny"
        not in looked(address, name, "nets.architectures.tiny.tiny").problems
    )


def test_an_import_that_hangs_is_given_up_and_no_other_is_waited_for(address: str) -> None:
    found = looked(address, "hangs.net", "hangs.other", "lacks.net", seconds=0.5)
    assert found.problems == dict.fromkeys(
        ("model._target_=hangs.net", "model._target_=hangs.other"), "its import has not finished after 0.5 s"
    )


def test_a_task_adds_the_number_of_classes() -> None:
    trial = Trial(model="net", batch=1, target="a.net")
    plain, counts = targets.wanted([trial, replace(trial, batch=2), replace(trial, task="finetune")])
    assert (plain.counts_classes, counts.counts_classes) == (False, True)


def test_a_target_that_cannot_be_imported_runs_nothing_and_a_resume_burns_nothing(tmp_path: Path) -> None:
    net = tmp_path / "my_nets.py"
    net.write_text("import nets\ndef small(): return nets.build('tiny')\n")
    done = run(tmp_path, "-m", "model._target_=my_nets.small", "batch=1,2", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_sweep(tmp_path)
    first = (folder / "results.jsonl").read_text().splitlines()[0]
    (folder / "results.jsonl").write_text(f"{first}\n")
    net.write_text("import no_such_package\ndef small(): return nets.build('tiny')\n")
    done = run(tmp_path, f"resume={folder}", *QUICK[:3])
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.replace("\n", " ").split("error: ")[1:]
    assert line.startswith("model._target_=my_nets.small: expected a callable that can be imported here. Received: ")
    assert "No module named 'no_such_package'" in line
    assert len(journal(folder)) == 1
    net.rename(tmp_path / "my_netz.py")
    done = run(tmp_path, f"resume={folder}", *QUICK[:3])
    assert done.returncode == 2
    output = " ".join(done.stderr.split())
    assert "There is no module 'my_nets'. Did you mean my_netz" in output
    assert f"looked for in {tmp_path}" in output.replace("Looked", "looked")
    assert len(journal(folder)) == 1
    assert str(sys.prefix) not in output
