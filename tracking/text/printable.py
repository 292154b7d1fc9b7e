"""Text from elsewhere, made harmless for a terminal, a script or a page.

A control character can rewrite what a terminal shows, or its title; a writing-direction mark can make one name read as
another; half a surrogate pair, as in a file name that is not UTF-8, cannot be written at all. Each is replaced by the
escape that Python shows for it.
"""

from __future__ import annotations

import re

# C0 and C1 controls, line and paragraph separators, bidirectional and invisible format characters, lone surrogates.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
    "|[\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    """The text on one line, with invisible characters and non-characters escaped."""
    return _UNPRINTABLE.sub(_escape, text)


def printable_lines(text: str) -> str:
    """The text with its lines and tabs kept, and everything else as in `printable`."""
    return _UNPRINTABLE.sub(lambda match: match[0] if match[0] in "\n\t" else _escape(match), text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("ascii", "backslashreplace").decode() if ord(match[0]) > 0x7F else _ascii(match[0])


def _ascii(character: str) -> str:
    return repr(character)[1:-1]
