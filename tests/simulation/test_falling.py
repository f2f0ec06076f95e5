"""What random runs and made-up crashes have found, each as a small scenario of its own."""

from __future__ import annotations

from groupcomm.outputs import Address
from groupcomm.testing.node import SimulatedNode
from groupcomm.testing.packets import packet_kind
from tests.simulation.test_scenarios import ScenarioCase

CHANGE_KINDS = ("JOIN", "RECOVER", "ANSWER", "PLAN", "READY", "INSTALL")


class FallingInAChangeTests(ScenarioCase):
    def fall_when_sending(self, kind: str, reaches: int | None, names: str) -> list[SimulatedNode]:
        """The first of ``names`` to send this kind of packet is switched off; the packet reaches so many others."""
        cluster, fallen = self.cluster, list[SimulatedNode]()

        def tap(data: bytes, source: Address) -> int | None:
            node = next(node for node in cluster.nodes.values() if node.address == source)
            if node.name not in names or packet_kind(data) != kind:
                return None
            cluster.network.tap = None
            cluster.network.mute(source)
            cluster.scheduler.call_later(0.0, node.vanish)
            fallen.append(node)
            return reaches

        cluster.network.tap = tap
        return fallen

    def test_host_that_vanishes_at_any_step_of_a_change(self) -> None:
        """A second host is lost at a named step of the change that the first brought about: the others go on.

        Found: a proposer took its own PLAN, which the network brings back to it, for progress, and waited without end
        for a host that had vanished after its ANSWER.
        """
        for kind in CHANGE_KINDS:
            for reaches in (0, 1, None):
                cluster = self.build("abcd")
                self.clients()
                fallen = self.fall_when_sending(kind, reaches, "abc" if kind not in ("ANSWER", "READY") else "c")
                cluster.node("d").crash()
                cluster.run(0.2)
                cluster.run_until(cluster.converged, 5.0)
                self.assertEqual(len(fallen), 1)
                self.assertEqual(len(cluster.live_nodes()), 2, f"{kind} to {reaches}")
                self.settle()
