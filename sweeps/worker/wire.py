"""Messages out of a trial's process: plain values only, in frames of limited length.

The process runs the user's code. What it sends is unpickled to plain values and nothing else, and no reader waits for
the end of a message that has none. Numbers of NumPy, TensorFlow and the like become Python's where they are sent.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from tracking.schema.reading import shown

LONGEST = 2**25
"""Bytes of one message: three million steps, or a hundred thousand layers."""
_DEEPEST = 40
_MOST_VALUES = 2**23
_MOST_BITS = 2**12
_LAST = 256
"""Bytes at the end of the stream that contain the fork server's last message."""
_READ = 2**18
_BEGINNING = bytes([0x80, pickle.DEFAULT_PROTOCOL, 0x95])
"""How every pickle begins."""

Send = Callable[[str, Any], None]
"""Sends a message: its kind and its content."""


class MessageError(ValueError):
    """A process has sent something that is not a message, or not one that it may send."""


def too_long(length: int) -> MessageError:
    """The error for a message of `length` bytes."""
    return MessageError(f"expected a message of at most {LONGEST} bytes. Received: {length} bytes")


def plain_number(value: Any) -> float:
    """Return a single number of any library as one of Python's. Raises MessageError."""
    if type(value) in (int, float):
        return value  # type: ignore[no-any-return]
    if isinstance(value, bool | int):
        return int(value)
    try:
        if not isinstance(value, str | bytes | bytearray) and getattr(value, "shape", ()) == ():
            whole = getattr(value, "__index__", None)
            return whole() if whole is not None and "int" in str(getattr(value, "dtype", "")) else float(value)
    except MemoryError:
        raise
    except Exception as error:
        raise MessageError(f"expected a number. Received: {_described(value)} ({type(error).__name__})") from error
    raise MessageError(f"expected a number. Received: {_described(value)}")


def plain(value: Any) -> Any:
    """Return the value as JSON has it, with dataclasses as objects of their fields. Raises MessageError."""
    return _Plain().of(value)


class _Plain:
    """Makes one value plain. A part that is referred to many times counts each time, as when it is written out."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def of(self, value: Any, levels: int = _DEEPEST) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            if kind is int and value.bit_length() > _MOST_BITS:
                raise MessageError(f"expected a number that can be written. Received: {shown(value)}")
            return value
        if not levels:
            raise MessageError(f"expected at most {_DEEPEST} nested levels")
        if isinstance(value, list | tuple | set | frozenset):
            self._count(len(value))
            if set(map(type, value)) == {float}:  # samples come by the thousands
                return list(value)
            return [self.of(each, levels - 1) for each in value]
        if isinstance(value, Mapping):
            self._count(len(value))
            return {str(key): self.of(each, levels - 1) for key, each in value.items()}
        if is_dataclass(value) and not isinstance(value, type):
            return {field.name: self.of(getattr(value, field.name), levels - 1) for field in fields(value)}
        if isinstance(value, str):
            return str.__str__(value)
        if getattr(value, "shape", ()) != () and hasattr(value, "tolist"):
            return self.of(value.tolist(), levels - 1)
        if str(getattr(value, "dtype", "")).endswith("bool"):
            return bool(value)
        return plain_number(value)

    def _count(self, more: int) -> None:
        self._left -= more
        if self._left < 0:
            raise MessageError(f"expected at most {_MOST_VALUES} values. Received: more")


def _described(value: Any) -> str:
    """The value as an error shows it: for an array, its type and shape."""
    shape = getattr(value, "shape", None)
    return shown(value) if shape is None else f"a value of type {type(value).__name__} and shape {shape}"


def decode(content: bytes) -> tuple[str, Any]:
    """Return the kind and the content of a message. Raises MessageError."""
    try:
        message = _Unpickler(io.BytesIO(content)).load()
        if type(message) is tuple and len(message) == 2 and type(message[0]) is str:
            return message[0], plain(message[1])
    except MessageError:
        raise
    except Exception as error:  # malformed bytes may raise anything
        raise MessageError(f"expected a message. Received: {len(content)} other bytes ({error!r:.200})") from error
    raise MessageError("expected a message with a kind and a content")


class _Unpickler(pickle.Unpickler):
    """Makes nothing but plain values."""

    def find_class(self, module: str, name: str) -> Any:
        raise MessageError(f"expected plain values. Received: {shown(f'{module}.{name}')}")


class Inbox:
    """The messages that arrive on a connection, read without ever waiting for the end of one.

    After bytes that are not a message, nothing more is understood but the wait status that the fork server sends last.
    It is found even where the process was killed in the middle of a message.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._deaf = False

    def arrived(self) -> Iterator[tuple[str, Any]]:
        """Wait for bytes and yield the messages that they complete. Raises EOFError at the end, and MessageError."""
        received = os.read(self._descriptor, _READ)
        self._buffer += received
        if not received or self._deaf:
            if (status := self.exit_status()) is not None:
                yield "exit", status
            elif not received:
                raise EOFError
            del self._buffer[:-_LAST]
            return
        try:
            while (content := self._frame()) is not None:
                yield decode(content)
        except MessageError:
            self._deaf = True
            raise

    def exit_status(self) -> int | None:
        """The wait status of the process, if the last bytes to arrive report it."""
        last = bytes(self._buffer[-_LAST:])
        try:
            kind, status = decode(last[last.rindex(_BEGINNING) :])
        except ValueError:
            return None
        return status if kind == "exit" and type(status) is int else None

    def _frame(self) -> bytes | None:
        """Take the first message out of the buffer, framed as by `multiprocessing.connection`; None: incomplete."""
        if len(self._buffer) < 4:
            return None
        (length,), start = struct.unpack_from("!i", self._buffer), 4
        if length == -1:
            if len(self._buffer) < 12:
                return None
            (length,), start = struct.unpack_from("!Q", self._buffer, 4), 12
        if not 0 <= length <= LONGEST:
            raise too_long(length)
        if len(self._buffer) < start + length:
            return None
        content = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        return content
