"""Traces of real nodes become one trace, and the oracle finds in it what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from groupcomm.events import Level, View
from groupcomm.identity import GroupViewId, MemberId, NodeId, ViewId
from groupcomm.node.recorder import TraceRecorder
from groupcomm.outputs import FrameDelivered, GroupViewDelivered, NodeViewInstalled, SendAccepted
from groupcomm.packing import pack_messages
from groupcomm.testing import trace as traces
from groupcomm.testing.logs import KILLED, Reading, join_logs, main, read_logs
from groupcomm.testing.recorded import LogError, read_log
from groupcomm.testing.trace import describe

N1, N2 = NodeId("n1", 10), NodeId("n2", 20)
A, B = MemberId("a", N1, 1), MemberId("b", N2, 1)
PAIR = ViewId(1, N1)
JOINED = GroupViewId(PAIR, 1), GroupViewId(PAIR, 2)
LIMIT_BYTES = 1 << 20


def message(number: int) -> bytes:
    """A message with a label."""
    return f"m{number}|{'x' * 10}".encode()


class World(SynchronousTestCase):
    """Two nodes with a client each, whose recorders are told what engines would say; time is stepped by hand."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.clock = Clock()
        self.clock.advance(5.0)
        self.recorders: dict[NodeId, TraceRecorder] = {}

    def path(self, node: NodeId) -> Path:
        return self.folder / f"{node.name}.trace"

    def recorder(self, node: NodeId, limit_bytes: int = LIMIT_BYTES, cluster: str = "default") -> TraceRecorder:
        made = TraceRecorder(self.path(node), limit_bytes, node, cluster, self.clock.seconds, lambda: 1000.0)
        self.addCleanup(made.close)
        self.recorders[node] = made
        made.started()
        return made

    def tick(self) -> None:
        self.clock.advance(0.001)

    def together(self) -> None:
        """Both nodes in one view, both clients in one group."""
        first = NodeViewInstalled(PAIR, (N1, N2), (N1,), (), N1)
        for node in (N1, N2):
            self.recorder(node)
        for node, member in ((N1, A), (N2, B)):
            recorder = self.recorders[node]
            self.tick()
            view = NodeViewInstalled(first.id, first.members, (node,), (), N1)
            recorder.happened([view])
            recorder.opened(member)
            recorder.joining(1, "g")
            recorder.happened(())
        self.tick()
        self.recorders[N1].happened([GroupViewDelivered((1,), View("g", JOINED[0], (A,), (A,), (), (A,), True))])
        second = {
            A: View("g", JOINED[1], (A, B), (B,), (), (A,), True),
            B: View("g", JOINED[1], (A, B), (B,), (), (B,), True),
        }
        for node, member in ((N1, A), (N2, B)):
            self.tick()
            self.recorders[node].happened([GroupViewDelivered((1,), second[member])])

    def say(self, number: int, *receivers: NodeId) -> None:
        """One message of A, delivered at these nodes and confirmed."""
        self.send(number)
        for node in receivers or (N1, N2):
            self.deliver(number, node)
        self.tick()
        self.recorders[N1].happened([SendAccepted(1, number, True)])

    def send(self, number: int) -> None:
        self.tick()
        self.recorders[N1].sent(1, number, [message(number)], Level.AGREED, ("g",), stable=True, self_discard=False)

    def deliver(self, number: int, node: NodeId) -> None:
        self.tick()
        frame = FrameDelivered(((1, ("g",)),), A, Level.AGREED, pack_messages([message(number)]), {"g": JOINED[1]})
        self.recorders[node].happened([frame])

    def read(self, *, killed: Sequence[str] = (), until: float | None = None) -> Reading:
        return join_logs(read_logs(sorted(self.folder.iterdir())), killed=killed, until=until)

    def broken(self, reading: Reading, *, at_rest: bool = True) -> set[str]:
        """The properties that the oracle finds broken."""
        return {violation.property for violation in reading.examine(at_rest=at_rest).violations}

    def change(self, node: NodeId, edit: Any) -> None:
        """Let ``edit`` change the list of lines of a trace."""
        lines = self.path(node).read_bytes().splitlines(keepends=True)
        self.path(node).write_bytes(b"".join(edit(lines)))


class VerdictTests(World):
    """What the oracle makes of it."""

    def test_a_good_run(self) -> None:
        """Two nodes that did everything right: nothing is broken, and much was put to the test."""
        self.together()
        for number in (1, 2, 3):
            self.say(number)
        reading = self.read()
        report = reading.examine(at_rest=True)
        self.assertEqual(report.violations, [])
        self.assertEqual((reading.alive, reading.cut_at, reading.left_out), ((N1, N2), None, ()))
        for name in ("D1", "D2", "M1", "M4", "O5", "O7", "G5", "L2"):
            self.assertGreater(report.premises.get(name, 0), 0, name)

    def test_a_delivery_missing(self) -> None:
        """A message that one of them lacks is found."""
        self.together()
        self.say(1)
        self.say(2, N1)
        self.assertIn("L2", self.broken(self.read()))
        self.assertIn("G5", self.broken(self.read(), at_rest=False))

    def test_a_delivery_twice(self) -> None:
        """A line too many is a message delivered twice."""
        self.together()
        self.say(1)
        self.change(N2, lambda lines: [*lines, lines[-1]])
        self.assertIn("D2", self.broken(self.read()))

    def test_nobody_sent_it(self) -> None:
        """A message whose send is in no trace is found."""
        self.together()
        self.say(1, N2)
        self.change(N1, lambda lines: [line for line in lines if b'"send"' not in line and b'"accepted"' not in line])
        self.assertEqual(self.broken(self.read()), {"D1"})

    def test_two_orders(self) -> None:
        """Two orders of AGREED messages are found."""
        self.together()
        for number in (1, 2):
            self.send(number)
        for number, node in ((1, N1), (2, N1), (2, N2), (1, N2)):
            self.deliver(number, node)
        self.assertIn("O7", self.broken(self.read()))


class OrderTests(World):
    """One order of several files."""

    def test_by_time(self) -> None:
        """Events come by time whichever file they are in, those of one node in the order of its file."""
        self.together()
        for number in (1, 2):
            self.say(number)
        events = self.read().trace.events
        self.assertEqual([event.at for event in events], sorted(event.at for event in events))
        of_messages = [type(event).__name__ for event in events if hasattr(event, "message")]
        self.assertEqual(of_messages, ["Sent", "Delivered", "Delivered"] * 2)

    def test_at_one_time_a_send_comes_first(self) -> None:
        """Should two clocks show the same, a message is not delivered before it is sent."""
        self.together()
        self.say(1)
        sent = next(event.at for event in self.read().trace if isinstance(event, traces.Sent))

        def at_once(lines: list[bytes]) -> list[bytes]:
            line = json.loads(lines[-1])
            return [*lines[:-1], json.dumps({**line, "at": sent}).encode() + b"\n"]

        self.change(N2, at_once)
        self.assertEqual(self.broken(self.read()), set())

    def test_until(self) -> None:
        """Cut off at a time, what is left is what had happened by then."""
        self.together()
        self.say(1)
        self.tick()
        until = self.clock.seconds()
        self.say(2, N1)
        reading = self.read(until=until)
        self.assertLess(reading.trace.events[-1].at, until)
        self.assertEqual(self.broken(reading), set())

    def test_limit(self) -> None:
        """When one trace is full, all are judged up to there, and nothing is said of the end."""
        self.together()
        self.say(1)
        self.change(N2, lambda lines: [*lines, b'{"e":"limit","at":%r,"bytes":9}\n' % self.clock.seconds()])
        self.say(2, N1)
        reading = self.read()
        self.assertIsNotNone(reading.cut_at)
        self.assertNotIn("m2", [event.message for event in reading.trace if isinstance(event, traces.Sent)])
        report = reading.examine(at_rest=True)
        self.assertEqual((report.violations, report.premises.get("L2")), ([], None))

    def test_namesakes(self) -> None:
        """Messages that share a label are left out, and named."""
        self.together()
        self.say(1)
        self.say(2)
        self.say(2)
        reading = self.read()
        self.assertEqual(reading.left_out, ("m2",))
        self.assertEqual(self.broken(reading), set())
        self.assertEqual(
            [e.message for e in reading.trace if isinstance(e, traces.Sent | traces.Delivered)], ["m1"] * 3
        )


class EndTests(World):
    """How runs end."""

    def test_killed(self) -> None:
        """A node said to be killed ends where its log ends, its clients with it; it owes nobody anything more."""
        self.together()
        self.say(1, N1)
        self.assertNotEqual(self.broken(self.read()), set())
        reading = self.read(killed=["n2"])
        self.assertEqual(reading.alive, (N1,))
        *_, before, closed, ended = [event for event in reading.trace if "n2" in describe(event).split()[1]]
        self.assertEqual((closed, ended), (traces.Closed(before.at, B), traces.NodeEnded(before.at, N2, KILLED)))
        self.assertEqual(self.broken(reading, at_rest=False), set())

    def test_said_itself(self) -> None:
        """A node that says how it ended needs nobody to say so."""
        self.together()
        self.tick()
        self.recorders[N2].ended("left")
        reading = self.read(killed=["n2"])
        self.assertEqual(reading.trace.events[-1], traces.NodeEnded(self.clock.seconds(), N2, "left"))
        self.assertEqual(reading.alive, (N1,))

    def test_unfinished_line(self) -> None:
        """A last line without its end is what a killed node leaves; it counts as not written."""
        self.together()
        self.change(N2, lambda lines: [*lines[:-1], lines[-1][:-20]])
        (run,) = read_log(self.path(N2))
        self.assertFalse(run.ended)
        self.assertEqual(type(run.events[-1]), traces.JoinAsked)

    def test_several_runs(self) -> None:
        """One file may hold a run that was killed in the middle of a line, and the next: the first one is over."""
        self.together()
        self.recorders[N2].close()
        self.change(N2, lambda lines: [*lines[:-1], lines[-1][:-20]])
        self.tick()
        again = NodeId("n2", 21)
        self.recorder(again)
        reading = self.read()
        self.assertEqual(reading.alive, (N1, again))
        self.assertEqual([event.node for event in reading.trace if isinstance(event, traces.NodeEnded)], [N2])

    def test_unknown_victim(self) -> None:
        """To call a node killed that nobody knows is a mistake."""
        self.together()
        self.assertIn("n9", str(self.assertRaises(LogError, self.read, killed=["n9"])))


class DamageTests(World):
    """Files that are not what they should be."""

    def refused(self, text: str) -> None:
        self.assertIn(text, str(self.assertRaises(LogError, self.read)))

    def test_damaged_lines(self) -> None:
        """A line that no recorder writes is refused with file and line, whatever is wrong with it."""
        for number, bad in enumerate(
            (
                b"{",
                b"[]",
                b"{}",
                b'{"e":"dance","at":9.0,"s":1}',
                b'{"e":"close","at":9.0,"s":7}',
                b'{"e":"close","at":1.0,"s":1}',
                b'{"e":"close","at":"late","s":1}',
                b'{"e":"signal","at":9.0,"s":1}',
                b'{"e":"left","at":9.0,"s":1,"g":"g","reason":"BORED"}',
                b'{"e":"accepted","at":9.0,"s":1,"m":["m9"],"stable":true,"complete":true}',
                b'{"e":"open","at":9.0,"s":1,"client":"b"}',
                b'{"e":"node view","at":9.0,"v":[1],"members":[],"transitional":[],"departed":[],"sequencer":["n",1]}',
                b"\x00\x00",
                b"\xff",
                b"",
            )
        ):
            for path in self.folder.iterdir():
                path.unlink()
            self.together()
            self.change(N2, lambda lines, bad=bad: [*lines[:3], bad + b"\n", *lines[3:]])
            with self.subTest(number=number):
                self.refused("n2.trace:4: ")

    def test_no_trace_at_all(self) -> None:
        """A file that never was a trace, an empty one and one that is not there are refused."""
        self.path(N1).write_text("hello\n")
        self.refused("n1.trace:1: ")
        self.path(N1).write_text("")
        self.refused("nothing")
        self.assertRaises(LogError, read_log, self.folder / "nowhere")

    def test_other_format(self) -> None:
        """A trace of a later format is refused, saying so."""
        self.together()
        self.change(N1, lambda lines: [lines[0].replace(b'"format":1', b'"format":2'), *lines[1:]])
        self.refused("format 2")

    def test_after_the_end(self) -> None:
        """Nothing can follow the end of a run but the start of another."""
        self.together()
        self.recorders[N1].ended("left")
        self.change(N1, lambda lines: [*lines, lines[-1]])
        self.refused("follows the end")

    def test_one_missing(self) -> None:
        """Without the trace of a node that was in a view nothing can be said."""
        self.together()
        self.path(N2).unlink()
        self.refused("n2")

    def test_not_of_one_cluster(self) -> None:
        """Traces of two clusters do not belong together."""
        self.recorder(N1)
        self.recorder(N2, cluster="other")
        self.refused("cluster")

    def test_two_machines(self) -> None:
        """Clocks of two machines cannot be compared."""
        self.together()
        self.change(N1, lambda lines: [json.dumps({**json.loads(lines[0]), "boot": "x"}).encode() + b"\n", *lines[1:]])
        self.refused("two machines")

    def test_the_same_twice(self) -> None:
        """One run given twice is a mistake."""
        self.together()
        (self.folder / "copy").write_bytes(self.path(N1).read_bytes())
        self.refused("same run")


class CommandTests(World):
    """``python -m groupcomm.testing.logs``."""

    def run_command(self, *options: str) -> tuple[int, str]:
        printed = StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            status = main([*options, *map(str, sorted(self.folder.iterdir()))])
        return status, printed.getvalue()

    def test_good(self) -> None:
        """Status 0, and how often each property was put to the test."""
        self.together()
        self.say(1)
        status, text = self.run_command("--at-rest")
        self.assertEqual(status, 0, text)
        self.assertIn("every property holds", text)
        self.assertRegex(text, r"D1 +2\n")
        self.assertIn("2 runs of nodes, 2 sessions, 1 messages, 2 deliveries", text)

    def test_broken(self) -> None:
        """Status 1, what is broken, and the last events."""
        self.together()
        self.say(1, N1)
        status, text = self.run_command()
        self.assertEqual(status, 1)
        self.assertIn("G5: ", text)
        self.assertIn("deliver m1 AGREED", text)

    def test_killed(self) -> None:
        """A node that was killed is named as such."""
        self.together()
        self.tick()
        self.assertEqual(self.run_command("--killed", "n2", "--at-rest")[0], 1)  # the survivor never changed its view
        self.assertEqual(self.run_command("--killed", "n2")[0], 0)

    def test_cannot_say(self) -> None:
        """Status 2 and one line that says why."""
        self.together()
        self.path(N2).unlink()
        status, text = self.run_command()
        self.assertEqual((status, text.count("\n")), (2, 1))
        self.assertIn("its trace is needed too", text)

    def test_left_out(self) -> None:
        """What was not judged is said."""
        self.together()
        self.say(1)
        self.say(1)
        self.change(N2, lambda lines: [*lines, b'{"e":"limit","at":%r,"bytes":9}\n' % self.clock.seconds()])
        status, text = self.run_command()
        self.assertEqual(status, 0)
        self.assertIn("left out: 1", text)
        self.assertIn("limit", text)
