"""What the description of a saved model may name: Keras' own classes and functions, none of which runs the file's code.

Keras looks up what a description names in its own modules, imports others where it takes them for its own, and rebuilds
functions from bytes. So everything in a description is looked up here first, among what is already imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras.src.ops.operation import Operation

from nets.saved.kinds import SavedModelError

_RUN_CODE = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
"""Layers that hold or fetch a program."""
_PLAIN = ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__")
"""Values that a description spells out."""
_BASES = (
    *(Operation, keras.initializers.Initializer, keras.regularizers.Regularizer, keras.constraints.Constraint),
    *(keras.optimizers.Optimizer, keras.optimizers.schedules.LearningRateSchedule, keras.losses.Loss),
    *(keras.metrics.Metric, keras.dtype_policies.DTypePolicy, keras.dtype_policies.DTypePolicyMap),
    *(keras.quantizers.Quantizer, keras.quantizers.QuantizationConfig, keras.random.SeedGenerator),
)
_PLACES = ("layers", "models", "initializers", "regularizers", "constraints", "optimizers", "optimizers.schedules")
_MORE_PLACES = ("losses", "metrics", "dtype_policies", "quantizers", "random")
"""Where the classes of older descriptions are, which name no modules."""
_OPERATIONS = ("numpy", "math", "nn", "core", "image", "linalg")
_OF_FUNCTIONS = ("activations", "losses", "metrics", "ops", "initializers", "regularizers", "constraints")
_NO_FUNCTIONS = ("get", "serialize", "deserialize")
_TRUST = "set model.trust=true if you trust whoever made it"
_REGISTER = (
    "no module is imported for a file, not even with model.trust=true. Register it with "
    "@keras.saving.register_keras_serializable in a module of yours, and set model._target_=MODULE.FUNCTION, "
    "a function there that loads the file"
)


def expect_harmless(description: Any, path: str) -> None:
    """Raise SavedModelError, which names the layer, where a part is not Keras' own, or would run code or read files."""
    for part, layer in _parts(description, ""):
        where = f" in {layer!r}" if layer else ""
        name = part["class_name"]
        if not isinstance(name, str):
            raise SavedModelError(f"{path}: expected the names of classes. Received: {str(name)[:100]!r}{where}")
        spoken = {name, _last(part.get("registered_name")), _last(name)}
        if code := spoken & {*_RUN_CODE, "__lambda__"}:
            what = "a Python lambda" if "__lambda__" in code else f"a {code.pop()}"
            raise SavedModelError(
                f"{path}: expected a model of layers that run no code of the file's own. "
                f"Received: {what}{where}; {_TRUST}"
            )
        if name not in _PLAIN and resolved(part) is None:
            shown = part.get("registered_name") or name
            if name == "function":
                shown = part.get("config")
            home = part.get("module")
            full = f"{home}.{shown}" if isinstance(home, str) and home and ">" not in str(shown) else shown
            raise SavedModelError(
                f"{path}: expected a model of Keras' own layers and functions, which load safely. "
                f"Received: {str(full)[:200]}{where}; {_REGISTER}"
            )
        settings = part.get("config")
        if isinstance(settings, Mapping):
            for key in ("vocabulary", "idf_weights"):
                if isinstance(settings.get(key), str):
                    raise SavedModelError(
                        f"{path}: expected a model that reads no other files. "
                        f"Received: {key}={settings[key][:100]!r}{where}; {_TRUST}"
                    )


def resolved(part: Mapping[str, Any]) -> Any:
    """Return the class or function that a part of a description names, if Keras has it or it was registered.

    None for anything else. Nothing is imported.
    """
    name, module = part["class_name"], part.get("module")
    if name == "function":
        return _function(part.get("config"), module)
    for registered in (part.get("registered_name"), name):
        if isinstance(registered, str) and (own := keras.saving.get_registered_object(registered)) is not None:
            return own
    if module is None:
        places = [*(f"keras.{place}" for place in (*_PLACES, *_MORE_PLACES)), "keras.src.models.functional"]
    elif isinstance(module, str) and (module == "keras" or module.startswith("keras.")):
        places = [module]
    else:
        return None
    for place in places:
        found = vars(sys.modules[place]).get(name) if place in sys.modules else None
        if isinstance(found, type) and issubclass(found, _BASES) and found.__module__.startswith("keras.src."):
            return found
    if module is None:  # older files name operations, such as Add, without saying where they are
        found = [vars(sys.modules[f"keras.src.ops.{home}"]).get(name) for home in _OPERATIONS]
        return next((each for each in found if isinstance(each, type) and issubclass(each, Operation)), None)
    return None


def _function(name: Any, module: Any) -> Any:
    if not isinstance(name, str):
        return None
    if (own := keras.saving.get_registered_object(name)) is not None:
        return own
    places = [f"keras.{place}" for place in _OF_FUNCTIONS]
    if module not in ("builtins", None):
        places = [place for place in places if module == place or str(module).startswith(f"{place}.")]
        places = [module] if places or str(module).startswith("keras.src.") else []
    for place in places:
        found = vars(sys.modules[place]).get(name) if place in sys.modules else None
        home = getattr(found, "__module__", "")
        if callable(found) and home.startswith(tuple(f"keras.src.{each}" for each in _OF_FUNCTIONS)):
            return None if name in _NO_FUNCTIONS else found
    return None


def _parts(value: Any, layer: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield every object of a description, however deeply nested, with the name of the layer that it is in."""
    if isinstance(value, Mapping):
        if "class_name" in value:
            settings = value.get("config")
            own = settings.get("name") if isinstance(settings, Mapping) else None
            layer = own if isinstance(own, str) else layer
            yield value, layer
        for each in value.values():
            yield from _parts(each, layer)
    elif isinstance(value, list):
        for each in value:
            yield from _parts(each, layer)


def _last(name: Any) -> str:
    return str(name or "").rpartition(">")[2].rpartition(".")[2]
