"""The status for people."""

from __future__ import annotations

import io
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from groupcomm.cli.running import CommandFailed
from groupcomm.cli.status import (
    SHOWN_GROUPS,
    counters_table,
    groups_table,
    members_table,
    node_table,
    paths_table,
    settings_as_object,
    settings_table,
    show_tables,
    size,
)

FACTS: dict[str, Any] = {
    "version": "0.1.0",
    "node": "alpha",
    "incarnation": 0xABC,
    "cluster": "default",
    "state": "operational",
    "view": "7-alpha-abc",
    "members": [("alpha", 0xABC), ("beta", 5)],
    "sequencer": "alpha",
    "primary": True,
    "quorum": {
        "filter": "none",
        "nodes": [],
        "tie_breaker": None,
        "witness": False,
        "why": "every component acts",
        "differing": [],
        "remembers": False,
    },
    "groups": 1,
    "peers": [
        {
            "node": "beta",
            "incarnation": 5,
            "address": "10.0.0.2:4874",
            "round_trip_seconds": 0.0004,
            "silent_seconds": 0.2,
            "packets_received": 2000,
            "packets_missing": 100,
            "nacks_sent": 7,
            "repairs_received": 99,
            "unstable_packets": 3,
            "paths": [
                {
                    "address": "10.0.0.2:4874",
                    "reach": "multicast",
                    "heard": True,
                    "multicast_heard": True,
                    "round_trip_seconds": 0.0004,
                    "loss": 0.0,
                    "mtu_bytes": 1472,
                    "searching": False,
                }
            ],
        }
    ],
    "slow": [],
    "catching_up": [],
    "kept_out": [],
    "flapping": [],
    "discovery": [],
    "sealed": True,
    "key_epoch": 3,
    "evicted_by": [],
    "window_bytes": 65536,
    "outstanding_bytes": 1000,
    "queued_bytes": 0,
    "counters": {"datagrams_sent": 12345, "malformed": 0, "nacks_sent": 7, "views_installed": 2},
    "clients": 1,
    "client_queue_bytes": 0,
    "config": [("cluster", "default", "default"), ("node", "alpha", "file /etc/x.toml:3")],
}


class StatusTests(SynchronousTestCase):
    """Tables that read well, also in a file."""

    def shown(self, *tables: Any) -> str:
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        show_tables(tables)
        return output.getvalue()

    def test_paths(self) -> None:
        """Paths are shown where there are several, or one carries no multicast: what reaches whom, and how large."""
        self.assertIsNone(paths_table(FACTS))
        (peer,) = FACTS["peers"]
        (path,) = peer["paths"]
        deaf = {**peer, "paths": [{**path, "reach": "unicast", "mtu_bytes": 8972, "searching": True}]}
        shown = self.shown(paths_table({**FACTS, "peers": [deaf]}))
        self.assertIn("beta  10.0.0.2:4874  unicast        multicast", shown)
        self.assertIn("8,972 ?", shown)
        silent = {**path, "address": None, "reach": "nothing", "heard": False, "multicast_heard": False, "loss": 0.25}
        shown = self.shown(paths_table({**FACTS, "peers": [{**peer, "paths": [path, silent]}]}))
        self.assertIn("beta, link 0  10.0.0.2:4874  multicast", shown)
        self.assertIn("beta, link 1  -              nothing        nothing", shown)
        self.assertIn("25%", shown)

    def test_everything_is_there(self) -> None:
        """The node, its view with all nodes, the peers with losses and repairs, and what was counted."""
        groups = [{"name": "tea", "view": "7-alpha-abc/1", "members": ["anne@alpha", "ben@beta"]}]
        shown = self.shown(node_table(FACTS), members_table(FACTS), groups_table(groups), counters_table(FACTS))
        for text in (
            "alpha (incarnation abc, groupcomm 0.1.0)",
            "alpha, beta",
            "1000 B of 64 KiB",
            "10.0.0.2:4874",
            "0.4 ms",
            "100 (5.0%)",
            "anne@alpha, ben@beta",
            "12,345",
        ):
            self.assertIn(text, shown)
        self.assertNotIn("malformed", shown)
        self.assertNotIn("\x1b", shown)

    def test_slow_nodes(self) -> None:
        """Who holds this node up, who is kept out for that, and whether it is this node."""
        slow = {"node": "beta", "lag_bytes": 65536, "seconds": 12.3, "state": "waited for"}
        late = {**slow, "node": "zeta", "state": "catching up"}
        lane = {"node": "zeta", "by": "theta", "lag_bytes": 4096, "seconds": 7.0}
        twice = {"node": "gamma", "lag_bytes": 2048, "seconds": 19.6, "times": 2}
        once = {**twice, "node": "delta", "times": 1}
        shown = self.shown(
            node_table(
                {
                    **FACTS,
                    "slow": [slow, late],
                    "catching_up": [lane],
                    "kept_out": [twice, once],
                    "evicted_by": ["eta", "iota"],
                }
            )
        )
        for text in (
            "beta lacks 64 KiB; sending has waited for it for 12 s",
            "zeta lacks 64 KiB; it is slow, and sending goes on without it: slow for 12 s",
            "zeta lacks 4096 B of what theta has sent, for 7 s",
            "gamma for another 20 s: evicted for being slow, lacked 2048 B, 2 times now",
            "this node, for being slow, by eta, iota",
        ):
            self.assertIn(text, shown)
        self.assertEqual(shown.count("times now"), 1)

    def test_discovery(self) -> None:
        """A line for each source: what it looks at, what it has found, and its trouble."""
        beacons = {"source": "multicast", "looks_at": "the beacons", "known": 0, "found": [], "trouble": None}
        found = [f"10.0.0.{number}:1" for number in range(20)]
        dns = {"source": "dns", "looks_at": "a, b", "known": 70, "found": found, "trouble": "b: x", "troubled": True}
        file = {**dns, "source": "file", "looks_at": "/p", "known": 0, "found": [], "troubled": False}
        shown = self.shown(node_table({**FACTS, "discovery": [beacons, dns, file]}))
        self.assertIn("multicast: the beacons\n", shown)
        self.assertIn("dns: a, b: 10.0.0.0:1, ", shown)
        self.assertIn("and 62 more; trouble: b: x", shown.replace("\n", " ").replace("  ", ""))
        self.assertIn("file: /p: nothing found; earlier: b: x", shown)

    def test_quorum(self) -> None:
        """With a filter it is said how the view stands, why, and who has other settings."""
        quorum = {**FACTS["quorum"], "filter": "majority", "why": "less than half is here", "witness": True}
        shown = self.shown(node_table({**FACTS, "primary": False, "quorum": quorum}))
        self.assertIn("operational, not primary", shown)
        self.assertIn("majority: less than half is here (this node is a witness)", shown)
        self.assertNotIn("quorum", self.shown(node_table(FACTS)))

    def test_alone(self) -> None:
        """A node without a view, peers or groups has only itself to show."""
        alone = {**FACTS, "view": None, "members": [], "peers": [], "sequencer": None, "counters": {}, "primary": False}
        self.assertIn("none yet", self.shown(node_table(alone)))
        self.assertIsNone(members_table(alone))
        self.assertIsNone(groups_table([]))
        self.assertIsNone(counters_table(alone))

    def test_names_are_no_markup(self) -> None:
        """What looks like markup in a name is shown as it is."""
        group = {"name": "[red]tea[/red]", "view": "", "members": ["[b]@alpha"]}
        shown = self.shown(groups_table([group]))
        self.assertIn("[red]tea[/red]", shown)
        self.assertIn("[b]@alpha", shown)

    def test_many_groups(self) -> None:
        """Of very many groups the first are shown, and how many more there are."""
        groups = [{"name": f"g{number}", "view": "", "members": []} for number in range(SHOWN_GROUPS + 1000)]
        self.assertIn("1,000 more", self.shown(groups_table(groups)))

    def test_settings(self) -> None:
        """Each setting with its value and where it was given."""
        shown = self.shown(settings_table(FACTS))
        self.assertRegex(shown, r"node +alpha +file /etc/x.toml:3")
        self.assertEqual(settings_as_object(FACTS)["cluster"], {"value": "default", "source": "default"})
        self.assertRaises(CommandFailed, settings_table, {**FACTS, "config": []})

    def test_sizes(self) -> None:
        """Sizes in units that fit."""
        self.assertEqual([size(n) for n in (0, 9999, 10_240, 10 * 2**20)], ["0 B", "9999 B", "10 KiB", "10 MiB"])
