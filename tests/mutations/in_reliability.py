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
        (("gap = self._missing.pop(number, None)", "gap = self._missing.get(number)"),),
        ("exception",),
    ),
    Mutation(
        "asked-for-once",
        "A missing packet is asked for once.",
        "reliability/stream.py",
        (("due_at = now + again_seconds * (1 + min(tries, 6) / 2)", "due_at = inf"),),
        ("L1",),
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
                "self._received, self._delivered = max(self._received, received), max(self._delivered, delivered)",
                "self._delivered = max(self._delivered, delivered)",
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
        (("return min(max(estimate, LEAST_WAIT_SECONDS), MOST_WAIT_SECONDS)", "return 0.0001"),),
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
)
