"""The models of keras.applications, without weights and with logits instead of probabilities."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from nets.conventions.layout import image_shape


def application(name: str, num_classes: int = 1000, image_size: int | None = None, **args: Any) -> keras.Model:
    """Build keras.applications' model `name` at its own input size or at `image_size`; pass other arguments on.

    Rescaling of the input is left out where that is an option (`include_preprocessing`), so that the net is timed on
    plain numbers like every other; the rescaling of the first EfficientNet is built in and stays.
    """
    make = getattr(keras.applications, name)
    args |= {"weights": None, "classes": num_classes, "classifier_activation": None}
    if not name.startswith("EfficientNetV2"):  # these look their blocks up by name
        args["name"] = name
    if "include_preprocessing" in inspect.signature(make).parameters:
        args["include_preprocessing"] = False
    if image_size is not None:
        return make(input_shape=image_shape(image_size), **args)
    model = make(**args)
    if None in model.input_shape[1:]:  # MobileNetV3 takes any size; its paper's is 224
        model = make(input_shape=image_shape(224), **args)
    return model
