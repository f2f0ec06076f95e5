"""Copies of objects, and names by which equal ones are known as equal.

Decides what the state of an object is: all its fields, whatever their names, all they refer to, and which references
lead to the same object. Knows nothing of what the objects are for.
"""

from __future__ import annotations

import random
import sys
from collections import OrderedDict, deque
from enum import Enum
from hashlib import blake2b
from operator import is_
from typing import Any, TypeVar, cast

from groupcomm.reliability.counters import Counters

T = TypeVar("T")


class SameDraw(random.Random):
    """A source of randomness that draws the same number each time: one of the outcomes that chance may have."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        """The number."""
        return self.value

    def getrandbits(self, k: int, /) -> int:
        """So many bits of it."""
        return int(self.value * (1 << k))


_ATOMS = frozenset((int, float, str, bytes, bool, type(None), SameDraw))
_NUMBERS = frozenset((int, float, bool, type(None)))
_UNSET = object()


class _Shape(Enum):
    """How an object holds what it holds."""

    VALUE = 0
    TUPLE = 1
    LIST = 2
    DICT = 3
    SET = 4
    BYTES = 5
    OBJECT = 6
    IGNORED = 7


_VALUE, _TUPLE, _LIST, _DICT, _SET, _BYTES, _OBJECT, _IGNORED = _Shape
_shapes: dict[type, tuple[_Shape, tuple[str, ...]]] = {
    bytes: (_VALUE, ()),
    str: (_VALUE, ()),
    tuple: (_TUPLE, ()),
    list: (_LIST, ()),
    deque: (_LIST, ()),
    dict: (_DICT, ()),
    OrderedDict: (_DICT, ()),
    set: (_SET, ()),
    frozenset: (_SET, ()),
    bytearray: (_BYTES, ()),
    Counters: (_IGNORED, ()),
    SameDraw: (_IGNORED, ()),
}


def _shape_of(kind: Any) -> tuple[_Shape, tuple[str, ...]]:
    """The shape of a class, and the names of its slots.

    Raises:
        TypeError: part of its state is where Python does not see it (a generator, a file, a subclass of ``dict``).
    """
    hashed = kind.__hash__ not in (None, object.__hash__)
    if issubclass(kind, Enum) or (hasattr(kind, "__attrs_attrs__") and hashed):
        found: tuple[_Shape, tuple[str, ...]] = _VALUE, ()
    elif not all(map(_written_in_python, kind.__mro__[:-1])):
        raise TypeError(f"the state of a {kind.__qualname__} cannot be read")
    else:
        slots: list[str] = []
        for base in kind.__mro__:
            own = base.__dict__.get("__slots__", ())
            slots.extend((own,) if isinstance(own, str) else own)
        found = _OBJECT, tuple(name for name in slots if name not in ("__weakref__", "__dict__"))
    _shapes[kind] = found
    return found


def never_changes(*kinds: type) -> None:
    """Objects of these types are values: copies share them."""
    for kind in kinds:
        _shapes[kind] = _VALUE, ()


def _written_in_python(kind: type) -> bool:
    return (getattr(sys.modules.get(kind.__module__), "__file__", None) or "").endswith(".py")


def duplicate(thing: T) -> T:
    """A copy that shares only what never changes; what was one object stays one object."""
    return cast(T, _duplicate(thing, {}))


def _duplicate(thing: Any, memo: dict[int, object]) -> Any:
    kind: Any = type(thing)
    if kind in _ATOMS:
        return thing
    shape, names = _shapes.get(kind) or _shape_of(kind)
    if shape is _VALUE:
        return thing
    known = memo.get(id(thing))
    if known is not None:
        return known
    result: Any
    if shape is _OBJECT:
        result = memo[id(thing)] = kind.__new__(kind)
        for name in names:
            item = getattr(thing, name, _UNSET)
            if item is not _UNSET:
                setattr(result, name, item if type(item) in _ATOMS else _duplicate(item, memo))
        held = getattr(thing, "__dict__", None)
        if held:
            to = result.__dict__
            for name, item in held.items():
                to[name] = item if type(item) in _ATOMS else _duplicate(item, memo)
    elif shape is _LIST:
        result = memo[id(thing)] = [] if kind is list else deque(maxlen=thing.maxlen)
        for item in thing:
            result.append(item if type(item) in _ATOMS else _duplicate(item, memo))
    elif shape is _DICT or shape is _IGNORED:
        result = memo[id(thing)] = kind()
        for key, item in thing.items():
            result[_duplicate(key, memo)] = item if type(item) in _ATOMS else _duplicate(item, memo)
    elif shape is _TUPLE:
        result = tuple([item if type(item) in _ATOMS else _duplicate(item, memo) for item in thing])
        if all(map(is_, result, thing)):
            return thing
    else:  # what is in a set never changes
        result = memo[id(thing)] = kind(thing)
    return result


class Fingerprints:
    """Names for states: two states have one name only if they are equal in every field, and shared alike.

    Only counters are passed over: nothing is decided by them. The order of a dictionary's keys counts, that of a set
    does not.
    """

    def __init__(self) -> None:
        self._values: dict[object, str] = {}
        self._known: dict[int, tuple[object, str]] = {}

    def of(self, thing: object) -> bytes:
        """The name of a state."""
        parts: list[object] = []
        self._walk(thing, parts, {})
        return blake2b(repr(parts).encode(), digest_size=16).digest()

    def _value(self, value: object) -> str:
        known = self._known.get(id(value))
        if known is None:  # the object is kept, so that no other gets its id
            known = self._known[id(value)] = value, self._values.setdefault(value, f"v{len(self._values)}")
        return known[1]

    def _walk(self, thing: Any, parts: list[object], seen: dict[int, int]) -> None:
        kind = type(thing)
        if kind in _NUMBERS:
            parts.append(thing)
            return
        shape, names = _shapes.get(kind) or _shape_of(kind)
        if shape is _VALUE:
            parts.append(self._value(thing))
            return
        if shape is _IGNORED:
            return
        if shape is _TUPLE:
            parts.append("(")
            for item in thing:
                if type(item) in _NUMBERS:
                    parts.append(item)
                else:
                    self._walk(item, parts, seen)
            parts.append(")")
            return
        number = seen.get(id(thing))
        if number is not None:
            parts.append(f"same{number}")
            return
        seen[id(thing)] = len(seen)
        if shape is _OBJECT:
            parts.append(kind.__qualname__)
            for name in names:
                item = getattr(thing, name, None)
                if type(item) in _NUMBERS:
                    parts.append(item)
                else:
                    self._walk(item, parts, seen)
            held = getattr(thing, "__dict__", None)
            if held:
                for item in held.values():
                    if type(item) in _NUMBERS:
                        parts.append(item)
                    else:
                        self._walk(item, parts, seen)
        elif shape is _LIST:
            parts.append("[")
            for item in thing:
                if type(item) in _NUMBERS:
                    parts.append(item)
                else:
                    self._walk(item, parts, seen)
        elif shape is _DICT:
            parts.append("{")
            for key, item in thing.items():
                self._walk(key, parts, seen)
                self._walk(item, parts, seen)
        else:
            value = frozenset(thing) if shape is _SET else bytes(thing)
            parts.append(self._values.setdefault(value, f"v{len(self._values)}"))
        parts.append(";")
