"""An authority for tests, and certificates of nodes: each is made once for a run of the tests."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

from groupcomm.trust.certificates import Authority, Issued, Kind
from groupcomm.trust.nodes import NodeCertificate

NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)


def authority(name: str = "shop") -> tuple[Authority, bytes]:
    """An authority, and its certificate as PEM."""
    return _authority(name)


@cache
def _authority(name: str) -> tuple[Authority, bytes]:
    issued = Authority.new(name, NOW)
    return Authority(issued.certificate, issued.key), issued.certificate


def issued(name: str, *, by: str = "shop", kind: Kind = Kind.NODE) -> Issued:
    """A certificate with its key."""
    return _issued(name, by, kind)


@cache
def _issued(name: str, by: str, kind: Kind) -> Issued:
    return authority(by)[0].issue(name, kind, NOW, hosts=["node.example"] if kind is Kind.NODE else [])


def identity(name: str, *, by: str = "shop") -> NodeCertificate:
    """What a node of this name proves itself with, on the day on which all certificates were made."""
    mine = issued(name, by=by)
    return NodeCertificate(mine.certificate, mine.key, authority(by)[1], lambda: NOW)
