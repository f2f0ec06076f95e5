"""Bugs in what is known of paths, and in how datagrams leave by them."""

from __future__ import annotations

MUTATIONS = ()
