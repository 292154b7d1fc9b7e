"""The line of an exception's text that says what happened."""

from __future__ import annotations

import re

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_OF_OPERATION = re.compile(r"^(\{\{function_node [^}]*\}\} *)+")
_CALLED = re.compile(r"^Exception encountered when calling (.+)\.$")
_FRAME = re.compile(
    r"^(Graph execution error:|Detected at node .*|File \".*|<stack traces unavailable>|\d+ root error\(s\) found\.)$"
)
"""What TensorFlow writes before its own words, where the error comes from a graph."""


def first_words(text: str) -> str:
    """Return the first line of the text that says what happened; empty where there is none.

    Keras and TensorFlow write on the first lines where an error arose: the layer is put before the words, the rest is
    left out.
    """
    layer = ""
    lines = [_OF_OPERATION.sub("", line.strip()) for line in _ESCAPES.sub("", text).splitlines()]
    for line in filter(None, lines):
        if called := _CALLED.match(line):
            layer = f"{called[1]}: "
        elif not _FRAME.match(line):
            return layer + line
    return next(filter(None, lines), "")
