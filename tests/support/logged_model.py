"""A logged model as others use it: in a process of their own that has nothing of this project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LOAD = """
import json, sys
import mlflow.pyfunc, pandas
files = [line.strip() for line in sys.stdin]
model = mlflow.pyfunc.load_model(sys.argv[1])
found = model.predict(pandas.DataFrame({"image": [open(file, "rb").read() for file in files]}))
print(json.dumps(found.to_dict(orient="list")))
assert not {"sweeps", "nets"} & set(sys.modules)
"""


def environment() -> dict[str, str]:
    """As in an activated environment, without this project's path."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH",)}
    clean["PATH"] = f"{Path(sys.executable).parent}:{clean['PATH']}"
    return clean | {"CUDA_VISIBLE_DEVICES": "-1", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def predictions(model: str, images: Sequence[str], cwd: Path, tracking: str | None = None) -> dict[str, list[Any]]:
    """What the model at this path or URI (of the tracking server `tracking`) says of picture files, by column."""
    own = {} if tracking is None else {"MLFLOW_TRACKING_URI": tracking}
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, model],
        input="\n".join(images), cwd=cwd, env=environment() | own, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return found
