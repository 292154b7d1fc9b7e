from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from tracking.text.printable import printable, printable_lines


def test_what_a_terminal_would_obey_is_shown_instead() -> None:
    assert printable("\x1b]0;owned\x07 a\rb\nc\t\x9b31m") == r"\x1b]0;owned\x07 a\rb\nc\t\x9b31m"
    assert printable("\u202egpj.exe \ud800 \ufeff") == r"\u202egpj.exe \ud800 \ufeff"
    assert printable_lines("one\n\ttwo\x1b[2J\r") == "one\n\ttwo\\x1b[2J\\r"


def test_words_stay_as_they_are() -> None:
    for text in ("vgg16, batch 4 ± 1 %", "网络 café e\u0301 👩\u200d💻", "C:\\nets\\x1b"):
        assert printable(text) == text


@given(st.text(st.characters()))
def test_any_text_becomes_characters_that_can_be_written_and_seen(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert printable(shown) == shown
