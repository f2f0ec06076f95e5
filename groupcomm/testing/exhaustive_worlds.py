"""Small worlds and their rules: what may happen next, and what it leads to.

Decides what "every interleaving" ranges over. Time stands still while anything can happen at this instant: packets
take no time, and they arrive in every order that keeps each path's own; only when nothing is left does the clock go to
the next deadline of any node. What a world adds to that (a fall, a loss, a packet that overtakes, a cut, a message at
any point, time that passes early) may happen at every point of its window, each so often and no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from attrs import field, frozen

from groupcomm.identity import NodeId
from groupcomm.outputs import Address
from groupcomm.testing.cluster import FIRST_INCARNATION, NODE_PORT
from groupcomm.testing.exhaustive_hosts import Command, Effects, Host, Input, LiveHosts, Situation
from groupcomm.testing.interface import EngineFactory
from groupcomm.testing.packets import packet_label
from groupcomm.testing.trace import TraceEvent

T = TypeVar("T")

NOBODY = -1
"""The number of a host that has no process."""

_FORM_SECONDS = 3.0
"""When a world begins at the earliest: probes and reports of the view's first seconds are over."""

CHANGE_SECONDS = 10.0
"""A change that takes longer is over for the search; what becomes of it is judged all the same."""

_GIVE_UP_SECONDS = 20.0
_OPENING: tuple[Command, ...] = (("start",), ("open",), ("join",))


@frozen
class World:
    """A small world.

    Attributes:
        name: what it is called by.
        text: what is tried, in a line.
        formed: the nodes that are in one view with a client each when the window opens.
        script: by node, what its client or operator does in the window, each in its order, all at once.
        newcomers: nodes that start then; the window opens when the first node gathers for them.
        leaver: the node that leaves then; the window opens when the first node gathers for that.
        anytime: whether each command may wait for any point of the window; else only for what can happen at once.
        falls: one of these nodes may crash at any point.
        losses: so many packets may be lost.
        overtakes: so many packets may be overtaken by the next on their path.
        cut: this node may be cut off once.
        cut_seconds: for how long, one or the other.
        window: for how many seconds from its opening everything is chosen; while a node recovers it is in any case.
        after: for how many seconds after a fall, a loss, a cut and its end.
    """

    name: str
    text: str
    formed: tuple[str, ...]
    script: Mapping[str, tuple[Command, ...]] = field(factory=dict)
    newcomers: tuple[str, ...] = ()
    leaver: str | None = None
    anytime: bool = False
    falls: tuple[str, ...] = ()
    losses: int = 0
    overtakes: int = 0
    cut: str | None = None
    cut_seconds: tuple[float, ...] = ()
    window: float = 0.001
    after: float = 0.003

    @property
    def names(self) -> tuple[str, ...]:
        """All its nodes."""
        return self.formed + self.newcomers


class Left(NamedTuple):
    """How much may still happen: falls, losses, overtakings, and early passings of time."""

    falls: int
    losses: int
    overtakes: int
    early: int


_NOTHING_LEFT = Left(0, 0, 0, 0)


class State(NamedTuple):
    """A world at one point of a run; equal states have equal futures.

    Attributes:
        now: the time.
        until: when the window closes.
        hosts: by node, the number of its state.
        paths: by sender times nodes plus receiver, the number of what is on the way, in its order.
        refusals: by node, those it is about to find dead.
        done: by node, how much of its script.
        left: what may still happen.
        heals_at: when the cut ends; 0.0 before it, -1.0 after.
    """

    now: float
    until: float
    hosts: tuple[int, ...]
    paths: tuple[int, ...]
    refusals: tuple[tuple[int, ...], ...]
    done: tuple[int, ...]
    left: Left
    heals_at: float


class Action(NamedTuple):
    """What happens next: ``deliver``, ``timer``, ``refuse``, ``do``, ``pass`` or a fault; where, and one detail."""

    kind: str
    where: int = 0
    detail: int = 0


class Hosts(Protocol):
    """The hosts by number: states that are kept, or hosts that change."""

    def step(self, number: int, given: Input) -> tuple[int, Effects]:
        """One turn."""

    def deadline(self, number: int) -> float | None:
        """When it wants to be called."""

    def watched(self, number: int) -> tuple[NodeId, ...]:
        """Its neighbours."""

    def stopped(self, number: int) -> bool:
        """Whether it has ended."""

    def situation(self, number: int) -> Situation:
        """Its phase and its view."""

    def host(self, number: int) -> Host:
        """The host itself, to be looked at."""


class Wires:
    """Packets and what is on a path, by number. The empty path is 0."""

    def __init__(self) -> None:
        self._packets: dict[bytes, int] = {}
        self._bytes: list[bytes] = []
        self._contents: list[tuple[int, ...]] = [()]
        self._numbers: dict[tuple[int, ...], int] = {(): 0}
        self._longer: dict[tuple[int, int], int] = {}
        self._shorter: list[int] = [0]

    def packet(self, number: int) -> bytes:
        """Its bytes."""
        return self._bytes[number]

    def first(self, path: int) -> int:
        """What arrives next."""
        return self._contents[path][0]

    def length(self, path: int) -> int:
        """How much is on the way."""
        return len(self._contents[path])

    def with_packet(self, path: int, data: bytes) -> int:
        """The path with one more on it."""
        packet = self._packets.get(data)
        if packet is None:
            packet = self._packets[data] = len(self._bytes)
            self._bytes.append(data)
        longer = self._longer.get((path, packet))
        if longer is None:
            longer = self._longer[path, packet] = self._number((*self._contents[path], packet))
        return longer

    def without_first(self, path: int) -> int:
        """The path after one arrival."""
        return self._shorter[path]

    def swapped(self, path: int) -> int:
        """The path with its second packet before its first."""
        first, second, *others = self._contents[path]
        return self._number((second, first, *others))

    def _number(self, content: tuple[int, ...]) -> int:
        number = self._numbers.get(content)
        if number is None:
            shorter = self._number(content[1:])
            number = self._numbers[content] = len(self._contents)
            self._contents.append(content)
            self._shorter.append(shorter)
        return number


class Rules:
    """A world's rules, over hosts that are kept as states or over hosts that change."""

    def __init__(self, world: World, hosts: Hosts, wires: Wires) -> None:
        self.world = world
        self.hosts = hosts
        self.wires = wires
        names = world.names
        self.size = size = len(names)
        self.nodes = tuple(NodeId(name, FIRST_INCARNATION) for name in names)
        self.addresses = tuple(address_of(index) for index in range(size))
        self._index_of = {node: index for index, node in enumerate(self.nodes)}
        self._index_at = {address: index for index, address in enumerate(self.addresses)}
        self._script = tuple(world.script.get(name, ()) for name in names)
        self._falls = tuple(names.index(name) for name in world.falls)
        self._leaving = [index for index, name in enumerate(names) if name == world.leaver]
        alone = -1 if world.cut is None else names.index(world.cut)
        self._crossing = frozenset(
            path for path in range(size * size) if (path // size == alone) != (path % size == alone)
        )

    # What may happen

    def actions(self, state: State) -> list[Action]:
        """What may happen next; the first is what does outside the window. Never empty."""
        size, script, now = self.size, self._script, state.now
        at_host: list[list[Action]] = [[] for _ in range(size)]
        for path, content in enumerate(state.paths):
            if content:
                at_host[path % size].append(Action("deliver", path))
        commands: list[Action] = []
        waits = False
        for index, number in enumerate(state.hosts):
            if number == NOBODY:
                continue
            at_host[index] += [Action("refuse", index, other) for other in state.refusals[index]]
            deadline = self.hosts.deadline(number)
            if deadline is not None:
                if deadline <= now:
                    at_host[index].append(Action("timer", index))
                else:
                    waits = True
            if state.done[index] < len(script[index]):
                commands.append(Action("do", index))
        if not self._open(state):
            if self.world.anytime and not self.closed(state):
                commands = []
            return [each for actions in at_host for each in actions][:1] or commands[:1] or [Action("pass")]
        if state.left == _NOTHING_LEFT and state.heals_at != 0.0:
            for index, actions in enumerate(at_host):
                if actions and self._all_known(state, index):
                    return actions + [each for each in commands if each.where == index]
        pending = [each for actions in at_host for each in actions]
        if not self.world.anytime:
            pending += commands
            commands = []
        found = pending or [Action("pass")]
        found += commands
        if pending and waits and state.left.early:
            found.append(Action("pass", 1))
        return found + self._faults(state)

    def _all_known(self, state: State, index: int) -> bool:
        """Whether nothing that happens elsewhere can make anything else happen next at this host.

        So it is when every other live host's path to it has something on it, and none may end by
        itself. What happens here and what happens elsewhere then lead to the same points in either order, and only one
        order needs to be looked at: what happens here is a persistent set.
        """
        return all(state.hosts[leaving] == NOBODY for leaving in self._leaving) and all(
            number == NOBODY or other == index or state.paths[other * self.size + index]
            for other, number in enumerate(state.hosts)
        )

    def closed(self, state: State) -> bool:
        """Whether nothing will be chosen any more: the window is over, and all live nodes are in one view of them."""
        live = [self.hosts.situation(number) for number in state.hosts if number != NOBODY]
        if live and (state.now < state.until or state.heals_at > 0.0):
            return False
        together = all(one == live[0] and one[0] == "operational" and one[1][1] == len(live) for one in live)
        return together or state.now > state.until + CHANGE_SECONDS

    def _open(self, state: State) -> bool:
        """Whether things are chosen: in the window, and while a node recovers."""
        return state.now < state.until or any(
            number != NOBODY and self.hosts.situation(number)[0] == "recover" for number in state.hosts
        )

    def _faults(self, state: State) -> list[Action]:
        found = []
        left, size = state.left, self.size
        if left.losses:
            found += [Action("lose", path) for path, content in enumerate(state.paths) if content]
        if left.overtakes:
            found += [
                Action("overtake", path)
                for path, content in enumerate(state.paths)
                if content and self.wires.length(content) > 1
            ]
        if left.falls:
            for index in self._falls:
                if state.hosts[index] != NOBODY:
                    used = sum(1 for content in state.paths[index * size : index * size + size] if content)
                    found += [Action("crash", index, mask) for mask in range(1 << used)]
        if state.heals_at == 0.0:
            found += [Action("cut", index) for index in range(len(self.world.cut_seconds))]
        return found

    # What it leads to

    def apply(self, state: State, action: Action) -> tuple[State, tuple[TraceEvent, ...]]:
        """The world after it, and what is to be noted, at time 0.0."""
        kind, where, detail = action
        if kind == "deliver":
            source, to = divmod(where, self.size)
            packet = self.wires.packet(self.wires.first(state.paths[where]))
            paths = _put(state.paths, where, self.wires.without_first(state.paths[where]))
            return self._turn(state, to, ("packet", state.now, (self.addresses[source], packet)), paths)
        if kind == "timer":
            return self._turn(state, where, ("timer", state.now, None), state.paths)
        if kind == "refuse":
            left = tuple(other for other in state.refusals[where] if other != detail)
            state = state._replace(refusals=_put(state.refusals, where, left))
            return self._turn(state, where, ("refused", state.now, self.nodes[detail]), state.paths)
        if kind == "do":
            command = self._script[where][state.done[where]]
            state = state._replace(done=_put(state.done, where, state.done[where] + 1))
            return self._turn(state, where, ("command", state.now, command), state.paths)
        if kind == "crash":
            return self._crash(state, where, detail)
        return self._happen(state, action), ()

    def _happen(self, state: State, action: Action) -> State:
        """What no host notices."""
        kind, where, _ = action
        left = state.left
        if kind == "pass":
            return self._pass(state._replace(left=left._replace(early=left.early - where)))
        if kind == "lose":
            paths = _put(state.paths, where, self.wires.without_first(state.paths[where]))
            until = max(state.until, state.now + self.world.after)
            return state._replace(paths=paths, until=until, left=left._replace(losses=left.losses - 1))
        if kind == "overtake":
            paths = _put(state.paths, where, self.wires.swapped(state.paths[where]))
            return state._replace(paths=paths, left=left._replace(overtakes=left.overtakes - 1))
        if kind != "cut":
            raise ValueError(f"no such action: {action}")
        paths = tuple(0 if path in self._crossing else content for path, content in enumerate(state.paths))
        heals_at = state.now + self.world.cut_seconds[where]
        return state._replace(paths=paths, heals_at=heals_at, until=state.now + self.world.after)

    def _pass(self, state: State) -> State:
        deadlines = [self.hosts.deadline(number) for number in state.hosts if number != NOBODY]
        now = min(deadline for deadline in deadlines if deadline is not None and deadline > state.now)
        if 0.0 < state.heals_at <= now:
            return state._replace(now=state.heals_at, heals_at=-1.0, until=state.heals_at + self.world.after)
        return state._replace(now=now)

    def _crash(self, state: State, index: int, mask: int) -> tuple[State, tuple[TraceEvent, ...]]:
        """It falls; of its paths with something on the way those in the mask lose it."""
        size = self.size
        used = [path for path in range(index * size, index * size + size) if state.paths[path]]
        lost = {path for bit, path in enumerate(used) if mask >> bit & 1}
        paths = tuple(0 if path in lost else content for path, content in enumerate(state.paths))
        events = tuple(self.hosts.host(state.hosts[index]).end("crash"))
        until = max(state.until, state.now + self.world.after)
        left = state.left._replace(falls=state.left.falls - 1)
        return self._gone(state._replace(paths=paths, left=left, until=until), index), events

    def _gone(self, state: State, index: int) -> State:
        """Those who watched a process that has ended are about to notice."""
        refusals = list(state.refusals)
        refusals[index] = ()
        for other, number in enumerate(state.hosts):
            if other != index and number != NOBODY and self.nodes[index] in self.hosts.watched(number):
                refusals[other] = (*refusals[other], index)
        paths = tuple(0 if path % self.size == index else content for path, content in enumerate(state.paths))
        return state._replace(hosts=_put(state.hosts, index, NOBODY), paths=paths, refusals=tuple(refusals))

    def _turn(
        self, state: State, index: int, given: Input, paths: tuple[int, ...]
    ) -> tuple[State, tuple[TraceEvent, ...]]:
        number, effects = self.hosts.step(state.hosts[index], given)
        if effects.datagrams:
            paths = self._sent(state, index, effects, paths)
        state = State(state.now, state.until, _put(state.hosts, index, number), paths, *state[4:])
        for node in effects.asked:
            other = self._index_of[node]
            if state.hosts[other] == NOBODY and other not in state.refusals[index]:
                state = state._replace(refusals=_put(state.refusals, index, (*state.refusals[index], other)))
        if self.hosts.stopped(number):
            state = self._gone(state, index)
        return state, effects.events

    def _sent(self, state: State, index: int, effects: Effects, paths: tuple[int, ...]) -> tuple[int, ...]:
        changed = list(paths)
        for data, destination in effects.datagrams:
            for other in range(self.size) if destination is None else (self._index_at[destination],):
                path = index * self.size + other
                cut = state.heals_at > 0.0 and path in self._crossing
                if other != index and state.hosts[other] != NOBODY and not cut:
                    changed[path] = self.wires.with_packet(changed[path], data)
        return tuple(changed)

    # For people

    def describe(self, state: State, action: Action) -> str:
        """One line."""
        kind, where, detail = action
        names, size = self.world.names, self.size
        if kind in ("deliver", "lose", "overtake"):
            packet = self.wires.packet(self.wires.first(state.paths[where]))
            return f"{kind} {names[where // size]} -> {names[where % size]}: {packet_label(packet)}"
        if kind == "refuse":
            return f"{names[where]} finds {names[detail]} dead"
        if kind == "do":
            return f"{names[where]}: {' '.join(self._script[where][state.done[where]])}"
        if kind == "crash":
            used = [to for to in range(size) if state.paths[where * size + to]]
            lost = "".join(f", nothing more reaches {names[to]}" for bit, to in enumerate(used) if detail >> bit & 1)
            return f"{names[where]} crashes{lost}"
        if kind == "cut":
            return f"{self.world.cut} is cut off for {self.world.cut_seconds[where]} s"
        if kind == "pass":
            return "time passes early" if where else "time passes"
        return f"{kind} of {names[where]}"


def _put(items: tuple[T, ...], index: int, item: T) -> tuple[T, ...]:
    return (*items[:index], item, *items[index + 1 :])


def address_of(index: int) -> Address:
    """Where a node is."""
    return f"10.0.0.{index + 1}", NODE_PORT


def at_rest(hosts: Sequence[Host]) -> bool:
    """Whether the hosts are in one view of just them and nothing is outstanding."""
    statuses = [host.engine.status(host.deadline or 0.0) for host in hosts]
    return all(
        status.state == "operational"
        and status.view == statuses[0].view
        and len(status.members) == len(hosts)
        and not status.outstanding_bytes
        and not status.queued_bytes
        and not host.waiting
        for status, host in zip(statuses, hosts, strict=True)
    )


def _rules(world: World, script: Mapping[str, tuple[Command, ...]], hosts: Hosts, wires: Wires) -> Rules:
    """Of the same nodes, with nothing to choose."""
    return Rules(World("", "", world.names, script), hosts, wires)


class Opening:
    """How a world comes to the point where its window opens, always in the same way.

    Attributes:
        hosts: then.
        state: then, with ``hosts`` numbered by their places.
        events: what has happened until then.
    """

    def __init__(self, world: World, factory: EngineFactory, wires: Wires, *, early: int) -> None:
        size, formed = len(world.names), len(world.formed)
        self.events: list[tuple[float, TraceEvent]] = []
        self.hosts = [
            Host(NodeId(name, FIRST_INCARNATION), address_of(index), (index + 1) / (size + 1), factory, 0.0)
            for index, name in enumerate(world.names)
        ]
        self.state = State(
            0.0,
            0.0,
            (*range(formed), *(NOBODY for _ in world.newcomers)),
            (0,) * size**2,
            ((),) * size,
            (0,) * size,
            Left(0, 0, 0, 0),
            -1.0,
        )
        live = LiveHosts(self.hosts)
        self._run(_rules(world, dict.fromkeys(world.formed, _OPENING), live, wires))
        if world.newcomers:
            self.state = self.state._replace(hosts=tuple(range(size)))
        beginning = dict.fromkeys(world.newcomers, _OPENING)
        if world.leaver is not None:
            beginning[world.leaver] = (("leave",),)
        if beginning:
            self.state = self.state._replace(done=(0,) * size)
            self._run(_rules(world, beginning, live, wires), "gather")
        self.state = self.state._replace(
            until=self.state.now + world.window,
            done=(0,) * size,
            left=Left(1 if world.falls else 0, world.losses, world.overtakes, early),
            heals_at=0.0 if world.cut_seconds else -1.0,
        )

    def _run(self, rules: Rules, wanted: str | None = None) -> None:
        while not self._reached(rules, wanted):
            assert self.state.now < _GIVE_UP_SECONDS, "the world did not form"
            self.state, events = rules.apply(self.state, rules.actions(self.state)[0])
            self.events += [(self.state.now, event) for event in events]

    def _reached(self, rules: Rules, wanted: str | None) -> bool:
        live = [host for host, number in zip(self.hosts, self.state.hosts, strict=True) if number != NOBODY]
        if wanted is not None:
            return any(host.engine.status(self.state.now).state == wanted for host in live)
        quiet = not any(self.state.paths) and rules.actions(self.state)[0].kind == "pass"
        return quiet and self.state.now >= _FORM_SECONDS and at_rest(live)
