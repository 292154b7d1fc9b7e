"""Why a net cannot be built, and the valid names nearest to one that is not valid."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NetError(ValueError):
    """A net cannot be built or used.

    NetError
    ├── UnknownNet     no net has this name
    ├── BadArguments   the net takes no such argument, or not this value
    ├── InputError     the size, type or range of one of its inputs is unknown, or not what it takes
    ├── BadTarget      `nets.custom`: the target does not exist, is not callable, or does not return a keras.Model
    └── BadLayout      `nets.conventions.layout`: the net is not built in the order of axes that Keras is set to
    """


class UnknownNet(NetError):  # noqa: N818 - reads as what it says
    """No net has this name."""


class BadArguments(NetError):  # noqa: N818
    """The net takes no such argument, or not this value."""


class InputError(NetError):
    """The size, type or range of an input is unknown, or not what the net takes."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return a question with up to three similar valid names, ignoring case; empty where none is close."""
    lower = {word.lower(): word for word in sorted(valid)}
    near = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    return f" Did you mean {' or '.join(near)}?" if near else ""
