"""What a trial's model is fed."""

from __future__ import annotations

from typing import Any

import keras

from tracking.record import Trial


def fed(trial: Trial, model: keras.Model) -> Any:
    """The batch of the trial: the same values by the same seed, in either order of axes."""
    from nets.counting import layers
    from sweeps.tasks.graphs import inputs

    return inputs.feed(trial, layers.trace(model, trial.batch)).tensors
