"""Validation of names, labels, amounts and tolerations for Kubernetes.

Most of these rules are the API server's; the others are for wrong values that it would accept, with pods that wait for
ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nets.errors import did_you_mean
from sweeps.wording import at_least, at_most
from tracking.text.printable import printable

_LARGEST = 2**31 - 1
"""The largest number in KubeRay's 32-bit fields."""
_LEAST_MEMORY = 512 * 2**20
"""With less, bytes, not even Ray starts: another unit was meant."""
_EARLIEST_RAY = (2, 52)
"""The first version of Ray with access tokens; KubeRay refuses a job with an earlier one."""
_UNITS = {"": 1, **{unit: 1000**power for power, unit in enumerate("kMGTPE", 1)}}
_UNITS |= {f"{unit.upper()}i": 1024**power for power, unit in enumerate("kMGTPE", 1)}

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_WORD = r"[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?"
_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d+)?"
_IMAGE = re.compile(rf"({_HOST}/)?{_PART}(/{_PART})*(:\w[\w.-]{{0,127}})?(@[A-Za-z0-9+._-]+:[0-9a-fA-F]{{32,}})?", re.A)
_QUANTITY = re.compile(rf"(\d+\.?\d*|\.\d+)({'|'.join(filter(None, _UNITS))}|[eE][+-]?\d{{1,2}})?", re.A)
_STORE = re.compile(r"(s3|gs)://[a-z0-9][a-z0-9._-]+(/[^?#\s]*)?", re.A)
_VERSION = re.compile(r"(\d+)\.(\d+)(\.\d+)?", re.A)

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_OPERATORS = ("Exists", "Equal")
_TOLERATION = ("key", "operator", "value", "effect", "tolerationSeconds")

Check = Callable[[str], str]
"""Returns what a value was expected to be; empty: the value is valid."""


def problems(options: Mapping[str, Any]) -> list[str]:
    """Return a problem for each option of `cluster=kubernetes` that Kubernetes would refuse or misunderstand."""
    problems: list[str] = []
    checks: dict[str, Check] = {
        "image": _image,
        "namespace": _label_name,
        "ray_version": _ray_version,
        "gpu_resource": _resource,
        "memory": _amount,
        "head_memory": _amount,
        "claim": _name,
        "store": _store,
        "service_account": _name,
    }
    for key, check in checks.items():
        if (value := options[key]) is not None:
            problems += _refused(f"cluster.{key}={printable(value)}", check(value))
    if (secret := options["secret"]) is not None and (expected := _name(secret)):
        # Printed as KEY=VALUE, it would be taken for a secret and redacted.
        problems.append(f"cluster.secret: expected {expected}. Received: {printable(secret)}.")
    for name in options["image_pull_secrets"]:
        problems += _refused(f"cluster.image_pull_secrets={printable(name)}", _name(name))
    for key in ("node_selector", "head_node_selector", "labels"):
        for label, value in options[key].items():
            shown = f"cluster.{key}={{{printable(label)}: {printable(value)}}}"
            problems += _refused(shown, _label_key(label) or _label_value(value))
    for key in ("tolerations", "head_tolerations"):
        for written in options[key]:
            problems += _refused(f"cluster.{key}: {_shown(written)}", _toleration_problem(written))
    least = {"workers": 1, "cpus": 1, "gpus": 0, "head_cpus": 1, "keep_s": 0, "backoff_limit": 0}
    problems += at_least("cluster.", options, least)
    return problems + at_most("cluster.", options, dict.fromkeys(least, _LARGEST))


def toleration(written: Any) -> dict[str, Any]:
    """Return a toleration for the manifest, from a mapping or a taint in kubectl's form, KEY[=VALUE][:EFFECT]."""
    if isinstance(written, Mapping):
        fields = {str(name): _text(value) for name, value in written.items()}
        if "key" in fields:
            fields.setdefault("operator", "Equal" if "value" in fields else "Exists")
        seconds = fields.get("tolerationSeconds", "")
        return fields | ({"tolerationSeconds": int(seconds)} if re.fullmatch(r"-?\d{1,18}", seconds, re.A) else {})
    taint, colon, effect = _text(written).partition(":")
    key, equals, value = taint.partition("=")
    matched = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
    return {"key": key, **matched, **({"effect": effect} if colon else {})}


def _toleration_problem(written: Any) -> str:
    if isinstance(written, Sequence) and not isinstance(written, str):
        return "KEY=VALUE:EFFECT, KEY:EFFECT or a mapping in Kubernetes' form"
    fields = toleration(written)
    if unknown := [name for name in fields if name not in _TOLERATION]:
        near = did_you_mean(unknown[0], _TOLERATION)
        return f"only {', '.join(_TOLERATION)}, without {printable(unknown[0])}.{near}".removesuffix(".")
    if (operator := fields.get("operator", "Equal")) not in _OPERATORS:
        return f"operator to be one of {', '.join(_OPERATORS)}{_near(operator, _OPERATORS)}"
    if "effect" in fields and fields["effect"] not in _EFFECTS:
        return f"the effect to be one of {', '.join(_EFFECTS)}{_near(fields['effect'], _EFFECTS)}"
    if "key" not in fields and operator != "Exists":
        return "a key, or operator: Exists, which tolerates everything"
    if operator == "Exists" and fields.get("value"):
        return "no value with operator: Exists"
    if "tolerationSeconds" in fields:
        if not isinstance(fields["tolerationSeconds"], int):
            return "tolerationSeconds to be a whole number"
        if fields.get("effect") != "NoExecute":
            return "effect: NoExecute with tolerationSeconds"
    return ("key" in fields and _label_key(fields["key"])) or _label_value(fields.get("value", ""))


def _refused(shown: str, expected: str) -> Iterable[str]:
    if expected:
        yield f"{shown}: expected {expected}{'' if expected.endswith('?') else '.'}"


def _near(name: str, valid: Sequence[str]) -> str:
    near = did_you_mean(name, valid)
    return f".{near}" if near else ""


def _shown(written: Any) -> str:
    if isinstance(written, Mapping):
        return printable(f"{{{', '.join(f'{key}: {_text(value)}' for key, value in written.items())}}}")
    return printable(_text(written))


def _text(value: Any) -> str:
    """Return a value from a YAML file as the text that it was there."""
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def _name(value: str) -> str:
    good = re.fullmatch(_SUBDOMAIN, value, re.A) and len(value) <= 253
    return "" if good else "a name of small letters, digits, '-' and '.', at most 253"


def _label_name(value: str) -> str:
    good = re.fullmatch(_LABEL, value, re.A) and len(value) <= 63
    return "" if good else "a name of small letters, digits and '-', at most 63"


def _label_key(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    good = re.fullmatch(_WORD, name, re.A) and len(name) <= 63 and not (slash and _name(prefix))
    return "" if good else "a label's name: [DOMAIN/]NAME, of letters, digits, '-', '_' and '.', the name at most 63"


def _label_value(value: str) -> str:
    good = not value or (re.fullmatch(_WORD, value, re.A) and len(value) <= 63)
    return "" if good else "a label's value: letters, digits, '-', '_' and '.' between letters or digits, at most 63"


def _resource(value: str) -> str:
    domain, _, name = value.rpartition("/")
    # Its quota is called requests.DOMAIN/NAME, which must be a valid label name, too.
    reserved = domain == "kubernetes.io" or domain.endswith(".kubernetes.io") or domain.startswith("requests.")
    good = domain and name and not _label_key(f"requests.{value}") and not reserved
    return "" if good else "a resource that a device plugin offers, such as nvidia.com/gpu or amd.com/gpu"


def _image(value: str) -> str:
    good = _IMAGE.fullmatch(value)
    return "" if good else "an image's name, such as registry.example/sweeps:1.0, its path in small letters"


def _amount(value: str) -> str:
    if not (match := _QUANTITY.fullmatch(value)):
        return "an amount such as 16Gi"
    number, unit = match[1], match[2] or ""
    size = float(number) * _UNITS[unit] if unit in _UNITS else float(value)
    least = f"at least {_LEAST_MEMORY // 2**20}Mi, such as 16Gi. Received: {size:.0f} bytes"
    return "" if size >= _LEAST_MEMORY else least


def _store(value: str) -> str:
    return "" if _STORE.fullmatch(value) else "s3://bucket/folder or gs://bucket/folder"


def _ray_version(value: str) -> str:
    good = (match := _VERSION.fullmatch(value)) and (int(match[1]), int(match[2])) >= _EARLIEST_RAY
    earliest = ".".join(map(str, _EARLIEST_RAY))
    return "" if good else f"the version of Ray in the image, such as 2.60.0; {earliest} or later, for access tokens"
