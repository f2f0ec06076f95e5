"""A node: an engine, a reactor and sockets, as one Twisted service."""

from groupcomm.node.certfiles import CertificateFiles
from groupcomm.node.config import NodeConfig, default_node_name
from groupcomm.node.driver import NodeEngine, NodeNews, NodeSeams
from groupcomm.node.embedded import LocalConnection
from groupcomm.node.service import Node

__all__ = [
    "CertificateFiles",
    "LocalConnection",
    "Node",
    "NodeConfig",
    "NodeEngine",
    "NodeNews",
    "NodeSeams",
    "default_node_name",
]
