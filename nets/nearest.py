"""The valid names nearest to one that is not valid."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """A clause that asks for up to three of the valid names, whatever their case; empty where none is close."""
    lower = {word.lower(): word for word in sorted(valid)}
    near = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    return f" Did you mean {' or '.join(near)}?" if near else ""
