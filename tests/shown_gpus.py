"""A task that touches no device: it says which GPUs its process was shown, and from when until when."""

from __future__ import annotations

import os
import time

from sweeps.forkserver import Send
from tracking.record import Trial


def run(trial: Trial, send: Send) -> None:
    del trial
    begin = time.monotonic()
    time.sleep(1.0)
    send("host", {"gpus": os.environ["CUDA_VISIBLE_DEVICES"], "begin": begin, "end": time.monotonic()})
