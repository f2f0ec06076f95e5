"""The frozen settings of a node. Holds and checks them; where they come from is the daemon's business."""

from __future__ import annotations

import socket
from pathlib import Path

from attrs import field, frozen

from groupcomm.config import EngineConfig
from groupcomm.discovery.sources import DEFAULT_SOURCES, SourceSettings
from groupcomm.errors import UsageError
from groupcomm.identity import checked_node_name
from groupcomm.limits import DEFAULT_TRACE_BYTES, MAX_NODE_NAME_BYTES
from groupcomm.net.interfaces import FAMILIES, check_links
from groupcomm.net.sockets import DEFAULT_GROUP, DEFAULT_GROUP6, DEFAULT_PORT, check_group6, check_ports
from groupcomm.node.certfiles import CertificateFiles


def default_node_name() -> str:
    """The host's name, made fit to name a node."""
    name = "".join(
        "-" if character in "@#/" or not character.isprintable() else character for character in socket.gethostname()
    ).strip()
    return name.encode()[:MAX_NODE_NAME_BYTES].decode(errors="ignore") or "node"


@frozen
class NodeConfig:
    """What a node is told at birth.

    Attributes:
        engine: the engine's settings, the cluster's name among them.
        node: the node's name, unique in the cluster.
        interfaces: names or addresses of the interfaces to use, at most 8: each is a link, numbered from 0; empty: that
            of the default route.
        family: 4 or 6: the family of IP to use on an interface that is named; None: IPv4 if it has such an address.
        multicast_group: the IPv4 multicast group, the same at all nodes of the cluster.
        multicast_group6: the IPv6 multicast group, the same at all nodes of the cluster.
        multicast_port: the port of the groups, the same at all nodes of the cluster.
        port: the node's own port, UDP and TCP; 0: the number of ``multicast_port`` if it is free, else any.
        discovery: the sources of hints, of ``zeroconf``, ``multicast``, ``static``, ``dns`` and ``file``; the last
            three are in use whenever ``peers``, ``dns`` or ``peers_file`` is given.
        peers: where to look for other nodes, each ``HOST[:PORT]``; without a port, that of ``multicast_port``.
        dns: names in the DNS that stand for other nodes, each ``NAME[:PORT]``, or for SRV records
            ``_SERVICE._PROTO.DOMAIN`` or ``srv:NAME``.
        peers_file: a file with other nodes, one ``HOST[:PORT]`` a line, read again whenever it changes.
        data_dir: where what must outlive a restart is kept; None: nothing is.
        trace: the file to record a trace in; None: nothing is recorded.
        trace_limit_bytes: how large that file may grow.
        key: the file with the cluster's key; None: it is looked for where ``keyfile.key_paths`` says, unless
            ``engine.key`` has it.
        certificates: the files with the node's certificate and what belongs to it, instead of a key.
        insecure: whether to run without a key: whoever reaches the network is a node then.
    """

    engine: EngineConfig = field(factory=EngineConfig)
    node: str = field(factory=default_node_name)
    interfaces: tuple[str, ...] = ()
    family: int | None = None
    multicast_group: str = DEFAULT_GROUP
    multicast_group6: str = DEFAULT_GROUP6
    multicast_port: int = DEFAULT_PORT
    port: int = 0
    discovery: tuple[str, ...] = DEFAULT_SOURCES
    peers: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    peers_file: Path | None = None
    data_dir: Path | None = None
    trace: Path | None = None
    trace_limit_bytes: int = DEFAULT_TRACE_BYTES
    key: Path | None = None
    certificates: CertificateFiles | None = None
    insecure: bool = False

    def __attrs_post_init__(self) -> None:
        ways = (
            self.insecure,
            self.key is not None or self.engine.key is not None,
            self.certificates is not None or self.engine.identity is not None,
        )
        if sum(ways) > 1:
            raise UsageError("a key, a certificate and insecure contradict each other: give one of them")
        checked_node_name(self.node)
        if self.family not in (None, *FAMILIES):
            raise UsageError(f"the family must be 4 or 6, not {self.family}")
        check_links(self.interfaces)
        self.engine.quorum.check_node(self.node)
        check_ports(self.multicast_group, self.multicast_port, self.port)
        check_group6(self.multicast_group6)
        _ = self.sources

    @property
    def sources(self) -> SourceSettings:
        """What the sources of discovery are told; raises ``UsageError`` if they cannot be."""
        return SourceSettings(self.discovery, self.multicast_port, self.peers, self.dns, self.peers_file)
