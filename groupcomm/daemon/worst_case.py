"""What a daemon can be made to hold: the caps of ``groupcomm.limits`` and ``groupcomm.daemon.caps`` in bytes of memory.

Decides how much memory each cap stands for at the worst, and which caps bound something that is held at all. Every
constant of the two modules is either in a ``Holding`` or among ``NOT_HELD``; a test fails on one that is in neither.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Final

from attrs import frozen

from groupcomm import limits
from groupcomm.daemon import caps

PROCESS_BYTES: Final = 96 * 1024 * 1024
"""The interpreter with the program, before it has heard of anybody: 60 MB measured, and what the allocator may keep."""

CONNECTION_BYTES: Final = 32 * 1024
"""The objects of a connection without anything it holds for its peer: 6 KB measured, and the transport's."""

HANDSHAKE_BYTES: Final = 224 * 1024
"""A TLS connection in its handshake: 27 KB measured after the first message; OpenSSL takes 128 KiB of one that never
ends, and what was read at once waits."""

TLS_BYTES: Final = 112 * 1024
"""What TLS adds to a connection: 43 KB measured, and what was read while its owner does not read."""

SESSION_BYTES: Final = 64 * 1024
"""The objects of a session with its two connections: 11 KB measured, and the transports' and the node's."""

VALUE_BYTES: Final = 128
"""A value of a call that is not whole, beside its bytes: 89 measured for the largest number, 76 for lists in lists."""

CALL_BYTES: Final = 4096
"""A call that waits for its answer, beside its payload: 3,050 measured."""

EVENT_BYTES: Final = 256
"""An event in a client's queue, beside its bytes."""

MEMBERSHIP_BYTES: Final = 1536
"""One session in one group: 765 measured in the directory, for a group of its own, and what else knows of it."""

PEER_BYTES: Final = 16 * 1024
"""What a node keeps of another one: its keys of each epoch, its replay windows, its round trips, its address."""

NOTE_BYTES: Final = 2048
"""What a node keeps of one it has heard of: a beacon's contents, a question, an address."""

READ_BYTES: Final = 64 * 1024
"""What Twisted reads from a connection at once."""

OUTPUT_BYTES: Final = 64 * 1024
"""What Twisted lets wait in a connection's output before it says that it is full."""


@frozen
class Sizing:
    """What the figures are for.

    Attributes:
        nodes: in the view, this one among them.
        clients: of this daemon.
        budget_bytes: the node's byte budget.
    """

    nodes: int = limits.MAX_NODES
    clients: int = limits.MAX_SESSIONS
    budget_bytes: int = limits.DEFAULT_BUDGET_BYTES


@frozen
class Holding:
    """Something that is held, and the caps that bound it.

    Attributes:
        what: is held.
        names: the caps.
        per: of what there is one each: this ``node``, each ``peer`` of the view, ``stranger`` or ``client``.
        each_bytes: what one holds at the worst.
        count: how many there can be.
        when_full: what happens at the cap.
    """

    what: str
    names: tuple[str, ...]
    per: str
    each_bytes: int
    count: int
    when_full: str

    @property
    def bytes(self) -> int:
        """All of them together."""
        return self.each_bytes * self.count


def holdings(sizing: Sizing) -> tuple[Holding, ...]:
    """Everything a daemon holds at the worst."""
    return (*_of_the_node(sizing), *_of_strangers(), *_of_clients(sizing))


def total_bytes(sizing: Sizing) -> int:
    """All of it together: what the process stays under."""
    return sum(holding.bytes for holding in holdings(sizing))


def _of_the_node(sizing: Sizing) -> tuple[Holding, ...]:
    budget = sizing.budget_bytes
    slots = max(1, budget // 4 // limits.MAX_MESSAGE_BYTES)
    packets = -(-limits.MAX_FRAME_BYTES // limits.DEFAULT_MTU_BYTES)
    slot_bytes = 2 * limits.MAX_FRAME_BYTES + packets * limits.PACKET_OVERHEAD_BYTES
    return (
        Holding("the program itself", (), "node", PROCESS_BYTES, 1, "does not grow"),
        Holding(
            "packets received and not delivered, or not yet stable",
            ("DEFAULT_BUDGET_BYTES", "MIN_BUDGET_BYTES", "PACKET_OVERHEAD_BYTES", "DEFAULT_MTU_BYTES"),
            "node",
            budget // 2,
            1,
            "the senders wait: each has its share of it",
        ),
        Holding("frames made of them that wait for their place", (), "node", budget // 2, 1, "as above"),
        Holding(
            "packets that nodes which catch up lack",
            (),
            "node",
            budget // 4,
            1,
            "the senders wait, and such a node is evicted; only with slow-receiver = catch-up",
        ),
        Holding(
            "large frames, as packets and as frames",
            ("LARGE_FRAME_BYTES", "MAX_FRAME_BYTES", "MAX_MESSAGE_BYTES"),
            "node",
            slot_bytes,
            slots,
            "the next large frame waits for a slot",
        ),
        Holding("what sessions have sent and has not left", (), "node", budget // 4, 1, "their sends are not answered"),
        Holding(
            "unreliable frames that have not left",
            ("UNRELIABLE_QUEUE_BYTES",),
            "node",
            8 * limits.UNRELIABLE_QUEUE_BYTES,
            1,
            "the oldest is dropped and counted",
        ),
        Holding(
            "answers to private messages that found nobody, not yet sent",
            ("CONTROL_QUEUE_BYTES",),
            "node",
            16 * limits.CONTROL_QUEUE_BYTES,
            1,
            "dropped and counted",
        ),
        Holding(
            "sessions of one node in groups",
            ("MAX_MEMBERSHIPS", "MAX_DIRECTORY_BYTES", "MAX_GROUPS_PER_SESSION"),
            "peer",
            limits.MAX_MEMBERSHIPS * MEMBERSHIP_BYTES + 2 * limits.MAX_DIRECTORY_BYTES,
            sizing.nodes,
            "one more join is refused at that node",
        ),
        Holding(
            "membership messages half received",
            ("MAX_CONTROL_ASSEMBLIES", "MAX_CONTROL_ASSEMBLY_BYTES", "MAX_CONTROL_PARTS", "MAX_CONTROL_BYTES"),
            "node",
            limits.MAX_CONTROL_ASSEMBLY_BYTES + limits.MAX_CONTROL_ASSEMBLIES * NOTE_BYTES,
            1,
            "the oldest is dropped",
        ),
        Holding(
            "datagrams that came in pieces, not yet whole",
            ("LEAST_PATH_BYTES",),
            "node",
            limits.MAX_CONTROL_ASSEMBLY_BYTES + limits.MAX_CONTROL_ASSEMBLIES * NOTE_BYTES,
            1,
            "the oldest is dropped, as of membership messages",
        ),
        Holding(
            "stamps that are not read, and asks for slots",
            ("MAX_UNREAD_STAMPS", "MAX_ASKS"),
            "node",
            limits.MAX_UNREAD_STAMPS * VALUE_BYTES + limits.MAX_NODES * limits.MAX_ASKS * VALUE_BYTES,
            1,
            "no more are kept; the oldest ask is forgotten",
        ),
        Holding(
            "gaps in the packets of a node",
            ("MAX_MISSING",),
            "peer",
            limits.MAX_MISSING * VALUE_BYTES,
            sizing.nodes,
            "those beyond wait to be asked for",
        ),
        Holding(
            "nodes whose packets are opened",
            ("MAX_ACQUAINTANCES", "REPLAY_WINDOW", "MAX_KEY_EPOCHS"),
            "node",
            PEER_BYTES,
            limits.MAX_ACQUAINTANCES,
            "the longest silent is forgotten",
        ),
        Holding(
            "passports of nodes with certificates",
            ("MAX_PASSPORTS", "MAX_PASSPORT_BYTES", "MAX_CERTIFICATE_BYTES"),
            "node",
            3 * limits.MAX_PASSPORT_BYTES + 2 * NOTE_BYTES,
            limits.MAX_PASSPORTS,
            "the longest unheard is forgotten",
        ),
        Holding(
            "nodes heard of",
            ("MAX_STRANGERS", "MAX_QUESTIONS", "MAX_KEPT_OUT", "MAX_FLAPPING", "MAX_EXPELLED"),
            "node",
            NOTE_BYTES,
            limits.MAX_STRANGERS
            + limits.MAX_QUESTIONS
            + limits.MAX_KEPT_OUT
            + limits.MAX_FLAPPING
            + limits.MAX_EXPELLED,
            "the longest silent or the oldest is forgotten",
        ),
        Holding(
            "who sends what is not let in",
            ("MAX_REFUSALS",),
            "node",
            NOTE_BYTES,
            limits.MAX_REFUSALS,
            "the one told of longest ago is forgotten",
        ),
        Holding(
            "what led to changes of the view",
            ("MAX_VIEW_CHANGES", "MAX_PLAN_RECORDS"),
            "node",
            limits.MAX_PLAN_RECORDS * NOTE_BYTES,
            limits.MAX_VIEW_CHANGES,
            "the oldest is forgotten; the last records are not told",
        ),
        Holding(
            "words on a change that is under way",
            ("MAX_JOIN_RECORDS", "MAX_RELAYED_ROWS"),
            "peer",
            (limits.MAX_JOIN_RECORDS + limits.MAX_RELAYED_ROWS) * VALUE_BYTES + limits.MAX_VIEW_CHANGES * VALUE_BYTES,
            sizing.nodes,
            "more are not read",
        ),
        Holding(
            "large messages of clients that come in parts",
            ("MAX_UPLOAD_TOTAL_BYTES", "MAX_UPLOADS"),
            "node",
            caps.MAX_UPLOAD_TOTAL_BYTES + limits.MAX_MESSAGE_BYTES,
            1,
            "the next is not read until there is room",
        ),
        Holding(
            "events encoded for several clients, and one call that is being read",
            ("READ_BYTES",),
            "node",
            4 * limits.MAX_FRAME_BYTES + caps.READ_BYTES,
            1,
            "the oldest is forgotten",
        ),
    )


def _of_strangers() -> tuple[Holding, ...]:
    return (
        Holding(
            "control connections before login",
            ("MAX_UNAUTHENTICATED", "MAX_LOGIN_BYTES", "MAX_LOGIN_CALL_BYTES", "MAX_LOGIN_ELEMENTS", "MAX_ATTEMPTS"),
            "stranger",
            CONNECTION_BYTES
            + caps.MAX_LOGIN_BYTES
            + caps.MAX_LOGIN_CALL_BYTES
            + caps.MAX_LOGIN_ELEMENTS * VALUE_BYTES
            + caps.MAX_ATTEMPTS * CALL_BYTES,
            caps.MAX_UNAUTHENTICATED,
            "one more is closed at once",
        ),
        Holding(
            "TLS connections in their handshake",
            ("MAX_HANDSHAKES",),
            "stranger",
            HANDSHAKE_BYTES,
            caps.MAX_HANDSHAKES,
            "one more is closed at once",
        ),
        Holding(
            "data channels without a ticket",
            ("MAX_STRANGER_CHANNELS",),
            "stranger",
            CONNECTION_BYTES + caps.LARGE_RECORD_BYTES,
            caps.MAX_STRANGER_CHANNELS,
            "one more is closed at once",
        ),
    )


def _of_clients(sizing: Sizing) -> tuple[Holding, ...]:
    requests = max(caps.MAX_PENDING_CALLS, caps.CHANNEL_WINDOW_BYTES // caps.REQUEST_BYTES)
    rows = (
        (
            "the session and its connections",
            ("MAX_SESSIONS", "MAX_CONNECTIONS"),
            SESSION_BYTES,
            "one more login is refused",
        ),
        (
            "TLS of its connections, if it is on another host",
            ("MAX_PRINCIPAL_CONNECTIONS",),
            2 * TLS_BYTES,
            "one more connection of its certificate is closed at once",
        ),
        (
            "a call that is not whole, and one read",
            ("MAX_CALL_BYTES", "MAX_CALL_ELEMENTS"),
            caps.MAX_CALL_BYTES + READ_BYTES + caps.MAX_CALL_ELEMENTS * VALUE_BYTES,
            "the connection is cut",
        ),
        (
            "a record of the data channel that is not whole",
            ("LARGE_RECORD_BYTES",),
            caps.LARGE_RECORD_BYTES + caps.READ_BYTES,
            "a larger one counts as a message in parts",
        ),
        (
            "payload of calls that wait for their answer",
            ("MAX_PENDING_BYTES", "CHANNEL_WINDOW_BYTES", "MAX_PAYLOAD_BYTES"),
            max(caps.MAX_PENDING_BYTES, caps.CHANNEL_WINDOW_BYTES, caps.MAX_PAYLOAD_BYTES),
            "the client is not read from; its channel is cut",
        ),
        (
            "calls that wait for their answer",
            ("MAX_PENDING_CALLS", "REQUEST_BYTES"),
            requests * CALL_BYTES,
            "the client is not read from; its channel is cut",
        ),
        (
            "messages that have not left, and one more",
            ("SESSION_QUEUE_BYTES", "MAX_BATCH_BYTES"),
            limits.SESSION_QUEUE_BYTES + limits.MAX_FRAME_BYTES,
            "its sends are not answered",
        ),
        (
            "events it has not read, and one more",
            ("CLIENT_HARD_BYTES", "CLIENT_HARD_EVENTS", "CLIENT_QUEUE_BYTES", "CLIENT_QUEUE_EVENTS"),
            caps.CLIENT_HARD_BYTES + limits.MAX_FRAME_BYTES + caps.CLIENT_HARD_EVENTS * EVENT_BYTES,
            "the client is too slow and put out",
        ),
        (
            "output on its way: events, answers",
            ("IN_FLIGHT_BYTES", "BATCH_BYTES", "MAX_INLINE_BYTES", "STATUS_PAGE_BYTES", "ANSWER_BACKLOG_BYTES"),
            2 * (caps.IN_FLIGHT_BYTES + caps.BATCH_BYTES + caps.MAX_INLINE_BYTES)
            + 2 * caps.STATUS_PAGE_BYTES
            + OUTPUT_BYTES
            + caps.ANSWER_BACKLOG_BYTES,
            "no more leaves, and the client is not read from",
        ),
        (
            "destinations its channel has read",
            ("DESTINATIONS_BYTES", "DESTINATION_BYTES", "DESTINATION_NAME_BYTES"),
            caps.DESTINATIONS_BYTES,
            "all are forgotten and read again",
        ),
    )
    return tuple(Holding(what, names, "client", size, sizing.clients, full) for what, names, size, full in rows)


NOT_HELD: Final[Mapping[str, tuple[str, ...]]] = {
    "the size of one thing that is counted above": (
        "COALESCED_FRAME_BYTES",
        "CREDIT_STEP_BYTES",
        "CHANNEL_CREDIT_BYTES",
        "MAX_DEPTH",
        "MAX_DESTINATION_BYTES",
        "MAX_DESTINATION_GROUPS",
        "MAX_FRAME_MESSAGES",
        "MAX_HEAD_BYTES",
        "MAX_MESSAGES_PER_CALL",
        "MAX_METHOD_BYTES",
        "MAX_NACK_RANGES",
        "MAX_NAME_BYTES",
        "MAX_NODES",
        "MAX_NODE_NAME_BYTES",
        "MAX_BEACON_ADDRESSES",
        "MAX_DATAGRAM_BYTES",
        "MAX_MTU_BYTES",
        "MAX_NUMBER",
        "MAX_PASSPORT_ASKS",
        "MAX_RANGES",
        "MAX_UNIX_PATH_BYTES",
        "PAYLOAD_HEAD_BYTES",
        "STATUS_PAGE_GROUPS",
        "TICKET_BYTES",
        "BATCH_EVENTS",
    ),
    "how much in a time, or ahead": (
        "BATCHES_IN_FLIGHT",
        "DECODE_SHARE",
        "DECODE_SHARE_OF_ALL",
        "HANDSHAKES_PER_SECOND",
        "LOGINS_PER_SECOND",
        "MAX_ANSWERS_PER_SECOND",
        "LOGIN_BURST",
        "MAX_EPOCH",
        "MAX_STEP",
        "MAX_GREETINGS_PER_SECOND",
        "MAX_PASSPORTS_PER_SECOND",
        "MAX_REPAIR_PACKETS",
        "MAX_SEALED_PACKETS",
        "MAX_STREAM_PACKETS",
        "MIN_WINDOW_BYTES",
        "SMALL_BATCHES_IN_FLIGHT",
        "THROTTLE_FRACTION",
        "TURN_SECONDS",
    ),
    "a time": (
        "ANSWER_SECONDS",
        "CALL_SECONDS",
        "CLIENT_PATIENCE_SECONDS",
        "FAREWELL_SECONDS",
        "LOGIN_SECONDS",
        "LOG_INTERVAL_SECONDS",
        "MAX_SLOW_SECONDS",
        "STATUS_PAGE_SECONDS",
        "TICKET_SECONDS",
        "UPLOAD_SECONDS",
    ),
    "outside of the daemon's memory: the kernel's, the disk's, the client's": (
        "DEFAULT_TRACE_BYTES",
        "IO_BUFFER_BYTES",
        "MAX_ANSWER_BYTES",
        "MAX_ANSWER_ELEMENTS",
        "MAX_LINKS",
        "OPEN_FILES",
    ),
}
"""Caps of which nothing more is held when they are larger, by why that is so."""


@frozen
class Cap:
    """A constant of ``limits`` or ``caps``.

    Attributes:
        name: of the constant.
        value: in bytes, in seconds, or a count.
        text: why it is so large, and what happens at it.
    """

    name: str
    value: int | float
    text: str


def all_caps() -> dict[str, Cap]:
    """Every cap there is, by name, with what its module says of it."""
    return {cap.name: cap for module in (limits, caps) for cap in _caps_of(module)}


def _caps_of(module: ModuleType) -> list[Cap]:
    """The constants that a module itself gives a value, each with the text below it."""
    body = ast.parse(inspect.getsource(module)).body
    found = []
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found.append(Cap(name, getattr(module, name), " ".join(text.replace("``", "").split())))
                case _:
                    found.append(Cap(name, getattr(module, name), ""))
    return found
