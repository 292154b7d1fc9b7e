"""Reads BVLC's `.npy`, a pickled dictionary of arrays, without trusting it.

The pickle never reaches NumPy's own types. It builds stand-ins, which check a state before they take it and become
arrays that are views of the file's own bytes. So the file can neither run code nor define a type's layout, and takes
memory of a small multiple of its size.
"""

from __future__ import annotations

import math
import pickle
import re
import reprlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np

from nets.weights.errors import UnreadableWeights, UnsafeWeights, WeightsError, one_line

_MOST_INSTRUCTIONS = 2_000_000
"""An array takes about 40 instructions. An empty list takes one, and 56 bytes of memory."""
_NUMBERS = re.compile("[fiu](1|2|4|8|16)")


def read_npy(path: Path) -> dict[str, list[np.ndarray[Any, Any]]]:
    """Return the arrays of a BVLC-style `.npy` by layer. Raises UnreadableWeights or UnsafeWeights; runs nothing."""
    try:
        with path.open("rb") as file:
            _expect_object_header(file, path)
            content = _Unpickler(file, path.stat().st_size).load()
        if isinstance(content, _Array) and content.shape == () and isinstance(content.values, list):
            content = content.values[0]
        if not isinstance(content, dict):
            received = type(content).__name__.strip("_").lower()
            raise UnreadableWeights(f"expected {path} to hold a dictionary of layers. Received: {received}")
        return {_text(name): _arrays(_text(name), values, path) for name, values in content.items()}
    except WeightsError:
        raise
    except OSError as error:
        raise UnreadableWeights(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged pickle raises almost anything: EOFError, KeyError, struct.error, ...
        raise UnreadableWeights(f"{path} is damaged: {one_line(error)}") from error


def _expect_object_header(file: IO[bytes], path: Path) -> None:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        _, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        _, _, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype != np.dtype(object):
        raise UnreadableWeights(f"expected {path} to hold a dictionary of layers. Received: an array of {dtype}")


class _Dtype:
    """A stand-in for `numpy.dtype`: numbers of one plain type, or Python objects."""

    __slots__ = ("numbers",)

    def __init__(self, code: Any, *_: Any) -> None:
        text = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(text, str):
            raise UnsafeWeights(f"expected arrays of a plain type. Received: {reprlib.repr(code)}")
        if text not in ("O4", "O8") and not _NUMBERS.fullmatch(text):
            raise UnreadableWeights(f"expected arrays of numbers. Received: an array of type {reprlib.repr(text)}")
        self.numbers: np.dtype[Any] | None = None if text.startswith("O") else np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        """Take the byte order. A plain type has no fields, shapes, names, sizes or flags."""
        match state:
            case (3, str() | bytes() as order, None, None, None, -1, -1, int() as flags) if order in (
                "<",
                ">",
                "|",
                "=",
                b"<",
                b">",
                b"|",
                b"=",
            ) and (flags == 0 or self.numbers is None):
                if self.numbers is not None:
                    text = order.decode() if isinstance(order, bytes) else order
                    self.numbers = np.dtype(text.replace("|", "=") + self.numbers.str[1:])
            case _:
                raise UnsafeWeights("expected arrays of plain types. Received: a type with a layout of its own")


class _Array:
    """A stand-in for an array filled by its pickled state, as NumPy pickles below protocol 5."""

    __slots__ = ("shape", "values")

    def __init__(self, kind: Any, shape: Any, *_: Any) -> None:
        if kind is not _NDARRAY or shape != (0,):
            raise UnsafeWeights(f"expected a pickle of plain arrays. Received: one of {reprlib.repr(kind)}")
        self.shape: tuple[int, ...] = shape
        self.values: np.ndarray[Any, Any] | list[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise UnreadableWeights("expected the shape, type, order and data of an array. Received: something else")
        _, shape, dtype, by_columns, data = state
        if isinstance(dtype, _Dtype) and dtype.numbers is None:
            if not isinstance(data, list) or len(data) != _count(shape):
                raise UnsafeWeights("expected as many objects as an array's shape says. Received: others")
            self.values = data
        else:
            self.values = _filled(shape, dtype, "F" if by_columns is True or by_columns == 1 else "C", data)
        self.shape = shape


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any = "C", axes: Any = None) -> np.ndarray[Any, Any]:
    """Return an array as NumPy pickles it from protocol 5 on; `axes` gives a different order of the data's axes."""
    if order == "K" and axes is not None:
        return _filled(shape, dtype, "C", data).transpose(axes)
    return _filled(shape, dtype, "F" if order == "F" else "C", data)


def _filled(shape: Any, dtype: Any, order: Any, data: Any) -> np.ndarray[Any, Any]:
    """Return a view of the data, whose length must match shape and type."""
    if not isinstance(dtype, _Dtype) or dtype.numbers is None or not isinstance(data, bytes):
        raise UnsafeWeights("expected an array of numbers and their bytes. Received: something else in their place")
    if len(data) != _count(shape) * dtype.numbers.itemsize:
        raise UnsafeWeights(
            f"expected an array's data to fill its shape. Received: {len(data)} bytes for {reprlib.repr(shape)}"
        )
    return np.ndarray(shape, dtype.numbers, data, order=order)


def _count(shape: Any) -> int:
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
        raise UnsafeWeights(f"expected the shape of an array. Received: {reprlib.repr(shape)}")
    return math.prod(shape)


class _Sealed:
    """Something that a pickle can name, and call if it is a function, but whose attributes it cannot set."""

    __slots__ = ("function",)
    function: Callable[..., Any] | None

    def __init__(self, function: Callable[..., Any] | None) -> None:
        object.__setattr__(self, "function", function)

    def __setattr__(self, name: str, value: Any) -> None:
        raise UnsafeWeights(f"expected a pickle of arrays only. Received: one that sets {name} of a function")

    def __call__(self, *args: Any) -> Any:
        if self.function is None:
            raise UnsafeWeights("expected a pickle of arrays only. Received: one that makes an array of its own size")
        return self.function(*args)


_NDARRAY = _Sealed(None)
_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): _Sealed(_Array),
    ("numpy.core.numeric", "_frombuffer"): _Sealed(_frombuffer),
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Sealed(_Dtype),
    ("__builtin__", "bytes"): _Sealed(lambda: b""),  # the data of an empty array, up to protocol 2
}


class _Unpickler(pickle._Unpickler):
    """Accepts what NumPy 1 and 2 use to pickle an array, under Python 2 or 3, and nothing else.

    It derives from the unpickler in Python: the one in C allocates whatever sizes the file announces.
    """

    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    stack: list[Any]

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(file, encoding="bytes")
        vars(self)["dispatch"] = _Instructions()  # one per file, because it counts
        self._bytes_left = size

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _Sealed(self._encode)
        try:
            return _GLOBALS[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            wanted = reprlib.repr(f"{module}.{name}").strip("'")
            raise UnsafeWeights(f"expected a pickle of arrays only. Received: one that asks for {wanted}") from None

    def _encode(self, text: Any, encoding: Any) -> bytes:
        """Return bytes as Python 3 pickles them in protocols up to 2; together they may not exceed the file's size."""
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise UnsafeWeights(f"expected bytes as latin1. Received: encoding={reprlib.repr(encoding)}")
        self._bytes_left -= len(text)
        if self._bytes_left < 0:
            raise UnsafeWeights("expected the data of arrays once each. Received: more of it than the file holds")
        return text.encode("latin1")


def _pop_mark(unpickler: Any) -> list[Any]:
    items: list[Any] = unpickler.pop_mark()
    return items


def _dict(unpickler: Any) -> None:
    items = _pop_mark(unpickler)
    _expect_names(items[::2])
    unpickler.append(dict(zip(items[::2], items[1::2], strict=True)))


def _setitem(unpickler: Any) -> None:
    value, key = unpickler.stack.pop(), unpickler.stack.pop()
    _expect_names([key])
    unpickler.stack[-1][key] = value


def _setitems(unpickler: Any) -> None:
    items = _pop_mark(unpickler)
    _expect_names(items[::2])
    unpickler.stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _expect_names(keys: Iterable[Any]) -> None:
    """Refuse keys that are not names and may take for ever to hash, such as tuples of tuples of tuples."""
    for key in keys:
        if not isinstance(key, str | bytes | int):
            raise UnsafeWeights(f"expected names of layers. Received: {reprlib.repr(key)}")


def _bytearray(unpickler: Any) -> None:
    (length,) = np.frombuffer(unpickler.read(8), "<u8")
    unpickler.append(bytes(unpickler.read(int(length))))


class _Instructions(dict[int, Callable[[Any], None]]):
    """The instructions in a pickle of arrays. Raises UnsafeWeights for any other one, and for too many."""

    def __init__(self) -> None:
        unpickler = pickle._Unpickler.dispatch
        plain = (
            *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK),
            *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.FLOAT, pickle.BINFLOAT),
            *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG, pickle.LONG1, pickle.LONG4),
            *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING),
            *(pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
            *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8),
            *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
            *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT),
            *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
            *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
            *(pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD),
        )
        own: dict[bytes, Callable[[Any], None]] = {
            pickle.DICT: _dict,
            pickle.SETITEM: _setitem,
            pickle.SETITEMS: _setitems,
            pickle.BYTEARRAY8: _bytearray,
        }
        super().__init__({code[0]: unpickler[code[0]] for code in plain})
        self.update({code[0]: function for code, function in own.items()})
        self._left = _MOST_INSTRUCTIONS

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        self._left -= 1
        if self._left < 0:
            raise UnsafeWeights(f"expected a pickle of arrays. Received: more than {_MOST_INSTRUCTIONS} instructions")
        return super().__getitem__(code)

    def __missing__(self, code: int) -> Callable[[Any], None]:
        raise UnsafeWeights(f"expected a pickle of arrays only. Received: one with the instruction {bytes([code])!r}")


def _arrays(name: str, values: Any, path: Path) -> list[np.ndarray[Any, Any]]:
    held = list(values.values()) if isinstance(values, dict) else _held(values)
    arrays = [_held(array) for array in (held if isinstance(held, list | tuple) else [held])]
    for array in arrays:
        if not isinstance(array, np.ndarray):
            received = "objects" if isinstance(array, list) else type(array).__name__
            raise UnreadableWeights(
                f"expected {path} to hold arrays of numbers. Received: {received} in {reprlib.repr(name)}"
            )
    return arrays


def _held(value: Any) -> Any:
    return value.values if isinstance(value, _Array) else value


def _text(name: Any) -> str:
    return name.decode("latin1") if isinstance(name, bytes) else str(name)
