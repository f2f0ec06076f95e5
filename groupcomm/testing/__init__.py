"""Whole clusters in one process on virtual time: for this project's tests and for those of its users.

``Cluster`` runs real engines over an in-memory network; a ``Trace`` records what the clients and nodes saw; ``check``
holds that trace to every property the project promises.
"""
