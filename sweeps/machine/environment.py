"""The environment variables that may change a figure.

TensorFlow, its libraries, the C library and Python read dozens of them, and none of them is part of a trial. All that
may matter are recorded among the facts about the trial's host, so that sweeps with and without `XLA_FLAGS`, say, can be
told apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from nets.conventions import keras_defaults
from sweeps.process import paths
from tracking.text.redact import MARK, redact

_PREFIXES = (
    *("TF_", "TF2_", "XLA_", "TPU_", "AUTOGRAPH_", "KERAS_"),  # TensorFlow, its compiler, Keras
    *("OMP_", "GOMP_", "KMP_", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_", "GOTO_", "BLIS_"),  # CPU kernels
    *("NVIDIA_", "CUDA_", "CUDNN_", "CUBLAS_", "NCCL_"),  # GPU kernels and the driver
    *("MALLOC_", "TCMALLOC", "MIMALLOC_", "JEMALLOC_"),  # allocators
)
_NAMES = frozenset(
    (
        # What the loader and the C library do, and which libraries they load first.
        *("GLIBC_TUNABLES", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "LD_BIND_NOW", "LD_PROFILE", "LD_DEBUG"),
        # Python's own that change what runs, what memory costs, or the order of sets.
        *("PYTHONOPTIMIZE", "PYTHONMALLOC", "PYTHONHASHSEED", "PYTHONDEVMODE", "PYTHONTRACEMALLOC", "PYTHON_GIL"),
    )
)
_HARMLESS = frozenset(
    (
        # The fork server sets these, whatever the user has set.
        *keras_defaults.VARIABLES,
        "OPENBLAS_NUM_THREADS",
        # Each trial's device sets these; the card itself is among the facts about the host.
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"),
        # Where files are, and which messages are left out.
        *("KERAS_HOME", "TF_CPP_MIN_LOG_LEVEL", "TPU_ML_PLATFORM_VERSION"),
        # NVIDIA's images set these: what a container requires of the host.
        *("NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_REQUIRE_CUDA", "NVIDIA_PRODUCT_NAME", "CUDA_VERSION"),
        # Terraform uses TensorFlow's prefix.
        *("TF_ACC", "TF_APPEND_USER_AGENT", "TF_DATA_DIR", "TF_ENCRYPTION", "TF_IGNORE", "TF_IN_AUTOMATION"),
        *("TF_INPUT", "TF_SKIP_PROVIDER_VERIFY", "TF_WORKSPACE"),
    )
)
_SET_ON_IMPORT = {
    "TF2_BEHAVIOR": "1",
    "TPU_ML_PLATFORM": "Tensorflow",
    "KMP_DUPLICATE_LIB_OK": "True",
    "KMP_INIT_AT_FORK": "FALSE",
}
"""What libraries set on import; a notebook that has imported TensorFlow passes it on to its commands."""
_TERRAFORM = (
    *("TF_CLI_", "TF_CLOUD_", "TF_LOG", "TF_PLUGIN_", "TF_REATTACH_", "TF_REGISTRY_", "TF_STATE_PERSIST_"),
    *("TF_TOKEN_", "TF_VAR_"),
)
"""Further prefixes of Terraform's variables."""
_began = dict(os.environ)
"""What was set before the libraries were imported, some of which set variables."""
_warm: dict[str, str] | None = None
"""What was set after that; None where `warmed_up` has not been called."""
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)


def settings(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that may change a figure, by name; values that look like secrets are `***`."""
    relevant = {
        name: value
        for name, value in sorted(variables.items())
        if value
        and (name in _NAMES or name.startswith(_PREFIXES))
        and name not in _HARMLESS
        and _SET_ON_IMPORT.get(name) != value
        and not name.startswith(_TERRAFORM)
    }
    return {name: MARK if _SECRET.search(name) else redact(value) for name, value in relevant.items()}


def warmed_up() -> None:
    """Note that the libraries have been imported: what is set from now on is set by the trial."""
    global _warm
    _warm = dict(os.environ)


def here() -> dict[str, str]:
    """Return the `settings` of this process that the user or the trial's own modules have made."""
    kept = {name: os.environ[name] for name in _began if name in os.environ}
    made = {} if _warm is None else {name: value for name, value in os.environ.items() if _warm.get(name) != value}
    return settings(kept | made)


def auto_jit(variables: Mapping[str, str], *, gpu: bool) -> str | None:
    """Return the flag in TF_XLA_FLAGS that makes TensorFlow compile parts of every graph with XLA; None without."""
    text = variables.get("TF_XLA_FLAGS", "")
    if text and not text.lstrip().startswith("-"):  # the name of a file with flags
        if not paths.is_file(text.strip()):
            return None
        try:
            text = Path(text.strip()).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    flags = {name.lstrip("-"): value for name, _, value in (flag.partition("=") for flag in text.split())}
    level = flags.get("tf_xla_auto_jit", "0")
    on_cpu = flags.get("tf_xla_cpu_global_jit", "false").lower() not in ("false", "0")
    off = level in ("", "0", "-1") or (not gpu and not on_cpu)
    return None if off else f"--tf_xla_auto_jit={level}"
