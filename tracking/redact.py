"""Passwords within addresses: kept out of files, tags and messages."""

from __future__ import annotations

import re

MARK = "***"

# From the scheme to the last @ before a slash, a space or a quote: a password may itself hold an @ or a colon.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s'\"]*:[^/\s'\"]*(?=@)")


def redact(text: str) -> str:
    """Replace `user:password` in every address within the text by `***`."""
    return _CREDENTIALS.sub(MARK, text)


def is_redacted(uri: str) -> bool:
    """Whether `redact` took something out of this address."""
    return f"://{MARK}@" in uri
