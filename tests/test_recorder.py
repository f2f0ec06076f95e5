"""A node writes a trace of itself if asked: what, when, and no more than it may."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.errors import EnvironmentFault, NotConnected, QueueFull
from groupcomm.events import Level, Reason
from groupcomm.identity import MemberId, NodeId
from groupcomm.labels import message_digest, message_label
from groupcomm.node import NodeConfig
from groupcomm.node.recorder import LAST_LINE_BYTES, TraceRecorder
from groupcomm.outputs import (
    Datagram,
    FrameDelivered,
    GroupLeft,
    GroupSignalDelivered,
    GroupViewDelivered,
    NodeDeparture,
    NodeSignal,
    NodeViewInstalled,
    PrivateUndeliverable,
    SendAccepted,
    Stopped,
)
from groupcomm.packing import pack_messages
from tests.node_double import NodeBench, RecordingHandler, RecordingTransport, view_of

OTHER = NodeId("n2", 5)
LIMIT_BYTES = 1 << 20


class TraceTestCase(SynchronousTestCase):
    """A node on a recording engine, with a trace."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def bench(self, limit_bytes: int = LIMIT_BYTES) -> NodeBench:
        bench = NodeBench(NodeConfig(node="n1", trace=self.path, trace_limit_bytes=limit_bytes, insecure=True))
        bench.node.startService()
        return bench

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]

    def kinds(self) -> list[str]:
        return [line["e"] for line in self.lines()]


class ContentTests(TraceTestCase):
    """What stands in it."""

    def test_a_whole_life(self) -> None:
        """Every event at the border of the node and of its client is a line, in order, with its time."""
        bench = self.bench()
        node = bench.node.id
        session = bench.node.open_session("app", RecordingHandler())
        me = session.member
        view = view_of("g", me, joined=(me,))
        first = NodeViewInstalled(view.id.view, (node,), (node,), (NodeDeparture(OTHER, Reason.PARTITION),), node)
        session.join("g")
        bench.clock.turn()
        bench.say(first, GroupViewDelivered((1,), view))
        bench.clock.run_for(0.25)
        session.send_many(("g",), [b"m1|secret", b"m2|secret"], Level.AGREED, stable=True, self_discard=True)
        session.send_private("bob@n2", b"m3|secret", Level.FIFO)
        bench.clock.turn()
        got = FrameDelivered(
            ((1, ("g",)),), me, Level.AGREED, pack_messages([b"m1|secret", b"m2|secret"]), {"g": view.id}
        )
        bench.say(got, SendAccepted(1, 1, True), SendAccepted(1, 2, False))
        bench.say(NodeSignal(), GroupSignalDelivered((1,), "g"), PrivateUndeliverable(1, "bob@n2"))
        session.leave("g")
        bench.clock.turn()
        bench.say(GroupLeft(1, "g", Reason.LEAVE))
        session.close()
        bench.clock.turn()
        stopping = bench.node.stopService()
        bench.clock.run_for(1)
        self.successResultOf(stopping)
        own, member, place = ["n1", 1_000_000_000], ["app", "n1", 1_000_000_000, 1], [7, "n1", 1_000_000_000]
        digests = {label: message_digest(f"{label}|secret".encode()) for label in ("m1", "m2", "m3")}
        to_group = {"s": 1, "l": "AGREED", "g": ["g"], "to": None, "discard": True}
        delivered = {"s": 1, "from": member, "l": "AGREED", "g": ["g"], "v": [*place, 1]}
        expected: list[tuple[str, dict[str, Any]]] = [
            ("open", {"s": 1, "client": "app"}),
            ("join", {"s": 1, "g": "g"}),
            (
                "node view",
                {
                    "v": place,
                    "members": [own],
                    "transitional": [own],
                    "departed": [["n2", 5, "PARTITION"]],
                    "sequencer": own,
                    "primary": True,
                    "filtered": False,
                },
            ),
            (
                "view",
                {
                    "s": 1,
                    "g": "g",
                    "v": [*place, 1],
                    "members": [member],
                    "joined": [member],
                    "left": [],
                    "transitional": [],
                    "primary": True,
                },
            ),
            ("send", {**to_group, "m": "m1", "d": digests["m1"]}),
            ("send", {**to_group, "m": "m2", "d": digests["m2"]}),
            ("send", {"s": 1, "m": "m3", "d": digests["m3"], "l": "FIFO", "g": [], "to": "bob@n2", "discard": False}),
            ("deliver", {**delivered, "m": "m1", "d": digests["m1"]}),
            ("deliver", {**delivered, "m": "m2", "d": digests["m2"]}),
            ("accepted", {"s": 1, "m": ["m1", "m2"], "stable": True, "complete": True}),
            ("accepted", {"s": 1, "m": ["m3"], "stable": False, "complete": False}),
            ("node signal", {}),
            ("signal", {"s": 1, "g": "g"}),
            ("undeliverable", {"s": 1, "to": "bob@n2"}),
            ("leave", {"s": 1, "g": "g"}),
            ("left", {"s": 1, "g": "g", "reason": "LEAVE"}),
            ("close", {"s": 1}),
            ("leaving", {}),
            ("end", {"how": "left"}),
        ]
        start, *lines = self.lines()
        self.assertEqual((start["e"], start["format"], start["node"], start["cluster"]), ("start", 1, own, "default"))
        self.assertEqual((start["at"], start["wall"]), (0.0, 1_000_000.0))
        times = [line.pop("at") for line in lines]
        self.assertEqual([(line.pop("e"), line) for line in lines], expected)
        self.assertEqual(times, sorted(times))
        self.assertEqual(times[4], 0.25)
        self.assertNotIn("secret", self.path.read_text())

    def test_on_file_before_a_datagram_leaves(self) -> None:
        """What a datagram could tell others is on the file before it is sent, so a killed node leaves it behind."""
        bench = self.bench()
        session = bench.node.open_session("app", RecordingHandler())
        bench.clock.turn()
        found: list[list[str]] = []

        class LookingTransport(RecordingTransport):
            def send(transport, datagrams: Any) -> None:
                found.append(self.kinds())

        bench.transport.__class__ = LookingTransport
        bench.engine.datagrams.append(Datagram(b"m1", None))
        bench.engine.outputs.append(SendAccepted(1, 1, True))
        session.send(("g",), b"m1|", Level.AGREED)
        self.assertEqual(found, [["start", "open", "send", "accepted"]])
        session.send(("g",), b"m2|", Level.AGREED)
        bench.engine.datagrams.append(Datagram(b"m2", None))
        bench.clock.turn()
        self.assertEqual(found[1:], [["start", "open", "send", "accepted", "send"]])

    def test_payloads(self) -> None:
        """Messages that came packed stand in it one by one, as those that were sent one by one do."""
        bench = self.bench()
        session = bench.node.open_session("app", RecordingHandler())
        session.send_payload(("g",), pack_messages([b"m1|secret", b"m2|"]), Level.AGREED)
        session.send_payload(("", "bob", "n2"), pack_messages([b"m3|"]), Level.FIFO)
        bench.clock.turn()
        sent = [(line["m"], line["d"], line["g"], line["to"]) for line in self.lines() if line["e"] == "send"]
        self.assertEqual(
            sent,
            [
                ("m1", message_digest(b"m1|secret"), ["g"], None),
                ("m2", message_digest(b"m2|"), ["g"], None),
                ("m3", message_digest(b"m3|"), [], "bob@n2"),
            ],
        )

    def test_only_what_the_engine_took(self) -> None:
        """A send that the engine refuses, and events of a session that is over, are not in it."""
        bench = self.bench()
        session = bench.node.open_session("app", RecordingHandler())
        bench.engine.refusal = QueueFull("full")
        sending = session.send(("g",), b"m1|", Level.AGREED)
        bench.clock.turn()
        session.close()
        self.failureResultOf(sending, NotConnected)
        bench.say(GroupSignalDelivered((1,), "g"), SendAccepted(1, 1, True))
        self.assertEqual(self.kinds(), ["start", "open", "close"])

    def test_the_end_closes_every_session(self) -> None:
        """When the engine stops, sessions are closed first and the end is the last line."""
        bench = self.bench()
        for name in ("a", "b"):
            bench.node.open_session(name, RecordingHandler())
        bench.say(Stopped("name in use", clean=False))
        self.assertEqual(self.kinds(), ["start", "open", "open", "close", "close", "end"])
        self.assertEqual(self.lines()[-1]["how"], "name in use")
        self.successResultOf(bench.node.stopService())

    def test_unreadable_frame(self) -> None:
        """A frame that no session can be given is in no trace."""
        bench = self.bench()
        session = bench.node.open_session("app", RecordingHandler())
        bench.say(FrameDelivered(((1, ()),), session.member, Level.FIFO, b"\xff", {}))
        self.assertEqual(self.kinds(), ["start", "open"])


class FileTests(TraceTestCase):
    """The file it stands in."""

    def test_off(self) -> None:
        """Without being asked for there is no file and no recorder."""
        bench = NodeBench(NodeConfig(node="n1", insecure=True))
        before = set(os.listdir("."))
        bench.node.startService()
        bench.node.open_session("app", RecordingHandler())
        bench.clock.turn()
        self.assertEqual(set(os.listdir(".")), before)

    def recorder(self, limit_bytes: int = LIMIT_BYTES, incarnation: int = 1) -> TraceRecorder:
        node = NodeId("n1", incarnation)
        recorder = TraceRecorder(self.path, limit_bytes, node, "default", lambda: 1.5, lambda: 1000.0)
        self.addCleanup(recorder.close)
        recorder.started()
        return recorder

    def test_limit(self) -> None:
        """At its limit a trace ends with whole lines and one that says so; the file never grows beyond."""
        recorder = self.recorder(2000)
        for number in range(1, 200):
            recorder.opened(MemberId("app", NodeId("n1", 1), number))
            recorder.happened(())
        self.assertFalse(recorder.recording)
        kinds = self.kinds()
        self.assertEqual(set(kinds[1:-1]), {"open"})
        self.assertEqual(self.lines()[-1], {"e": "limit", "at": 1.5, "bytes": 2000})
        self.assertTrue(2000 - LAST_LINE_BYTES - 100 < self.path.stat().st_size <= 2000)
        recorder.ended("left")
        self.assertEqual(self.kinds(), kinds)

    def test_one_batch_larger_than_the_limit(self) -> None:
        """Of a batch that does not fit the lines that do are kept."""
        recorder = self.recorder(2000)
        for number in range(1, 200):
            recorder.opened(MemberId("app", NodeId("n1", 1), number))
        recorder.happened(())
        kinds = self.kinds()
        self.assertEqual((kinds[0], kinds[1], kinds[-1]), ("start", "open", "limit"))
        self.assertTrue(2000 - LAST_LINE_BYTES - 100 < self.path.stat().st_size <= 2000)

    def test_full_before_it_begins(self) -> None:
        """A file that earlier runs have filled is left as it is."""
        self.path.write_bytes(b"x" * 2000 + b"\n")
        recorder = self.recorder(2000)
        self.assertFalse(recorder.recording)
        self.assertEqual(self.path.stat().st_size, 2001)

    def test_runs_follow_each_other(self) -> None:
        """A new run is added to the file, on a line of its own even if the last one was killed in the middle of one."""
        self.recorder().close()
        with self.path.open("ab") as log:
            log.write(b'{"e":"op')
        self.recorder(incarnation=2).ended("left")
        lines = self.path.read_text().splitlines()
        self.assertEqual([line[:10] for line in lines], ['{"e":"star', '{"e":"op', '{"e":"star', '{"e":"end"'])

    def test_private(self) -> None:
        """Only the daemon's user may read it."""
        self.recorder()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_one_writer(self) -> None:
        """A second daemon with the same file says so and does not start; nothing of it is left."""
        self.recorder()
        error = self.assertRaises(EnvironmentFault, self.bench)
        self.assertIn(str(self.path), str(error))
        self.assertEqual(self.kinds(), ["start"])

    def test_cannot_be_written(self) -> None:
        """A place where no file can be is an error of the start, with the place and the reason."""
        self.path = self.path / "nowhere" / "trace"
        error = self.assertRaises(EnvironmentFault, self.bench)
        self.assertIn("No such file", str(error))

    def test_a_start_that_fails(self) -> None:
        """A node that cannot open its sockets gives the file free again, without a run in it."""

        class NoSockets(NodeBench):
            def _open_transport(self, *arguments: object) -> RecordingTransport:
                raise EnvironmentFault("no sockets")

        failing = NoSockets(NodeConfig(node="n1", trace=self.path, insecure=True))
        self.assertRaises(EnvironmentFault, failing.node.startService)
        self.assertEqual(self.kinds(), [])
        self.bench()
        self.assertEqual(self.kinds(), ["start"])

    def test_disk_full(self) -> None:
        """A disk without room ends the trace and nothing else."""
        self.path = Path("/dev/full")
        recorder = self.recorder()
        self.assertFalse(recorder.recording)
        recorder.opened(MemberId("app", NodeId("n1", 1), 1))
        recorder.happened(())


class LabelTests(SynchronousTestCase):
    """What messages are called."""

    def test_label(self) -> None:
        """A short printable mark before a bar is the label; any other message is named after its bytes."""
        self.assertEqual(message_label(b"m17|" + bytes(9)), "m17")
        self.assertEqual(message_label(b"x" * 48 + b"|"), "x" * 48)
        for data in (b"", b"|", b"no bar", b"\x00|x", b"\xc3\xa4|", b"x" * 49 + b"|"):
            self.assertRegex(message_label(data), "^[0-9a-f]{16}$")
