"""Paths to other nodes: what reaches whom by which link, and by which of them a datagram leaves."""
