"""Passwords within addresses: kept out of files, tags and messages."""

from __future__ import annotations

import re

MARK = "***"

_ADDRESS = re.compile(r"://[^\s'\"]*")
# To the last @, with a colon before it: a password may itself hold an @, a colon or a slash. Rather is something else
# taken for one, as of `http://host:5000/@x`, than a part of one left.
_CREDENTIALS = re.compile(r"(?<=://).*:.*(?=@)")
_TOKEN = re.compile(r"(https?://)[^/@\s'\"]+(?=@)")
"""A name without a password, which a web server takes for a token; a database's is a user's and no secret."""
_SECRETS = re.compile(r"([?&;][\w.-]*(?:password|passwd|token|secret)=)[^&;\s'\"]*", re.IGNORECASE)


def redact(text: str) -> str:
    """Replace `user:password` and `token` in every address within the text by `***`, and passwords in queries."""
    # Queries first: of an @ within such a value, the address would be cut there.
    without = _SECRETS.sub(rf"\g<1>{MARK}", text)
    without = _ADDRESS.sub(lambda address: _CREDENTIALS.sub(MARK, address[0]), without)
    return _TOKEN.sub(rf"\g<1>{MARK}", without)


def is_redacted(uri: str) -> bool:
    """Whether `redact` took something out of this address."""
    return f"://{MARK}@" in uri or any(secret[0] == f"{secret[1]}{MARK}" for secret in _SECRETS.finditer(uri))
