"""Plain values to the bytes Perspective Broker sends for them, and back from its expressions.

Without the detour over Twisted's jelly, which looks up a class for each value. An event that goes to many clients is
encoded once and the bytes are shared. The format is that of
``twisted.spread.jelly`` in ``twisted.spread.banana`` with the ``pb`` vocabulary; a test holds it to theirs. Only None,
bool, int, bytes, str, list, tuple and dict exist here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_NONE = b"\x01\x80\x01\x87"
_TRUE = b"\x02\x80\x07\x82boolean\x04\x82true"
_FALSE = b"\x02\x80\x07\x82boolean\x05\x82false"
_UNICODE = b"\x02\x80\x07\x82unicode"
_LIST = b"\x08\x87"
_TUPLE = b"\x0b\x87"
_DICTIONARY = b"\x05\x87"
_LARGEST_INT = 2**31 - 1


def encode_head(number: int, kind: bytes) -> bytes:
    """A token's head: the number, least significant seven bits first, then the type byte."""
    if number < 0x80:
        return bytes((number,)) + kind
    digits = bytearray()
    while number:
        digits.append(number & 0x7F)
        number >>= 7
    return bytes(digits) + kind


def encode_int(number: int) -> bytes:
    """An integer token."""
    if number < 0:
        return encode_head(-number, b"\x83" if -number <= _LARGEST_INT else b"\x86")
    return encode_head(number, b"\x81" if number <= _LARGEST_INT else b"\x85")


def encode_bytes(data: bytes) -> bytes:
    """A string token; never abbreviated by the vocabulary, which a receiver must accept."""
    return encode_head(len(data), b"\x82") + data


def encode_value(value: object) -> bytes:
    """The bytes of one plain value.

    Raises:
        TypeError: the value, or one inside it, is of no plain type.
    """
    pieces: list[bytes] = []
    _encode(value, pieces)
    return b"".join(pieces)


def _encode(value: object, pieces: list[bytes]) -> None:
    if isinstance(value, str):
        data = value.encode("utf-8")
        pieces.append(_UNICODE)
        pieces.append(encode_head(len(data), b"\x82"))
        pieces.append(data)
    elif isinstance(value, bytes):
        pieces.append(encode_head(len(value), b"\x82"))
        pieces.append(value)
    elif isinstance(value, tuple | list):
        pieces.append(encode_head(len(value) + 1, b"\x80"))
        pieces.append(_TUPLE if isinstance(value, tuple) else _LIST)
        for item in value:
            _encode(item, pieces)
    elif value is None:
        pieces.append(_NONE)
    elif isinstance(value, bool):
        pieces.append(_TRUE if value else _FALSE)
    elif isinstance(value, int):
        pieces.append(encode_int(value))
    elif isinstance(value, dict):
        pieces.append(encode_head(len(value) + 1, b"\x80"))
        pieces.append(_DICTIONARY)
        for key, item in value.items():
            pieces.append(b"\x02\x80")
            _encode(key, pieces)
            _encode(item, pieces)
    else:
        raise TypeError(f"{type(value).__name__} is no plain type")


def encode_call(request: int, reference: int, method: bytes, batch: Sequence[bytes]) -> bytes:
    """A call ``method([value, ...])`` of a remote object whose answer is wanted.

    Args:
        request: the number the answer will bear.
        reference: the remote object, as it was named in a call.
        method: the method's name.
        batch: the values of the one list argument, each encoded before.
    """
    pieces = [
        b"\x07\x80\x1a\x87",  # a list of seven: message ...
        encode_int(request),
        encode_int(reference),
        encode_bytes(method),
        b"\x01\x81",  # ... an answer is wanted
        b"\x02\x80" + _TUPLE,  # a tuple of one argument:
        encode_head(len(batch) + 1, b"\x80") + _LIST,
        *batch,
        b"\x01\x80" + _DICTIONARY,  # no keywords
    ]
    return b"".join(pieces)


def read_plain(expression: object, reference: Callable[[object], object]) -> object:
    """The value behind an expression as Banana reads it.

    Args:
        expression: bytes and numbers, or a list that begins with a type's name. Its depth is the reader's to bound.
        reference: makes a reference of an expression that is none of the plain types, or refuses it.

    Raises:
        ValueError: a plain type of another form; other errors are those of ``reference``.
    """
    if type(expression) is not list:
        return expression
    match expression:
        case [b"unicode", bytes(data)]:
            return data.decode("utf-8")
        case [b"tuple", *items]:
            return tuple([read_plain(item, reference) for item in items])
        case [b"list", *items]:
            return [read_plain(item, reference) for item in items]
        case [b"None"]:
            return None
        case [b"boolean", b"true"]:
            return True
        case [b"boolean", b"false"]:
            return False
        case [b"dictionary", *pairs]:
            return dict([_read_pair(pair, reference) for pair in pairs])
        case [b"unicode" | b"None" | b"boolean", *_] | []:
            raise ValueError("a plain type of another form")
    return reference(expression)


def _read_pair(pair: object, reference: Callable[[object], object]) -> tuple[object, object]:
    match pair:
        case [key, value]:
            name = read_plain(key, reference)
            if isinstance(name, str | bytes | int):
                return name, read_plain(value, reference)
    raise ValueError("a dictionary is pairs, with keys of text, bytes or numbers")
