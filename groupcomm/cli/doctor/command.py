"""``groupcomm doctor``: asks the daemon, looks at the host, and says what is wrong and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from groupcomm._version import __version__
from groupcomm.cli.doctor.finding import Facts, Finding, Host, Level, fine
from groupcomm.cli.doctor.host import gather
from groupcomm.cli.doctor.network import host_of, network_findings
from groupcomm.cli.doctor.node import elsewhere, no_daemon, no_interface, node_findings
from groupcomm.cli.rendering import printable
from groupcomm.cli.running import NO_DAEMON, CommandFailed, IReactor, write_line
from groupcomm.cli.session import Control, session
from groupcomm.cli.status import show


async def doctor(reactor: IReactor, control: Control, *, as_json: bool) -> int:
    """Print the findings; 1 if something is wrong, else 0."""
    facts: Facts | None = None
    trouble = ""
    try:
        async with session(reactor, control, None) as connection:
            facts = await connection.status()
    except CommandFailed as error:
        if error.status != NO_DAEMON:
            raise
        trouble = str(error)
    findings = diagnosis(facts, trouble, gather(neighbours(facts)))
    if as_json:
        show({"findings": [as_object(finding) for finding in findings]})
    else:
        for line in lines(findings):
            write_line(line)
    return int(any(finding.level is not Level.OK for finding in findings))


def neighbours(facts: Facts | None) -> list[str]:
    """Where other nodes are, or may be."""
    if facts is None:
        return []
    peers = [peer["address"] for peer in facts["peers"]]
    links = [path["address"] for peer in facts["peers"] for path in peer["paths"]]
    found = [address for source in facts["discovery"] for address in source["found"]]
    return [address for address in (*peers, *links, *found) if address is not None]


def diagnosis(facts: Facts | None, trouble: str, host: Host) -> list[Finding]:
    """Everything there is to say, of the daemon first.

    Args:
        facts: the daemon's status; None if it does not answer.
        trouble: what came of asking it then.
        host: what was measured on this host.
    """
    if facts is None:
        return [no_daemon(trouble), fine("interface", f"by default: {host.chosen}") if host.chosen else no_interface()]
    seen = host if is_here(facts, host) else None
    return [
        *([] if seen is not None else [elsewhere()]),
        *node_findings(facts, seen, __version__),
        *network_findings(facts, seen),
    ]


def is_here(facts: Facts, host: Host) -> bool:
    """Whether the daemon runs on this host, as far as addresses tell; so if it has none now."""
    own = {each.address for each in host.interfaces}
    return not facts["links"] or any(link["away"] or host_of(link["address"]) in own for link in facts["links"])


def lines(findings: Sequence[Finding]) -> list[str]:
    """The findings for people, what to do under each, and how many there were."""
    text = []
    for finding in findings:
        text.append(f"{finding.level.value:<5} {finding.check}: {printable(finding.text.encode())}")
        if finding.advice:
            text.append(f"      -> {printable(finding.advice.encode())}")
    counts = Counter(finding.level for finding in findings)
    wrong = [
        f"{counts[level]} {word}" for level, word in ((Level.FAIL, "failed"), (Level.WARN, "warned")) if counts[level]
    ]
    return [*text, f"{len(findings)} findings: {', '.join(wrong) if wrong else 'nothing is wrong'}"]


def as_object(finding: Finding) -> dict[str, str]:
    """A finding as plain values."""
    return {"level": finding.level.value, "check": finding.check, "text": finding.text, "advice": finding.advice}
