"""Values of types that are none of ours: what makes objects of classes that a peer names."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from decimal import Decimal
from typing import Any, cast

from twisted.spread import jelly, pb

import groupcomm
from groupcomm.daemon.broker import SERVER_TYPES
from tests.daemon.raw_calls import call
from tests.hostile.broker_case import BrokerAttack

TWISTEDS = [b"cached", b"lcache", b"local", b"remote", b"twisted.spread.pb.CopyableFailure"]
"""What Twisted itself registers when ``twisted.spread.pb`` is imported."""

COPIED = (pb.Copyable, pb.Cacheable, jelly.Unjellyable)

LIST_REGISTRIES = """
import importlib, pkgutil, sys
from twisted.spread import jelly
import groupcomm
for module in pkgutil.walk_packages(groupcomm.__path__, "groupcomm."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(sorted(jelly.unjellyableRegistry), sorted(jelly.unjellyableFactoryRegistry))
"""


class Trap(pb.Copyable, pb.RemoteCopy):
    """A class of somebody's application, made for another peer than ours; it must not be made here."""

    made: list[Trap] = []

    def setCopyableState(self, state: dict[str, object]) -> None:
        """Somebody was let in."""
        self.made.append(self)


class TypeTests(BrokerAttack):
    def refuse(self, value: object) -> None:
        """It ends the connection, before login and after, wherever it stands."""
        for place in (value, [b"list", value], [b"dictionary", [b"k", value]], [b"tuple", [b"list", value]]):
            attacker = self.attacker()
            attacker.send(call(b"login", place))
            self.assert_cut_without_trace(attacker)
        attacker, avatar = self.logged_in()
        attacker.send(call(b"send", b"chat", value, target=avatar))
        self.assert_cut_without_trace(attacker)
        self.guests.discard("mallory")

    def test_registries_of_the_process(self) -> None:
        """With all of the package imported the two registries of the process hold what Twisted put there itself."""
        listed = subprocess.run(
            [sys.executable, "-c", LIST_REGISTRIES], capture_output=True, text=True, check=True, timeout=120
        ).stdout.strip()
        self.assertEqual(listed, f"{TWISTEDS} []")

    def test_nothing_of_ours_is_copied(self) -> None:
        """No class of the package can be sent as a copy or a cache, but for Twisted's own failure."""
        found = []
        for module in pkgutil.walk_packages(groupcomm.__path__, "groupcomm."):
            if module.name.endswith("__main__"):
                continue
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and value.__module__.startswith("groupcomm") and issubclass(value, COPIED):
                    found.append(value)
        self.assertEqual(found, [])

    def test_class_registered_later(self) -> None:
        """What an application registers in this process stays unknown to clients of the daemon, by any name."""
        registry = cast(dict[Any, Any], jelly.unjellyableRegistry)
        factories = cast(dict[Any, Any], jelly.unjellyableFactoryRegistry)
        before = dict(registry)
        names = ("tests.Trap", "trap", "list", "unicode", "remote", "dictionary")
        attacker, avatar = self.logged_in(b"eve")
        try:
            for name in names:
                pb.setUnjellyableForClass(name, Trap)
                jelly.setUnjellyableFactoryForClass(name + "2", lambda state: Trap())
            for name in ("tests.Trap", "trap", *(name + "2" for name in names)):
                self.assertFalse(SERVER_TYPES.isTypeAllowed(name))
                self.refuse([name.encode(), [b"dictionary"]])
            for value in ([b"list", b"x"], [b"unicode", b"x"], [b"dictionary", [b"a", 1]], [b"remote", 5]):
                attacker.send(call(b"send_many", b"tea", value, target=avatar))
        finally:
            registry.clear()
            registry.update(before)
            factories.clear()
        self.assertEqual(Trap.made, [])
        self.assertFalse(attacker.cut)
        self.assertEqual(self.world.node.sessions["eve"].sent[-1][:2], (("tea",), b"x"))

    def test_decimal_of_twenty_bytes(self) -> None:
        """The few bytes that would become a number of a hundred million digits are no value here."""
        attack = call(b"login", [b"decimal", 1, 100_000_000])
        self.assertEqual(jelly.unjelly([b"decimal", 1, 100_000_000]), Decimal("1E+100000000"))
        self.assertLess(len(attack), 80)
        self.refuse([b"decimal", 1, 100_000_000])

    def test_code(self) -> None:
        """Modules, functions, classes, methods and instances are no values."""
        for value in (
            [b"module", b"os"],
            [b"function", b"os.system"],
            [b"class", b"os.popen"],
            [b"instance", [b"class", b"subprocess.Popen"], [b"dictionary"]],
            [b"method", b"x", [b"None"], [b"None"]],
            [b"subprocess.Popen", [b"dictionary"]],
            [b"groupcomm.daemon.avatar.ClientAvatar", [b"dictionary"]],
            [b"twisted.spread.pb.CopyableFailure", [b"dictionary"]],
            [b"twisted.spread.flavors.RemoteCache", [b"dictionary"]],
        ):
            self.refuse(value)

    def test_references_into_the_daemon(self) -> None:
        """Objects of the daemon cannot be named in arguments, nor values that were sent before."""
        for value in ([b"local", b"root"], [b"local", 1], [b"lcache", 1], [b"cached", 1], [b"persistent", 1]):
            self.refuse(value)
        for value in ([b"reference", 1, [b"list"]], [b"dereference", 1], [b"cache", 1, [b"list"]]):
            self.refuse(value)

    def test_large_numbers_stay_numbers(self) -> None:
        """A number as long as a number may be is refused for its value, in words that are short."""
        attacker, avatar = self.logged_in()
        for number in (2**440, -(2**440), 2**63):
            attacker.received.clear()
            attacker.send(call(b"begin", number, target=avatar, request=5))
            self.assertIn(b"BadArgument", bytes(attacker.received))
            self.assertLess(len(attacker.received), 1000)
