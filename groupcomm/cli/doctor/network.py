"""What follows about the network: interfaces, buffers, multicast, the paths to other nodes, and what is not heard.

Pure: facts in, findings out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from groupcomm.addresses import header_bytes
from groupcomm.cli.doctor.finding import Answer, Facts, Finding, Host, count_of, failure, fine, named, often, warning
from groupcomm.limits import LEAST_PATH_BYTES
from groupcomm.net.ports import RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES

LOSSY: Final = 0.01
"""The share of packets that have to be repaired from which on it is worth a warning."""

LOSSY_BEACONS: Final = 0.1
"""The same of the last 64 beacons: those of before this node was up count as lost."""

LEAST_LOST: Final = 100
"""With fewer packets than this nothing is said of shares."""

JUMBO_BYTES: Final = 8972
"""The largest datagram that is searched for by default."""

ETHERNET_BYTES: Final = 1452
"""What every path of plain Ethernet takes, with the headers of IPv6."""


def network_findings(facts: Facts, host: Host | None) -> Iterator[Finding]:
    """Everything of this module; without a host what the daemon says alone."""
    if host is not None:
        yield from interfaces(facts, host)
        yield from routes(facts, host)
    yield from buffers(facts, host)
    yield from drops(facts, host)
    yield from multicast(facts)
    yield from silent_paths(facts)
    yield from path_sizes(facts)
    yield from losses(facts)
    yield from sending(facts)
    if host is not None:
        yield from neighbours(facts, host)
    yield from unheard(facts, host)


def interfaces(facts: Facts, host: Host) -> Iterator[Finding]:
    """The interfaces in use: there, up, able to multicast."""
    for number, link in enumerate(facts["links"]):
        name, address, mtu = link["interface"], link["address"], link["mtu_bytes"]
        shown = f"link {number}: {name}, {address}, MTU {mtu:,}"
        known = [each for each in host.interfaces if each.name == name]
        if link["away"] or not any(each.up for each in known):
            yield failure("interface", f"{shown}: the interface is down or its address gone", f"ip link set {name} up")
        elif 0 < mtu < LEAST_PATH_BYTES + header_bytes(host_of(address)):
            least = LEAST_PATH_BYTES + header_bytes(host_of(address))
            yield failure(
                "interface", f"{shown}: nodes need an MTU of {least:,}", f"ip link set {name} mtu 1500, or use another"
            )
        elif not any(each.multicast or each.loopback for each in known):
            yield warning(
                "interface",
                f"{shown}: the interface says that it cannot multicast",
                f"ip link set {name} multicast on; else name the other nodes with --peer",
            )
        else:
            yield fine("interface", shown)


def routes(facts: Facts, host: Host) -> Iterator[Finding]:
    """Whether packets to the others leave by the link that they are meant to leave by."""
    wrong = []
    for peer, number, path in paths(facts):
        address = path["address"]
        if number < len(facts["links"]) and address in host.routes:
            link = facts["links"][number]
            leaves = host.routes[address]
            if leaves != host_of(link["address"]) and not link["away"]:
                wrong.append(f"{peer['node']} ({address}): {leaves or 'no route'}, not {host_of(link['address'])}")
    if wrong:
        yield warning(
            "route",
            f"packets leave by another of this host's addresses: {named(wrong)}",
            "give each link a network of its own; look at ip route get ADDRESS, and at net.ipv4.conf.all.rp_filter",
        )
    elif host.routes:
        yield fine("route", "packets to every node leave by the link they belong to")


def buffers(facts: Facts, host: Host | None) -> Iterator[Finding]:
    """The sockets' buffers: granted, and wanted."""
    for key, words, wanted, name in (
        ("receive_buffer_bytes", "receive", RECEIVE_BUFFER_BYTES, "net.core.rmem_max"),
        ("send_buffer_bytes", "send", SEND_BUFFER_BYTES, "net.core.wmem_max"),
    ):
        granted = min((link[key] for link in facts["links"] if not link["away"]), default=wanted)
        shown = f"{words} buffers of {granted:,} bytes, {wanted:,} wanted"
        if granted >= wanted:
            yield fine("buffers", shown)
            continue
        limit = host.sysctls.get(name) if host is not None else None
        yield warning(
            "buffers",
            shown + (f"; {name} is {limit:,}" if limit is not None else ""),
            f"sysctl -w {name}={wanted} (to keep it: a line {name}={wanted} in /etc/sysctl.d/groupcomm.conf), then "
            "start the daemon again",
        )


def drops(facts: Facts, host: Host | None) -> Iterator[Finding]:
    """Datagrams for which a socket had no room."""
    for number, link in enumerate(facts["links"]):
        if share_matters(link["drops"], count_of(facts, "datagrams_received"), 0.0001):
            yield warning(
                "drops",
                f"link {number}: the kernel dropped {link['drops']:,} datagrams to the daemon for want of room",
                "see buffers and cpu: the buffer is too small, or the daemon is not run for too long",
            )
    if host is not None:
        received, dropped = host.received
        if share_matters(dropped, received, 0.0001):
            yield warning(
                "drops",
                f"{dropped:,} UDP datagrams of {received + dropped:,} found no room in a socket of this host (of all "
                "programs, since it is up)",
                "look whether nstat -az UdpRcvbufErrors still grows; if so see buffers and cpu",
            )


def multicast(facts: Facts) -> Iterator[Finding]:
    """Whom this node's multicast reaches, and whose comes here."""
    for number, link in enumerate(facts["links"]):
        there = [(peer, path) for peer, at, path in paths(facts) if at == number]
        deaf = [shown(peer, path) for peer, path in there if path["reach"] == "unicast"]
        unheard_here = [shown(peer, path) for peer, path in there if path["heard"] and not path["multicast_heard"]]
        name = link["interface"]
        if deaf:
            whom = "none of the others" if len(deaf) == len(there) > 1 else f"not {named(deaf)}"
            yield warning(
                "multicast",
                f"link {number} ({name}): this node's multicast reaches {whom}; they get a copy each",
                "if it is all: a firewall here, or a network without multicast (clouds); if it is one: a firewall "
                "there; a switch with IGMP snooping needs a querier",
            )
        if unheard_here:
            every = len(unheard_here) == len(there) > 1
            yield warning(
                "multicast",
                f"link {number} ({name}): no multicast is heard of {named(unheard_here)}"
                + (", that is of nobody, while unicast works" if every else ""),
                "let UDP to the multicast group pass the firewall of this host (nft list ruleset); ip maddr show "
                f"{name} must show the group",
            )
        if there and not deaf and not unheard_here and any(path["reach"] == "multicast" for _, path in there):
            yield fine("multicast", f"link {number} ({name}): reaches and comes from all of {len(there)} other nodes")


def silent_paths(facts: Facts) -> Iterator[Finding]:
    """Paths on which nothing comes or nothing arrives."""
    several = len(facts["links"]) > 1
    for peer, number, path in paths(facts):
        where = f"{peer['node']} ({path['address'] or 'no address known'})"
        on = f", link {number}" if several else ""
        if path["heard"] and path["reach"] == "nothing":
            text = f"{where}{on}: it is heard, and says that nothing of this node arrives there"
            advice = "look at firewalls: UDP from this host to that port is dropped, here or there"
        elif not path["heard"]:
            text = f"{where}{on}: nothing of it is heard"
            advice = (
                "look at the cable, the interface and the firewalls of both hosts: UDP to this node's port is dropped"
            )
        else:
            continue
        yield (warning if several else failure)("path", text, advice)


def path_sizes(facts: Facts) -> Iterator[Finding]:
    """The largest datagram that passes, to each other node."""
    seen: dict[int, list[str]] = defaultdict(list)
    for peer, number, path in paths(facts):
        size = path["mtu_bytes"]
        if path["address"] is None or path["searching"] or not path["heard"] or number >= len(facts["links"]):
            continue
        header = header_bytes(host_of(path["address"]))
        mtu = facts["links"][number]["mtu_bytes"]
        if size >= min(mtu - header, JUMBO_BYTES, most_bytes(facts)):
            seen[size].append(peer["node"])
            continue
        passes = f"datagrams of {size:,} bytes pass, that is an MTU of {size + header:,}"
        text = f"{shown(peer, path)}: {passes}; the interface has {mtu:,}"
        if size >= ETHERNET_BYTES:
            yield warning(
                "mtu", text, "the other's interface or a switch between takes less: set one MTU in the whole network"
            )
        else:
            yield warning(
                "mtu",
                text,
                "a tunnel or VPN on the way, or a router that drops larger packets without a word (ICMP filtered); it "
                f"works, in smaller packets; ping -M do -s {max(0, mtu - header)} {host_of(path['address'])} shows it",
            )
    for size, nodes in sorted(seen.items()):
        yield fine("mtu", f"datagrams of {size:,} bytes pass to {named(dict.fromkeys(nodes))}")


def losses(facts: Facts) -> Iterator[Finding]:
    """Packets of others that were missed; and beacons, which tell of a path only where there are several."""
    bad = False
    for peer in facts["peers"]:
        if share_matters(peer["packets_missing"], peer["packets_received"], LOSSY):
            bad = True
            share = 100 * peer["packets_missing"] / max(1, peer["packets_received"])
            yield warning(
                "loss",
                f"{share:.1f}% of the packets of {peer['node']} ({peer['address']}) were missed in this view, "
                f"{peer['repairs_received']:,} came as repairs",
                "see drops and cpu on this host; else the network loses them: ethtool -S, the counters of the switch",
            )
        for number, path in enumerate(peer["paths"]):
            if len(peer["paths"]) > 1 and path["loss"] > LOSSY_BEACONS and path["heard"]:
                bad = True
                yield warning(
                    "loss",
                    f"{shown(peer, path)}, link {number}: {100 * path['loss']:.0f}% of its last beacons did not come",
                    "look at that network: cable, switch, ethtool -S",
                )
    if facts["peers"] and not bad:
        yield fine("loss", f"less than {100 * LOSSY:.0f}% of the packets of any node was missed")


def sending(facts: Facts) -> Iterator[Finding]:
    """Datagrams that did not leave."""
    sent = count_of(facts, "datagrams_sent")
    if share_matters(count := count_of(facts, "send_no_room"), sent, 0.001):
        yield warning(
            "sending",
            f"{count:,} datagrams found no room to leave",
            "see buffers; else the interface is too slow for what is sent",
        )
    if often(facts, count := count_of(facts, "send_unreachable", "send_failed"), 60):
        yield warning(
            "sending",
            f"the kernel would not send {count:,} datagrams: no route, an interface that was down, or a firewall",
            "the daemon's log has the reason; ip route; nft list ruleset",
        )


def neighbours(facts: Facts, host: Host) -> Iterator[Finding]:
    """Whether the others' TCP ports can be reached, by which deaths are noticed at once."""
    good = 0
    for peer in facts["peers"]:
        address = peer["address"]
        connected = host.answers.get(address)
        if connected is None:
            continue
        where = f"{peer['node']} ({address})"
        if connected.answer is Answer.NODE:
            good += 1
        elif connected.answer is Answer.OTHER:
            yield warning(
                "firewall", f"{where}: something else answers by TCP there", "look what stands between: a proxy or NAT?"
            )
        else:
            what = "refused" if connected.answer is Answer.REFUSED else "not answered"
            yield warning(
                "firewall",
                f"{where}: heard by UDP, but a TCP connection is {what}: its death is noticed late, and a stall may be "
                "taken for one",
                f"let TCP to port {address.rpartition(':')[2]} pass, between all hosts, as UDP",
            )
    if good:
        yield fine("firewall", f"TCP connections to {good} of {len(facts['peers'])} nodes are answered")


def unheard(facts: Facts, host: Host | None) -> Iterator[Finding]:
    """Addresses that discovery has found, of which nothing is heard."""
    heard = {path["address"] for _, _, path in paths(facts)} | {peer["address"] for peer in facts["peers"]}
    heard |= {link["address"] for link in facts["links"]} | {one["source"] for one in facts["refused"]}
    members = {name for name, _ in facts["members"]}
    for source in facts["discovery"]:
        missing: dict[Answer | None, list[str]] = defaultdict(list)
        for address in source["found"]:
            connected = host.answers.get(address) if host is not None else None
            if address in heard or (connected is not None and connected.node in members):
                continue
            heard.add(address)
            if connected is not None and connected.answer is Answer.NODE:
                yield failure(
                    "firewall",
                    f"{source['source']} names {address}: the node {connected.node} answers by TCP there, and is not "
                    "in the view",
                    f"let UDP to port {address.rpartition(':')[2]} pass, both ways; if it does, that node has "
                    "another key or cluster name: ask groupcomm doctor there",
                )
            else:
                missing[None if connected is None else connected.answer].append(address)
        for answer, addresses in missing.items():
            yield warning(
                "firewall", f"{source['source']} names {named(addresses)}, of which nothing is heard", UNHEARD[answer]
            )


UNHEARD: Final = {
    None: "is a daemon running there, and do UDP and TCP to that port pass the firewalls?",
    Answer.NONE: "a TCP connection is not answered: the host is down, or a firewall drops what comes to that port",
    Answer.REFUSED: "a TCP connection is refused: no daemon listens on that port there, or a firewall rejects it",
    Answer.OTHER: "something that is no node answers there: is the port right?",
}


# ---- what the checks share ---------------------------------------------------------------------------------------


def paths(facts: Facts) -> Iterator[tuple[Facts, int, dict[str, Any]]]:
    """Every path: to which node, by which link, and what is known of it."""
    for peer in facts["peers"]:
        for number, path in enumerate(peer["paths"]):
            yield peer, number, path


def shown(peer: Facts, path: Facts) -> str:
    """A node with its address."""
    return f"{peer['node']} ({path['address'] or peer['address'] or 'no address known'})"


def host_of(address: str) -> str:
    """The host of an address as it is shown."""
    return address.rpartition(":")[0].strip("[]")


def most_bytes(facts: Facts) -> int:
    """The largest datagram that the daemon is set to search for."""
    for name, value, _ in facts["config"]:
        if name == "max-mtu" and str(value).isdecimal():
            return int(value)
    return JUMBO_BYTES


def share_matters(count: int, of: int, share: float) -> bool:
    """Whether so many are worth a word."""
    return count >= LEAST_LOST and count > share * max(1, of)
