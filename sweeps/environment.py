"""The environment variables that may change a figure.

TensorFlow, its libraries, the C library and Python read dozens of them, and none shows in what a trial asks for. All
that may matter are recorded with the facts of the trial's host, so that two sweeps with and without `XLA_FLAGS` are not
taken for alike.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from nets import keras_defaults
from tracking.redact import MARK, redact

_PREFIXES = (
    *("TF_", "TF2_", "XLA_", "TPU_", "AUTOGRAPH_", "KERAS_"),  # TensorFlow, its compiler, Keras
    *("OMP_", "GOMP_", "KMP_", "MKL_", "DNNL_", "ONEDNN_", "OPENBLAS_", "GOTO_", "BLIS_", "EIGEN_"),  # CPU kernels
    *("NVIDIA_", "CUDA_", "CUDNN_", "CUBLAS_", "NCCL_"),  # GPU kernels and the driver
    *("MALLOC_", "GLIBC_", "TCMALLOC", "MIMALLOC_", "JEMALLOC_", "LD_"),  # the allocator, and what is loaded first
)
_NAMES = frozenset(
    # Of Python's own those that change what runs, or how dear its memory is, and the order of sets.
    ("PYTHONOPTIMIZE", "PYTHONMALLOC", "PYTHONHASHSEED", "PYTHONDEVMODE", "PYTHONTRACEMALLOC", "PYTHON_GIL")
)
_HARMLESS = frozenset(
    (
        # The fork server sets these, whatever the user has.
        *keras_defaults.VARIABLES,
        "OPENBLAS_NUM_THREADS",
        # Each trial's device sets these; which card it was is among the facts of the host.
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"),
        # Where files lie, and what is logged.
        *("KERAS_HOME", "TF_CPP_MIN_LOG_LEVEL", "TF_CPP_VMODULE", "TF_CPP_MAX_VLOG_LEVEL", "TF_CPP_MIN_VLOG_LEVEL"),
        # NVIDIA's images have these: what a container asks of the host before it starts.
        *("NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_REQUIRE_CUDA", "NVIDIA_PRODUCT_NAME", "CUDA_VERSION"),
    )
)
_began = dict(os.environ)
"""What was set before the libraries were imported, of which some set variables of their own."""
_warm: dict[str, str] | None = None
"""What was set when they had been; None: they have not been imported on purpose."""
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)


def settings(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of the variables that may change a figure, by name; values that look like secrets are `***`."""
    found = {
        name: value
        for name, value in sorted(variables.items())
        if (name in _NAMES or name.startswith(_PREFIXES)) and name not in _HARMLESS
    }
    return {name: MARK if _SECRET.search(name) else redact(value) for name, value in found.items()}


def warmed_up() -> None:
    """Say that the libraries have been imported: what is set from now on is the trial's own doing."""
    global _warm
    _warm = dict(os.environ)


def here() -> dict[str, str]:
    """The `settings` of this process, as the user or the trial's own modules have made them."""
    kept = {name: os.environ[name] for name in _began if name in os.environ}
    made = {} if _warm is None else {name: value for name, value in os.environ.items() if _warm.get(name) != value}
    return settings(kept | made)
