"""Why a net cannot be built, and the valid names nearest to one that is not valid."""

from __future__ import annotations

import difflib
import re
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


_OF_A_CALL = re.compile(r"Exception encountered when calling (.*?)\.?$")
_OF_A_FILE = "Exception encountered: "
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def cause(error: BaseException | str) -> str:
    """Return the line of an error that says what happened; empty for an error without a text.

    That is the first line, save for two of Keras' messages: it names the layer there, or prints the whole
    description of a model, before it quotes the error itself.
    """
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    if not lines:
        return ""
    for line in reversed(lines):
        if line.startswith(_OF_A_FILE):
            return line.removeprefix(_OF_A_FILE)
    if (call := _OF_A_CALL.match(lines[0])) and len(lines) > 1:
        return f"{lines[1]} (in {call[1]})"
    return lines[0]


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return a question with up to three similar valid names, ignoring case; empty where none is close."""
    lower = {word.lower(): word for word in sorted(valid)}
    near = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    return f" Did you mean {' or '.join(near)}?" if near else ""
