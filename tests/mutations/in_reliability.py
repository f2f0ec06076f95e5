"""Bugs in how packets reach everybody."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        "here-is-stable",
        "What a node has itself counts as stable.",
        "reliability/stream.py",
        (
            (
                "        self.stable = max(self.stable, min(stable, self.contiguous))\n",
                "        self.stable = self.contiguous\n",
            ),
        ),
        ("X4",),
    ),
    Mutation(
        "nack-state-not-reset",
        "A packet that has come is still asked for.",
        "reliability/stream.py",
        (
            (
                "        if self._missing:\n            gap = self._missing.pop(number, None)\n",
                "        if self._missing:\n            gap = self._missing.get(number)\n",
            ),
            (
                "            for number in numbers:\n                gap = self._missing.pop(number, None)\n",
                "            for number in numbers:\n                gap = self._missing.get(number)\n",
            ),
        ),
        ("exception",),
    ),
    Mutation(
        "asked-for-once",
        "A missing packet is asked for again after an hour only.",
        "reliability/rtt.py",
        (("return min(max(estimate, LEAST_REPAIR_SECONDS), MOST_WAIT_SECONDS)", "return 3600.0"),),
        ("L1",),
    ),
    Mutation(
        "repair-made-anew",
        "A packet that is sent again is not the original: it asks nobody for a report.",
        "reliability/stream.py",
        (
            (
                "        held[number] = packet\n",
                "        held[number] = packet[:2] + bytes([packet[2] & ~0x08]) + packet[3:]\n",
            ),
        ),
        ("X5",),
    ),
    Mutation(
        "stable-without-one-member",
        "The slowest member does not count for stability.",
        "reliability/stability.py",
        (
            (
                "self.stable[stream] = min(other[stream] for other in self._received)",
                "self.stable[stream] = sorted(other[stream] for other in self._received)[len(self._received) // 2]",
            ),
        ),
        ("S1",),
    ),
    Mutation(
        "end-proves-too-much",
        "At the end of a view one packet more of each stream counts as stable than its plan says.",
        "reliability/stability.py",
        (
            (
                "        self.stable[stream] = max(self.stable[stream], stable)\n\n    def short_of",
                "        self.stable[stream] = max(self.stable[stream], stable + 1)\n\n    def short_of",
            ),
        ),
        ("S1",),
    ),
    Mutation(
        "delivered-without-one-member",
        "The slowest member does not count for what all have delivered.",
        "reliability/stability.py",
        (
            (
                "self.delivered[stream] = min(other[stream] for other in self._delivered)",
                "self.delivered[stream] = sorted(row[stream] for row in self._delivered)[len(self._delivered) // 2]",
            ),
        ),
        ("G5",),
    ),
    Mutation(
        "window-never-reopens",
        "The window forgets what has been received.",
        "reliability/flow.py",
        (
            (
                "        self._received_total = total_up_to(self._unreceived, received, before)\n",
                "        total_up_to(self._unreceived, received, before)\n",
            ),
        ),
        ("exception", "L1"),
    ),
    Mutation(
        "put-back-at-the-end",
        "A frame that could not leave in a view is sent after the later ones of its session.",
        "reliability/outbox.py",
        (("        queue.items.appendleft((item, size))", "        queue.items.append((item, size))"),),
        ("O1",),
    ),
    Mutation(
        "repaired-once",
        "A packet is sent again only once.",
        "reliability/repair.py",
        (
            (
                "if now - self._repaired_at.get(key, -inf) < rtt or not holds(number):",
                "if key in self._repaired_at or not holds(number):",
            ),
        ),
        ("X6", "L1"),
    ),
    Mutation(
        "no-wait-between-requests",
        "A missing packet is asked for again after a tenth of a millisecond.",
        "reliability/rtt.py",
        (("return min(max(estimate, LEAST_REPAIR_SECONDS), MOST_WAIT_SECONDS)", "return 0.0001"),),
        ("X6",),
    ),
    Mutation(
        "the-silent-do-not-count",
        "A member that has reported nothing yet does not count for stability.",
        "reliability/stability.py",
        (
            (
                "self.stable[stream] = min(other[stream] for other in self._received)",
                "self.stable[stream] = min(\n"
                "                    (row[stream] for row in self._received if max(row) > min(min(self._received))),\n"
                "                    default=before,\n"
                "                )",
            ),
        ),
        ("S2", "L1"),
    ),
    Mutation(
        "stable-in-32-bits",
        "What is stable of a stream is kept in 32 bits.",
        "reliability/stream.py",
        (
            (
                "        number, end = self.stable + 1, min(stable, self.contiguous)\n",
                "        end = min(stable, self.contiguous)\n        number = min(self.held, default=end + 1)\n",
            ),
            (
                "        self.stable = max(self.stable, min(stable, self.contiguous))\n",
                "        self.stable = min(stable, self.contiguous) & 0xFFFFFFFF\n",
            ),
        ),
        ("X1",),
    ),
)
