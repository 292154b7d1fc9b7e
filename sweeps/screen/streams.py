"""Standard output and error that may go away while a sweep runs.

A reader ends, as `head` does; a terminal is closed; the disk behind a redirection is full. None of it is a reason to
end a sweep or to lose a result: what would be written from then on goes nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TextIO


class Stream:
    """A text stream to which writing never fails; `lost` is called once, with the reason, when it has gone."""

    def __init__(self, stream: TextIO, lost: Callable[[str], None]) -> None:
        self._stream, self._lost = stream, lost
        self.gone = False
        """Whether nothing can be written any more."""

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, writing: Callable[[], object]) -> None:
        if self.gone:
            return
        try:
            writing()
        except OSError as error:
            self.gone = True
            # For everything else that writes there, and for Python, which flushes its buffer when it exits.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
            self._lost(error.strerror or str(error))
