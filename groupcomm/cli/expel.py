"""``groupcomm expel``: put a node out of a cluster with certificates, for good."""

from __future__ import annotations

from groupcomm.cli.running import IReactor, write_line
from groupcomm.cli.session import Control, session


async def expel(reactor: IReactor, control: Control, node: str) -> None:
    """Expel a node; returns when the daemon hears it no more."""
    async with session(reactor, control, None) as connection:
        await connection.expel(node)
    write_line(f"{node} is expelled: no node of the view hears it any more, and what follows it cannot read")
    write_line("this lasts while one of them runs; to keep it out for good: groupcomm ca revoke, and --revoked")
