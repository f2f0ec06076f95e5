"""What follows about the node: its view, its keys, its quorum, its time on the processor, its clients.

Pure: facts in, findings out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from groupcomm.cli.doctor.finding import (
    Facts,
    Finding,
    Host,
    count_of,
    failure,
    fine,
    named,
    often,
    since,
    warning,
)
from groupcomm.limits import CLIENT_QUEUE_BYTES

RECENT_SECONDS: Final = 180.0
"""Refusals told of in this time still happen: a node tells of them once a minute."""

MANY_VIEWS: Final = 20
"""As many changes of the view are normal: nodes that start come one after the other."""

REFUSED: Final = {
    "seal_broken": (
        "packets do not open: a node there has another key for this cluster",
        "copy the file with the key from a node of this cluster to that host, and start its daemon again",
    ),
    "unsealed": (
        "packets have no seal: a node there runs without a key",
        "give that daemon the key of the cluster, or its cluster another name or multicast group",
    ),
    "passport_refused": (
        "a node there is not let in",
        "look at its certificate: groupcomm ca issue --node, the authority, the revocation list, the clocks",
    ),
    "signature_broken": (
        "packets are not signed by whom they name: a node of this cluster forges",
        "find out who runs at that address; groupcomm expel NODE",
    ),
}
"""Each reason to refuse packets, in words, and what to do."""


def no_daemon(trouble: str) -> Finding:
    """What there is to say where no daemon answers."""
    return failure(
        "daemon",
        trouble,
        "start it (twistd -n groupcomm), or say where it is (--control); if it ends at once, the last line of its log "
        "says why: a node name that is in use, no key, an interface that is down",
    )


def no_interface() -> Finding:
    """A host on which no daemon could start."""
    return failure("interface", "no interface with an address is up", "ip link; ip address; bring one up")


def elsewhere() -> Finding:
    """The daemon answers, and not from this host."""
    return warning(
        "daemon",
        "none of the daemon's addresses is of this host: it runs on another, or in another network namespace; the host "
        "was not looked at",
        "run groupcomm doctor on the host of the daemon",
    )


def node_findings(facts: Facts, host: Host | None, version: str) -> Iterator[Finding]:
    """Everything of this module."""
    yield from daemon(facts, version)
    yield from view(facts)
    yield from quorum(facts)
    yield from keys(facts)
    yield from strangers(facts)
    yield from discovery(facts)
    yield from clock(facts, host)
    yield from cpu(facts, host)
    yield from slow_nodes(facts)
    yield from clients(facts)


def daemon(facts: Facts, version: str) -> Iterator[Finding]:
    """It answers; and it is what is installed."""
    name = f"node {facts['node']} of cluster {facts['cluster']}"
    if facts["version"] != version:
        yield warning(
            "version",
            f"{name} runs groupcomm {facts['version']}; this command is of {version}",
            "start the daemon again, so that it runs what is installed",
        )
    else:
        yield fine("daemon", f"{name}, groupcomm {version}")


def view(facts: Facts) -> Iterator[Finding]:
    """It is in a view, with others."""
    if facts["view"] is None or facts["state"] in ("seeking", "stopped"):
        yield failure("view", f"in no view: {facts['state']}", "wait some seconds and ask again; then look at its log")
    elif facts["state"] != "operational":
        yield warning("view", f"the view changes: {facts['state']}", "ask again; if it goes on changing: groupcomm why")
    elif len(facts["members"]) < 2:
        yield warning(
            "view",
            f"alone in its view: no other node of cluster {facts['cluster']} was let in or heard",
            "start others with the same cluster, key and multicast group; without multicast, name one with --peer",
        )
    else:
        yield fine("view", f"{len(facts['members'])} nodes: {named(name for name, _ in facts['members'])}")
    if often(facts, count := count_of(facts, "views_installed"), 30, MANY_VIEWS):
        yield warning(
            "view",
            f"the view changed {count:,} times {since(facts)}",
            "groupcomm why says who was not heard, and by whom",
        )


def quorum(facts: Facts) -> Iterator[Finding]:
    """The view is primary, and all count alike."""
    settings = facts["quorum"]
    if facts["view"] is not None and not facts["primary"]:
        yield failure(
            "quorum",
            f"the view is not primary: {settings['why'] or 'its votes do not suffice'}",
            "bring back the nodes that are missing: groupcomm quorum says how many; groupcomm why, how they went",
        )
    elif settings["filter"] != "none":
        yield fine("quorum", f"{settings['filter']}: {settings['why']}")
    if settings["differing"]:
        yield failure(
            "quorum",
            f"other quorum settings than the rest at {named(settings['differing'])}",
            "give all nodes the same quorum, quorum-nodes and tie-breaker (groupcomm status --config)",
        )


def keys(facts: Facts) -> Iterator[Finding]:
    """Packets are sealed, and those of others open."""
    if not facts["sealed"]:
        yield warning(
            "key",
            "INSECURE: no key; whoever reaches the network is a node",
            "groupcomm key new, and copy the file to every host of the cluster",
        )
    recent = [one for one in facts["refused"] if one["seconds"] <= RECENT_SECONDS]
    for one in recent:
        what, advice = REFUSED[one["why"]]
        text = f"{one['source']}: {what}" + (f" ({one['text']})" if one["text"] else "")
        yield failure("key", f"{text}; {one['count']:,} packets, told of {one['seconds']:.0f} s ago", advice)
    if facts["sealed"] and not recent:
        gone = len(facts["refused"])
        yield fine(
            "key",
            f"sealed, key epoch {facts['key_epoch']}" + (f"; {gone} were refused earlier, none now" if gone else ""),
        )


def strangers(facts: Facts) -> Iterator[Finding]:
    """Other clusters, other versions, and what is no packet at all."""
    if (count := count_of(facts, "foreign_cluster")) and len(facts["members"]) < 2:
        yield warning(
            "cluster",
            f"{count:,} packets of clusters that are not called {facts['cluster']!r}, and none of this one",
            "is the name of the cluster the same everywhere?",
        )
    if often(facts, count := count_of(facts, "malformed"), 60, 10):
        yield warning(
            "version",
            f"{count:,} datagrams {since(facts)} were no packets of this version of groupcomm",
            "install one version everywhere; else see who sends to the port: tcpdump -n udp port 4874",
        )
    if often(facts, count := count_of(facts, "peer_violations", "unknown_kind"), 10):
        yield warning(
            "version",
            f"{count:,} packets of nodes of this cluster {since(facts)} were not as this version expects them",
            "install one version everywhere (groupcomm status shows that of each daemon)",
        )


def discovery(facts: Facts) -> Iterator[Finding]:
    """Sources of discovery that do not work."""
    for source in facts["discovery"]:
        if source["troubled"]:
            yield warning(
                "discovery",
                f"{source['source']} ({source['looks_at']}): {source['trouble']}",
                "mend it, or leave the source out with --discovery",
            )


def clock(facts: Facts, host: Host | None) -> Iterator[Finding]:
    """The wall clock: jumps, and whether anything keeps it right."""
    if often(facts, count := count_of(facts, "keys_renewed"), 1 / 24):
        yield warning(
            "clock",
            f"the wall clock jumped {count:,} times {since(facts)}, or the machine was suspended or copied",
            "let one NTP client keep the clock, slowly (chronyc tracking, timedatectl)",
        )
    certified = any(name == "node-certificate" and value for name, value, _ in facts["config"])
    if host is not None and host.synchronised is False and certified:
        yield warning(
            "clock",
            "nothing keeps the wall clock right, and certificates are good for a time",
            "start an NTP client: timedatectl set-ntp true",
        )
    elif host is not None and host.synchronised is not None:
        kept = "kept right" if host.synchronised else "not kept right by anything: only logs and certificates need that"
        yield fine("clock", f"the wall clock is {kept}")


def cpu(facts: Facts, host: Host | None) -> Iterator[Finding]:
    """Whether the daemon gets to run."""
    if often(facts, count := count_of(facts, "stalls"), 6):
        busy = f"; {host.processors} processors, load {host.load:.1f}" if host is not None else ""
        yield warning(
            "cpu",
            f"the daemon did not run for over 0.1 s, {count:,} times {since(facts)}{busy}",
            "give it time: fewer programs, Nice=-5 or CPUWeight=1000 in its systemd unit, no swapping (vmstat 1), a "
            "virtual machine whose host has room (steal in top)",
        )
    elif host is not None and host.load > 2 * host.processors:
        yield warning(
            "cpu",
            f"{host.processors} processors and a load of {host.load:.1f}: the daemon may wait for its turn",
            "fewer programs, or Nice=-5 in its systemd unit",
        )
    else:
        yield fine("cpu", "the daemon runs when it has to")


def slow_nodes(facts: Facts) -> Iterator[Finding]:
    """Who holds others up, and what was done about it."""
    advice = "see cpu, drops and loss with groupcomm doctor on that host; slow-receiver says what is done about it"
    for one in facts["slow"]:
        yield warning(
            "slow",
            f"{one['node']} has held this node's sending up for {one['seconds']:.0f} s: it lacks {one['lag_bytes']:,} "
            "bytes",
            advice,
        )
    for one in facts["kept_out"]:
        yield warning(
            "slow",
            f"{one['node']} was evicted for being slow and is kept out for another {one['seconds']:.0f} s",
            advice,
        )
    if facts["evicted_by"]:
        yield failure(
            "slow",
            f"this node was evicted for being slow, by {named(facts['evicted_by'])}",
            "see cpu, drops and loss; it comes back by itself",
        )


def clients(facts: Facts) -> Iterator[Finding]:
    """Queues of clients that do not read."""
    longest = facts["longest_client_queue_bytes"]
    if longest > CLIENT_QUEUE_BYTES / 2:
        yield warning(
            "clients",
            f"a client has not read {longest:,} bytes; with {CLIENT_QUEUE_BYTES:,} it is disconnected",
            "find the client that does not answer its events, or lets them pile up",
        )
    if often(facts, count := count_of(facts, "clients_too_slow"), 1):
        yield warning(
            "clients",
            f"{count:,} clients were disconnected as too slow {since(facts)}",
            "the daemon's log names them: they must read faster, or be in fewer groups",
        )
    if longest <= CLIENT_QUEUE_BYTES / 2:
        yield fine("clients", f"{facts['clients']:,} clients, the longest queue {longest:,} bytes")
