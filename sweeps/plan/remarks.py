"""What a user should know of a plan's models before they run, although nothing is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable

from nets.saved import kinds
from sweeps.typed import input_paths
from tracking.record import Trial


def of_saved_models(trials: Iterable[Trial]) -> list[str]:
    """Return a sentence for each SavedModel of which a training pass is timed."""
    sentences = [
        input_paths.as_typed(trial, f"model.path={trial.path}: {kinds.INFERENCE_ONLY}")
        for trial in trials
        if trial.path is not None and kinds.kind_of(trial.path) == "saved_model" and {*trial.passes} - {"forward"}
    ]
    return list(dict.fromkeys(sentences))
