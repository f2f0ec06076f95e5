"""Sockets, interfaces and the watch over neighbours: what touches the machine on a node's behalf."""
