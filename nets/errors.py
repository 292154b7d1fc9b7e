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


_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_OF_OPERATION = re.compile(r"^(\{\{function_node [^}]*\}\} *)+")
_OF_A_CALL = re.compile(r"^Exception encountered when calling (.+?)\.?$")
_OF_A_FILE = "Exception encountered: "
_FRAME = re.compile(
    r"^(Graph execution error:|Detected at node .*|File \".*|<stack traces unavailable>|\d+ root error\(s\) found\.)$"
)
"""What TensorFlow writes before its own words, where the error comes from a graph."""


def cause(error: BaseException | str) -> str:
    """Return the line of an error that says what happened; empty for an error without a text.

    That is the first line, save for messages of Keras and TensorFlow that begin with where an error arose: the layer is
    put before the words, the rest is left out. Keras also prints the whole description of a model before it quotes the
    error itself.
    """
    lines = [_OF_OPERATION.sub("", line.strip()) for line in _ESCAPES.sub("", str(error)).splitlines()]
    lines = [line for line in lines if line]
    for line in reversed(lines):
        if line.startswith(_OF_A_FILE):
            return line.removeprefix(_OF_A_FILE)
    layer = ""
    for line in lines:
        if called := _OF_A_CALL.match(line):
            layer = f"{called[1]}: "
        elif not _FRAME.match(line):
            return layer + line
    return lines[0] if lines else ""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return a question with up to three similar valid names, ignoring case; empty where none is close."""
    lower = {word.lower(): word for word in sorted(valid)}
    near = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    return f" Did you mean {' or '.join(near)}?" if near else ""
