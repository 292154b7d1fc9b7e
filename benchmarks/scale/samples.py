"""Trials and results like those of a real sweep, made without running anything."""

from __future__ import annotations

from dataclasses import replace

from tracking.record import Layer, Result, Sweep, Trial
from tracking.schema.device import Device
from tracking.schema.measurement import Measurement
from tracking.schema.protocols import Classic

DEVICES = (Device(cpus=1), Device(cpus=2), Device(cpus=4), Device(cpus=8))


def trials_of(count: int) -> list[Trial]:
    """Return `count` trials: each batch size on every device, each trial with its own `Device` as a real sweep has."""
    width = len(DEVICES)
    return [
        Trial(model="tiny", batch=1 + index // width, protocol=Classic(), device=replace(DEVICES[index % width]))
        for index in range(count)
    ]


def result_of(trial: Trial) -> Result:
    """Return a result as `protocol=classic` leaves it: 100 samples per pass, 20 layers."""
    measured = Measurement(first_call_s=0.5, warmup_s=(0.02,) * 10, step_s=(0.0123456,) * 100, stopped="steps")
    layers = tuple(Layer(name=f"conv_{i}", kind="Conv2D", output_shape=(trial.batch, 56, 56, 64)) for i in range(20))
    host = {"hostname": "n1", "cpu": "a processor", "cores": [0], "tensorflow": "2.21"}
    passes = dict.fromkeys(trial.passes, measured)
    return Result(trial=trial, sweep_id="s", status="ok", wall_s=1.0, host=host, passes=passes, layers=layers)


def sweep_of(trials: list[Trial], folder: str) -> Sweep:
    """Return the sweep that plans these trials in `folder`."""
    return Sweep(sweep_id="s", folder=folder, command="c", created_at=0, trials=tuple(trials))
