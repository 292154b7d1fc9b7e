from __future__ import annotations

from dataclasses import replace

from sweeps.plan.stopping import SKIPPED, Ceiling, FailFast
from tracking.record import PASSES, Failure, Result, Status, Trial
from tracking.schema.device import Device
from tracking.schema.measurement import Measurement

A, B = Trial(model="tiny", batch=1), Trial(model="tiny", batch=2)


def ended(trial: Trial, error: Failure | None, status: Status = "error") -> Result:
    return Result(trial=trial, sweep_id="s", status=status if error else "ok", error=error)


FULL = Failure(kind="ResourceExhaustedError", message="OOM")


def test_a_larger_batch_than_one_that_ran_out_of_memory_is_skipped() -> None:
    batches = {batch: Trial(model="vgg16", batch=batch) for batch in (8, 16, 32)}
    ceiling = Ceiling([ended(batches[16], FULL, "oom"), ended(batches[8], FULL)])
    limit = ceiling.limit(replace(batches[32], repeat=3, seed=4, timeout_s=9.0))
    assert limit is not None
    assert (limit.passes, limit.reason.message) == ((), "skipped: ran out at batch 16")
    assert ceiling.limit(batches[16]) is None
    assert ceiling.limit(batches[8]) is None
    for change in (
        {"precision": "bfloat16"},
        {"compile": "xla"},
        {"model": "alexnet"},
        {"model_args": {"num_classes": 10}},
        {"device": Device(cpus=1)},
    ):
        assert ceiling.limit(replace(batches[32], **change)) is None  # type: ignore[arg-type]
    ceiling.note(ended(batches[8], FULL, "oom"))
    assert ceiling.limit(batches[16]) is not None


def test_what_runs_out_without_an_optimizer_does_so_with_one() -> None:
    step = Measurement(first_call_s=1.0, warmup_s=(), step_s=(1.0,), stopped="steps")
    trial = Trial(model="vgg16", batch=64, passes=PASSES)
    ceiling = Ceiling([replace(ended(trial, FULL, "oom"), passes={"forward": step})])
    assert ceiling.limit(replace(trial, batch=65)).passes == ("forward",)  # type: ignore[union-attr]
    ceiling = Ceiling([replace(ended(trial, FULL, "oom"), passes={"forward": step, "forward_backward": step})])
    assert ceiling.limit(replace(trial, batch=65)).passes == ("forward", "forward_backward")  # type: ignore[union-attr]


def test_a_pass_that_fits_is_run_where_another_does_not() -> None:
    step = Measurement(first_call_s=1.0, warmup_s=(), step_s=(1.0,), stopped="steps")
    trial = Trial(model="vgg16", batch=64)
    ceiling = Ceiling([replace(ended(trial, FULL, "oom"), passes={"forward": step})])
    larger = replace(trial, batch=128)
    limit = ceiling.limit(larger)
    assert limit is not None
    assert limit.passes == ("forward",)
    assert limit.reason.message == "forward_backward skipped: ran out at batch 64"
    # What came of it says nothing new, and counts for trials of other passes.
    ceiling.note(replace(ended(larger, limit.reason, "oom"), passes={"forward": step}))
    assert ceiling.limit(replace(larger, passes=("forward",))) is None
    training = ceiling.limit(replace(larger, passes=("forward_backward",)))
    assert training is not None
    assert training.passes == ()
    # Training takes what inference takes, and more.
    ceiling.note(ended(replace(trial, batch=256, passes=("forward",)), FULL, "oom"))
    assert ceiling.limit(replace(trial, batch=512)) is not None
    assert ceiling.limit(replace(trial, batch=512)).passes == ()  # type: ignore[union-attr]


def test_a_task_without_passes_has_a_ceiling_too() -> None:
    trial = Trial(model="alexnet", batch=64, passes=(), task="finetune")
    ceiling = Ceiling([ended(trial, FULL, "oom")])
    limit = ceiling.limit(replace(trial, batch=128))
    assert limit is not None
    assert limit.reason.message == "skipped: ran out at batch 64"


def test_a_sweep_stops_when_the_first_trials_fail_alike() -> None:
    def noted(count: int | None, *failures: Failure | None) -> list[str | None]:
        fail_fast, reasons = FailFast(count), []
        for failure in failures:
            fail_fast.note(ended(A, failure))
            reasons.append(fail_fast.reason_to_stop())
        return reasons

    other, skipped = replace(FULL, message="other"), Failure(kind=SKIPPED, message="skipped")
    assert (
        noted(2, FULL, skipped, FULL)[-1] == "fail_fast=2: the first to end failed alike, ResourceExhaustedError: OOM"
    )
    assert noted(1, FULL)[-1] is not None
    limits = [replace(FULL, message=f"memory limit: {resident} MB resident") for resident in (1503, 1612)]
    assert noted(2, *limits)[-1] is not None
    assert not any(noted(None, FULL, FULL, FULL))
    assert not any(noted(2, FULL, other, FULL, FULL))
    assert not any(noted(2, None, FULL, FULL))
    assert not any(noted(3, FULL, None, FULL, FULL))
