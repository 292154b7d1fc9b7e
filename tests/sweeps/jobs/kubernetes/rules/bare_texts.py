"""Texts of a YAML file that kubectl would read as something else, because they are not in quotes."""

from __future__ import annotations

import re

import yaml

# What go-yaml, with which kubectl reads manifests, takes for something other than text where it is not in quotes.
_NUMBER = r"[-+]?(\.\d[\d_]*|\d[\d_]*(\.[\d_]*)?)([eE][-+]?\d+)?|[-+]?0(x[\da-fA-F_]+|o?[0-7_]+|b[01_]+)"
_OTHER = rf"{_NUMBER}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)|~|\d+-\d+-\d+.*|<<|=|"
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def bare_texts(written: str) -> list[str]:
    """Return the texts of a YAML file that kubectl would not read as texts."""
    return [
        event.value
        for event in yaml.parse(written, Loader=yaml.SafeLoader)
        if isinstance(event, yaml.ScalarEvent)
        and event.style is None
        and isinstance(yaml.safe_load(event.value), str)
        and (re.fullmatch(_OTHER, event.value) or event.value.lower() in _WORDS)
    ]
