"""Bugs in the engine itself and in what goes over the wire."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        "private-to-namesakes",
        "A private message reaches the sessions of that name on every node.",
        "engine.py",
        (
            (
                "        if node_name != self._node.name:\n",
                "        if node_name != self._node.name and recipient not in self._names:\n",
            ),
        ),
        ("G1",),
    ),
    Mutation(
        "session-number-reused",
        "Two sessions get the same number.",
        "engine.py",
        (("        self._next_session += 1\n", "        self._next_session = len(self._sessions) + 1\n"),),
        ("D2", "A2"),
    ),
    Mutation(
        "numbers-do-not-wrap",
        "A packet number is taken to lie in the same four billion as the last one.",
        "wire/packets.py",
        (
            (
                "    difference = (low - near) & 0xFFFFFFFF\n",
                "    return near & ~0xFFFFFFFF | low\n    difference = (low - near) & 0xFFFFFFFF\n",
            ),
        ),
        ("L7", "L1"),
    ),
    Mutation(
        "delivered-lost-on-the-wire",
        "A status does not carry what was delivered.",
        "wire/packets.py",
        (("received - reader.number(received)", "received - 0 * reader.number(received)"),),
        ("G5",),
    ),
    Mutation(
        "digest-without-the-view",
        "Packets of another view with the same members are accepted.",
        "wire/codec.py",
        (("    writer = Writer().view(view)\n", "    writer = Writer()\n"),),
        ("X5", "D1"),
    ),
    Mutation(
        "stable-not-in-the-plan",
        "A plan reads the end of a stream as what is stable.",
        "wire/messages.py",
        (
            (
                "            end, stable = reader.number(), reader.number()\n",
                "            end, stable = reader.number(), reader.number()\n            stable = end\n",
            ),
        ),
        ("S1",),
    ),
    Mutation(
        "signal-twice",
        "A view change is announced twice.",
        "engine.py",
        (("        self._outputs.append(NodeSignal())\n", "        self._outputs += [NodeSignal(), NodeSignal()]\n"),),
        ("SIGNAL",),
    ),
    Mutation(
        "private-reliable-lost",
        "A private RELIABLE message from another node is lost.",
        "engine.py",
        (
            (
                "        if number is not None:\n            self._take_group_outputs()\n            to =",
                "        if number is not None and frame.level == Level.RELIABLE and sender != self._node:\n"
                "            return\n"
                "        if number is not None:\n            self._take_group_outputs()\n            to =",
            ),
        ),
        ("L2", "D5"),
    ),
    Mutation(
        "nack-one-too-far",
        "A request names packets one number too high.",
        "wire/packets.py",
        (("            writer.number(item.first - at)", "            writer.number(item.first + 1 - at)"),),
        ("X6", "L1"),
    ),
)
