"""A terminal that keeps what is printed on it."""

from __future__ import annotations


class Printed:
    """Keeps every sentence."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)

    warn = text = say
