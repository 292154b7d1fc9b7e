"""What a trial does in its own process: one module a task, each with `run(trial, send)`.

A task sends what it finds as soon as it has it, so that a later failure loses nothing: ("host", facts),
("layers", rows), ("phase", (name, seconds)), ("pass", (name, Measurement)); beside times, ("metrics", figures by MLflow
key) and ("curves", their histories). What it writes into `trial_folder.files()` becomes MLflow artifacts, and the text
of `SUMMARY` there is shown to the user.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Mapping

from sweeps.child import exit_code
from sweeps.forkserver import Send
from tracking.record import Failure, Status, Trial

TASKS = ("benchmark", "classify", "finetune", "probe")
"""What `task=` takes; `calibrate` is run by the sweep itself."""
METRICS: Mapping[str, tuple[str, ...]] = {
    "classify": ("probability/mean", "pictures", "unreadable", "images_per_s", "memory/peak_rss_mb"),
    "finetune": (
        *("val/accuracy", "val/balanced_accuracy", "val/loss", "train/accuracy", "best/epoch", "images_per_s"),
        *("train/loss", "epochs"),
        *("net/images_per_s", "input/images_per_s", "input/wait_share", "memory/peak_rss_mb"),
    ),
    "probe": ("memory/free_mb",),
}
"""The figures that a task finds beside times, the most telling first: what `objective=` takes."""
SUMMARY = "summary.txt"
_OUT_OF_MEMORY = ("MemoryError", "ResourceExhaustedError")
_OUT_OF_MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "CUDA_ERROR_OUT_OF_MEMORY", "CUDNN_STATUS_ALLOC_FAILED")
"""How the libraries below TensorFlow say so, in an error of another class."""


def run(trial: Trial, send: Send) -> None:
    """Run the trial's task, and send ("done", None) at its end.

    An exception is sent as ("failed", (status, Failure)) and ends the task, not the caller; `sys.exit` ends both.
    """
    try:
        importlib.import_module(f"sweeps.tasks.{trial.task}").run(trial, send)
        send("done", None)
    except SystemExit as leaving:
        code = exit_code(leaving)
        words = f": {leaving.code}" if isinstance(leaving.code, str) else ""
        message = f"the process exited with code {code} before it was done{words}"
        send("failed", ("crashed", Failure(kind=f"Exit{code}", message=message, detail=traceback.format_exc())))
        raise
    except BaseException as error:
        traceback.print_exc()
        kind, text = type(error).__name__, _text(error)
        out_of_memory = kind in _OUT_OF_MEMORY or any(words in text for words in _OUT_OF_MEMORY_WORDS)
        status: Status = "oom" if out_of_memory else "error"
        # TensorFlow appends the whole graph's story to its message; the first line says what happened.
        message = next(filter(None, text.splitlines()), kind)
        send("failed", (status, Failure(kind=kind, message=message, detail=traceback.format_exc())))


def _text(error: BaseException) -> str:
    """The message of an exception, whose class may be anybody's."""
    try:
        return str(error)
    except Exception as another:
        return f"its message cannot be read ({type(another).__name__})"
