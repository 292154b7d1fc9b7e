"""Names and labels as Kubernetes allows them: `apimachinery/pkg/util/validation`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_WORD = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"


def is_subdomain(name: object) -> bool:
    return isinstance(name, str) and len(name) <= 253 and bool(re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", name))


def is_label(name: object) -> bool:
    return isinstance(name, str) and len(name) <= 63 and bool(re.fullmatch(_LABEL, name))


def is_qualified(key: object) -> bool:
    if not isinstance(key, str):
        return False
    prefix, slash, name = key.rpartition("/")
    return len(name) <= 63 and bool(re.fullmatch(_WORD, name)) and (not slash or is_subdomain(prefix))


def is_label_value(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 63 and (not value or bool(re.fullmatch(_WORD, value)))


def are_labels(labels: Mapping[Any, Any]) -> bool:
    return all(is_qualified(key) and is_label_value(value) for key, value in labels.items())
