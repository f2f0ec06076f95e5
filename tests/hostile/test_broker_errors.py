"""What errors tell: nothing about the daemon that a client could not know."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.spread import pb

from groupcomm.daemon import errors
from groupcomm.errors import EnvironmentFault, GroupcommError, PeerError
from tests.daemon.raw_calls import call
from tests.hostile.broker_case import Attacker, BrokerAttack

SECRET = "/etc/groupcomm/secret.key of 10.1.2.3"

UNFORESEEN = (
    ValueError(SECRET),
    OSError(2, SECRET),
    KeyError(SECRET),
    AssertionError(SECRET),
    RecursionError(SECRET),
    MemoryError(SECRET),
    pb.Error(SECRET),
    pb.DeadReferenceError(SECRET),
    EnvironmentFault(SECRET),
    PeerError(SECRET),
    GroupcommError(SECRET),
)


class ErrorTests(BrokerAttack):
    def told(self, attacker: Attacker) -> bytes:
        """What came, and from now on only what comes."""
        received = bytes(attacker.received)
        attacker.received.clear()
        return received

    def test_no_text_of_an_unforeseen_error(self) -> None:
        """Whatever goes wrong in the daemon is one error with one text, raised at once or later."""
        attacker, avatar = self.logged_in()
        session = self.world.node.sessions["mallory"]
        for error in UNFORESEEN:
            for broken in (self.raiser(error), self.late_raiser(error)):
                self.patch(session, "send", broken)
                attacker.received.clear()
                attacker.send(call(b"send", b"chat", b"x", target=avatar))
                text = errors.InternalError("the daemon failed on this call; its log says why")
                self.assertEqual(attacker.errors, [("InternalError", str(text))], error)
                told = self.told(attacker)
                for leak in (b"secret", b"10.1.2.3", b"Traceback (", b".py", b"groupcomm.errors."):
                    self.assertNotIn(leak, told)
        self.assertFalse(attacker.cut)
        self.flushLoggedErrors()

    def raiser(self, error: Exception) -> Callable[..., object]:
        """A method that fails."""

        def broken(*args: object, **keywords: object) -> object:
            raise error

        return broken

    def late_raiser(self, error: Exception) -> Callable[..., object]:
        """A method whose answer fails, a turn later."""

        def broken(*args: object, **keywords: object) -> object:
            answer: Deferred[None] = Deferred()
            self.world.clock.callLater(0, answer.errback, error)
            return answer

        return broken

    def test_before_login(self) -> None:
        """The same for a stranger whose login goes wrong."""
        for error in UNFORESEEN:
            self.patch(self.world.factory._portal, "login", lambda *args, error=error: fail(error))
            attacker = self.attacker()
            attacker.send(call(b"login", b"mallory"))
            attacker.send(call(b"respond", b"", target=1, request=2))
            self.assertEqual([name for name, _ in attacker.errors], ["InternalError"])
            self.assertNotIn(b"secret", self.told(attacker))
            attacker.transport.loseConnection()
        self.flushLoggedErrors()

    def test_the_set_is_closed(self) -> None:
        """Every error there is maps to one of those that the page for clients lists."""
        listed = {each.__name__ for each in errors.DaemonError.__subclasses__()}

        def all_kinds(kind: type[GroupcommError]) -> list[type[GroupcommError]]:
            return [kind, *(each for child in kind.__subclasses__() for each in all_kinds(child))]

        for kind in all_kinds(GroupcommError):
            self.assertIn(type(errors.as_peer_error(kind("x"))).__name__, listed)

    def test_refusals_repeat_little(self) -> None:
        """What a refusal repeats of the call is cut short: an error is never larger than the call by much."""
        attacker, avatar = self.logged_in()
        large = b"\x80" * 100_000
        for method, args in (
            (b"x" * 64, ()),
            (b"join", (large,)),
            (b"send", ([b"list", *[large] * 5], b"x")),
            (b"send_private", (b"x" * 100_000, b"x")),
            (b"send", (b"chat", b"x", [b"unicode", b"y" * 100_000])),
            (b"begin", (2**440,)),
            (b"groups", (b"x" * 255, b"z" * 100_000)),
        ):
            attacker.received.clear()
            attacker.send(call(method, *args, target=avatar))
            self.assertEqual(attacker.refusals("BadArgument"), 1, method)
            self.assertLess(len(attacker.received), 2048, method)

    def test_method_without_end(self) -> None:
        """A method's name of more than 64 bytes ends the connection."""
        attacker, avatar = self.logged_in()
        attacker.send(call(b"x" * 65, target=avatar))
        self.assert_cut_without_trace(attacker)
        self.guests.discard("mallory")
