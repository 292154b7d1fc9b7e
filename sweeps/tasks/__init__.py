"""What a trial does in its own process: one module per task, each with `run(trial, send)`.

A task sends each finding as soon as it has it, so that a later failure loses nothing; `sweeps.worker.messages` has a
class for each kind of message. What a task writes into `this_trial.files()` becomes MLflow artifacts, and the text of
the `summary` there is shown to the user.
"""

from __future__ import annotations

import contextlib
import importlib
import traceback
from collections.abc import Callable, Mapping
from typing import Literal

from sweeps.worker import wire
from sweeps.worker.child import exit_code
from sweeps.worker.messages import Done, Failed, failure, sender
from tracking.record import Trial
from tracking.text.exceptions import first_words

TASKS = ("benchmark", "classify", "finetune", "probe")
"""The values of `task=`; `calibrate` is run by the sweep itself."""
METRICS: Mapping[str, tuple[str, ...]] = {
    "classify": ("probability/mean", "pictures", "unreadable", "images_per_s", "memory/peak_rss_mb"),
    "finetune": (
        *("val/accuracy", "val/balanced_accuracy", "val/loss", "train/accuracy", "best/epoch", "images_per_s"),
        *("train/loss", "epochs"),
        *("net/images_per_s", "input/images_per_s", "input/wait_share", "memory/peak_rss_mb"),
    ),
    "probe": ("memory/free_mb",),
}
"""The figures that a task reports besides times, the most important first: the values of `objective=`."""
_OUT_OF_MEMORY = ("MemoryError", "ResourceExhaustedError")
_OUT_OF_MEMORY_PHRASES = ("RESOURCE_EXHAUSTED", "CUDA_ERROR_OUT_OF_MEMORY", "CUDNN_STATUS_ALLOC_FAILED")
"""How the libraries below TensorFlow report it in errors of other classes."""


def run(trial: Trial, connection_send: wire.Send) -> None:
    """Run the trial's task, and send `Done` at its end.

    An exception is sent as `Failed` and ends the task, not the caller; `sys.exit` ends both.
    """
    send = sender(connection_send)
    try:
        importlib.import_module(f"sweeps.tasks.{trial.task}").run(trial, send)
        send(Done())
    except SystemExit as leaving:
        code = exit_code(leaving)
        reason = f": {leaving.code}" if isinstance(leaving.code, str) else ""
        message = f"the process exited with code {code} before it was done{reason}"
        send(Failed("crashed", failure(f"Exit{code}", message, traceback.format_exc())))
        raise
    except BaseException as error:
        with contextlib.suppress(Exception):  # a user's exception class may fail to format itself
            traceback.print_exc()
        kind, text, detail = type(error).__name__, _text_of(error.__str__), _text_of(traceback.format_exc)
        out_of_memory = kind in _OUT_OF_MEMORY or any(phrase in text for phrase in _OUT_OF_MEMORY_PHRASES)
        status: Literal["oom", "error"] = "oom" if out_of_memory else "error"
        # TensorFlow appends a description of the whole graph to its message.
        send(Failed(status, failure(kind, first_words(text) or kind, detail)))


def _text_of(of: Callable[[], str]) -> str:
    """Return an exception's text; its class may be the user's, and fail to give one."""
    try:
        return str(of())
    except Exception as error:
        return f"its message cannot be read ({type(error).__name__})"
