from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
LOAD = """
from nets.conventions import keras_defaults
keras_defaults.load()
import json, keras
from keras.src.backend.config import keras_home
print(json.dumps([keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format(),
                  keras.config.backend(), keras.config.max_epochs(), keras_home(), json.load(open("other.json"))]))
"""


@pytest.mark.parametrize(
    "content",
    [
        {"floatx": "float64", "epsilon": 0.01, "image_data_format": "channels_first", "backend": "torch"},
        {"floatx": "bfloat16", "epsilon": 0, "nnx_enabled": True},  # Keras itself ends on each of these
    ],
)
def test_keras_is_its_own_whatever_the_users_file_says(tmp_path: Path, content: Any) -> None:
    home = tmp_path / "keras-home"
    home.mkdir()
    (home / "keras.json").write_text(json.dumps(content))
    (tmp_path / "other.json").write_text("[1]")
    given = {"KERAS_HOME": str(home), "KERAS_BACKEND": "jax", "KERAS_MAX_EPOCHS": "2", "KERAS_NNX_ENABLED": "true"}
    env = os.environ | given | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", LOAD], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Weights that were fetched before are still found.
    assert json.loads(done.stdout) == ["float32", 1e-7, "channels_last", "tensorflow", None, str(home), [1]]


def test_the_layer_table_is_the_same_with_the_users_file(tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "jax", "image_data_format": "channels_first"}))
    env = os.environ | {"KERAS_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "nets", "tiny"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1x8x8x4" in done.stdout
