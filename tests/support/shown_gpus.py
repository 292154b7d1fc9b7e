"""A task that touches no device: it records which GPUs its process was shown, and from when until when."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sweeps.worker.messages import Host, Send
from tracking.record import Trial

_LONGEST_S = 200.0


def run(trial: Trial, send: Send) -> None:
    """Run until as many as `others` more have begun, as their files in `folder` show."""
    begin = time.monotonic()
    folder = Path(str(trial.model_args["folder"]))
    (folder / f"{trial.trial_id}.begun").touch()
    while len(list(folder.glob("*.begun"))) <= int(str(trial.model_args["others"])):
        if time.monotonic() - begin > _LONGEST_S:
            raise TimeoutError(f"expected {trial.model_args['others']} others beside this trial. Received: too few")
        time.sleep(0.01)
    send(Host({"gpus": os.environ["CUDA_VISIBLE_DEVICES"], "begin": begin, "end": time.monotonic()}))
