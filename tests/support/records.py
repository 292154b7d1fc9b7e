"""Complete records made without measuring, for tests of everything that happens after a trial."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracking.folder.journal import Journal
from tracking.record import Failure, Layer, Pass, Result, Status, Sweep, Trial
from tracking.schema.device import Device
from tracking.schema.measurement import Measurement

STARTED_AT = 1_760_000_000.0
SWEEP_ID = "20251009-085320-a1b2c3"

_HOST = {"hostname": "node1", "cpu": "Example CPU @ 2.00GHz", "cores": [0, 1], "tensorflow": "2.21.0"}
_FAILURES: dict[str, Failure] = {
    "oom": Failure(kind="ResourceExhaustedError", message="OOM when allocating tensor with shape[64,224,224,64]"),
    "timeout": Failure(kind="TimeoutError", message="the trial ran longer than timeout_s=60"),
    "error": Failure(
        kind="ValueError", message="expected 4 dimensions. Received: 3", detail="Traceback ...\nValueError"
    ),
    "crashed": Failure(kind="SIGSEGV", message="the trial's process died of SIGSEGV", detail="last line of the log"),
    "infeasible": Failure(kind="Infeasible", message="no node has 4 GPUs"),
    "not_run": Failure(kind="Interrupted", message="the sweep was interrupted before this trial began"),
}


def make_result(
    model: str = "vgg16",
    batch: int = 4,
    device: str | Device = "cpu",
    status: Status = "ok",
    seed: int = 0,
    mean: float = 0.1,
    noise: float = 0.02,
    steps: int = 30,
    *,
    sweep_id: str = SWEEP_ID,
    started_at: float = STARTED_AT,
    host: Mapping[str, Any] | None = None,
    fed: Mapping[str, Mapping[str, Any]] | None = None,
    quality: tuple[str, ...] = (),
    **trial_fields: Any,
) -> Result:
    """A result as a trial makes it; `mean` seconds a forward step, three times that forward and backward.

    `noise` is the standard deviation as a share of the mean. `seed` makes the samples and is no part of the trial;
    a status other than `ok` carries its failure and no passes. `fed` are the facts about the inputs, by name.
    """
    trial = Trial(
        model=model, batch=batch, device=device if isinstance(device, Device) else _device(device), **trial_fields
    )
    rng = random.Random(f"{seed} {trial.trial_id}")
    passes = {name: _measurement(rng, name, mean, noise, steps, batch) for name in trial.passes}
    ok = status == "ok"
    return Result(
        trial=trial,
        sweep_id=sweep_id,
        status=status,
        started_at=started_at,
        wall_s=1.0 + sum(m.first_call_s + sum(m.warmup_s) + sum(m.step_s) for m in passes.values()) if ok else 1.5,
        host={**(_HOST if host is None else host), **({"in_force": {"inputs": fed}} if fed else {})},
        passes=passes if ok else {},
        layers=make_layers(batch) if ok else (),
        phases={"fork": 0.09, "setup": 0.2, "build": 0.6} if ok else {},
        limits={"peak_gflops_per_s": 160.0, "copy_gb_per_s": 12.0} if ok else {},
        quality=quality,
        error=None if ok else _FAILURES[status],
    )


def make_sweep(results: Sequence[Result], folder: str | Path = "", facts: Mapping[str, Any] | None = None) -> Sweep:
    """Return the sweep that planned exactly the trials of `results`."""
    return Sweep(
        sweep_id=results[0].sweep_id if results else SWEEP_ID,
        folder=str(folder),
        command="python sweeps/run.py -m model=vgg16 batch=4,8",
        created_at=STARTED_AT - 10,
        trials=tuple({result.trial_id: result.trial for result in results}.values()),
        facts={"hostname": "driver", "python": "3.11.2", "git_commit": "0123abc"} if facts is None else facts,
    )


def write_journal(sweep: Sweep, results: Sequence[Result] = ()) -> None:
    """Write the plan of a sweep and these of its results into the sweep's folder, as its driver does."""
    with Journal(sweep.folder) as journal:
        journal.write_plan(sweep)
        for result in results:
            journal.append(result)


def make_layers(batch: int) -> tuple[Layer, ...]:
    """A short convolutional net: enough for a table and a bar chart."""
    return (
        Layer(name="input", kind="InputLayer", output_shape=(batch, 224, 224, 3)),
        Layer(
            name="conv1",
            kind="Conv2D",
            output_shape=(batch, 56, 56, 64),
            trainable_params=1_792,
            flops=batch * 10_838_016,
            activation_bytes=batch * 802_816,
        ),
        Layer(
            name="norm1",
            kind="BatchNormalization",
            output_shape=(batch, 56, 56, 64),
            trainable_params=128,
            other_params=128,
        ),
        Layer(name="fc", kind="Dense", output_shape=(batch, 1000), trainable_params=65_000, flops=batch * 128_000),
    )


def _device(name: str) -> Device:
    return Device(name=name, kind="gpu", gpus=1) if name.startswith("gpu") else Device(name=name)


def _measurement(rng: random.Random, name: Pass, mean: float, noise: float, steps: int, batch: int) -> Measurement:
    cost = mean if name == "forward" else 3 * mean

    def seconds(count: int) -> tuple[float, ...]:
        return tuple(max(cost / 10, rng.gauss(cost, cost * noise)) for _ in range(count))

    return Measurement(
        first_call_s=cost * 12,
        warmup_s=seconds(5),
        step_s=seconds(steps),
        stopped="target",
        peak_rss_mb=900.0 + batch,
        flops=batch * (10_966_016 if name == "forward" else 32_898_048),
        evidence={"cpu_taken_by_others_s": 0.01},
    )
