"""Every interleaving of small worlds: ``python -m groupcomm.testing.exhaustive [WORLD ...]``.

Decides how a world is searched. Its points form a graph: what may happen at each is tried, once for each point, and a
point that several ways lead to is the same one only if every node's whole state, all that each has seen and all that is
on the way are equal. From each point at which the window closes the world runs on, undisturbed, until it is at rest,
and the oracle reads the trace. The engines are the product's, driven as a reactor drives them.

    python -m groupcomm.testing.exhaustive two-agreed three-safe --deviations 1
    python -m groupcomm.testing.exhaustive --replay two-agreed 0,2,1
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from attrs import define, evolve, field, frozen

from groupcomm.testing.cluster import product_engine
from groupcomm.testing.exhaustive_hosts import Command, HostStates, LiveHosts
from groupcomm.testing.exhaustive_snapshots import duplicate
from groupcomm.testing.exhaustive_worlds import NOBODY, Action, Opening, Rules, State, Wires, World, at_rest
from groupcomm.testing.interface import EngineFactory
from groupcomm.testing.oracle import examine
from groupcomm.testing.trace import Trace, describe

SETTLE_SECONDS = 20.0
"""From the closing of the window until the world is at rest, at most."""

REST_SECONDS = 0.3
"""It has to stay so for this long."""

PROGRESS_POINTS = 50_000
"""How often the command says how far it is."""


def _sends(level: str, *names: str) -> dict[str, tuple[Command, ...]]:
    return {name: (("send", f"m{number}", level),) for number, name in enumerate(names, 1)}


_TWO, _THREE = ("a", "b"), ("a", "b", "c")
_MIXED: Mapping[str, tuple[Command, ...]] = {"b": (("send", "m1", "SAFE"),), "c": (("send", "m2", "AGREED"),)}
_LATE = _sends("FIFO", "b")
_A, _B, _C = _sends("SAFE", "a"), _sends("SAFE", "b"), _sends("CAUSAL", "c")

WORLDS = {
    world.name: world
    for world in (
        World("two-agreed", "two nodes send at once", _TWO, _sends("AGREED", "a", "b"), window=0.06),
        World("three-fifo", "two of three nodes send at once", _THREE, _sends("FIFO", "b", "c")),
        World("three-causal", "two of three nodes send at once", _THREE, _sends("CAUSAL", "b", "c")),
        World("three-agreed", "two of three nodes send at once", _THREE, _sends("AGREED", "b", "c")),
        World("three-safe", "two of three nodes send at once", _THREE, _sends("SAFE", "b", "c")),
        World("two-crash", "two nodes send, either falls", _TWO, _sends("SAFE", "a", "b"), falls=_TWO, window=0.003),
        World("sender-crash", "who sends falls", _THREE, _B, falls=("b",)),
        World("sequencer-crash", "who orders falls", _THREE, _B, falls=("a",)),
        World("mixed-crash", "two send, one of them falls", _THREE, _MIXED, falls=("b",)),
        World("join", "a third node joins while one sends", _TWO, _B, ("c",)),
        World("leave", "one of three leaves while another sends", _THREE, _B, leaver="c"),
        World("join-late", "one of two sends at any point of a third's join", _TWO, _LATE, ("c",), anytime=True),
        World(
            "leave-late", "one of three sends at any point of another's leave", _THREE, _LATE, leaver="c", anytime=True
        ),
        World("join-loss", "a second node joins, a packet is lost", ("a",), _A, ("b",), losses=1, window=0.08),
        World("join-crash", "a second node joins, either falls", ("a",), _A, ("b",), falls=_TWO, window=0.08),
        World("leave-loss", "one of two leaves, a packet is lost", _TWO, _A, leaver="b", losses=1, window=0.08),
        World(
            "leave-overtake", "one of two leaves, a packet is overtaken", _TWO, _A, leaver="b", overtakes=1, window=0.08
        ),
        World("leave-crash", "one of two leaves, either falls", _TWO, _A, leaver="b", falls=_TWO, window=0.08),
        World("three-join-loss", "a third node joins, a packet is lost", _TWO, _B, ("c",), losses=1),
        World("three-join-crash", "a third node joins, who proposes falls", _TWO, _B, ("c",), falls=("a",)),
        World("three-leave-loss", "one of three leaves, a packet is lost", _THREE, _B, leaver="c", losses=1),
        World("three-leave-crash", "one of three leaves, who proposes falls", _THREE, _B, leaver="c", falls=("a",)),
        World("cut", "a sender is cut off, and back while others gather", _THREE, _C, cut="c", cut_seconds=(3.2,)),
        World("cut-long", "a sender is cut off, and comes back to merge", _THREE, _C, cut="c", cut_seconds=(3.7,)),
    )
}


@frozen
class Finding:
    """A way to break a promise.

    Attributes:
        world: in which world.
        choices: which of the possible actions was taken wherever there were several; after the last the first each
            time.
        text: what is broken.
    """

    world: str
    choices: tuple[int, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.world} {','.join(map(str, self.choices)) or '-'}\n{self.text}"


@define
class Outcome:
    """What a search has seen.

    Attributes:
        points: different points of the world.
        steps: actions tried.
        turns: turns of a host executed.
        ends: points at which the window closed, each judged.
        interleavings: how many different orders of actions the graph holds.
        complete: whether every point was looked at.
        premises: how often each property had something to check.
        findings: what is broken, at most as many as were asked for.
    """

    world: World
    deviations: int
    points: int = 0
    steps: int = 0
    turns: int = 0
    ends: int = 0
    interleavings: int = 0
    complete: bool = True
    seconds: float = 0.0
    premises: dict[str, int] = field(factory=dict)
    findings: list[Finding] = field(factory=list)

    def __str__(self) -> str:
        return (
            f"{self.world.name}, {self.deviations} deviations: {'' if self.complete else 'INCOMPLETE, '}"
            f"{self.interleavings:.3g} interleavings, {self.points} points, {self.steps} steps, "
            f"{self.turns} turns, {self.ends} ends, {self.seconds:.1f} s, {len(self.findings)} findings"
        )


class Search:
    """Looks at every point of one world.

    Args:
        world: the world.
        deviations: how often time may pass although something can still happen at this instant.
        factory: makes the engines.
        findings: stop after so many.
        points: stop after so many.
        progress: called with a line now and then.
    """

    def __init__(
        self,
        world: World,
        *,
        deviations: int = 0,
        factory: EngineFactory = product_engine,
        findings: int = 1,
        points: int | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self.outcome = Outcome(world, deviations)
        self._wanted = findings
        self._most = points
        self._progress = progress
        self._wires = Wires()
        self._states = HostStates()
        opening = Opening(world, factory, self._wires, early=deviations)
        self._opening = opening.events
        numbers = tuple(self._states.add(host) for host in opening.hosts)
        self._start = opening.state._replace(hosts=tuple(numbers[number] for number in opening.state.hosts))
        self._rules = Rules(world, self._states, self._wires)
        self._numbers = {self._start: 0}
        self._origins: list[tuple[State, Action] | None] = [None]
        self._next: list[list[int]] = [[]]
        self._judged: set[State] = set()

    def run(self) -> Outcome:
        """Look at every point, each once, the latest found first."""
        outcome, rules = self.outcome, self._rules
        began_at = time.process_time()
        waiting = [self._start]
        while waiting and len(outcome.findings) < self._wanted:
            if self._most is not None and len(self._numbers) >= self._most:
                outcome.complete = False
                break
            state = waiting.pop()
            if rules.closed(state):
                self._end(state)
                continue
            leads_to = self._next[self._numbers[state]]
            for action in rules.actions(state):
                outcome.steps += 1
                try:
                    after, _ = rules.apply(state, action)
                except Exception:
                    self._find(state, action, traceback.format_exc())
                    break
                number = self._numbers.get(after)
                if number is None:
                    number = self._numbers[after] = len(self._origins)
                    self._origins.append((state, action))
                    self._next.append([])
                    waiting.append(after)
                    if self._progress is not None and number % PROGRESS_POINTS == 0:
                        self._progress(f"{outcome.world.name}: {number} points, {len(waiting)} of them to do")
                leads_to.append(number)
        outcome.points, outcome.turns = len(self._numbers), self._states.turns
        outcome.complete = outcome.complete and not outcome.findings
        if not outcome.findings:
            outcome.interleavings = self._interleavings()
        outcome.seconds = time.process_time() - began_at
        return outcome

    def replay(self, choices: Sequence[int], write: Callable[[str], None]) -> None:
        """Do what ``choices`` say, and tell what happens; then judge the end."""
        rules, state, left = self._rules, self._start, list(choices)
        while not rules.closed(state):
            actions = rules.actions(state)
            number = left.pop(0) if left and len(actions) > 1 else 0
            write(f"{state.now:10.6f}   {number + 1} of {len(actions)}: {rules.describe(state, actions[number])}")
            after, events = rules.apply(state, actions[number])
            for event in events:
                write(describe(evolve(event, at=after.now)))
            if after not in self._numbers:
                self._numbers[after] = len(self._origins)
                self._origins.append((state, actions[number]))
            state = after
        self._end(state)

    def _end(self, state: State) -> None:
        """The window is closed: what comes now follows from the hosts, the paths and what they still have to do."""
        key = state._replace(until=0.0, left=state.left._replace(falls=0, losses=0, overtakes=0, early=0))
        if key in self._judged:
            return
        self._judged.add(key)
        self.outcome.ends += 1
        try:
            text = self._verdict(state)
        except Exception:
            text = traceback.format_exc()
        if text:
            self._find(state, None, text)

    def _verdict(self, state: State) -> str:
        """Let the world come to rest and ask the oracle; returns what it finds broken."""
        trace = Trace([evolve(event, at=at) for at, event in self._opening])
        point = self._start
        for action in self._way(state):
            point, events = self._rules.apply(point, action)
            for event in events:
                trace.append(evolve(event, at=point.now))
        places = [index for index, number in enumerate(state.hosts) if number != NOBODY]
        hosts = [duplicate(self._states.host(state.hosts[index])) for index in places]
        numbers = {index: number for number, index in enumerate(places)}
        state = state._replace(hosts=tuple(numbers.get(index, NOBODY) for index in range(len(state.hosts))), until=0.0)
        rules = Rules(self.outcome.world, LiveHosts(hosts), self._wires)
        gives_up_at, rests_since = state.now + SETTLE_SECONDS, None
        while rests_since is None or state.now < rests_since + REST_SECONDS:
            if state.now > gives_up_at:
                break
            if all(number == NOBODY for number in state.hosts):
                rests_since = state.now
                break
            action = rules.actions(state)[0]
            state, events = rules.apply(state, action)
            for event in events:
                trace.append(evolve(event, at=state.now))
            if action.kind == "pass":
                rests = at_rest([host for host in hosts if not host.stopped])
                rests_since = (state.now if rests_since is None else rests_since) if rests else None
        live = [host.identity for host in hosts if not host.stopped]
        report = examine(trace, settled=None if rests_since is None else live)
        for name, times in report.premises.items():
            self.outcome.premises[name] = self.outcome.premises.get(name, 0) + times
        broken = [f"{one.property}: {one.text}" for one in report.violations]
        if rests_since is None:
            broken.append(f"L1: not at rest {SETTLE_SECONDS} s after the window has closed")
        return "\n".join([*broken, trace.last_events()]) if broken else ""

    def _way(self, state: State) -> list[Action]:
        way = []
        while (origin := self._origins[self._numbers[state]]) is not None:
            state, action = origin
            way.append(action)
        return way[::-1]

    def _find(self, state: State, action: Action | None, text: str) -> None:
        way = self._way(state) + ([] if action is None else [action])
        choices, point = [], self._start
        for number, taken in enumerate(way):
            actions = self._rules.actions(point)
            if len(actions) > 1:
                choices.append(actions.index(taken))
            if number < len(way) - 1:
                point, _ = self._rules.apply(point, taken)
        while choices and not choices[-1]:
            choices.pop()
        self.outcome.findings.append(Finding(self.outcome.world.name, tuple(choices), text))

    def _interleavings(self) -> int:
        """The number of ways from the start to an end; a way that leads back to itself is a finding."""
        ways: dict[int, int] = {}
        begun = {0}
        stack = [(0, 0)]
        while stack:
            number, place = stack.pop()
            onward = self._next[number]
            if place == len(onward):
                ways[number] = sum(ways[each] for each in onward) or 1
                continue
            stack.append((number, place + 1))
            after = onward[place]
            if after not in begun:
                begun.add(after)
                stack.append((after, 0))
            elif after not in ways:
                self._find_circle([each for each, _ in stack], after)
                return 0
        return ways[0]

    def _find_circle(self, way: Sequence[int], again: int) -> None:
        points, lines = list(self._numbers), ["packets go round without end while time stands still:"]
        circle = [*way[way.index(again) :], again]
        for number, after in pairwise(circle):
            state = points[number]
            action = self._rules.actions(state)[self._next[number].index(after)]
            lines.append(self._rules.describe(state, action))
        self._find(points[again], None, "\n".join(lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0 if nothing is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m groupcomm.testing.exhaustive",
        description="Look at every interleaving of small worlds.",
        epilog="worlds: " + "; ".join(f"{world.name}: {world.text}" for world in WORLDS.values()),
    )
    parser.add_argument("worlds", nargs="*", metavar="WORLD", help="all unless named")
    parser.add_argument(
        "--deviations", type=int, default=0, help="how often time may pass although something can still happen"
    )
    parser.add_argument(
        "--window", type=float, help="for how many seconds everything is chosen, instead of the world's"
    )
    parser.add_argument("--points", type=int, help="give a world up after so many points")
    parser.add_argument("--replay", nargs=2, metavar=("WORLD", "CHOICES"), help="show one run; CHOICES as printed")
    options = parser.parse_args(arguments)
    names = [options.replay[0]] if options.replay else options.worlds or list(WORLDS)
    if unknown := [name for name in names if name not in WORLDS]:
        parser.error(f"there is no world {' '.join(unknown)}")
    failed = 0
    for name in names:
        world = WORLDS[name] if options.window is None else evolve(WORLDS[name], window=options.window)
        search = Search(world, deviations=options.deviations, points=options.points, progress=print)
        if options.replay:
            choices = options.replay[1].strip("-")
            search.replay([int(choice) for choice in choices.split(",")] if choices else [], print)
        else:
            print(search.run())
        for finding in search.outcome.findings:
            print(finding)
        failed += len(search.outcome.findings)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
