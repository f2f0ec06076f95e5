"""The life of a node among others: seeking, operational, gathering, recovering.

Decides when a change begins, whom it takes in, what is proposed, and when it is installed. It owns no stream: what a
node holds, what it lacks and how a view ends is asked of its host. The transitions stand in
``doc/design/membership.md``; every message is decided in every state: handled, or dropped.

The rule everything rests on: from its first answer to a proposal until it installs a view, a node does nothing in its
old view but what a plan says; it installs a proposal only if that is the last it answered.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from math import inf
from random import Random
from typing import Protocol, TypeAlias

from attrs import evolve

from groupcomm.addresses import show_address
from groupcomm.allowance import Allowance
from groupcomm.config import EngineConfig
from groupcomm.events import Reason
from groupcomm.identity import NodeId, ViewId
from groupcomm.limits import MAX_ANSWERS_PER_SECOND, MAX_EPOCH, MAX_KEPT_OUT, MAX_STEP
from groupcomm.membership.admission import Admission
from groupcomm.membership.eviction import Eviction, LookingHost
from groupcomm.membership.evidence import Evidence
from groupcomm.membership.flapping import Flapping
from groupcomm.membership.gather import Gather, agreement
from groupcomm.membership.inquiries import Inquiries
from groupcomm.membership.peers import Peer, Peers
from groupcomm.membership.recovery import contradicts, is_plan_of, make_plan
from groupcomm.membership.suspicion import AskingHost, Suspicion
from groupcomm.outputs import Address
from groupcomm.paths.path import HEARD_HEARTBEATS
from groupcomm.paths.prober import Prober
from groupcomm.paths.reports import addresses_to_tell, make_reports
from groupcomm.quorum import Filter
from groupcomm.quorum.voter import DISK_SECONDS
from groupcomm.reliability.counters import Counters
from groupcomm.status import PathStatus
from groupcomm.wire.codec import digest64, list_digest
from groupcomm.wire.evidence import Finding, Record
from groupcomm.wire.messages import (
    Answer,
    Beacon,
    Inquiry,
    Install,
    Join,
    LinkReport,
    Message,
    Plan,
    Probe,
    ProbeAck,
    Ready,
    Recover,
    SlowNote,
    Voucher,
    Who,
)

_CHANGE_TICK_SECONDS = 0.005
_CALM_TICK_SECONDS = 0.05
_IDLE_TICK_SECONDS = 0.1
_RTT_PROBE_SECONDS = 0.2
_RTT_PROBES = 4
_BUSY_SECONDS = 0.5
_MAX_ABANDONED = 8
_JOIN_SECONDS_PER_CANDIDATE = 0.004
_MAX_LISTS = 32
_MAX_ASKED = 16
_ASKED_AT_ONCE = 4
_MULTICAST_TURNS = 3
_LATELY_HEARTBEATS = 6
_STRANGER_BEACONS = 4
_STRANGERS_ASKED = 8
_GREETINGS = 8
_TOLD_HEARTBEATS = 4
_MAX_HINTS = 256
_TICKS_PER_LAG = 10
_MAX_LEFT = 256


class State(enum.Enum):
    """Where a node is in its life."""

    SEEKING = "seeking"
    OPERATIONAL = "operational"
    GATHER = "gather"
    RECOVER = "recover"
    STOPPED = "stopped"


class ViewHost(LookingHost, AskingHost, Protocol):
    """Who owns the streams of the view."""

    def freeze(self) -> None:
        """From now on do nothing in the old view but what a plan says."""

    def answer(self, proposal: ViewId, epoch: int, *, leaving: bool) -> Answer:
        """What is held."""

    def credible(self, answer: Answer) -> bool:
        """Whether somebody can hold that."""

    def apply_plan(self, plan: Plan, now: float) -> None:
        """Fetch what it names."""

    def missing(self) -> int:
        """How much of it is not here; that this node's memory of it is not on its disk counts as one."""

    def install(self, plan: Plan, now: float) -> None:
        """End the old view by it and begin the new one."""

    def stop(self, reason: str, *, clean: bool) -> None:
        """It is over."""

    def probe(self, peer: Peer) -> None:
        """Find out by a second path whether this node is dead."""


Out: TypeAlias = tuple[Message, Address | None]


class _Change:
    """A proposal that this node has answered.

    Attributes:
        recover: the proposal.
        answer: what this node said.
        expels: whether it said it after a node was expelled.
        plan: the plan, once it is here.
        digest: of the plan.
        planned_at: when the plan was there; infinite before.
        progress_at: when it last came nearer to its end.
        answers: the proposer's: of whom it has answers.
        missing: the proposer's: what each still lacks.
        heard_at: the proposer's: when each was last heard about it.
    """

    __slots__ = (
        "answer",
        "answers",
        "digest",
        "expels",
        "heard_at",
        "missing",
        "plan",
        "planned_at",
        "progress_at",
        "recover",
        "told_at",
    )

    def __init__(self, recover: Recover, answer: Answer, now: float) -> None:
        self.recover = recover
        self.answer = answer
        self.expels = False
        self.plan: Plan | None = None
        self.digest = 0
        self.progress_at = now
        self.planned_at = inf
        self.told_at = -inf
        self.answers: dict[NodeId, Answer] = {}
        self.missing: dict[NodeId, int] = {}
        self.heard_at: dict[NodeId, float] = {}


class Membership:
    """One node's part in agreeing on views.

    Attributes:
        state: where it is.
        view: its view; None before the first.
        members: of that view.
        out: messages to send; emptied by the engine.
        peers: everybody it has heard of.
        unstable: something this node has sent has not reached everybody yet.
        addresses: this node's, by link; nothing if the driver does not say.
        epoch: the highest it has seen.
        leaving: it wants to be out of the next view.
        expelling: a node was expelled, and no view has been agreed on since.
        eviction: what it knows of slow receivers.
        suspicion: what it knows of members that say nothing.
        evidence: what has led to the change under way.
        flapping: who has come and gone lately.
    """

    def __init__(
        self,
        me: NodeId,
        config: EngineConfig,
        host: ViewHost,
        random: Random,
        counters: Counters,
        epoch: int,
    ) -> None:
        self._me = me
        self._config = config
        self._timing = config.timing
        self._paced_for = 1
        self._host = host
        self._random = random
        self._counters = counters
        self.state = State.SEEKING
        self.view: ViewId | None = None
        self.members: tuple[NodeId, ...] = ()
        self.out: list[Out] = []
        self.peers = Peers()
        self.addresses: tuple[Address, ...] = ()
        self.unstable = False
        self._prober = Prober()
        self.epoch = epoch
        self.leaving = False
        self.expelling = False
        self.eviction = Eviction(me, config, host, counters)
        self.suspicion = Suspicion(me, host, random)
        self.evidence = Evidence(me)
        self._inquiries = Inquiries()
        self.flapping = Flapping(me, config.timing.flap)
        self._admission = Admission(me, config, self.eviction.readmission, self.flapping)
        self._answers = Allowance(MAX_ANSWERS_PER_SECOND)
        self._gather: Gather | None = None
        self._change: _Change | None = None
        self._attempt = 0
        self._installed_attempt = 0
        self._serial = 0
        self._last_join: Join | None = None
        self._join_at = -inf
        self._agreed = 0
        self._answered: ViewId | None = None
        self._highest_answered: ViewId | None = None
        self._abandoned: list[ViewId] = []
        self._absent: set[NodeId] = set()
        self._dead: dict[NodeId, Reason] = {}
        self._suspects: set[NodeId] = set()
        self._unheard: set[NodeId] = set()
        self._beacon_at = -inf
        self._beacons = 0
        self._lately: tuple[NodeId, ...] = ()
        self._next_tick = inf
        self._seeking_since = inf
        self._installed_at = -inf
        self._install: Install | None = None
        self._unconfirmed: set[NodeId] = set()
        self._install_until = self._install_told_at = -inf
        self._hints: dict[Address, int] = {}
        self._told_at: dict[Address, float] = {}
        self._left: dict[NodeId, None] = {}
        self._token = 0
        self._probes: dict[int, tuple[NodeId, float]] = {}
        self._busy_at = -inf
        self._measured = 0
        self._measuring_since = -inf
        self._lists: dict[int, tuple[NodeId, ...]] = {}
        self._unlisted: dict[NodeId, tuple[Join, Address]] = {}
        self._asked_who: tuple[int, float] = (0, -inf)
        self._names_all = 0
        self._multicast_said: tuple[object, ...] = ()
        self._join_turn = 0

    # ---- time ----------------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin to listen for a view."""
        self._seeking_since = now
        self._beacon(now)
        self._next_tick = now

    def next_deadline(self) -> float:
        """When ``tick`` has something to do."""
        return inf if self.state is State.STOPPED else self._next_tick

    def tick(self, now: float) -> None:
        """Whatever time has brought."""
        if self.state is State.STOPPED or now < self._next_tick:
            return
        if self._next_tick > 0.0:
            self.suspicion.lag.late(now - self._next_tick, now)
        self._pace(now)
        if now >= self._beacon_at + self._timing.heartbeat:
            self._beacon(now)
        self._repeat_install(now)
        if any(self.peers.most_bytes):
            self._search_paths(now)
        if self.state is State.SEEKING:
            self._seek(now)
        elif self.state is State.OPERATIONAL:
            self._watch_over(now)
        if self.state is State.GATHER:
            self._go_on_gathering(now)
        elif self.state is State.RECOVER:
            self._go_on_recovering(now)
        calm = self.state in (State.SEEKING, State.OPERATIONAL) and not self._unconfirmed
        slower = self._timing.heartbeat / self._config.timing.heartbeat
        tick = self._calm_tick_seconds(now) if calm else _CHANGE_TICK_SECONDS
        self._next_tick = now + max(slower * tick, self.suspicion.lag.seconds(now) / _TICKS_PER_LAG)

    def _calm_tick_seconds(self, now: float) -> float:
        """When to look again: rarely while everybody was heard lately and nothing has to be measured."""
        if self.state is not State.OPERATIONAL:
            return _CALM_TICK_SECONDS
        long_ago = now - self._timing.probe_after
        peers = [peer for node in self.members if (peer := self.peers.get(node)) is not None and node != self._me]
        silent = [peer.node for peer in peers if peer.heard_at < long_ago]
        if any(map(self.suspicion.is_close, silent)):
            return self._config.timing.probe_interval
        busy = self._busy_at >= now - 2 * self._timing.heartbeat
        return _CALM_TICK_SECONDS if silent or busy else _IDLE_TICK_SECONDS

    def _pace(self, now: float) -> None:
        """Hold to the times among as many nodes as there are."""
        nodes = len(self.members)
        if self._gather is not None:
            nodes = max(nodes, len(self._gather.candidates))
        elif self.state is State.SEEKING and now - self._seeking_since < self._timing.first:
            return  # whoever founds a view should have heard of all, at some loss too
        elif now >= self._beacon_at + self._config.timing.heartbeat:
            nodes = max(nodes, 1) + self._admission.known(self.peers, now)
        else:
            return
        if nodes != self._paced_for:
            self._paced_for = nodes
            self._timing = self._config.timing.for_nodes(nodes)
            self._admission.pace(self._timing)

    def _soon(self) -> None:
        self._next_tick = -inf

    def stalled(self, seconds: float, now: float) -> None:
        """This node did not run for so long: it was not the others who were silent."""
        self.peers.excuse(seconds)
        if self._gather is not None:
            self._gather.started_at = min(now, self._gather.started_at + seconds)
        if self._change is not None:
            self._change.progress_at = now

    # ---- beacons, probes, suspicion --------------------------------------------------------------------------------

    def _beacon(self, now: float) -> None:
        self._beacon_at = now
        self._beacons += bool(self.addresses)
        beacon = self._own_beacon(now, reply=False)
        self.out.append((beacon, None))
        asking = evolve(beacon, reply=True)
        lately = tuple(peer.node for peer in self.heard_lately(now))
        if lately != self._lately:
            self._lately, self.peers.moved = lately, True
        if self.addresses and self._beacons % _STRANGER_BEACONS == 0:
            self.out += [(asking, address) for address in self._strangers_to_ask(now)]
        for address in self._to_greet(now):
            self.out.append((asking, address))
            self._hints[address] -= 1

    def _to_greet(self, now: float) -> list[Address]:
        """The hints of which the most greetings are left, and whoever is there is not heard."""
        self._hints = {address: left for address, left in self._hints.items() if left and not self._hears(address, now)}
        return sorted(self._hints, key=lambda address: (-self._hints[address], address))[:_GREETINGS]

    def _strangers_to_ask(self, now: float) -> list[Address]:
        """Where some nodes outside the view are that are heard: whether they hear this one is not said otherwise."""
        strangers = [peer.address for peer in self.heard_lately(now) if peer.node not in self.members]
        start = self._beacons // _STRANGER_BEACONS * _STRANGERS_ASKED % max(1, len(strangers))
        return (strangers[start:] + strangers[:start])[:_STRANGERS_ASKED]

    def _own_beacon(self, now: float, *, reply: bool) -> Beacon:
        return Beacon(
            self._me,
            self.view,
            len(self.members),
            self.epoch,
            bool(self.members) and self.members[0] == self._me,
            reply,
            self._admission.heard(self.peers, self.view, now),
            self._notes(now),
            self._reports(now),
            addresses_to_tell(self.heard_lately(now), self._beacons) if self.addresses else (),
        )

    def _reports(self, now: float) -> tuple[LinkReport, ...]:
        """What is said of the links; among who knows nobody, nothing."""
        since = now - HEARD_HEARTBEATS * self._timing.heartbeat
        return make_reports(self.heard_lately(now), self.addresses, self._beacons, since)

    def path_status(self, peer: Peer, now: float) -> tuple[PathStatus, ...]:
        """What is known of the paths to a node."""
        since = now - HEARD_HEARTBEATS * self._timing.heartbeat
        return tuple(path.status(since) for path in peer.paths)

    def heard_lately(self, now: float) -> list[Peer]:
        """The nodes of the view, and those outside that were heard in the last six heartbeats."""
        return self.peers.heard_since(now - _LATELY_HEARTBEATS * self._timing.heartbeat)

    def _notes(self, now: float) -> tuple[SlowNote, ...]:
        """What the beacon says of slow receivers, and of those who come and go."""
        return (*self.eviction.notes(now), *self.flapping.notes(now))[:MAX_KEPT_OUT]

    def hint(self, address: Address, now: float) -> None:
        """Somebody may be there: say hello a few times, unless who is there was heard lately."""
        if len(self._hints) < _MAX_HINTS and not self._hears(address, now):
            self._hints[address] = 5

    def _told(self, address: Address, now: float) -> None:
        """Another hears somebody there: a hint, but where multicast comes only if this node goes on to hear nothing."""
        patience = _TOLD_HEARTBEATS * self._timing.heartbeat
        if self._hears(address, now):
            self._told_at.pop(address, None)
        elif now - self.peers.multicast_at > patience or now - self._told_at.get(address, now) > patience:
            self.hint(address, now)
        elif len(self._told_at) < _MAX_HINTS:
            self._told_at.setdefault(address, now)
        else:
            self._told_at.clear()

    def _hears(self, address: Address, now: float) -> bool:
        """Whether something came from there lately."""
        peer = self.peers.at(address)
        return peer is not None and now - peer.heard_at <= _LATELY_HEARTBEATS * self._timing.heartbeat

    def beacon_received(self, beacon: Beacon, source: Address, now: float) -> None:
        """A node says that it lives."""
        if beacon.node.name == self._me.name:
            if beacon.node != self._me:
                self._namesake(beacon, source)
            return
        if beacon.node in self._left:
            return
        peer = self.peers.heard(beacon.node, source, now)
        peer.beacon = beacon
        self.peers.told(peer, self._me)
        for address in beacon.known:
            if address not in self.addresses:
                self._told(address, now)
        self._saw_epoch(beacon.epoch)
        if self.ready_for is not None and beacon.view == self.ready_for.proposal:
            self._install_plan(now)
        if beacon.view is not None and beacon.view == self.view:
            self._unconfirmed.discard(beacon.node)
        elif self._has_gone_on(beacon):
            self._suspects.add(beacon.node)
            self.evidence.note(Finding.WENT_ON, beacon.node, now)
            self._soon()
        kept_out = self.eviction.beacon_came(beacon, self.view, self.members, now)
        if beacon.notes and beacon.view is not None and beacon.view == self.view and beacon.node in self.members:
            self.flapping.heard(beacon.notes, now)
        if kept_out and self.state is State.GATHER and self._gather is not None:
            self._gather.exclude(beacon.node)
        if beacon.reply and self._may_answer(source, now):
            self.out.append((self._own_beacon(now, reply=False), source))

    def _reply(self, message: Message, destination: Address, now: float) -> None:
        """Answer, as far as that is allowed."""
        if self._may_answer(destination, now):
            self.out.append((message, destination))

    def _may_answer(self, destination: Address, now: float) -> bool:
        """Whether to answer: a member always, anybody else as far as the budget allows."""
        peer = self.peers.at(destination)
        if (peer is not None and peer.node in self.members) or self._answers.take(now):
            return True
        self._counters.up("unanswered")
        return False

    def _has_gone_on(self, beacon: Beacon) -> bool:
        """Whether a member of this view is in a later one, which this node was left out of."""
        return (
            self.state is State.OPERATIONAL
            and beacon.node in self.members
            and beacon.view is not None
            and self.view is not None
            and beacon.view > self.view
        )

    def _namesake(self, beacon: Beacon, source: Address) -> None:
        """Another node of this name lives: the one in the larger view stays, then the elder, then the lower number."""
        mine = (len(self.members), -self._me.incarnation)
        theirs = (beacon.size if beacon.view is not None else 0, -beacon.node.incarnation)
        if mine < theirs:
            reason = (
                f"the node name {self._me.name!r} is in use in the cluster {self._config.cluster!r}, by the node at "
                f"{show_address(source)}: give this one a name of its own (--node NAME)"
            )
            self._stop(reason, clean=False)

    def probe_received(self, probe: Probe, source: Address, now: float) -> None:
        """A question, or the answer to one of ours."""
        peer = self.peers.heard(probe.node, source, now) if probe.node.name != self._me.name else None
        if type(probe) is Probe:
            self.out.append((ProbeAck(self._me, probe.token), source))
            return
        if peer is not None and self._prober.answered(probe.token, peer, now):
            self.peers.moved = True
        asked = self._probes.pop(probe.token, None)
        if asked is not None and peer is not None and asked[0] == peer.node:
            peer.round_trip.sample(now - asked[1])
            self.out += [(Voucher(self._me, peer.node, 0), address) for address in self._inquiries.answered(peer.node)]

    def inquiry_received(self, inquiry: Inquiry, source: Address, now: float) -> None:
        """A member does not hear another: this node says when it heard it, or asks for itself."""
        asker, about = self.peers.get(inquiry.node), self.peers.get(inquiry.about)
        if asker is None or about is None or not {inquiry.node, inquiry.about} <= set(self.members):
            return
        silent = max(0.0, now - about.heard_at)
        if silent <= self._timing.probe_after:
            self.out.append((Voucher(self._me, about.node, round(silent * 1000)), asker.address))
        elif self._inquiries.asked(about.node, asker.address):
            self.ask(about, now)

    def voucher_received(self, voucher: Voucher, now: float) -> None:
        """Another member says when it heard one that this node does not hear."""
        if voucher.node in self.members and voucher.about in self.members:
            self.suspicion.vouched(voucher.about, voucher.milliseconds / 1000, now)

    def ask(self, peer: Peer, now: float) -> None:
        """Send it a probe."""
        peer.probed_at = now
        self._token += 1
        self._probes[self._token] = (peer.node, now)
        if len(self._probes) > 4 * self._config.max_nodes:
            del self._probes[next(iter(self._probes))]
        self.out.append((Probe(self._me, self._token), peer.address))

    def _search_paths(self, now: float) -> None:
        """Find out, and under traffic again, what size of datagram passes to the others of the view."""
        changing = self.state in (State.GATHER, State.RECOVER)
        traffic = changing or self.unstable or now - self._busy_at < _BUSY_SECONDS
        others = [peer for node in self.members if node != self._me and (peer := self.peers.get(node)) is not None]
        for token, size, address in self._prober.due(others, now, traffic=traffic):
            self.out.append((Probe(self._me, token, size), address))
        self.peers.moved = self.peers.moved or self._prober.lost

    def traffic(self, now: float) -> None:
        """Packets of the view are moving: round-trip times are worth measuring."""
        self._busy_at = now

    def packet_came(self, source: Address, sealer: NodeId | None, now: float, *, moves: bool) -> None:
        """A packet of the view came from ``sealer``, else from whose socket that is; ``moves``: as for ``traffic``.

        An outsider can send on what a node has sealed from any address: that is no sign of life of whose it is.
        """
        peer = self.peers.at(source) if sealer is None else self.peers.get(sealer)
        if peer is not None:
            peer.heard_at = now
            self.peers.came(peer, source, now)
            if self._unconfirmed:
                self._unconfirmed.discard(peer.node)
        if moves:
            self._busy_at = now

    def _watch_over(self, now: float) -> None:
        """Probe who is silent, suspect who stays silent, let in who waits, merge with whom all can hear."""
        if self._me not in self.members:
            return
        timing = self._timing
        busy = now - self._busy_at < _BUSY_SECONDS
        again = _RTT_PROBE_SECONDS * max(1.0, (len(self.members) - 1) / _RTT_PROBES)
        if now - self._measuring_since >= _RTT_PROBE_SECONDS:
            self._measuring_since, self._measured = now, 0
        mine = self.members.index(self._me)
        for node in self.members[mine:] + self.members[:mine]:
            peer = self.peers.get(node)
            if peer is None:
                continue
            silent = now - peer.heard_at
            worth_measuring = busy or not peer.round_trip.seconds
            measured_lately = peer.probed_at + again >= now or self._measured >= _RTT_PROBES
            if silent > timing.probe_after:
                self._look_after(peer, now)
            elif worth_measuring and not measured_lately:
                self._measured += 1
                self.ask(peer, now)
        for node in self.members:
            if node in self._dead or node in self._suspects or node in self._unheard:
                self._begin(now, ())
                return
        if self.eviction.look(self.peers, now):
            self._beacon_at = -inf
        if self.view is not None and self.eviction.enough(self.view, self.members, now):
            self._begin(now, ())
            return
        if self.leaving or self.expelling:
            self._begin(now, ())
        elif now - self._installed_at >= timing.between:
            for node in self._admission.restarted(self.peers, self.members, now):
                self._dead[node] = Reason.RESTARTED
                self.evidence.note(Finding.RESTARTED, node, now)
            if wanted := self._admission.wanted(self.peers, self.members, self.view, now):
                self._begin(now, wanted)

    def _look_after(self, peer: Peer, now: float) -> None:
        """Ask after a silent member; suspect it when there is enough against it."""
        finding = self.suspicion.look(peer, self.members, self.peers, self._timing, now)
        if finding is not None and self.eviction.is_overrun(self.peers, now):
            return
        if finding is not None and peer.node not in self._suspects | self._unheard:
            (self._unheard if finding is Finding.UNHEARD else self._suspects).add(peer.node)
            self._counters.up("suspicions")
            probes = self.suspicion.probes(peer.node)
            self.evidence.note(finding, peer.node, now, silent=now - peer.heard_at, count=probes)

    def peer_refused(self, node: NodeId, now: float) -> None:
        """Two connections to it were refused: its process is gone."""
        self._lose(node, Reason.NODE_FAILURE, now)
        self.evidence.note(Finding.REFUSED, node, now)

    def expel(self, name: str, now: float) -> None:
        """The next view comes at once, and is without the node of this name."""
        self.expelling = True
        self._soon()
        for peer in self.peers.named(name):
            self._lose(peer.node, Reason.EVICTION, now)
            self.evidence.note(Finding.EXPELLED, peer.node, now)
            if peer.node not in self.members:
                self.peers.forget(peer.node)

    def _lose(self, node: NodeId, reason: Reason, now: float) -> None:
        """Go on without this node, whatever it says."""
        if node == self._me or node in self._dead:
            return
        self._dead[node] = reason
        self._soon()
        if self._gather is not None:
            self._gather.exclude(node)
        change = self._change
        if self.state is State.RECOVER and change is not None and node in change.recover.participants:
            self._again({node}, now)

    # ---- seeking ---------------------------------------------------------------------------------------------------

    def _seek(self, now: float) -> None:
        waited = now - self._seeking_since
        if self.leaving:
            self._stop("left", clean=True)
            return
        if waited < self._timing.first:
            return
        found = self._admission.founders(self.peers, waited, now)
        if found is not None:
            self._begin(now, found)

    # ---- gather ----------------------------------------------------------------------------------------------------

    def _begin(self, now: float, others: Iterable[NodeId], attempt: int = 0, by: NodeId | None = None) -> None:
        """Begin a change: this node's view and ``others``; or follow that of another, ``by``."""
        self.evidence.began(by or self._me, now)
        self._attempt = max(attempt, self._attempt + (0 if attempt else 1))
        self._gather = self._new_gather(others, attempt or self._attempt, now)
        self._counters.up("gathers_started")
        self.state = State.GATHER
        self._agreed = 0
        self._join_at = -inf
        self._soon()
        self._look_around(now)

    def join_received(self, join: Join, source: Address, now: float) -> None:
        """A gathering node's word."""
        if join.node.name == self._me.name or join.node in self._dead or self.state is State.STOPPED:
            return
        self.peers.heard(join.node, source, now)
        self._saw_epoch(join.epoch)
        if not self._saw_attempt(max(join.attempt, join.begun)) or self._is_kept_out(join.node, now):
            return
        if self.view is not None and self.view in join.abandoned and join.node in self.members:
            self._absent.add(join.node)
        if join.node in self._absent and join.view != self.view:
            self._abandoned_by(join, now)
            return
        names = self._names_of(join)
        if names is None:
            if self.state is State.GATHER and self._gather is not None and self._may_widen(now):
                self._gather.widen([join.node], self._config.max_nodes)
            self._ask_who(join, source, now)
            return
        self._unlisted.pop(join.node, None)
        if join.node in self.members and join.attempt > self._installed_attempt:
            self.evidence.heard(join.records, join.node, now)
        if join.asks and self._gather is not None and self._last_join is not None:
            self._reply(self._without_names(self._last_join), source, now)
        if self.state is State.GATHER:
            self._join_while_gathering(join, names, source, now)
        elif self.state is State.RECOVER:
            self._join_while_recovering(join, names, now)
        else:
            self._join_while_calm(join, names, source, now)
        if join.candidates is not None and self._unlisted:
            for waiting, address in [entry for entry in self._unlisted.values() if entry[0].listed == join.listed]:
                self.join_received(waiting, address, now)

    def _is_kept_out(self, node: NodeId, now: float) -> bool:
        """Whether it was evicted and may not come back yet; who takes part already is not asked again."""
        if node in self.members or (self._gather is not None and node in self._gather.candidates):
            return False
        return self.eviction.readmission.keeps_out(node.name, now)

    def _names_of(self, join: Join) -> tuple[NodeId, ...] | None:
        """The candidates that a JOIN's row is a map of; None if they have not been named here."""
        if join.candidates is not None:
            self._lists.pop(join.listed, None)
            if len(self._lists) >= _MAX_LISTS:
                del self._lists[next(iter(self._lists))]
            self._lists[join.listed] = join.candidates
            return join.candidates
        if self._gather is not None and join.listed == self._gather.digest:
            return self._gather.listed
        return self._lists.get(join.listed)

    def _ask_who(self, join: Join, source: Address, now: float) -> None:
        """Keep a JOIN until its candidates are known, and ask for them, one node at a time."""
        if len(self._unlisted) < 2 * self._config.max_nodes or join.node in self._unlisted:
            self._unlisted[join.node] = join, source
        digest, asked_at = self._asked_who
        if join.listed != digest or now - asked_at >= self._config.timing.join_interval:
            self._asked_who = join.listed, now
            self.out.append((Who(self._me, join.listed), source))

    def who_received(self, who: Who, source: Address, now: float) -> None:
        """A node does not know whom this node's JOIN is about: it is told, if that is still so."""
        if self._last_join is not None and self._last_join.listed == who.listed:
            self._reply(self._last_join, source, now)

    def _without_names(self, join: Join) -> Join:
        """What is sent of a JOIN: the candidates are left out of a large one if another has named them already."""
        if join.count <= self._config.suppression_nodes or join.listed not in self._lists:
            return join
        return evolve(join, candidates=None)

    def _abandoned_by(self, join: Join, now: float) -> None:
        """A member of this view that never installed it and never will: the view must go on without it first."""
        if join.node in self.members and self.state is State.OPERATIONAL:
            self._suspects.add(join.node)
            self.evidence.note(Finding.GAVE_UP, join.node, now)
            self._begin(now, ())
        if self._gather is not None:
            self._gather.exclude(join.node)

    def _join_while_calm(self, join: Join, names: tuple[NodeId, ...], source: Address, now: float) -> None:
        if self._me not in names:
            return
        if join.attempt <= self._installed_attempt:
            if join.view != self.view:
                self._tell_attempt(source, now)
            return
        if join.node in self.members and join.view != self.view:
            self._suspects.add(join.node)
            self.evidence.note(Finding.WENT_ON, join.node, now)
            self._begin(now, (), join.attempt)
            return
        known = self.view is not None and join.view == self.view
        if not known and now - self._installed_at < self._timing.between:
            return
        others = [node for node in names if node not in self._suspects]
        self._begin(now, others[: self._config.max_nodes], join.attempt, join.node)
        self._join_while_gathering(join, names, None, now)

    def _tell_attempt(self, destination: Address, now: float) -> None:
        """To one whose attempt is out of date: ours. It lists nobody but this node, so nobody answers or follows it."""
        self._serial += 1
        join = Join(
            self._me,
            self.view,
            None,
            self.leaving,
            self._attempt,
            self._attempt,
            self._serial,
            self.epoch,
            0,
            list_digest((self._me,)),
            1,
            0,
            (self._me,),
            (),
        )
        self._reply(join, destination, now)

    def _join_while_gathering(self, join: Join, names: tuple[NodeId, ...], source: Address | None, now: float) -> None:
        gather = self._gather
        assert gather is not None
        if join.attempt < gather.attempt:
            last = self._last_join
            newer = last is not None and last.attempt > join.attempt
            if source is not None and last is not None and newer and join.node in gather.candidates:
                self._reply(self._without_names(last), source, now)
            return
        if join.attempt > gather.attempt:
            if self._me not in names:
                if join.node in gather.candidates and self._may_widen(now) and self._may_restart(gather, now):
                    self._attempt += 1
                    gather.restart(self._attempt, now)
                    self._agreed = 0
                    self._join_at = -inf
                    self._soon()
                return
            if join.node not in gather.candidates and not self._may_widen(now):
                return
            gather = self._follow(join, names, gather, now)
        admitted = join.node in gather.candidates or (
            self._may_widen(now) and gather.widen([join.node], self._config.max_nodes)
        )
        if not admitted:
            return
        if join.listed != gather.digest and self._may_widen(now):
            gather.widen(
                (node for node in names if node not in self._suspects and node not in self._absent),
                self._config.max_nodes,
            )
        if gather.heard(join, names):
            self._suspects.discard(join.node)
            self._ask_about(join, names)
            self._soon()

    def _follow(self, join: Join, names: tuple[NodeId, ...], gather: Gather, now: float) -> Gather:
        """Go on to the later attempt of another; if that belongs to a change begun since, this one is out of date."""
        if join.begun > gather.attempt:
            gather = self._gather = self._new_gather(names, join.attempt, now)
            gather.begun = join.begun
        else:
            gather.restart(join.attempt, now)
        self._agreed = 0
        return gather

    def _new_gather(self, others: Iterable[NodeId], attempt: int, now: float) -> Gather:
        present = [node for node in self.members if node not in self._suspects]
        gather = Gather(self._me, self.view, attempt, [*present, *others], now, self.eviction.accused)
        for node in sorted(self.eviction.accused):
            lag, seconds = self.eviction.found(node, now)
            self.evidence.note(Finding.TOO_SLOW, node, now, silent=seconds, count=lag)
        for node in sorted(self._dead):
            gather.exclude(node)
        return gather

    def _ask_about(self, join: Join, names: tuple[NodeId, ...]) -> None:
        """Whoever of this view the other leaves out may be dead: look for evidence of our own."""
        if join.view != self.view or join.listed == self._names_all:
            return
        named = set(names)
        if named.issuperset(self.members):
            self._names_all = join.listed
            return
        for node in self.members:
            peer = self.peers.get(node)
            if node not in named and node not in self._dead and peer is not None and node != self._me:
                self._host.probe(peer)

    def _may_widen(self, now: float) -> bool:
        gather = self._gather
        return gather is not None and gather.tries == 1 and now - gather.begun_at <= self._timing.admit

    def _may_restart(self, gather: Gather, now: float) -> bool:
        """Whether another attempt for the sake of one node is due: among many, not before all have said their JOIN."""
        few = len(gather.listed) <= self._config.suppression_nodes
        return few or now - gather.started_at >= self._timing.silent / 3

    def _look_around(self, now: float) -> None:
        """Compute the members from the rows; say so; propose if all have said the same and it is ours to propose."""
        gather = self._gather
        if gather is None or self.state is not State.GATHER:
            return
        members = gather.members(settled=self._has_settled(gather, now))
        self._agreed = 0 if members is None else gather.announcement(members)
        self._say_join(members, now)
        if members is None or self._proposer(members) != self._me or not gather.agreed(members):
            return
        if members == (self._me,) and self.view is None and len(gather.candidates) > 1:
            self._seek_again(now)
        else:
            self._propose(members, now)

    def _has_settled(self, gather: Gather, now: float) -> bool:
        """Whether others have had their time: half of it if only hosts are waited for that are known to be silent."""
        silent = self._timing.silent
        waited = now - gather.started_at
        if waited < silent / 2:
            return False
        wait = silent + self.suspicion.patience(now)
        if waited < wait and (hosts := self.evidence.silent_hosts()) and gather.waited_for() <= hosts:
            long_ago = now - self._timing.probe_after
            peers = [peer for node in hosts if (peer := self.peers.get(node)) is not None]
            if all(peer.heard_at < long_ago for peer in peers):
                wait -= silent / 2
        return waited >= wait

    def _seek_again(self, now: float) -> None:
        """A newcomer that nobody hears founds no view of its own beside the one it wanted into."""
        self._gather = None
        self.state = State.SEEKING
        self._seeking_since = now
        self._suspects.clear()

    def _proposer(self, members: tuple[NodeId, ...]) -> NodeId:
        """The lowest member that stays; the lowest of all if none does."""
        gather = self._gather
        assert gather is not None
        leaving = gather.leaving | {self._me} if self.leaving else gather.leaving
        return next((node for node in members if node not in leaving), members[0])

    def _say_join(self, members: tuple[NodeId, ...] | None, now: float) -> None:
        """Say this node's JOIN: at its time, and sooner (but not too soon) if it says something new."""
        gather = self._gather
        assert gather is not None
        last = self._last_join
        alike = (
            last is not None
            and (last.attempt, last.agreed, last.listed) == (gather.attempt, self._agreed, gather.digest)
            and (last.leaving, last.view, last.answered) == (self.leaving, self.view, self._answered)
            and (last.evicts, last.records) == (gather.evicts, self.evidence.said)
        )
        relays = gather.relays if now - gather.started_at >= self._timing.silent / 2 else ()
        same = alike and last is not None and (last.heard, last.relayed) == (gather.heard_map, relays)
        few = len(gather.listed) <= self._config.suppression_nodes
        news = not same and (few or not alike or gather.complete)
        since = now - self._join_at
        interval = max(self._timing.join_interval, _JOIN_SECONDS_PER_CANDIDATE * len(gather.candidates))
        interval = max(min(interval, self._timing.silent / 3), self.suspicion.lag.seconds(now))
        if since < interval * (0.25 if news else 0.9):
            return
        if not same:
            self._serial += 1
            last = Join(
                self._me,
                self.view,
                self._answered,
                self.leaving,
                gather.attempt,
                gather.begun,
                self._serial,
                self.epoch,
                self._agreed,
                gather.digest,
                len(gather.listed),
                gather.heard_map,
                gather.listed,
                tuple(self._abandoned[-_MAX_ABANDONED:]),
                evicts=gather.evicts,
                records=self.evidence.said,
                relayed=relays,
            )
            self._last_join = last
        assert last is not None
        self._join_at = now + self._random.random() * interval / 5
        said = gather.attempt, gather.digest, self.leaving, self.view, self._answered, gather.complete
        self._join_turn += 1
        lacking = gather.lacking()
        if few or said != self._multicast_said or not self._join_turn % _MULTICAST_TURNS or len(lacking) > _MAX_ASKED:
            self._multicast_said = said
            self.out.append((self._without_names(last), None))
            return
        start = self._join_turn * _ASKED_AT_ONCE % max(1, len(lacking))
        asked = (lacking[start:] + lacking[:start])[:_ASKED_AT_ONCE]
        if members is not None and self._proposer(members) != self._me:
            asked.append(self._proposer(members))
        self._say_to(last, asked)

    def _say_to(self, join: Join, nodes: Iterable[NodeId]) -> None:
        """Among many candidates: tell the proposer what is agreed, and ask those few whose word was lost for it."""
        asking = evolve(self._without_names(join), asks=True)
        for node in nodes:
            peer = self.peers.get(node)
            if peer is not None:
                self.out.append((asking, peer.address))

    def _go_on_gathering(self, now: float) -> None:
        gather = self._gather
        assert gather is not None
        self._look_around(now)
        limit = self._timing.silent + self._timing.recover + 2 * self.suspicion.patience(now)
        if self.state is not State.GATHER or now - gather.started_at < limit:
            return
        members = gather.members(settled=True) or (self._me,)
        dissenter = gather.dissenter(members)
        self._again({dissenter or self._proposer(members)}, now)

    def _again(self, culprits: set[NodeId], now: float) -> None:
        """This attempt failed because of ``culprits``: a new one without them."""
        gather = self._gather
        assert gather is not None
        self._counters.up("attempts_failed")
        self._give_up()
        self._attempt += 1
        gather.tries += 1
        for node in sorted(culprits):
            gather.exclude(node)
            if node != self._me:
                self._suspects.add(node)
                self.evidence.note(Finding.NO_PROGRESS, node, now)
        gather.restart(self._attempt, now)
        self._agreed = 0
        self._join_at = -inf
        self.state = State.GATHER
        self._soon()

    def _give_up(self) -> None:
        """The proposal this node has answered will not be installed by it."""
        change = self._change
        if change is not None and change.plan is not None and self._host.missing() == 0:
            self._abandoned = [*self._abandoned, change.recover.proposal][-_MAX_ABANDONED:]
        self._change = None

    # ---- recover ---------------------------------------------------------------------------------------------------

    def _propose(self, members: tuple[NodeId, ...], now: float) -> None:
        gather = self._gather
        assert gather is not None
        self.epoch += 1
        recover = Recover(ViewId(self.epoch, self._me), gather.attempt, self._agreed, members)
        self.out.append((recover, None))
        self._answer(recover, now)
        change = self._change
        assert change is not None
        change.answers[self._me] = change.answer
        change.told_at = now
        self._plan_if_answered(now)

    def _answer(self, recover: Recover, now: float) -> None:
        """Freeze, and say what this node holds."""
        self._give_up()
        self._saw_epoch(recover.proposal.epoch)
        self._host.freeze()
        self._answered = self._highest_answered = recover.proposal
        answer = self._host.answer(recover.proposal, self.epoch, leaving=self.leaving)
        self._change = _Change(recover, answer, now)
        self._change.expels = self.expelling
        self.state = State.RECOVER
        self._soon()

    def recover_received(self, recover: Recover, source: Address, now: float) -> None:
        """A proposal: answered only if it is what this node has agreed to, from whom it expects it, and the newest."""
        change, gather = self._change, self._gather
        if self.state is State.RECOVER and change is not None and change.recover == recover:
            if self._me != recover.proposal.proposer and change.plan is None:
                self._say_answer(change, source)
            return
        believed = self._saw_epoch(recover.proposal.epoch)
        if self.state is not State.GATHER or gather is None:
            return
        expected = (
            believed
            and self._me in recover.participants
            and (recover.attempt, recover.agreed) == (gather.attempt, self._agreed)
            and recover.agreed == agreement(recover.attempt, recover.participants)
            and recover.proposal.proposer == self._proposer(recover.participants)
            and (self._highest_answered is None or recover.proposal > self._highest_answered)
            and (self.view is None or recover.proposal > self.view)
        )
        if not expected:
            if self._last_join is not None:
                self._reply(self._without_names(self._last_join), source, now)
            return
        self._answer(recover, now)
        assert self._change is not None
        self._say_answer(self._change, source)

    def _say_answer(self, change: _Change, source: Address) -> None:
        """To the proposer where it is known to be: what is held may be much, and the source a lie."""
        proposer = self.peers.get(change.recover.proposal.proposer)
        self.out.append((change.answer, source if proposer is None else proposer.address))

    def answer_received(self, answer: Answer, now: float) -> None:
        """The proposer's: what a participant holds."""
        change = self._change
        if not self._proposing(answer.proposal) or change is None or answer.node not in change.recover.participants:
            return
        self._saw_epoch(answer.epoch)
        if answer.node not in change.answers and change.plan is None:
            if contradicts(answer, change.answers.values()) or not self._host.credible(answer):
                self._counters.up("peer_violations")
                return
            change.answers[answer.node] = answer
            change.heard_at[answer.node] = change.progress_at = now
            self._plan_if_answered(now)

    def _proposing(self, proposal: ViewId) -> bool:
        change = self._change
        return (
            self.state is State.RECOVER
            and change is not None
            and change.recover.proposal == proposal
            and proposal.proposer == self._me
        )

    def _plan_if_answered(self, now: float) -> None:
        change = self._change
        assert change is not None
        participants = change.recover.participants
        if change.plan is not None or len(change.answers) < len(participants):
            return
        plan = make_plan(
            change.recover.proposal,
            change.recover.attempt,
            participants,
            change.answers,
            self._reasons(now),
            self._config.quorum,
        )
        plan = evolve(plan, records=self._records(plan, change.answers, now))
        change.missing = {node: -1 for node in participants if node != self._me}
        self.out.append((plan, None))
        change.told_at = now
        self._take_plan(plan, now)

    def _records(self, plan: Plan, answers: Mapping[NodeId, Answer], now: float) -> tuple[Record, ...]:
        """What led to the change: what this node and those who take part in it have found."""
        for node, answer in answers.items():
            if answer.leaving:
                self.evidence.note(Finding.LEAVES, node, now)
            elif answer.view != self.view or (answer.view is None and node != self._me):
                self.evidence.note(Finding.CAME, node, now)
        if self._gather is not None:
            for finding, by, about in self._gather.findings(plan.participants):
                self.evidence.saw(finding, by, about, now)
        return self.evidence.told(now)

    def _reasons(self, now: float) -> dict[NodeId, Reason]:
        """Why nodes are gone: what is known for certain, or that they are heard and yet do not come along."""
        reasons = dict(self._dead)
        evicted = self._gather.outvoted() if self._gather is not None else {}
        if self._me in evicted or self.eviction.evicted_by(now):
            return reasons
        for node in self.members:
            peer = self.peers.get(node)
            heard = peer is not None and now - peer.heard_at < self._timing.silent
            if node not in reasons and (heard or node in evicted):
                reasons[node] = Reason.EVICTION
        return reasons

    def plan_received(self, plan: Plan, source: Address, now: float) -> None:
        """What must be fetched before the proposal can be installed."""
        change = self._change
        if self.state is not State.RECOVER or change is None or change.recover.proposal != plan.proposal:
            return
        if plan.proposal.proposer == self._me:  # the network brings one's own multicasts back: no progress
            return
        if not is_plan_of(plan, change.recover, self.view):
            self._counters.up("peer_violations")
            return
        change.progress_at = now
        if change.plan is None:
            self._take_plan(plan, now)
            self._say_ready(source, now)

    def _take_plan(self, plan: Plan, now: float) -> None:
        change = self._change
        assert change is not None
        self._host.apply_plan(plan, now)
        change.plan, change.digest = plan, digest64(plan.encode())
        change.planned_at = change.progress_at = now
        self.fetched(now)

    def fetched(self, now: float) -> None:
        """A packet of the plan came."""
        change = self._change
        if change is None or change.plan is None:
            return
        change.progress_at = now
        if self._proposing(change.plan.proposal):
            self._install_if_ready(now)
        elif self._host.missing() == 0:
            self._soon()
            change.told_at = -inf

    def _say_ready(self, destination: Address, now: float) -> None:
        change = self._change
        assert change is not None and change.plan is not None
        change.told_at = now
        self.out.append((Ready(self._me, change.plan.proposal, change.digest, self._host.missing()), destination))

    def ready_received(self, ready: Ready, source: Address, now: float) -> None:
        """The proposer's: how far a participant is. A member that has installed it answers with INSTALL."""
        if self.view == ready.proposal and self._install is not None:
            self._reply(self._install, source, now)
            return
        change = self._change
        if not self._proposing(ready.proposal) or change is None or ready.plan != change.digest:
            return
        before = change.missing.get(ready.node)
        if before is None:
            return
        change.heard_at[ready.node] = now
        if before < 0 or ready.missing < before:
            change.missing[ready.node] = ready.missing
            change.progress_at = now
            self._install_if_ready(now)

    def _install_if_ready(self, now: float) -> None:
        change = self._change
        assert change is not None and change.plan is not None
        if any(change.missing.values()) or self._host.missing():
            return
        self._install_plan(now)
        assert self._install is not None
        self.out.append((self._install, None))

    def install_received(self, install: Install, now: float) -> None:
        """The proposal is a view now."""
        change = self._change
        if (
            self.state is State.RECOVER
            and change is not None
            and change.plan is not None
            and (change.plan.proposal, change.digest) == (install.proposal, install.plan)
            and self._host.missing() == 0
        ):
            self._install_plan(now)

    @property
    def ready_for(self) -> Plan | None:
        """The plan this node is READY for: any authentic packet of its view is as good as INSTALL."""
        change = self._change
        if self.state is State.RECOVER and change is not None and change.plan is not None and not self._host.missing():
            return change.plan
        return None

    def install_ready(self, now: float) -> None:
        """A packet of the view this node is READY for came."""
        self._install_plan(now)

    def _install_plan(self, now: float) -> None:
        change = self._change
        assert change is not None and change.plan is not None
        plan = change.plan
        self._install = Install(plan.proposal, change.digest)
        self._install_until = now + self._timing.recover
        self._install_told_at = now
        others = {node for node in plan.members or plan.participants if node != self._me}
        self._unconfirmed = others if plan.proposal.proposer == self._me else set()
        self._installed_attempt = plan.attempt
        self._installed_at = now
        self.expelling = self.expelling and not change.expels
        self._admission.installed(now, delays=plan.members[:1] == (self._me,) and plan.verdict.primary)
        evicted = self._gather.outvoted() if self._gather is not None else {}
        self._change = self._gather = None
        self._answered = None
        self._abandoned = []
        self._absent.clear()
        self._suspects.clear()
        self._unheard.clear()
        self.evidence.over()
        self.suspicion.installed(plan.members)
        self._inquiries.clear()
        self._unlisted.clear()
        self._names_all = 0
        self.state = State.OPERATIONAL
        old, self.view, self.members = self.members, plan.proposal, plan.members
        self._dead = {node: reason for node, reason in self._dead.items() if node in plan.participants}
        for departed in plan.departed:
            self.peers.forget(departed.node)
            if departed.reason is Reason.NODE_LEAVE:
                self._left[departed.node] = None
        while len(self._left) > _MAX_LEFT:
            del self._left[next(iter(self._left))]
        self.peers.keep(plan.members)
        for node in plan.members:
            peer = self.peers.get(node)
            if peer is not None:
                peer.heard_at = max(peer.heard_at, now - self._timing.probe_after / 2)
        self._counters.up("views_installed")
        self._host.install(plan, now)
        if self._me not in plan.members:
            self._leave_when_told(now)
        else:
            self.eviction.installed(plan.departed, plan.members, evicted, now)
            kept_out = {one.node.name for one in self.eviction.readmission.kept_out(now)}
            self.flapping.installed(plan.departed, old, plan.members, kept_out, now)
        self._confirm(plan.proposal.proposer, now)
        self._soon()

    def _confirm(self, proposer: NodeId, now: float) -> None:
        """Say that this node is in the view: to all in a small one; in a large one first to who waits to hear it."""
        peer = self.peers.get(proposer)
        if len(self.members) <= self._config.suppression_nodes or peer is None:
            self._beacon_at = -inf
            return
        self._beacon_at = now - self._random.random() * self._timing.heartbeat
        self.out.append((self._own_beacon(now, reply=False), peer.address))

    def _leave_when_told(self, now: float) -> None:
        if not self._unconfirmed:
            self._stop("left", clean=True)

    def _repeat_install(self, now: float) -> None:
        """Until every participant is heard in the new view, or its time is over."""
        if not self._unconfirmed or self._install is None:
            return
        if now >= self._install_until or self.state is not State.OPERATIONAL:
            self._unconfirmed.clear()
        elif now - self._install_told_at >= self._timing.retry:
            self._install_told_at = now
            self.out.append((self._install, None))
        if self.view is not None and self._me not in self.members:
            self._leave_when_told(now)

    def _go_on_recovering(self, now: float) -> None:
        change = self._change
        assert change is not None
        timing = self._timing
        proposer = change.recover.proposal.proposer
        late = now - change.progress_at > timing.recover + self.suspicion.patience(now)
        catching_up = self.eviction.in_lanes() if now - change.planned_at > timing.suspect else set()
        if proposer != self._me:
            if late or (proposer in catching_up and now - change.planned_at > timing.suspect + timing.recover):
                self._again({proposer}, now)
                return
            peer = self.peers.get(proposer)
            if peer is not None and now - change.told_at >= timing.join_interval and change.plan is not None:
                self._say_ready(peer.address, now)
            return
        if holding_up := catching_up.intersection(self._waiting(change)) - {self._me}:
            self._again(holding_up, now)
            return
        if late:
            others = set(change.recover.participants) - {self._me}
            mute = {node for node in others if now - change.heard_at.get(node, -inf) > timing.recover / 2}
            if mute or not self._may_wait_for_disks(change, now):
                self._again(mute or self._waiting(change), now)
                return
        if now - change.told_at >= timing.retry * (1 if change.plan is None or -1 in change.missing.values() else 4):
            change.told_at = now
            self.out.append((change.plan or change.recover, None))

    def _may_wait_for_disks(self, change: _Change, now: float) -> bool:
        """Whether all that is still missing may be that somebody's memory is on its disk."""
        return (
            change.plan is not None
            and change.plan.verdict.primary
            and self._config.quorum.filter is Filter.DYNAMIC_LINEAR
            and max(self._host.missing(), *change.missing.values(), 0) <= 1
            and now - change.planned_at < DISK_SECONDS
        )

    def _waiting(self, change: _Change) -> set[NodeId]:
        """The proposer's: who has not answered, or is not READY."""
        if change.plan is None:
            return set(change.recover.participants) - change.answers.keys()
        return {node for node, missing in change.missing.items() if missing}

    def _join_while_recovering(self, join: Join, names: tuple[NodeId, ...], now: float) -> None:
        """Somebody has given this attempt up: so does this node, and stays frozen."""
        change, gather = self._change, self._gather
        assert change is not None and gather is not None
        if join.attempt <= gather.attempt or join.node not in change.recover.participants:
            return
        if self._me not in names:
            return
        self._counters.up("attempts_failed")
        self._give_up()
        gather.tries += 1
        self._follow(join, names, gather, now)
        self._join_at = -inf
        self.state = State.GATHER
        self._soon()
        self._join_while_gathering(join, names, None, now)

    # ---- the rest --------------------------------------------------------------------------------------------------

    def _saw_epoch(self, epoch: int) -> bool:
        """Raise this node's epoch to what another says, or as far as one packet can; whether that is far enough."""
        believed = min(epoch, max(self.epoch, MAX_EPOCH) + MAX_STEP)
        self.epoch = max(self.epoch, believed)
        if epoch > believed:
            self._counters.up("refused_epoch")
        return epoch <= believed

    def _saw_attempt(self, attempt: int) -> bool:
        """The same for the number of attempts."""
        believed = min(attempt, self._attempt + MAX_STEP)
        self._attempt = max(self._attempt, believed)
        if attempt > believed:
            self._counters.up("refused_attempt")
        return attempt <= believed

    def leave(self) -> None:
        """Begin to leave: the next change leaves this node out."""
        self.leaving = True
        self._soon()

    def abandon(self) -> None:
        """Leave without an answer of the others: they were given time enough."""
        if self.state is not State.STOPPED:
            self._stop("left, without an answer of the others", clean=False)

    def fail(self, reason: str) -> None:
        """This node cannot go on."""
        if self.state is not State.STOPPED:
            self._stop(reason, clean=False)

    def _stop(self, reason: str, *, clean: bool) -> None:
        self.state = State.STOPPED
        self._gather = self._change = None
        self._host.stop(reason, clean=clean)
