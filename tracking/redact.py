"""Passwords within addresses: kept out of files, tags and messages."""

from __future__ import annotations

import re

MARK = "***"

_ADDRESS = re.compile(r"://[^\s'\"]*")
# To the last @, with a colon before it: a password may itself hold an @, a colon or a slash. Rather is something else
# taken for one, as of `http://host:5000/@x`, than a part of one left.
_CREDENTIALS = re.compile(r"(?<=://).*:.*(?=@)")
_SECRETS = re.compile(r"([?&;][\w.-]*(?:password|passwd|token|secret)=)[^&;\s'\"]*", re.IGNORECASE)


def redact(text: str) -> str:
    """Replace `user:password` in every address within the text by `***`, and the values of passwords in queries."""
    # Queries first: of an @ within such a value, the address would be cut there.
    without = _SECRETS.sub(rf"\g<1>{MARK}", text)
    return _ADDRESS.sub(lambda address: _CREDENTIALS.sub(MARK, address[0]), without)


def is_redacted(uri: str) -> bool:
    """Whether `redact` took something out of this address."""
    return f"://{MARK}@" in uri or any(secret[0] == f"{secret[1]}{MARK}" for secret in _SECRETS.finditer(uri))
