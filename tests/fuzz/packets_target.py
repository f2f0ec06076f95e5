"""The decoders of all that comes from other nodes: any bytes give a value or ``MalformedPacket``.

The first byte of an input names the decoder, the rest is for it. What is decoded is a value within the limits, and its
encoding decodes to the same value; where there is a short way beside the long one, both say the same.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import attrs

from groupcomm.errors import MalformedPacket
from groupcomm.events import Level, Reason
from groupcomm.identity import NodeId, ViewId, checked_name, checked_node_name
from groupcomm.limits import (
    MAX_DESTINATION_BYTES,
    MAX_FRAME_MESSAGES,
    MAX_NODES,
)
from groupcomm.membership.groups import Change, ChangeBody, Groups, group_address
from groupcomm.ordering.frames import Frame, FrameType, Outgoing, parse_alone, parse_frames
from groupcomm.packing import cut_messages, pack_messages, read_runs, unpack_messages
from groupcomm.wire import messages, packets
from groupcomm.wire.codec import Reader, Writer, varint
from groupcomm.wire.keys import KeyEpoch
from groupcomm.wire.messages import Assembler, cut
from groupcomm.wire.packets import HEADER_BYTES, Header, Kind, encode, is_data_run, split_run
from groupcomm.wire.seal import SEALED_HEAD_BYTES, Greeting, Introduction
from tests.fuzz.steps import mutate_bytes
from tests.wire.test_vectors import VECTORS, encodable

Decoder = Callable[[Reader], object]

BODIES: dict[str, Decoder] = {
    cls.__name__: cls.decode
    for cls in (
        packets.Stamp,
        packets.Handover,
        packets.Take,
        packets.Ask,
        packets.Grant,
        packets.Nack,
        packets.Status,
        packets.Summary,
        packets.Tail,
        messages.Beacon,
        messages.Probe,
        messages.ProbeAck,
        messages.Join,
        messages.Who,
        messages.Recover,
        messages.Answer,
        messages.Plan,
        messages.Ready,
        messages.Install,
        Greeting,
    )
}

NODE, OTHER = NodeId("a", 1), NodeId("b", 2)
VIEW = ViewId(3, NODE)
MOST_ITEMS = 4 * MAX_NODES


def check_body(decode: Decoder, data: bytes) -> None:
    """A body is a value or malformed; a value can be written, and reads as itself."""
    value = decode(Reader(data))
    check_limits(value)
    again = decode(Reader(encodable(value).encode()))
    assert again == value, f"{value} reads as {again} after it was written"


def check_limits(value: object) -> None:
    """No list is longer than any may be, no node has a longer name, no number is negative or larger than may be."""
    if isinstance(value, NodeId):
        assert checked_node_name(value.name) and 0 <= value.incarnation < 1 << 64
    elif isinstance(value, str):
        assert not value or checked_name(value, "a name")
    elif isinstance(value, tuple):
        assert len(value) <= MOST_ITEMS, len(value)
        for item in value:
            check_limits(item)
    elif isinstance(value, int):
        assert 0 <= value < 1 << 8 * MAX_NODES, value
    elif attrs.has(type(value)):
        for field in type(value).__attrs_attrs__:  # type: ignore[attr-defined]
            check_limits(getattr(value, field.name))


def check_reader(data: bytes) -> None:
    """What a reader gives is what its bytes say, by a second way to read them."""
    count = data[0] if data else 0
    wanted, body = data[1 : 1 + count], data[1 + count :]
    reader = Reader(body)
    at = 0
    for what in wanted:
        size = what >> 3
        way = what & 7
        if way == 0:
            assert reader.u8() == body[at]
            at += 1
        elif way == 1:
            assert reader.u64() == int.from_bytes(body[at : at + 8], "big")
            at += 8
        elif way == 2:
            number, at = plain_number(body, at)
            assert reader.number() == number
        elif way == 3:
            found = reader.raw(size)
            assert len(found) == size and found == body[at : at + size], f"{size} bytes wanted, {len(found)} given"
            at += size
        elif way == 4:
            text = reader.text(size + 1)
            assert text.encode("utf-8") == body[at + 1 : at + 1 + body[at]] and 0 < body[at] <= size + 1
            at += 1 + body[at]
        elif way == 5:
            inner = reader.part(size)
            assert inner.rest() == body[at : at + size] and at + size <= len(body)
            at += size
        elif way == 6:
            bits = reader.bits(size)
            assert bits == int.from_bytes(body[at : at + -(-size // 8)], "little") < 1 << size
            at += -(-size // 8)
        else:
            node = reader.node()
            name = body[at + 1 : at + 1 + body[at]]
            at += 1 + body[at]
            assert node == NodeId(name.decode("utf-8"), int.from_bytes(body[at : at + 8], "big")) and at + 8 <= len(
                body
            )
            at += 8
        assert reader.at == at <= len(body), f"at {reader.at}, not {at}, of {len(body)}"
    rest = body[at:]
    if rest:
        try:
            reader.finish()
        except MalformedPacket:
            pass
        else:
            raise AssertionError(f"finished with {len(rest)} bytes left")
    assert reader.rest() == rest
    reader.finish()


def plain_number(data: bytes, at: int) -> tuple[int, int]:
    """A varint read the plain way, and where it ends; what cannot be one is left to the reader to refuse."""
    number = shift = 0
    while at < len(data):
        number |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            break
    return number, at


def frame_fields(frame: Frame) -> tuple[object, ...]:
    """All that makes a frame what it is."""
    return (
        frame.stream,
        frame.first,
        frame.last,
        frame.level,
        frame.type,
        frame.self_discard,
        frame.group_position,
        frame.lamport,
        frame.ordered,
        tuple(frame.past),
        frame.body,
        frame.size,
    )


def check_frames(data: bytes) -> None:
    """Frames: short way and long way, what was read can be written, and every body goes to whom it is for."""
    alone = parse_alone(0, 1, b"head" + data, 4)
    try:
        frames = parse_frames(0, 1, 1, data)
    except MalformedPacket:
        assert alone is None, "the short way takes what the long one refuses"
        raise
    if alone is not None:
        assert [frame_fields(alone)] == [frame_fields(frame) for frame in frames], "the short way reads otherwise"
    for frame in frames:
        body = frame.body
        assert len(body) == frame.size, f"a body of {len(body)} bytes called {frame.size}"
        check_limits(tuple(frame.past))
        outgoing = Outgoing(0, 0, frame.type, frame.level, body, self_discard=frame.self_discard)
        written = outgoing.encode(frame.group_position, frame.lamport, frame.ordered, frame.past)
        assert [frame_fields(again) for again in parse_frames(0, 1, 1, written)] == [frame_fields(frame)]
        check_frame_body(frame)


def check_frame_body(frame: Frame) -> None:
    """The body of a frame of each type."""
    try:
        if frame.type is FrameType.GROUP:
            check_address(frame)
            groups = directory()
            groups.deliver(OTHER, frame)
            groups.check_invariants()
        elif frame.type is FrameType.CHANGE:
            check_change(frame.body)
            groups = directory()
            frame.position = groups.position + 1
            groups.changed(OTHER, frame)
            groups.check_invariants()
        elif frame.type is FrameType.DIRECTORY:
            check_table(frame.body)
    except MalformedPacket:
        return  # the frame is dropped where it is delivered


def check_address(frame: Frame) -> None:
    """The address of a group frame and its payload are its body, cut at the same place both ways."""
    address, payload = frame.addressed(2 * MAX_DESTINATION_BYTES)
    assert address + payload == frame.body
    reader = Reader(frame.body)
    reader.raw(reader.number(2 * MAX_DESTINATION_BYTES))
    assert reader.at == len(address)


def check_change(data: bytes) -> None:
    """A group change."""
    value = ChangeBody.decode(data)
    check_limits(value)
    assert ChangeBody.decode(value.encode()) == value


def directory() -> Groups:
    """The groups of a view of two nodes, with a member on each."""
    groups = Groups(NODE)
    groups.view_installed(VIEW, (NODE, OTHER), (NODE, OTHER), {}, exchange=False)
    for position, (node, group) in enumerate(((NODE, "chat"), (OTHER, "chat"), (OTHER, "news")), 1):
        body = ChangeBody(Change.JOIN, 1, "ann", group, Reason.LEAVE).encode()
        (frame,) = parse_frames(0, 1, 1, Outgoing(0, 0, FrameType.CHANGE, Level.AGREED, body).encode(0, 1, 0, ()))
        frame.position = position
        groups.changed(node, frame)
    groups.out.clear()
    return groups


def check_table(data: bytes) -> None:
    """The table of a node's sessions: it is taken or counts as empty, and the directory holds together."""
    groups = Groups(NODE)
    groups.view_installed(VIEW, (NODE, OTHER), (OTHER,), {}, exchange=True)
    assert groups.exchanged({NODE: b"\x00", OTHER: data}) in (0, 1)
    groups.check_invariants()


def check_payload(data: bytes) -> None:
    """The messages of a frame: as many as it says, and they make the same payload again."""
    runs, start = read_runs(data)
    found = cut_messages(data, runs, start)
    assert len(found) == sum(count for count, _ in runs) <= MAX_FRAME_MESSAGES
    assert b"".join(found) == data[start:]
    assert unpack_messages(pack_messages(found)) == found


def check_run(data: bytes) -> None:
    """Several packets at once: what is read of them together is what is read of each."""
    size, data = HEADER_BYTES + 1 + (data[0] if data else 0), data[1:]
    if not is_data_run(data, size):
        return
    run = split_run(data, size)
    if run is None:
        return
    flags, numbers, bodies = run.flags, run.numbers, run.bodies
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    headers = [Header(piece) for piece in pieces]
    assert len(flags) == len(numbers) == len(bodies) == len(pieces)
    for index, header in enumerate(headers):
        assert run.packets.packet(index) == pieces[index]
        assert (header.kind, header.digest, header.sender) == (Kind.DATA, run.digest, run.sender)
        assert (header.flags, header.sequence) == (flags[index], numbers[index])
        assert bodies[index] == pieces[index][HEADER_BYTES:]


def check_packet(data: bytes) -> None:
    """A whole packet: its header can be written again, its body is what its kind says."""
    header = Header(data)
    again = Header(
        bytes(data[:4]) + bytes(encode(Kind.DATA, header.digest, header.sender, header.sequence, part=header.part))[4:]
    )
    assert (again.digest, again.sender, again.sequence, again.part) == (
        header.digest,
        header.sender,
        header.sequence,
        header.part,
    )
    value = messages.decode_message(header.kind, data[HEADER_BYTES:])
    if value is not None:
        check_limits(value)


def check_sealed(data: bytes) -> None:
    """What stands before a sealed body: who sealed it, and where that begins; and a key epoch."""
    epoch = KeyEpoch.read(Reader(data))
    writer = Writer()
    epoch.write(writer)
    assert KeyEpoch.read(Reader(writer.done())) == epoch
    if len(data) >= SEALED_HEAD_BYTES:
        who, at = Introduction.read(data)
        assert Introduction.read(data[:SEALED_HEAD_BYTES] + who.encode())[0] == who and at <= len(data)
        check_limits(who.node)


def check_parts(data: bytes) -> None:
    """A message in parts that come in any order, some twice, is put together; what is held is what is counted."""
    assembler = Assembler()
    mtu, data = HEADER_BYTES + 1 + (data[0] & 63 if data else 0), data[1:]
    order, body = data[:32], data[32:]
    parts = cut(Kind.PLAN, 7, 9, body[: 100 * (mtu - HEADER_BYTES)], mtu)
    missing = set(range(len(parts)))
    for turn, number in enumerate((*order, *range(len(parts)))):
        index = number % len(parts)
        packet = parts[index]
        if number >= 128 and turn < len(order):
            packet = packet[:14] + bytes(order[:2]) + packet[16:]  # another part, or another number of parts
        else:
            missing.discard(index)
        try:
            whole = assembler.add(Header(packet), packet[HEADER_BYTES:], "source")
        except MalformedPacket:
            continue
        if whole is not None and packet is parts[index] and not missing and turn >= len(order):
            assert whole == body[: 100 * (mtu - HEADER_BYTES)] or any(number >= 128 for number in order)
            return
        held = sum(len(part) for one in assembler._partial.values() for part in one if part is not None)
        assert held == assembler._size, f"{held} bytes held, {assembler._size} counted"


CHECKS: tuple[tuple[str, Callable[[bytes], None]], ...] = (
    ("reader", check_reader),
    ("frames", check_frames),
    ("change", check_change),
    ("table", check_table),
    ("payload", check_payload),
    ("run", check_run),
    ("packet", check_packet),
    ("parts", check_parts),
    *((name, lambda data, decode=decode: check_body(decode, data)) for name, decode in BODIES.items()),
    ("sealed", check_sealed),
)
NUMBERS = {name: number for number, (name, _) in enumerate(CHECKS)}


class PacketsTarget:
    """See the module."""

    def check(self, data: bytes) -> None:
        """See ``Target``."""
        if data:
            try:
                CHECKS[data[0] % len(CHECKS)][1](data[1:])
            except MalformedPacket:
                return

    def seeds(self) -> list[bytes]:
        """The vectors of the page on the wire format, and a little of what it does not show."""
        seeds = []
        for vector in VECTORS:
            word = vector.name.split()[0]
            if word.isupper():
                seeds.append(self._input("packet", vector.data))
                name = next((name for name in BODIES if name.upper() == word.replace("_", "")), None)
                if name is not None:
                    seeds.append(self._input(name, vector.data[HEADER_BYTES:]))
                if word == "DATA":
                    seeds.append(self._input("run", bytes([len(vector.data) - HEADER_BYTES - 1]) + 3 * vector.data))
            elif word == "frame":
                seeds.append(self._input("frames", vector.data))
            elif word == "payload":
                seeds.append(self._input("payload", vector.data))
        change = ChangeBody(Change.JOIN, 1, "ann", "chat", Reason.LEAVE).encode()
        table = Writer().number(1).number(1).text("ann").number(2).text("chat").text("news").done()
        body = group_address(1, "ann", ("chat", "news")) + pack_messages([b"hi", b"there"])
        for level in Level:
            frame = Outgoing(0, 0, FrameType.GROUP, level, body, self_discard=level is Level.FIFO)
            seeds.append(self._input("frames", 2 * frame.encode(1, 2, 3, ((0, 5), (1, 300)))))
        seeds += [self._input("change", change), self._input("table", table)]
        seeds.append(self._input("parts", bytes(range(40, 80)) + body * 8))
        fields = b"\x05" + Writer().u64(7).number(300).node(OTHER).text("name").raw(b"raw").bits(5, 3).done()
        writer = Writer()
        KeyEpoch(7, bytes(range(32))).write(writer)
        introduction = Introduction(OTHER, bytes(range(16))).encode()
        seeds.append(self._input("sealed", writer.done()[:1] + bytes(SEALED_HEAD_BYTES - 1) + introduction))
        seeds.append(self._input("Greeting", Greeting(bytes(16), bytes(range(16)), bytes(16), 7).encode()))
        seeds.append(self._input("reader", bytes((7, 0, 1, 2, 7, 4 | 20 << 3, 3 | 3 << 3, 6 | 3 << 3)) + fields))
        return seeds

    def mutate(self, data: bytes, random: Random) -> bytes:
        """Mostly the bytes behind the decoder's number; now and then the same bytes for another decoder."""
        if not data or random.randrange(20) == 0:
            number = random.randrange(len(CHECKS))
            return bytes((number,)) + data[1:] + (varint(random.getrandbits(20)) if len(data) < 4 else b"")
        return data[:1] + mutate_bytes(data[1:], random)

    @staticmethod
    def _input(name: str, data: bytes) -> bytes:
        return bytes((NUMBERS[name],)) + data


TARGET = PacketsTarget()
