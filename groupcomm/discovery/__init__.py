"""Sources of hints where other nodes may be: Zeroconf, a static list, the multicast beacon.

A source says an address was seen; it is never an authority on who is alive or a member.
"""
