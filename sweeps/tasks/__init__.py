"""What a trial does in its own process: one module a task, each with `run(trial, send)`.

A task sends what it finds as soon as it has it, so that a later failure loses nothing: ("host", facts),
("layers", rows), ("phase", (name, seconds)), ("pass", (name, Measurement)); beside times, ("metrics", figures by MLflow
key) and ("curves", their histories). What it writes into `trial_folder.files()` becomes MLflow artifacts, and the text
of `SUMMARY` there is shown to the user. `sweeps.worker.messages` has the schema of each kind, and what is too much of
it.
"""

from __future__ import annotations

import contextlib
import importlib
import traceback
from collections.abc import Callable, Mapping

from sweeps.worker.child import exit_code
from sweeps.worker.forkserver import Send
from sweeps.worker.messages import failure, speaker
from tracking.record import Status, Trial

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
    send = speaker(send)
    try:
        importlib.import_module(f"sweeps.tasks.{trial.task}").run(trial, send)
        send("done", None)
    except SystemExit as leaving:
        code = exit_code(leaving)
        words = f": {leaving.code}" if isinstance(leaving.code, str) else ""
        message = f"the process exited with code {code} before it was done{words}"
        send("failed", ("crashed", failure(f"Exit{code}", message, traceback.format_exc())))
        raise
    except BaseException as error:
        with contextlib.suppress(Exception):  # its words may be an error of their own, or no text
            traceback.print_exc()
        kind, text, detail = type(error).__name__, _words(error.__str__), _words(traceback.format_exc)
        out_of_memory = kind in _OUT_OF_MEMORY or any(words in text for words in _OUT_OF_MEMORY_WORDS)
        status: Status = "oom" if out_of_memory else "error"
        # TensorFlow appends the whole graph's story to its message; the first line says what happened.
        message = next(filter(None, text.splitlines()), kind)
        send("failed", (status, failure(kind, message, detail)))


def _words(of: Callable[[], str]) -> str:
    """What an exception says of itself, whose class may be the user's."""
    try:
        return str(of())
    except Exception as error:
        return f"its message cannot be read ({type(error).__name__})"
