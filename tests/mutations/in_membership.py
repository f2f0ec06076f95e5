"""Bugs in how nodes agree on views, end the old one, and tell the groups."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

MUTATIONS = (
    # Agreement and installation
    Mutation(
        "view-id-reused",
        "A proposer does not raise the epoch, so that ids come back.",
        "membership/membership.py",
        (("        self.epoch += 1\n", ""),),
        ("M2",),
    ),
    Mutation(
        "never-merges",
        "Two views that hear each other never have done so for long enough.",
        "membership/admission.py",
        (("since = self._merging.setdefault(other, now)", "since = self._merging[other] = now"),),
        ("L1",),
    ),
    # The end of the old view
    Mutation(
        "flush-skips-resends",
        "The plan names only what every survivor holds.",
        "membership/recovery.py",
        (("        end = covered[0].last\n", ""),),
        ("M4", "D5", "S3"),
    ),
    Mutation(
        "departed-not-named",
        "Nodes that were cut off are not among the departed of the view.",
        "membership/recovery.py",
        (("            if node not in index_of:\n", "            if node not in index_of and node in reasons:\n"),),
        ("VIEW",),
    ),
    Mutation(
        "all-participants-survive",
        "The transitional set is everybody in the new view, wherever they come from.",
        "membership/recovery.py",
        (
            (
                "    survivors = tuple(index_of[answer.node] for answer in answers)\n",
                "    survivors = tuple(index_of.values())\n",
            ),
        ),
        ("D6",),
    ),
    # Groups
    Mutation(
        "once-per-group",
        "A message to several groups is delivered once for each.",
        "membership/groups.py",
        (
            (
                "to = tuple((number, tuple(recipients[number])) for number in sorted(recipients))",
                "to = tuple((number, (name,)) for number in sorted(recipients) for name in recipients[number])",
            ),
        ),
        ("G2", "D2"),
    ),
    Mutation(
        "view-for-those-who-left",
        "A member that has left still gets the view without it.",
        "membership/groups.py",
        (
            (
                "ours = [member for member in members if member.node == self._me]",
                "ours = [member for member in sorted(now | then) if member.node == self._me]",
            ),
        ),
        ("M1",),
    ),
    Mutation(
        "beacons-at-every-look",
        "A node says that it lives whenever it looks at the time.",
        "membership/membership.py",
        (
            (
                "        elif now >= self._beacon_at + self._config.timing.heartbeat:",
                "        elif now >= self._beacon_at:",
            ),
            ("        if now >= self._beacon_at + self._timing.heartbeat:", "        if now >= self._beacon_at:"),
            ("_IDLE_TICK_SECONDS = 0.1", "_IDLE_TICK_SECONDS = _CALM_TICK_SECONDS"),
        ),
        ("L6",),
    ),
    Mutation(
        "patience-without-end",
        "An attempt to agree that comes to nothing is given up ten times too late.",
        "membership/membership.py",
        (
            (
                "now - gather.started_at < limit",
                "now - gather.started_at < 10 * limit",
            ),
        ),
        ("L8",),
    ),
    Mutation(
        "tables-not-exchanged",
        "Two views become one without telling each other who is in which group.",
        "membership/recovery.py",
        (("    return len(views) > 1 or any(", "    return len(views) > 2 or any("),),
        ("D3", "M4"),
    ),
    Mutation(
        "message-before-the-first-view",
        "A member gets messages between its join and its first view.",
        "membership/groups.py",
        (
            (
                "                if self._in_transition and member not in group.shown:\n                    continue\n",
                "",
            ),
        ),
        ("M3",),
    ),
    Mutation(
        "lost-members-stay",
        "Members on nodes that are gone stay in their groups.",
        "membership/groups.py",
        (
            (
                "if member.node not in present or member.node not in staying",
                "if member.node in present and member.node not in staying",
            ),
        ),
        ("M6",),
    ),
    Mutation(
        "gone-before-the-end",
        "A node that leaves says that it is gone before it has ended its view.",
        "membership/membership.py",
        (
            (
                "        self._host.install(plan, now)\n"
                "        if self._me not in plan.members:\n"
                "            self._leave_when_told(now)\n",
                "        if self._me not in plan.members:\n"
                "            self._leave_when_told(now)\n"
                "        self._host.install(plan, now)\n"
                "        if self._me not in plan.members:\n"
                "            pass\n",
            ),
        ),
        ("X9",),
    ),
)
