"""What a Perspective Broker client may call and with what: every argument is checked before its method runs.

A ``Method`` names the parameters and the check of each; ``DeclaredMethods`` is a referenceable object that answers
these methods and nothing else. A check returns the value in the form the method wants, or raises a ``UsageError`` whose
text goes to the client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from attrs import field, frozen
from twisted.spread import pb

from groupcomm.daemon.broker import BudgetedBroker
from groupcomm.daemon.caps import MAX_MESSAGES_PER_CALL
from groupcomm.daemon.errors import BadArgument, as_peer_error
from groupcomm.errors import GroupcommError, UsageError
from groupcomm.identity import checked_name, checked_node_name
from groupcomm.limits import MAX_DESTINATION_BYTES, MAX_DESTINATION_GROUPS, MAX_MESSAGE_BYTES, MAX_NAME_BYTES

_REQUIRED: Final = object()


@frozen
class Parameter:
    """One parameter of a method.

    Attributes:
        name: as a keyword.
        check: makes of what came what the method takes, or raises ``UsageError``.
        default: taken as it is when nothing came; required if not given.
    """

    name: str
    check: Callable[[object], object]
    default: object = _REQUIRED


@frozen
class Method:
    """One method a client may call.

    Attributes:
        call: the function, of the object and the checked arguments by keyword.
        parameters: in the order they may be given in.
    """

    call: Callable[..., object]
    parameters: tuple[Parameter, ...] = ()
    names: frozenset[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(parameter.name for parameter in self.parameters))

    def bind(self, name: str, args: object, keywords: object) -> dict[str, object]:
        """The checked arguments.

        Raises:
            BadArgument: too many, unknown, missing, or one did not pass its check.
        """
        if not isinstance(args, tuple | list) or not isinstance(keywords, dict):
            raise BadArgument(f"{name}: arguments of no known form")
        if len(args) > len(self.parameters):
            raise BadArgument(f"{name} takes at most {len(self.parameters)} arguments, not {len(args)}")
        given: dict[str, object] = {
            parameter.name: value for parameter, value in zip(self.parameters, args, strict=False)
        }
        for key, value in keywords.items():
            word = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
            if word not in self.names or word in given:
                raise BadArgument(f"{name} takes no argument {word!r:.60}, or it was given twice")
            given[word] = value
        bound: dict[str, object] = {}
        for parameter in self.parameters:
            if parameter.name not in given:
                if parameter.default is _REQUIRED:
                    raise BadArgument(f"{name}: the argument {parameter.name} is missing")
                bound[parameter.name] = parameter.default
                continue
            try:
                bound[parameter.name] = parameter.check(given[parameter.name])
            except UsageError as error:
                raise BadArgument(f"{name}: {parameter.name}: {error}") from None
        return bound


class DeclaredMethods(pb.Referenceable):
    """An object clients may call: the methods in ``methods`` and no others."""

    methods: ClassVar[Mapping[str, Method]] = {}

    def remoteMessageReceived(self, broker: BudgetedBroker, message: str, args: object, kw: object) -> object:
        """Check the arguments, call the method, and give its result in the form the broker sends.

        Raises:
            pb.Error: of the closed set.
            ProtocolViolation: no value of a plain type; it ends the connection.
        """
        method = self.methods.get(message)
        if method is None:
            raise BadArgument(f"there is no method {message!r:.60}; there are: {', '.join(self.methods)}")
        bound = method.bind(message, *broker.read_call(args, kw))
        try:
            result = method.call(self, **bound)
        except GroupcommError as error:
            raise as_peer_error(error) from None
        return broker.answer_form(result)


def flag(value: object) -> bool:
    """A truth value: bool, or 0 or 1."""
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise UsageError(f"must be True or False, not {value!r:.40}")


def text(value: object) -> str:
    """Text; bytes are taken as UTF-8."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise UsageError("must be UTF-8") from None
    if isinstance(value, str):
        return value
    raise UsageError(f"must be text, not {type(value).__name__}")


def group_name(value: object) -> str:
    """The name of a group."""
    return checked_name(text(value), "a group name")


def client_name(value: object) -> str:
    """The name of a client."""
    return checked_name(text(value), "a client name")


def node_name(value: object) -> str:
    """The name of a node."""
    return checked_node_name(text(value))


def group_names(value: object) -> tuple[str, ...]:
    """One group name, or a list of different ones."""
    if isinstance(value, str | bytes):
        return (group_name(value),)
    if not isinstance(value, list | tuple):
        raise UsageError(f"must be a group name or a list of them, not {type(value).__name__}")
    if not 0 < len(value) <= MAX_DESTINATION_GROUPS:
        raise UsageError(f"must be 1 to {MAX_DESTINATION_GROUPS} groups, not {len(value)}")
    names = tuple(map(group_name, value))
    if len(set(names)) != len(names):
        raise UsageError("names a group twice")
    if sum(len(name.encode("utf-8")) for name in names) > MAX_DESTINATION_BYTES:
        raise UsageError(f"the names have more than {MAX_DESTINATION_BYTES} bytes together")
    return names


def message_data(value: object) -> bytes:
    """The bytes of a message."""
    if not isinstance(value, bytes):
        raise UsageError(f"must be bytes, not {type(value).__name__}")
    return value


def message_list(value: object) -> tuple[bytes, ...]:
    """The bytes of several messages."""
    if not isinstance(value, list | tuple):
        raise UsageError(f"must be a list of bytes, not {type(value).__name__}")
    if not 0 < len(value) <= MAX_MESSAGES_PER_CALL:
        raise UsageError(f"must be 1 to {MAX_MESSAGES_PER_CALL} messages, not {len(value)}")
    return tuple(map(message_data, value))


def message_size(value: object) -> int:
    """The size of a message."""
    return number_up_to(MAX_MESSAGE_BYTES)(value)


def number_up_to(largest: int) -> Callable[[object], int]:
    """A check for a whole number of 1 to ``largest``."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= largest:
            raise UsageError(f"must be a number of 1 to {largest}, not {value!r:.40}")
        return value

    return check


def recipient(value: object) -> str:
    """``client@node``, or a member as the events name it."""
    name = text(value)
    client, at, node = name.rpartition("@")
    node = node.partition("#")[0]
    if not at or len(name) > 2 * MAX_NAME_BYTES:
        raise UsageError(f"must be client@node, not {name!r:.60}")
    return f"{checked_name(client, 'a client name')}@{checked_node_name(node)}"


def short_bytes(value: object) -> bytes:
    """A few bytes."""
    if not isinstance(value, bytes) or len(value) > MAX_NAME_BYTES:
        raise UsageError(f"must be at most {MAX_NAME_BYTES} bytes")
    return value


def optional_reference(value: object) -> pb.RemoteReference | None:
    """An object of the client's, or None."""
    if value is not None and not isinstance(value, pb.RemoteReference):
        raise UsageError("must be a referenceable object of the client, or None")
    return value
