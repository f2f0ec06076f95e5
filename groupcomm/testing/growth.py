"""What a larger cluster costs: how the work of one node grows with the number of nodes.

    python -m groupcomm.testing.growth              10, 50, 100, 200 and 500 nodes
    python -m groupcomm.testing.growth 32 64        these

For each size all nodes start at one instant, and then send messages to one group with a member on every node (above 200
nodes on every third or so, and fewer messages, or the run would take too long): in turn, ten at an instant, so that no
node sends much and many do. Measured is virtual time, and the datagrams that leave and reach a node. That all members
get the same in one order is checked; the oracle's questions are not asked of so large a run.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence

from attrs import field, frozen, mutable

from groupcomm.events import Event, Message, View
from groupcomm.testing.cluster import Cluster
from groupcomm.testing.network import Conditions
from groupcomm.testing.node import SimulatedClient, SimulatedNode
from groupcomm.testing.trace import Trace, TraceEvent

SIZES = (10, 50, 100, 200, 500)
MESSAGES = 1000
MOST_MEMBERS = 200
MOST_PAIRS = 40_000_000
MESSAGES_AT_ONCE = 10
PAUSE_SECONDS = 0.02
LOSS = 0.01
LIMIT_SECONDS = 60.0
LOOK_SECONDS = 0.01
GROUP = "everybody"

HEADINGS = (
    "nodes",
    "s to one view",
    "sent",
    "received",
    "messages",
    "s to deliver",
    "sent per message",
    "received per message",
    "CPU s",
)


@frozen
class Growth:
    """What was measured at one size.

    Attributes:
        nodes: how many nodes.
        join_seconds: virtual time from the start of all nodes to one view of all.
        join_sent: datagrams that a node sent for that, on average; a multicast counts once.
        join_received: datagrams that reached a node, on average.
        messages: how many messages were sent then.
        deliver_seconds: virtual time from the last message handed over to the last one delivered.
        message_sent: datagrams that a node sent, on average, for each message of the cluster, of all kinds.
        message_received: datagrams that reached a node, on average, for each message of the cluster.
        cpu_seconds: what the simulation took.
    """

    nodes: int
    join_seconds: float
    join_sent: float
    join_received: float
    messages: int
    deliver_seconds: float
    message_sent: float
    message_received: float
    cpu_seconds: float

    def row(self) -> str:
        """A row of the table."""
        values = (
            f"{self.nodes}",
            f"{self.join_seconds:.2f}",
            f"{self.join_sent:.0f}",
            f"{self.join_received:.0f}",
            f"{self.messages}",
            f"{self.deliver_seconds:.2f}",
            f"{self.message_sent:.2f}",
            f"{self.message_received:.2f}",
            f"{self.cpu_seconds:.0f}",
        )
        return "| " + " | ".join(values) + " |"


class _NoTrace(Trace):
    """Forgets what happens: a trace of such a run would be all that is in memory."""

    def append(self, event: TraceEvent) -> None:
        """Let it go."""


@mutable
class _Tally:
    """Counts what one member receives, and keeps nothing else."""

    client: SimulatedClient
    members: int = 0
    messages: list[bytes] = field(factory=list)

    def took(self, event: Event) -> None:
        """The member's listener."""
        if isinstance(event, View):
            self.members = len(event.members)
        elif isinstance(event, Message):
            self.messages.append(event.data)
        self.client.events.clear()


def measure(nodes: int, messages: int | None = None, *, loss: float = LOSS) -> Growth:
    """Start so many nodes, have them send so many messages, and see what it costs.

    Args:
        nodes: how many nodes.
        messages: how many messages; None for a thousand, or fewer where that would take too long.
        loss: the probability that a copy of a datagram does not arrive.

    Raises:
        TimeLimitReached: no view of all came about, or a message did not reach everybody.
        AssertionError: a member received something twice, nothing at all, or in another order than the others.
    """
    began = time.process_time()
    messages = messages or min(MESSAGES, MOST_PAIRS // nodes**2)
    cluster = Cluster(seed=f"growth of {nodes}", conditions=Conditions(loss_probability=loss), check_invariants=False)
    cluster.trace = _NoTrace()
    started = cluster.add_nodes(*(f"n{number:03}" for number in range(nodes)))

    def all_are_in_one_view() -> bool:
        installed = {node.views[-1].id if node.views else None for node in started}
        return len(installed) == 1 and all(node.views and len(node.views[-1].members) == nodes for node in started)

    join_seconds = cluster.run_until(all_are_in_one_view, LIMIT_SECONDS, every=LOOK_SECONDS)
    join_sent, join_received = _datagrams(cluster)

    tallies = []
    with_members = started[:: -(-nodes // MOST_MEMBERS)]
    without = [node for node in started if node not in with_members]
    for node in with_members:
        tally = _Tally(node.open("client"))
        tally.client.listener = tally.took
        tally.client.join(GROUP)
        tallies.append(tally)

    def all_have_joined() -> bool:
        return all(tally.members == len(tallies) for tally in tallies)

    cluster.run_until(all_have_joined, LIMIT_SECONDS, every=LOOK_SECONDS)
    cluster.run(1.0)

    before = _datagrams(cluster)
    frames_before = _least_frames(without)
    for number in range(messages):
        tallies[number % len(tallies)].client.send(GROUP, b"message %d" % number)
        if number % MESSAGES_AT_ONCE == MESSAGES_AT_ONCE - 1:
            cluster.run(PAUSE_SECONDS)

    def all_have_all() -> bool:
        if any(len(tally.messages) < messages for tally in tallies):
            return False
        return not without or _least_frames(without) - frames_before >= messages

    deliver_seconds = cluster.run_until(all_have_all, LIMIT_SECONDS, every=LOOK_SECONDS)
    after = _datagrams(cluster)
    assert len(set(tallies[0].messages)) == messages
    assert all(tally.messages == tallies[0].messages for tally in tallies)
    return Growth(
        nodes,
        join_seconds,
        join_sent / nodes,
        join_received / nodes,
        messages,
        deliver_seconds,
        (after[0] - before[0]) / nodes / messages,
        (after[1] - before[1]) / nodes / messages,
        time.process_time() - began,
    )


def _least_frames(nodes: Sequence[SimulatedNode]) -> int:
    """How many frames each of these nodes has delivered at least."""
    return min((node.status().counters.get("frames_delivered", 0) for node in nodes), default=0)


def _datagrams(cluster: Cluster) -> tuple[int, int]:
    """How many have left the nodes, and how many have reached one."""
    counters = cluster.network.counters
    return counters.get("sent", 0), counters.get("deliver", 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each size and print a table that can be put into a page."""
    words = sys.argv[1:] if arguments is None else arguments
    sizes = tuple(int(word) for word in words) or SIZES
    print("| " + " | ".join(HEADINGS) + " |")
    print("|" + "---:|" * len(HEADINGS), flush=True)
    for size in sizes:
        print(measure(size).row(), flush=True)
        gc.collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
