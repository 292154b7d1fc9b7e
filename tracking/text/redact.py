"""Passwords, tokens and keys within addresses and settings: kept out of files, tags and messages.

Where it is not clear how far a secret goes, as with a blank in a password, it takes out too much of the line rather
than too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MARK = "***"

_SCHEME = re.compile(r"(?<![\w+.-])(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_RUN = re.compile(r"[^\s'\"]*")
"""An address as far as it goes without doubt: to a blank or a quote."""
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)(?::\d{1,5})?"
_PLAIN = re.compile(rf"(?:[\w.+-]+@)?{_HOST}(?:[/?#][^@]*|[:.,;)\]}}>]*)")
"""A stretch of text that is an address without credentials, whether or not an @ follows later in the line."""
_USERINFO = re.compile(r"[^/@]+")

_WORDS = r"password|passwd|passphrase|pwd|token|jwt|secret|credentials?"
_KEYS = (
    r"(?:api|access|account|private|secret|shared|subscription|auth|encryption|client|master|signing|storage)[_.-]?key"
)
_STRONG = rf"(?:[\w.-]*(?:{_WORDS}|{_KEYS}|accesskeyid|sharedaccesssignature))"
_WEAK = (
    r"(?:[\w.-]*(?:signature|credential|[_.-]key)|sig|sas|key|auth|authorization|code|pass|pat|pw|sid|session(?:[_.-]?id)?"
    r"|bearer|otp|psk|hmac|refresh|client_assertion)"
)
"""Names that mean a secret within an address's query only."""
_PARAMETER = re.compile(r"[?&;](?P<key>[^=?&;/\s'\"]+)=")
_SECRET_KEY = re.compile(rf"(?:{_STRONG}|{_WEAK})", re.IGNORECASE)
_NEXT = r"[\w.%+\[\]-]+="
_VALUE = re.compile(
    rf"(?:(?!://)[^&;\n])*(?=&{_NEXT})|\s*'[^'\n]*'(?!\w)|\s*\"[^\"\n]*\"(?!\w)"
    rf"|[\s'\"]*(?:[^&;\s'\"]|['\"](?=\w)|;(?!{_NEXT}))*"
)
"""To the next parameter where there is one in the line, else to a blank or a quote that ends a word."""
_SETTING = re.compile(
    rf"(?P<name>(?<![\w.?&;/-]){_STRONG}[\"']?(?:=|[ \t]*=[ \t]*(?=['\"])|:[ \t]*(?=b?[\"'])|:[ \t]+(?=\S+$))"
    rf"|(?<!\S)--{_STRONG}[ \t]+)"
    r"(?P<value>b?'[^']*'|b?\"[^\"]*\"|[^&;,\s'\"]+)",
    re.IGNORECASE | re.MULTILINE,
)
"""`name=value`, `--name value` and `"name": "value"`, outside of addresses too."""
_HEADER = re.compile(
    r"(?P<name>\bauthorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token|digest|negotiate)\s+)?"
    r"|\bbearer\s+(?=\S{8}))(?P<value>[^\s'\",;]+)",
    re.IGNORECASE,
)


class _Span(NamedTuple):
    start: int
    end: int


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Replace the secrets in every address, query, setting and header within the text by `***`.

    The known `secrets` are replaced too, however they are spelled there.
    """
    for secret in sorted(_spellings(secrets), key=len, reverse=True):
        text = text.replace(secret, MARK)
    # Queries first: an @ within such a value would cut the address there.
    text = _without(_query_values(text), text)
    text = _without(_credentials(text), text)
    return _HEADER.sub(_masked, _SETTING.sub(_masked, text))


def redact_arguments(arguments: Iterable[str]) -> list[str]:
    """Redact the arguments of a command line, each as a whole, whatever characters are in it."""
    return [redact(argument) for argument in arguments]


def is_redacted(uri: str) -> bool:
    """Whether `redact` took something out of this address."""
    return f"://{MARK}@" in uri or any(uri.startswith(MARK, span.start) for span in _query_values(uri))


def secrets_of(uri: str) -> set[str]:
    """The secrets within an address, for `redact` of messages that spell the address another way."""
    values = {uri[span.start : span.end] for span in _query_values(uri)}
    for span in _credentials(uri):
        user, colon, password = uri[span.start : span.end].partition(":")
        values.add(password if colon else user)
    return values


def _spellings(secrets: Iterable[str]) -> set[str]:
    """Each secret as it is, encoded and decoded, without those that are too short to tell from ordinary text."""
    spellings = set()
    for secret in secrets:
        plain = {secret, unquote(secret), unquote_plus(secret)}
        spellings |= plain | {spell(word) for word in plain for spell in (quote, quote_plus, repr)}
        spellings |= {quote(word, safe="") for word in plain}
    return {word for word in spellings if len(word.strip("'\"")) >= 3 and word != MARK}


def _masked(match: re.Match[str]) -> str:
    value = match["value"]
    # What was taken out before may have a sentence's colon after it.
    return match[0] if not value.strip() or value.startswith(MARK) else f"{match['name']}{MARK}"


def _without(spans: Iterable[_Span], text: str) -> str:
    done, kept = 0, []
    for span in spans:
        # What was taken out before may have a sentence's colon after it.
        if text[span.start : span.end].strip() and not text.startswith(MARK, span.start):
            kept += [text[done : span.start], MARK]
            done = span.end
    return "".join([*kept, text[done:]])


def _query_values(text: str) -> list[_Span]:
    """Positions of the values of parameters whose names mean a secret, as an address spells them."""
    spans: list[_Span] = []
    for parameter in _PARAMETER.finditer(text):
        key = unquote_plus(parameter["key"]).replace(" ", "_").removesuffix("[]")
        if _SECRET_KEY.fullmatch(key) and (not spans or parameter.start() >= spans[-1].end):
            value = _VALUE.match(text, parameter.end())
            assert value is not None  # it may be empty
            spans.append(_Span(*value.span()))
    return spans


def _credentials(text: str) -> list[_Span]:
    """Positions of credentials in the addresses within the text: between `://` and the last @ that may end them."""
    schemes = list(_SCHEME.finditer(text))
    spans = []
    for number, match in enumerate(schemes):
        start = match.end()
        end = schemes[number + 1].start() if number + 1 < len(schemes) else len(text)
        if start > end or text.startswith(("/", f"{MARK}@"), start):
            continue  # a path, or nothing is left to do
        at = _last_at(text, start, end, web=match["scheme"].lower().endswith(("http", "https")))
        if at is not None:
            spans.append(_Span(start, at))
    return spans


def _last_at(text: str, start: int, end: int, *, web: bool) -> int | None:
    """The @ that ends the credentials which begin at `start`; None without any.

    A name without a password is a user's at a database and no secret; a web server takes it for a token.
    """
    run = _RUN.match(text, start, end)
    assert run is not None
    if not _PLAIN.fullmatch(run[0]):
        line = text.find("\n", run.end(), end)
        for stop in (end if line < 0 else line, end):
            at = text.rfind("@", start, stop)
            if at >= 0 and ":" in text[start:at]:
                return at
    token = _USERINFO.match(run[0])
    if web and token is not None and run[0].startswith("@", token.end()):
        return start + token.end()
    return None
