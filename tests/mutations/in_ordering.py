"""Bugs in how frames are put in order, released and packed."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

MUTATIONS = (
    # Release
    Mutation(
        "causal-past-ignored",
        "A CAUSAL message does not wait for what its sender had seen.",
        "ordering/release.py",
        (("if stream >= len(delivered) or delivered[stream] < count:", "if stream >= len(delivered):"),),
        ("O3",),
    ),
    # The sequencer
    Mutation(
        "stamp-applied-twice",
        "A stamp gives places twice to the same frames.",
        "ordering/sequencer.py",
        (
            (
                "        self._release.place(stream, count, carrier)",
                "        for _ in range(2):\n            self._release.place(stream, count, carrier)",
            ),
        ),
        ("L3", "L1"),
    ),
    Mutation(
        "place-for-a-frame-to-come",
        "The sequencer gives one place more than it has frames.",
        "ordering/sequencer.py",
        (
            (
                "StampRun(stream, self._up_to[stream], seen - placed)",
                "StampRun(stream, self._up_to[stream], seen - placed + 1)",
            ),
        ),
        ("L3",),
    ),
    # One view
    # Frames and packets
    Mutation(
        "order-left-out-of-the-past",
        "A frame does not say how much of the total order its sender had delivered.",
        "ordering/frames.py",
        (("varint(lamport), varint(ordered)", "varint(lamport), varint(0)"),),
        ("O8",),
    ),
    Mutation(
        "parts-in-the-wrong-order",
        "The parts of a large frame are put together in the wrong order.",
        "ordering/assembly.py",
        (('b"".join(self._parts)', 'b"".join(self._parts[:1] + self._parts[:0:-1])'),),
        ("D1",),
    ),
    Mutation(
        "early-frame-forgotten",
        "A RELIABLE frame that was delivered ahead of a gap is delivered again when the gap is filled.",
        "ordering/assembly.py",
        (("        self._early.add(before)\n", ""),),
        ("D2",),
    ),
    Mutation(
        "reliable-and-fifo-in-one-packet",
        "A FIFO frame shares a packet with a RELIABLE one, which may be read ahead of a gap.",
        "ordering/sending.py",
        (("                or (frame.level == _RELIABLE) != unordered\n", ""),),
        ("O2", "D5"),
    ),
    Mutation(
        "unfinished-frame-forgotten",
        "A frame that had not left whole when the view ended is not sent again.",
        "ordering/sending.py",
        (("for taken in (self._peeked, self._current):", "for taken in (self._peeked,):"),),
        ("L1",),
    ),
    Mutation(
        "part-larger-than-a-packet",
        "The parts of a large frame are cut without room for the header.",
        "ordering/sending.py",
        (
            (
                "taken, at, room = self._current, self._at, self._room\n",
                "taken, at, room = self._current, self._at, self._room + HEADER_BYTES\n",
            ),
        ),
        ("exception",),
    ),
    Mutation(
        "own-large-message-forgotten",
        "The sender of a large RELIABLE message is left out of those who get its node's copy.",
        "ordering/sending.py",
        (
            (
                "            ends, own = [frame], [taken.own]\n",
                "            ends, own = [frame], [taken.own]\n"
                "            taken.own.self_discard = taken.own.self_discard or frame.level == _RELIABLE\n",
            ),
        ),
        ("D8",),
    ),
    Mutation(
        "safe-at-its-sender-only",
        "After the signal a SAFE message that is not stable is delivered by its sender only.",
        "ordering/release.py",
        (
            (
                "        return frame.level == _AGREED or stable is None or self._is_safe(frame, stable)\n",
                "        if stable is None:\n"
                "            return frame.level != _SAFE or frame.lamport <= self.lamport\n"
                "        return frame.level == _AGREED or self._is_safe(frame, stable)\n",
            ),
        ),
        ("S3",),
    ),
    Mutation(
        "fifo-frames-first",
        "The FIFO frames of a packet are read before the others.",
        "ordering/frames.py",
        (("    return frames\n", "    return sorted(frames, key=lambda frame: frame.level != Level.FIFO)\n"),),
        ("O1",),
    ),
    Mutation(
        "discard-flag-lost",
        "A node does not see in its own copy of a frame that the sender discards it.",
        "ordering/frames.py",
        (("self.self_discard = frame.self_discard", "self.self_discard = False"),),
        ("G4",),
    ),
    Mutation(
        "confirmations-in-reverse",
        "The confirmations of one turn are given out in reverse order.",
        "ordering/ordered_view.py",
        (("True) for _, session, ticket in done)", "True) for _, session, ticket in reversed(done))"),),
        ("S4",),
    ),
    Mutation(
        "own-messages-first",
        "After the signal a node delivers its own messages first.",
        "ordering/ordered_view.py",
        (
            (
                "        frames = [*self._passed, *self._release.finish(self._stability.stable)]\n",
                "        frames = [*self._passed, *self._release.finish(self._stability.stable)]\n"
                "        at = frames.index(None) + 1\n"
                "        frames[at:] = sorted(frames[at:], key=lambda frame: frame.stream != self.setup.me)\n",
            ),
        ),
        ("O6",),
    ),
    Mutation(
        "safe-waits-for-one-more",
        "SAFE waits for one packet more than it needs.",
        "ordering/release.py",
        (("if stable[frame.stream] < frame.last:", "if stable[frame.stream] <= frame.last:"),),
        ("L4", "L3"),
    ),
    Mutation(
        "runs-that-are-here-first",
        "From the thirtieth place on, those runs of a stamp come first of whose stream something is here.",
        "ordering/sequencer.py",
        (
            (
                "                for run in record.runs:",
                "                here = [self._seen[run.stream] > self._placed[run.stream] for run in record.runs]\n"
                "                order = list(range(len(here)))\n"
                "                if record.position > 30:\n"
                "                    order.sort(key=lambda at: not here[at])\n"
                "                for run in (record.runs[at] for at in order):",
            ),
        ),
        ("M4", "D4", "O5"),
    ),
    Mutation(
        "group-position-left-out",
        "A frame does not say which group change its sender had seen last.",
        "ordering/frames.py",
        (
            ("            head = varint(group_position) + head\n", "            head = varint(0) + head\n"),
            ('b"".join((varint(group_position), varint(lamport)', 'b"".join((varint(0), varint(lamport)'),
        ),
        ("D8", "O2"),
    ),
    Mutation(
        "early-frame-lost",
        "A RELIABLE frame that is whole ahead of a gap is not delivered, then or later.",
        "ordering/assembly.py",
        (
            (
                "        self._early.add(before)\n        return frames",
                "        self._early.add(before)\n        return []",
            ),
        ),
        ("L2", "D5"),
    ),
    Mutation(
        "gap-not-read",
        "Packets that fill a gap are not read if a frame beyond it was.",
        "ordering/assembly.py",
        (
            (
                "                if number in self._early:\n                    self._early.discard(number)",
                "                if self._early:\n                    self._early.discard(number)",
            ),
        ),
        ("S3", "O2", "O4", "D5"),
    ),
    Mutation(
        "change-before-a-message",
        "Who does not order puts a group change before an independent message that comes just before it.",
        "ordering/ordered_view.py",
        (
            (
                "        if frames:\n            self._touched.update(",
                "        for at in range(1, 0 if self._orders else len(frames)):\n"
                "            one, two = frames[at - 1 : at + 1]\n"
                "            ordered = one.level >= Level.AGREED and one.stream != two.stream\n"
                "            if ordered and two.ordered < one.position:\n"
                "                if (one.type, two.type) == (FrameType.GROUP, FrameType.CHANGE):\n"
                "                    frames[at - 1 : at + 1] = two, one\n"
                "        if frames:\n            self._touched.update(",
            ),
        ),
        ("D4", "O7"),
    ),
    Mutation(
        "causal-lost-that-waited",
        "A CAUSAL message that had to wait for its past is lost if nothing of its sender follows it.",
        "ordering/release.py",
        (
            (
                "        if not self._reaches(frame.ordered):\n            return False\n",
                "        if not self._reaches(frame.ordered):\n"
                "            frame.position = -1\n"
                "            return False\n",
            ),
            (
                "delivered[stream] < count:\n                return False\n",
                "delivered[stream] < count:\n                frame.position = -1\n                return False\n",
            ),
            (
                "                    frames.append(self._delivered(queue.popleft()))\n",
                "                    frame = self._delivered(queue.popleft())\n"
                "                    if frame.level != Level.CAUSAL or frame.position == 0 or queue:\n"
                "                        frames.append(frame)\n",
            ),
        ),
        ("O4",),
    ),
    Mutation(
        "groups-each-in-its-own-order",
        "Who does not order swaps two independent messages to one group each, if these are different groups.",
        "ordering/ordered_view.py",
        (
            (
                "        if frames:\n            self._touched.update(",
                "        for at in range(1, 0 if self._orders else len(frames)):\n"
                "            one, two = frames[at - 1 : at + 1]\n"
                "            ordered = min(one.level, two.level) >= Level.AGREED and one.stream != two.stream\n"
                "            if ordered and two.ordered < one.position and one.type == two.type == FrameType.GROUP:\n"
                "                if one.body[5] == two.body[5] == 1 and one.body[6] != two.body[6]:\n"
                "                    frames[at - 1 : at + 1] = two, one\n"
                "        if frames:\n            self._touched.update(",
            ),
        ),
        ("O5",),
    ),
)
