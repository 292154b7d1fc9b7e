"""What is checked before a sweep becomes a batch job, and what is submitted or printed then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from sweeps.errors import UsageError
from sweeps.jobs import job
from sweeps.jobs.hand_over import hand_over
from sweeps.jobs.job import BatchJob, HandedOver, Order
from sweeps.plan.ahead import LookAhead
from sweeps.typed.arguments import Arguments
from tests.support.printed import Printed
from tracking.record import Trial

TINY = Trial(model="tiny", batch=1)
WRONG = Trial(model="alexnet", batch=1, model_args={"image_size": 8})
MISSING = Trial(model="net", batch=1, target="no_such_package.net")
NOT_IMPORTED = "model._target_=no_such_package.net: expected a callable that can be imported here."


@dataclass
class Script:
    """A job that notes that it was submitted."""

    submitted: list[str]
    text: str = "#!/bin/sh\n"

    def submit(self, terminal: job.Terminal) -> HandedOver:
        self.submitted.append(self.text)
        terminal.say("Job      7")
        return HandedOver(0, "7")


@dataclass
class Batch(BatchJob):
    """A batch system whose jobs have this environment or not, as the option `same` says."""

    checks_imports: ClassVar[bool] = True
    same: bool = True
    submitted: list[str] = field(default_factory=list)

    @property
    def has_this_environment(self) -> bool:
        return self.same

    def job(self, order: Order) -> job.Job:
        assert order.arguments.words == ("-m",)
        return Script(self.submitted)


class Trusting(Batch):
    """One for which nothing is imported here."""

    checks_imports: ClassVar[bool] = False


@pytest.fixture
def ahead(server: str) -> LookAhead:
    return LookAhead(lambda: server)


def order(*, dry_run: bool = False) -> Order:
    return Order({"dry_run": dry_run}, Arguments(program="sweeps/run.py", words=("-m",)), None)


def test_a_sweep_without_problems_is_submitted(ahead: LookAhead) -> None:
    cluster, terminal = Batch(), Printed()
    assert hand_over(cluster, order(), [TINY], ahead, terminal) == HandedOver(0, "7")
    assert cluster.submitted == ["#!/bin/sh\n"]
    assert terminal.sentences == ["Job      7"]


def test_a_dry_run_prints_the_job_and_submits_nothing(ahead: LookAhead) -> None:
    cluster, terminal = Batch(), Printed()
    assert hand_over(cluster, order(dry_run=True), [TINY], ahead, terminal) == HandedOver(0, None)
    assert cluster.submitted == []
    assert terminal.sentences == ["#!/bin/sh\n"]


def test_what_cannot_be_imported_is_an_error_where_the_job_has_this_environment(ahead: LookAhead) -> None:
    cluster, terminal = Batch(), Printed()
    with pytest.raises(UsageError) as caught:
        hand_over(cluster, order(), [WRONG, MISSING], ahead, terminal)
    unbuildable, not_imported = caught.value.problems
    assert unbuildable.startswith("model=alexnet model.image_size=8: the net cannot be built")
    assert not_imported.startswith(NOT_IMPORTED)
    assert (cluster.submitted, terminal.sentences) == ([], [])


def test_what_cannot_be_imported_is_a_warning_where_the_job_has_another_environment(ahead: LookAhead) -> None:
    cluster, terminal = Batch(same=False), Printed()
    assert hand_over(cluster, order(), [TINY, MISSING], ahead, terminal) == HandedOver(0, "7")
    warning, submitted = terminal.sentences
    assert warning.startswith(NOT_IMPORTED)
    assert warning.endswith("before its first trial")
    assert submitted == "Job      7"


def test_a_net_that_cannot_be_built_is_an_error_wherever_the_job_runs(ahead: LookAhead) -> None:
    cluster, terminal = Batch(same=False), Printed()
    with pytest.raises(UsageError) as caught:
        hand_over(cluster, order(), [WRONG, MISSING], ahead, terminal)
    (problem,) = caught.value.problems
    assert "the net cannot be built" in problem
    assert (cluster.submitted, terminal.sentences) == ([], [])


def test_nothing_is_imported_for_a_cluster_that_does_not_look_here(ahead: LookAhead) -> None:
    terminal = Printed()
    assert hand_over(Trusting(), order(), [MISSING], ahead, terminal) == HandedOver(0, "7")
    assert terminal.sentences == ["Job      7"]
