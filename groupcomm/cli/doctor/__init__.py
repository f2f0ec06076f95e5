"""What may be wrong on a host and in its network: facts are gathered, findings follow from them.

- ``finding``: what a finding is, and what is known of the host;
- ``host``: gathers the facts of the host;
- ``network``, ``node``: what follows from facts about the network and about the node;
- ``command``: asks the daemon, gathers, judges and prints.
"""
