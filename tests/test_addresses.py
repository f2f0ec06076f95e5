"""Addresses are written and read in one form, and equal ones are equal."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.addresses import family_of, header_bytes, is_link_local, literal_host, parse_address, show_address
from groupcomm.errors import UsageError


class ShowTests(SynchronousTestCase):
    """An address for people."""

    def test_both_families(self) -> None:
        """An IPv6 address stands in brackets, with its interface where it is link-local; what is shown can be read."""
        for address, shown in (
            (("10.0.0.1", 4874), "10.0.0.1:4874"),
            (("fd77::1", 4874), "[fd77::1]:4874"),
            (("fe80::1%eth0", 1), "[fe80::1%eth0]:1"),
            (("host.example", 65_535), "host.example:65535"),
        ):
            self.assertEqual(show_address(address), shown)
            self.assertEqual(parse_address(shown, 9), address)

    def test_family(self) -> None:
        """The family of a host, and what its headers cost."""
        self.assertEqual([family_of(host) for host in ("10.0.0.1", "fd77::1", "fe80::1%eth0")], [4, 6, 6])
        self.assertEqual(
            [is_link_local((host, 1)) for host in ("10.0.0.1", "fd77::1", "fe80::1%eth0")], [False, False, True]
        )
        self.assertEqual([header_bytes(host) for host in ("10.0.0.1", "fd77::1")], [28, 48])


class ParseTests(SynchronousTestCase):
    """HOST[:PORT]."""

    def test_without_a_port(self) -> None:
        """The default port counts where none is given; an IPv6 address needs no brackets then."""
        for text, host in (
            ("host", "host"),
            (" 10.0.0.1 ", "10.0.0.1"),
            ("FD77:0:0::1", "fd77::1"),
            ("[fd77::1]", "fd77::1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("::1", "::1"),
        ):
            self.assertEqual(parse_address(text, 4874), (host, 4874))

    def test_one_spelling(self) -> None:
        """However an address is spelt, it is the same address."""
        for text in ("fd77:0000:0000:0000:0000:0000:0000:00AB", "[fd77::ab]", "FD77::0:AB"):
            self.assertEqual(literal_host(text), "fd77::ab")
        self.assertEqual(literal_host("::ffff:10.0.0.1"), "10.0.0.1")
        for text in ("host", "", "[10.0.0.1]", "10.0.0", "[]", "fd77::1%"):
            self.assertIsNone(literal_host(text))

    def test_refused(self) -> None:
        """Anything else is refused."""
        for text in (
            *("", ":1", "host:", "host:0", "host:65536", "host:x", "host:1:2", "a b", "h" * 254, "host%eth0:1"),
            *(
                "[::1]:",
                "[::1]:0",
                "[::1]x",
                "[::1",
                "::1]:5",
                "[10.0.0.1]:5",
                "[]:5",
                "[host]:5",
                "fd77::1:x",
                "[::1]5",
            ),
        ):
            with self.assertRaises(UsageError, msg=text):
                parse_address(text, 4874)
