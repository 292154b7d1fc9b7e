from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sweeps.machine import environment
from tests.support.sweep_command import QUICK, journal, only_sweep, run


def test_what_changes_a_figure_is_recorded_and_no_secret() -> None:
    given = {
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
        "TF_CONFIG": "grpc://me:hunter2@host:1",
        "NVIDIA_API_KEY": "nv-123",
        "LD_PRELOAD": "libtcmalloc.so",
        "PYTHONOPTIMIZE": "1",
        "CUDA_VISIBLE_DEVICES": "0",
        "TF_CPP_MIN_LOG_LEVEL": "0",
        "TF_VAR_region": "Terraform's",
        "TF_CLI_CONFIG_FILE": "Terraform's",
        "KERAS_BACKEND": "jax",
        "OPENBLAS_NUM_THREADS": "8",
        "OMP_NUM_THREADS": "",
        "HOME": "/root",
    }
    assert environment.settings(given) == {
        "LD_PRELOAD": "libtcmalloc.so",
        "NVIDIA_API_KEY": "***",
        "PYTHONOPTIMIZE": "1",
        "TF_CONFIG": "grpc://***@host:1",
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
    }


@pytest.mark.parametrize(
    ("text", "gpu", "flag"),
    [
        ("", True, None),
        ("--tf_xla_auto_jit=2", True, "--tf_xla_auto_jit=2"),
        ("--tf_xla_auto_jit=2", False, None),
        ("--tf_xla_cpu_global_jit --tf_xla_auto_jit=single-gpu(1)", False, "--tf_xla_auto_jit=single-gpu(1)"),
        ("--tf_xla_auto_jit=0 --tf_xla_cpu_global_jit", False, None),
        ("flags.txt", True, "--tf_xla_auto_jit=1"),
        ("missing.txt", True, None),
    ],
)
def test_tensorflow_may_be_set_to_use_xla_on_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, gpu: bool, flag: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flags.txt").write_text("--tf_xla_auto_jit=1\n")
    assert environment.auto_jit({"TF_XLA_FLAGS": text}, gpu=gpu) == flag


NET = """
import os
import keras

os.environ["TF_SET_BY_MODULE"] = "late"

def plain():
    assert keras.config.epsilon() == 1e-7, keras.config.epsilon()
    assert keras.config.image_data_format() == "channels_last"
    assert keras.config.backend() == "tensorflow"
    # What a layer takes that says nothing: in float16 this net would be.
    dense = keras.layers.Dense(4, dtype=keras.config.floatx())
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), dense])
"""
KERAS = {
    "floatx": "float16",
    "epsilon": 1,
    "image_data_format": "channels_first",
    "backend": "jax",
    "nnx_enabled": True,
}


def test_the_users_home_and_environment_change_no_trial_and_are_recorded(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "work"
    (home / ".keras").mkdir(parents=True)
    (home / ".keras" / "keras.json").write_text(json.dumps(KERAS))
    folder.mkdir()
    (folder / "mine.py").write_text(NET)
    given = {
        "HOME": str(home),
        "KERAS_BACKEND": "jax",
        "KERAS_MAX_EPOCHS": "none",
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
        "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
        "TF_SERVICE_TOKEN": "hunter2",
    }
    grid = ["-m", "model._target_=mine.plain", "batch=2", "compile=graph,eager", *QUICK]
    done = run(folder, *grid, "cluster=inline", "tracking=none", "calibrate=false", **given)
    names = "TF_SERVICE_TOKEN, TF_XLA_FLAGS, XLA_FLAGS"
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert warning.endswith(f"since it may change figures: {names}")
    sweep = only_sweep(folder)
    graph, eager = journal(sweep)
    assert graph["status"] == "error"  # what is called a graph would be XLA
    assert "expected compile=graph. Received: TF_XLA_FLAGS=--tf_xla_auto_jit=2" in graph["error"]["message"]
    assert eager["status"] == "ok", eager["error"]
    assert eager["host"]["in_force"]["forward"]["dtypes"].keys() == {"float32"}
    assert eager["host"]["env"] == {
        "TF_SERVICE_TOKEN": "***",
        "TF_SET_BY_MODULE": "late",
        "TF_XLA_FLAGS": given["TF_XLA_FLAGS"],
        "XLA_FLAGS": given["XLA_FLAGS"],
    }
    assert "env.XLA_FLAGS" in (sweep / "report.html").read_text()
    assert "hunter2" not in "".join(path.read_text() for path in (*sweep.glob("*.json*"), sweep / "report.html"))


def test_what_tensorflow_sets_by_itself_is_no_setting_of_the_users() -> None:
    import tensorflow  # noqa: F401 - it leaves its own variables in the environment

    assert "TF2_BEHAVIOR" in os.environ
    assert "TF2_BEHAVIOR" not in environment.settings(os.environ)
    assert environment.settings({"TF2_BEHAVIOR": "0"}) == {"TF2_BEHAVIOR": "0"}


def test_without_settings_nothing_is_said_of_any(tmp_path: Path) -> None:
    """Nor of the half dozen variables that TensorFlow and its like set when they are imported."""
    unset = dict.fromkeys(environment.settings(os.environ), "")
    done = run(tmp_path, "model=tiny", "cluster=inline", "tracking=none", "calibrate=false", *QUICK, **unset)
    assert done.stderr == ""
    (line,) = journal(only_sweep(tmp_path))
    assert line["host"]["env"] == {}
