"""What every task begins with: TensorFlow set up for the trial, facts about the device, the trial's net."""

from __future__ import annotations

import os
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

import nets
from nets import custom
from nets.conventions import keras_defaults
from nets.conventions.layout import build_in
from nets.inputs.given import Given
from nets.saved import loading as saved_models
from nets.weights import loading
from sweeps.machine import host, nvml
from sweeps.tasks.timing import gpus
from tracking.record import Precision, Trial

POLICIES: dict[Precision, str] = {
    "float32": "float32",
    "tf32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}


def configure(trial: Trial) -> None:
    """Set TensorFlow's device, threads, precision and layout as the trial says, before it touches a device."""
    threads = trial.device.threads or len(os.sched_getaffinity(0))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if trial.device.kind == "cpu":
        tf.config.set_visible_devices([], "GPU")
    else:
        gpus.prepare(trial.device)
    if trial.layout == "channels_first":
        # Otherwise TensorFlow changes the convolutions' layout where it expects that to be faster.
        tf.config.optimizer.set_experimental_options({"layout_optimizer": False})
    keras_defaults.restore()
    keras.config.set_image_data_format(trial.layout)
    tf.config.experimental.enable_tensor_float_32_execution(trial.precision == "tf32")
    keras.config.set_dtype_policy(POLICIES[trial.precision])


def device_facts(trial: Trial) -> dict[str, Any]:
    """Return what TensorFlow reports about its threads and oneDNN and, for GPUs, NVIDIA's library about the cards."""
    facts: dict[str, Any] = {
        "tf_threads": tf.config.threading.get_intra_op_parallelism_threads(),
        # The outcome of TF_ENABLE_ONEDNN_OPTS, the processor and TensorFlow's build.
        "onednn": "on" if _pywrap_util_port.IsMklEnabled() else "off",
    }
    if trial.device.kind == "gpu":
        facts |= host.gpu_facts()
        facts["gpu"] = ", ".join(
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in tf.config.list_physical_devices("GPU")
        )
        cards = [card.facts() for card in nvml.visible_cards()]
        facts["gpu_uuid"] = [card.pop("uuid", None) for card in cards]
        facts["gpus"] = cards
        facts["batch_per_gpu"] = trial.batch // trial.device.gpus
        facts["cuda_visible_devices"] = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return facts


def build(trial: Trial, given: Given | None = None) -> keras.Model:
    """Build the trial's model in its layout and load its weights, if it names any; else the seed determines them.

    `given` is what the user says about its inputs.
    """
    model = build_in(trial.layout, lambda: unloaded(trial), given)
    if trial.weights is not None:
        print(loading.load(model, trial.weights))
    return model


def unloaded(trial: Trial) -> keras.Model:
    """Build the trial's model without the weights that it names; those of a saved model are in its file."""
    keras.utils.set_random_seed(trial.seed)
    if trial.target is not None:
        return custom.from_target(trial.target, **trial.model_args)
    if trial.path is not None:
        return saved_models.load(trial.path, trust=bool(trial.model_args.get("trust")))
    return nets.build(trial.model, **trial.model_args)
