"""The realm of a daemon's clients: opens a session of the node for each login, and says how it all is.

Decides which of a node's facts a client is told, and in which form; who may log in was decided before.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.spread import pb
from zope.interface import Interface, implementer

from groupcomm._version import __version__
from groupcomm.addresses import show_address
from groupcomm.daemon import caps
from groupcomm.daemon.avatar import ClientAvatar
from groupcomm.daemon.channel_doors import ChannelDoors
from groupcomm.daemon.delivery import DeliveryLimits
from groupcomm.daemon.encoder import EventEncoder
from groupcomm.daemon.errors import LimitReached, SessionClosed
from groupcomm.daemon.login import Mind
from groupcomm.daemon.rights import AccessRules, Rights
from groupcomm.daemon.settings import Origin
from groupcomm.daemon.uploads import UploadBudget
from groupcomm.daemon.vocabulary import members_text
from groupcomm.limits import MAX_SESSIONS
from groupcomm.status import GroupStatus, NodeStatus, ViewChange

if TYPE_CHECKING:
    from groupcomm.sessions import LocalSession, SessionHandler


MEMBER_BYTES: Final = 80
RECORD_BYTES: Final = 400
"""What a node and a record come to in an answer, at most."""


class ServedNode(Protocol):
    """What the realm needs of its node."""

    def open_session(self, client_name: str, handler: SessionHandler) -> LocalSession:
        """Open a session; raises ``NameInUse`` and other ``UsageError``s."""

    def status(self) -> NodeStatus:
        """What the node says of itself."""

    def changes(self) -> tuple[ViewChange, ...]:
        """The last changes of the node's view."""

    def rotate_key(self) -> Deferred[int]:
        """Have the view pass to its next key epoch."""

    def expel(self, name: str) -> Deferred[None]:
        """Expel a node."""


@implementer(IRealm)
class Realm:
    """All clients of one daemon.

    Invariant: ``avatars`` are those whose session is open.

    Attributes:
        channels: gives out tickets for data channels; None: there are none.

    Args:
        clock: the reactor's time.
        node: whose sessions are given out.
        origins: the settings, as the status shows them.
        limits: when a client is too slow.
        access: who may do what; unless given, what holds without a file of rights.
        max_clients: how many may be logged in at once.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        node: ServedNode,
        origins: tuple[Origin, ...] = (),
        limits: DeliveryLimits | None = None,
        access: AccessRules | None = None,
        *,
        max_clients: int = MAX_SESSIONS,
    ) -> None:
        self.access = access or AccessRules(os.geteuid())
        self.clock = clock
        self.encoder = EventEncoder()
        self.upload_budget = UploadBudget()
        self.avatars: set[ClientAvatar] = set()
        self.channels: ChannelDoors | None = None
        self.stopping = False
        self.counters: Counter[str] | dict[str, int] = Counter()
        self._node = node
        self._origins = origins
        self._limits = limits or DeliveryLimits()
        self._max_clients = max_clients
        self._slow_logged_at: float | None = None
        self._slow_unlogged = 0
        self._groups: list[GroupStatus] = []
        self._group_names: list[str] = []
        self._groups_at = 0.0

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], object, Callable[[], None]]:
        """Open a session under that name.

        Raises:
            AccessDenied: who logs in has no right at all.
            NameInUse: a live session has it.
            LimitReached: too many are logged in.
            SessionClosed: the daemon is about to stop.
        """
        if pb.IPerspective not in interfaces or not isinstance(mind, Mind) or not isinstance(avatarId, bytes):
            raise NotImplementedError("only named Perspective Broker clients are served")
        if self.stopping:
            raise SessionClosed("this daemon is about to stop")
        if len(self.avatars) >= self._max_clients:
            raise LimitReached(f"this daemon serves {self._max_clients} clients at once: try again later")
        name = avatarId.decode("utf-8")
        rights = self.access.rights_of(mind.broker.principal)
        avatar = ClientAvatar(self, mind.broker, name, mind.client, self._limits, rights)
        avatar.opened(self._node.open_session(name, avatar))
        self.avatars.add(avatar)
        self.counters["logins"] += 1
        mind.broker.on_disconnect(avatar.connection_lost)
        mind.broker.login_succeeded()
        return pb.IPerspective, avatar, avatar.connection_lost

    def forget(self, avatar: ClientAvatar) -> None:
        """Its session is over."""
        self.avatars.discard(avatar)

    def client_too_slow(self, avatar: ClientAvatar) -> None:
        """It is put out: a line for the operator, at most one a minute, since clients can have it at will."""
        self.counters["clients_too_slow"] += 1
        now = self.clock.seconds()
        if self._slow_logged_at is not None and now - self._slow_logged_at < caps.LOG_INTERVAL_SECONDS:
            self._slow_unlogged += 1
            return
        self._log.warn(
            "client {client} is disconnected: too slow, {queued} bytes of events not acknowledged ({unlogged} more "
            "clients since the last such line)",
            client=avatar.name,
            queued=avatar.queued_bytes,
            unlogged=self._slow_unlogged,
        )
        self._slow_logged_at, self._slow_unlogged = now, 0

    def rotate_key(self) -> Deferred[int]:
        """Have the node's view pass to its next key epoch."""
        return self._node.rotate_key()

    def expel(self, name: str) -> Deferred[None]:
        """Expel a node."""
        return self._node.expel(name)

    def status(self, rights: Rights) -> dict[str, object]:
        """The node, its view, its peers and its clients, in plain values; groups only by their number.

        The settings, which name files, and the sources of discovery, which do too, are left out for who administers
        nothing.
        """
        status = self._node.status()
        origins = self._origins if rights.may_see_settings else ()
        return {
            "version": __version__,
            "node": status.node.name,
            "incarnation": status.node.incarnation,
            "cluster": status.cluster,
            "state": status.state,
            "view": None if status.view is None else str(status.view),
            "members": [(node.name, node.incarnation) for node in status.members],
            "sequencer": None if status.sequencer is None else status.sequencer.name,
            "primary": status.primary,
            "quorum": {
                "filter": status.quorum.settings.filter.value,
                "nodes": [(name, votes) for name, votes in status.quorum.settings.nodes],
                "tie_breaker": status.quorum.settings.tie_breaker,
                "witness": status.quorum.settings.witness,
                "why": status.quorum.why,
                "differing": list(status.quorum.differing),
                "remembers": status.quorum.remembers,
            },
            "groups": len(status.groups),
            "peers": [
                {
                    "node": peer.node.name,
                    "incarnation": peer.node.incarnation,
                    "address": None if peer.address is None else show_address(peer.address),
                    "round_trip_seconds": peer.round_trip_seconds,
                    "silent_seconds": peer.silent_seconds,
                    "packets_received": peer.packets_received,
                    "packets_missing": peer.packets_missing,
                    "nacks_sent": peer.nacks_sent,
                    "repairs_received": peer.repairs_received,
                    "unstable_packets": peer.unstable_packets,
                    "paths": [
                        {
                            "address": None if path.address is None else show_address(path.address),
                            "reach": path.reach,
                            "heard": path.heard,
                            "multicast_heard": path.multicast_heard,
                            "round_trip_seconds": path.round_trip_seconds,
                            "loss": path.loss,
                            "mtu_bytes": path.mtu_bytes,
                            "searching": path.searching,
                        }
                        for path in peer.paths
                    ],
                }
                for peer in status.peers
            ],
            "slow": [
                {
                    "node": one.node.name,
                    "lag_bytes": one.lag_bytes,
                    "seconds": one.seconds,
                    "state": one.state.value,
                }
                for one in status.slow
            ],
            "catching_up": [
                {"node": one.node.name, "by": one.by.name, "lag_bytes": one.lag_bytes, "seconds": one.seconds}
                for one in status.catching_up
            ],
            "kept_out": [
                {"node": one.node.name, "lag_bytes": one.lag_bytes, "seconds": one.seconds, "times": one.times}
                for one in status.kept_out
            ],
            "flapping": [
                {"node": one.node.name, "penalty": one.penalty, "seconds": one.seconds} for one in status.flapping
            ],
            "evicted_by": [node.name for node in status.evicted_by],
            "discovery": [
                {
                    "source": source.name,
                    "looks_at": source.looks_at,
                    "known": source.known,
                    "found": [show_address(address) for address in source.found],
                    "trouble": source.trouble,
                    "troubled": source.troubled,
                }
                for source in (status.discovery if rights.may_see_settings else ())
            ],
            "links": [
                {
                    "interface": link.interface,
                    "address": show_address(link.address),
                    "mtu_bytes": link.mtu_bytes,
                    "away": link.away,
                    "receive_buffer_bytes": link.receive_buffer_bytes,
                    "send_buffer_bytes": link.send_buffer_bytes,
                    "drops": link.drops,
                }
                for link in status.links
            ],
            "refused": [
                {
                    "why": one.why,
                    "source": show_address(one.source),
                    "seconds": one.seconds,
                    "count": one.count,
                    "text": one.text,
                }
                for one in status.refused
            ],
            "up_seconds": status.up_seconds,
            "sealed": status.sealed,
            "key_epoch": status.key_epoch,
            "window_bytes": status.window_bytes,
            "outstanding_bytes": status.outstanding_bytes,
            "queued_bytes": status.queued_bytes,
            "counters": {**status.counters, **self.counters},
            "clients": len(self.avatars),
            "client_queue_bytes": sum(avatar.queued_bytes for avatar in self.avatars),
            "longest_client_queue_bytes": max((avatar.queued_bytes for avatar in self.avatars), default=0),
            "config": [(origin.name, origin.value, origin.source) for origin in origins],
        }

    def changes(self) -> list[dict[str, object]]:
        """The last changes of the view, the latest at the end, as many as one answer holds, at least one."""
        page: list[dict[str, object]] = []
        size = 0
        for change in reversed(self._node.changes()):
            page.append(plain_change(change))
            size += MEMBER_BYTES * len(change.members) + RECORD_BYTES * len(change.records)
            if size >= caps.STATUS_PAGE_BYTES // 2:
                break
        return page[::-1]

    def groups(self, after: str, count: int, rights: Rights) -> list[dict[str, object]]:
        """Up to ``count`` groups whose names come after ``after``, by name, as many as one answer holds, at least one.

        Only those are there that whoever asks has a right for.

        Pages asked for one after the other come from one picture, which is taken with the first.
        """
        now = self.clock.seconds()
        if not after or now - self._groups_at > caps.STATUS_PAGE_SECONDS:
            groups = sorted(self._node.status().groups, key=lambda group: group.name)
            self._groups, self._group_names = groups, [group.name for group in groups]
        self._groups_at = now
        start = bisect_right(self._group_names, after) if after else 0
        seen = (group for group in islice(self._groups, start, None) if rights.may_see(group.name))
        page: list[dict[str, object]] = []
        size = 0
        for group in islice(seen, min(count, caps.STATUS_PAGE_GROUPS)):
            members = members_text(group.members)
            page.append(
                {
                    "name": group.name,
                    "view": str(group.view),
                    "members": members,
                    "outside": group.outside.label,
                }
            )
            size += len(members)
            if size >= caps.STATUS_PAGE_BYTES:
                break
        return page


def plain_change(change: ViewChange) -> dict[str, object]:
    """A change of the view in plain values, with nodes by name."""
    return {
        "at": change.at,
        "view": str(change.view),
        "before": None if change.before is None else str(change.before),
        "members": [node.name for node in change.members],
        "joined": [node.name for node in change.joined],
        "departed": [
            {"node": gone.node.name, "reason": gone.reason.label, "last_packet": gone.last_packet}
            for gone in change.departed
        ],
        "records": [
            {
                "finding": record.finding.label,
                "about": record.about.name,
                "by": record.by.name,
                "before_seconds": record.before_milliseconds / 1000,
                "silent_seconds": record.silent_milliseconds / 1000,
                "count": record.count,
            }
            for record in change.records
        ],
    }
