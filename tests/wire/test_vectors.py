"""The documented wire format is the one that the code speaks."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.config import EngineConfig
from groupcomm.engine import Engine
from groupcomm.events import Level, Reason
from groupcomm.identity import MemberId, NodeId, ViewId
from groupcomm.membership.groups import Change, ChangeBody, Groups
from groupcomm.ordering.frames import FrameType, parse_frames
from groupcomm.outputs import FrameDelivered, PrivateUndeliverable
from groupcomm.packing import pack_messages, unpack_messages
from groupcomm.wire import packets
from groupcomm.wire.codec import Reader, varint
from groupcomm.wire.messages import cut, decode_message
from groupcomm.wire.packets import FIRST, HEADER_BYTES, LAST, STAMP_POSITION, STAMPED, Kind, encode
from groupcomm.wire.passport import Passport
from groupcomm.wire.seal import Greeting
from tests.wire.vectors import Frame, Header, Position, Raw, Vector, read_vectors

VECTORS = read_vectors()
DIGESTS = ("cluster", "view", "view id", "candidates")
BODIES: dict[int, Callable[[Reader], object]] = {
    Kind.STAMP: packets.Stamp.decode,
    Kind.HANDOVER: packets.Handover.decode,
    Kind.TAKE: packets.Take.decode,
    Kind.ASK: packets.Ask.decode,
    Kind.GRANT: packets.Grant.decode,
    Kind.NACK: packets.Nack.decode,
    Kind.STATUS: packets.Status.decode,
    Kind.TAIL: packets.Tail.decode,
    Kind.SUMMARY: packets.Summary.decode,
    Kind.GREETING: Greeting.decode,
    Kind.PASSPORT: Passport.decode,
    Kind.PIECE: lambda reader: Raw(reader.rest()),
}


class Encodable(Protocol):
    """The body of a packet or message."""

    def encode(self) -> bytes:
        """Its bytes."""


def decoded(vector: Vector) -> tuple[object, ...]:
    """What the code reads from a packet."""
    header, body = Header.of(vector.data), vector.data[HEADER_BYTES:]
    if header.kind in (Kind.DATA, Kind.UNRELIABLE):
        position: tuple[object, ...] = ()
        if header.kind is Kind.DATA and header.flags & STAMPED:
            position = (Position(STAMP_POSITION.unpack_from(body)[0]),)
            body = body[STAMP_POSITION.size :]
        return header, *position, *(Frame.of(frame) for frame in parse_frames(0, 1, 1, body))
    if header.kind in BODIES:
        return header, BODIES[header.kind](Reader(body))
    return header, decode_message(header.kind, body)


def encoded(values: tuple[object, ...]) -> bytes:
    """What the code makes of the documented values of a packet."""
    header = values[0]
    assert isinstance(header, Header)
    body = b"".join(
        STAMP_POSITION.pack(value.number) if isinstance(value, Position) else encodable(value).encode()
        for value in values[1:]
    )
    return encode(
        header.kind, header.digest, header.sender, header.sequence, body, flags=header.flags, part=header.part
    )


def encodable(value: object) -> Encodable:
    """The value, which can be encoded."""
    assert hasattr(value, "encode"), value
    return value


class VectorTests(SynchronousTestCase):
    """Every vector of the page, read and written."""

    def test_every_kind_of_packet_is_shown(self) -> None:
        """The page has a vector for each kind of packet and each type of frame."""
        shown = {vector.name.split()[0] for vector in VECTORS if vector.name.split()[0].isupper()}
        self.assertEqual(shown, {kind.name for kind in Kind})
        frames = {vector.name.split()[1] for vector in VECTORS if vector.name.startswith("frame ")}
        self.assertEqual(frames, {kind.name for kind in FrameType})

    def test_packets_read_as_documented(self) -> None:
        """The bytes of each packet on the page decode to the values beside them."""
        for vector in VECTORS:
            if vector.name.split()[0].isupper():
                self.assertEqual(decoded(vector), vector.values, vector.name)

    def test_packets_are_written_as_documented(self) -> None:
        """The values of each packet on the page encode to the bytes beside them."""
        for vector in VECTORS:
            if vector.name.split()[0].isupper():
                self.assertEqual(encoded(vector.values).hex(" "), vector.data.hex(" "), vector.name)

    def test_messages_are_cut_as_documented(self) -> None:
        """A message that fits a datagram is one packet with the documented header."""
        for vector in VECTORS:
            header = vector.values[0]
            if isinstance(header, Header) and header.kind >= Kind.BEACON and header.part == 1:
                body = encodable(vector.values[1]).encode()
                self.assertEqual(cut(header.kind, header.digest, header.sequence, body, 1400), [vector.data])

    def test_frames_read_and_are_written_as_documented(self) -> None:
        """The bytes of each frame on the page decode to its fields, and these encode to the bytes."""
        for vector in VECTORS:
            if vector.name.startswith("frame "):
                (expected,) = vector.values
                (frame,) = parse_frames(0, 1, 1, vector.data)
                self.assertEqual(Frame.of(frame), expected, vector.name)
                self.assertEqual(encodable(expected).encode(), vector.data, vector.name)

    def test_numbers_read_and_are_written_as_documented(self) -> None:
        """The bytes of each varint on the page are its shortest form and decode to its number."""
        count = 0
        for vector in VECTORS:
            if vector.name.startswith("varint "):
                (number,) = vector.values
                assert isinstance(number, int)
                self.assertEqual((varint(number), Reader(vector.data).number()), (vector.data, number))
                count += 1
        self.assertEqual(count, 6)

    def test_payloads_are_packed_and_unpacked_as_documented(self) -> None:
        """The bytes of each payload on the page are its messages, and these make the bytes."""
        shown = [vector for vector in VECTORS if vector.name.startswith("payload ")]
        self.assertEqual(len(shown), 3)
        for vector in shown:
            (values,) = vector.values
            assert isinstance(values, tuple)
            messages = list(values)
            self.assertEqual(unpack_messages(vector.data), messages, vector.name)
            self.assertEqual(pack_messages(messages).hex(" "), vector.data.hex(" "), vector.name)

    def test_digests_are_as_documented(self) -> None:
        """The digests of a cluster, a view, a view's id and a list of candidates have the documented bytes."""
        shown = [vector for vector in VECTORS if vector.name.startswith("digest ")]
        self.assertEqual([vector.name for vector in shown], ["digest " + name for name in DIGESTS])
        for vector in shown:
            self.assertEqual(vector.values, (int.from_bytes(vector.data, "big"),), vector.name)

    def test_a_data_packet_has_at_most_24_bytes_of_header(self) -> None:
        """Header and place in the order take 20 and 4 bytes."""
        self.assertEqual(HEADER_BYTES + STAMP_POSITION.size, 24)


def frame_body(name: str) -> bytes:
    """The body of the frame on the page."""
    (vector,) = [vector for vector in VECTORS if vector.name == f"frame {name}"]
    (frame,) = vector.values
    assert isinstance(frame, Frame)
    return frame.body


def lone_engine(node: NodeId) -> tuple[Engine, float]:
    """An engine that has founded a view of its own, and the time."""
    now = 0.0
    engine = Engine(EngineConfig(), node, Random(1), now)
    engine.start(now)
    while engine.blocked:
        deadline = engine.next_deadline()
        assert deadline is not None
        now = deadline
        engine.handle_timeout(now)
    engine.datagrams_to_send(now)
    engine.take_outputs()
    return engine, now


class BodyTests(SynchronousTestCase):
    """The bodies of frames, as an engine that is alone in its view writes and reads them."""

    def setUp(self) -> None:
        self.node = NodeId("b", 0x200)
        self.engine, self.now = lone_engine(self.node)
        self.session = self.engine.open_session("ann", self.now)

    def sent(self) -> list[Frame]:
        """The frames that leave now."""
        self.engine.burst_ended(self.now)
        frames: list[Frame] = []
        for datagram in self.engine.datagrams_to_send(self.now):
            header = packets.Header(datagram.data)
            if header.kind == Kind.DATA:
                self.assertEqual(header.flags & (FIRST | LAST), FIRST | LAST)
                start = HEADER_BYTES + (STAMP_POSITION.size if header.flags & STAMPED else 0)
                frames.extend(Frame.of(frame) for frame in parse_frames(0, 1, 1, datagram.data[start:]))
        return frames

    def test_group_and_change_bodies(self) -> None:
        """Joining, sending and disconnecting put the documented bodies on the wire."""
        self.engine.join(self.session, "chat", self.now)
        self.assertEqual([frame.body.hex() for frame in self.sent()], [frame_body("CHANGE").hex()])
        self.engine.send(self.session, ["chat"], pack_messages([b"hi", b"there"]), Level.AGREED, self.now)
        self.assertEqual([frame.body.hex() for frame in self.sent()], [frame_body("GROUP").hex()])
        delivered = [output for output in self.engine.take_outputs() if isinstance(output, FrameDelivered)]
        self.assertEqual([unpack_messages(output.payload) for output in delivered], [[b"hi", b"there"]])
        self.assertEqual([output.sender for output in delivered], [MemberId("ann", self.node, 1)])
        self.engine.close_session(self.session, Reason.DISCONNECT, self.now)
        self.assertEqual([frame.body.hex() for frame in self.sent()], [frame_body("CHANGE disconnect").hex()])

    def test_private_body(self) -> None:
        """A private message puts the documented body on the wire, and is delivered from it."""
        other = self.engine.open_session("bob", self.now)
        self.engine.send_private(self.session, "bob", "b", pack_messages([b"psst"]), Level.FIFO, self.now)
        self.assertEqual([frame.body.hex() for frame in self.sent()], [frame_body("PRIVATE").hex()])
        delivered = [output for output in self.engine.take_outputs() if isinstance(output, FrameDelivered)]
        self.assertEqual([output.recipients for output in delivered], [((other, ()),)])
        self.assertEqual([unpack_messages(output.payload) for output in delivered], [[b"psst"]])

    def test_gone_body(self) -> None:
        """A private message for nobody is answered with the documented body, which the sender understands."""
        self.engine, self.now = lone_engine(NodeId("a", 0x100))
        session = self.engine.open_session("ann", self.now)
        self.engine.send_private(session, "bob", "a", b"", Level.FIFO, self.now)
        gone = [frame.body for frame in self.sent() if frame.type is FrameType.GONE]
        self.assertEqual([body.hex() for body in gone], [frame_body("GONE").hex()])
        self.assertIn(PrivateUndeliverable(session, "bob@a"), self.engine.take_outputs())

    def test_directory_body(self) -> None:
        """The documented directory is what a node tells of its sessions, and what others learn from it."""
        view, here, there = ViewId(1, NodeId("a", 1)), NodeId("a", 1), NodeId("b", 1)
        own = Groups(here)
        own.view_installed(view, (here,), (here,), {}, exchange=False)
        for position, name in enumerate(("news", "chat"), 1):
            body = ChangeBody(Change.JOIN, 1, "ann", name, Reason.LEAVE).encode()
            (frame,) = parse_frames(0, 1, 1, Frame(FrameType.CHANGE, Level.AGREED, False, 0, 1, 0, (), body).encode())
            frame.position = position
            own.changed(here, frame)
        self.assertEqual(own.own_table().hex(), frame_body("DIRECTORY").hex())
        learnt = Groups(there)
        learnt.view_installed(view, (here, there), (there,), {}, exchange=True)
        learnt.exchanged({here: frame_body("DIRECTORY"), there: b"\x00"})
        self.assertEqual(learnt.groups_of(MemberId("ann", here, 1)), {"chat", "news"})
