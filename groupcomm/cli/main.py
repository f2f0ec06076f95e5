"""The ``groupcomm`` command: its options and commands; each command's work is in the module of its name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click
from twisted.internet.defer import Deferred

from groupcomm._version import __version__
from groupcomm.cli.running import (
    FAILED,
    USAGE,
    CommandFailed,
    IReactor,
    Run,
    complain,
    silence_standard_output,
    status_of,
)
from groupcomm.cli.session import Control
from groupcomm.errors import GroupcommError
from groupcomm.events import Level
from groupcomm.limits import DEFAULT_BUDGET_BYTES, MAX_NODES, MAX_SESSIONS, MIN_BUDGET_BYTES
from groupcomm.quorum import Filter

Work = Callable[[IReactor], Coroutine["Deferred[Any]", Any, int | None]]

LEVELS = [level.name.lower() for level in Level]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit: 0 done, 1 failed, 2 usage, 3 no daemon there, 4 refused."""
    try:
        status = command.main(
            None if arguments is None else list(arguments), prog_name="groupcomm", standalone_mode=False
        )
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        status = USAGE
    except click.ClickException as error:
        complain(f"{_place(error)}{error.format_message()}")
        status = error.exit_code
    except (CommandFailed, GroupcommError) as error:
        status, text = status_of(error)
        complain(text)
    except (click.Abort, KeyboardInterrupt):
        status = FAILED
    except BrokenPipeError:
        silence_standard_output()
        status = FAILED
    sys.exit(status if isinstance(status, int) else 0)


def _place(error: click.ClickException) -> str:
    """The command an error belongs to, for the front of its line."""
    context = getattr(error, "ctx", None)
    return "" if context is None or context.parent is None else f"{context.info_name}: "


def run(work: Work) -> int:
    """Run ``work`` under the reactor; its exit status."""
    from twisted.internet import reactor

    return Run(reactor).run(work)  # type: ignore[arg-type]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--control",
    metavar="ENDPOINT",
    help="Where the daemon is: a Twisted client endpoint, or the path of its socket. Default: GROUPCOMM_CONTROL, else "
    "the only one there.",
)
@click.version_option(__version__, prog_name="groupcomm", message="%(prog)s %(version)s")
@click.pass_context
def command(context: click.Context, control: str | None) -> None:
    """Join process groups from the command line: listen, send, chat, and see how the cluster is.

    Exit status: 0 done, 1 failed, 2 usage, 3 no daemon there, 4 refused.
    """
    context.obj = Control(control, os.environ)


@command.command("listen", short_help="Print every event of some groups.")
@click.argument("groups", metavar="GROUP...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--as", "name", metavar="NAME", help="The client name to log in with.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N messages.")
@click.pass_obj
def listen_command(
    control: Control, groups: tuple[str, ...], as_json: bool, name: str | None, count: int | None
) -> int:
    """Print every event of the groups: messages and views, in their order."""
    from groupcomm.cli.listen import listen

    return run(lambda reactor: listen(reactor, control, groups, as_json=as_json, name=name, count=count))


@command.command("send", short_help="Send a text, or the lines of standard input.")
@click.argument("words", metavar="GROUP... [TEXT]", nargs=-1, required=True)
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), default="agreed", show_default=True)
@click.option("--as", "name", metavar="NAME", help="The client name to log in with.")
@click.pass_obj
def send_command(control: Control, words: tuple[str, ...], level: str, name: str | None) -> int:
    """Send TEXT, or every line of standard input, and return when the last message is stable.

    With more than one argument the last is the TEXT; a TEXT of - stands for standard input, which is read a bounded
    piece at a time. Sending needs no membership.
    """
    from groupcomm.cli.send import send

    groups, text = (words[:-1], words[-1]) if len(words) > 1 else (words, None)
    if text == "-":
        text = None
    return run(lambda reactor: send(reactor, control, groups, text, level=Level[level.upper()], name=name))


@command.command("chat", short_help="Talk in a group.")
@click.argument("group", metavar="GROUP")
@click.option("--as", "name", metavar="NAME", help="The client name to log in with.")
@click.pass_obj
def chat_command(control: Control, group: str, name: str | None) -> int:
    """Talk in a group: what the group says is printed, your own lines too, and what you type is sent."""
    from groupcomm.cli.chat import chat

    return run(lambda reactor: chat(reactor, control, group, name=name))


@command.command("status", short_help="Show the node, its view, its groups and its peers.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--config", "settings", is_flag=True, help="The daemon's settings, and where each was given.")
@click.pass_obj
def status_command(control: Control, as_json: bool, settings: bool) -> int:
    """Show the node, its view with all nodes, its groups, and each peer with losses and repairs."""
    from groupcomm.cli.status import status

    return run(lambda reactor: status(reactor, control, as_json=as_json, settings=settings))


@command.command("why", short_help="Say why the view has changed.")
@click.argument("view", required=False)
@click.option("--node", metavar="NODE", help="Only changes that this node has to do with.")
@click.option("--count", type=click.IntRange(min=1), default=5, show_default=True, metavar="N", help="The last N.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def why_command(control: Control, view: str | None, node: str | None, count: int, as_json: bool) -> int:
    """Say why the view of the daemon's node has changed: who was not heard, by whom, for how long, what was decided.

    VIEW is the id of a view, or its beginning. A node remembers its last 32 changes.
    """
    from groupcomm.cli.why import why

    return run(lambda reactor: why(reactor, control, view, node=node, count=count, as_json=as_json))


@command.command("doctor", short_help="Find out what is wrong with a host or its network.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def doctor_command(control: Control, as_json: bool) -> int:
    """Ask the daemon of this host, look at the host itself, and say what is wrong and what to do about it.

    It changes nothing. It takes two seconds at most, unless the daemon takes longer to answer.

    Exit status: 0 nothing is wrong, 1 something is, 2 usage, 4 refused.
    """
    from groupcomm.cli.doctor.command import doctor

    return run(lambda reactor: doctor(reactor, control, as_json=as_json))


@command.command("limits", short_help="Show every limit, and what a daemon may need of memory.")
@click.option("--nodes", type=click.IntRange(1, MAX_NODES), default=MAX_NODES, metavar="N", help="In the view.")
@click.option("--clients", type=click.IntRange(1, MAX_SESSIONS), default=MAX_SESSIONS, metavar="N", help="Of a daemon.")
@click.option(
    "--budget", type=click.IntRange(min=MIN_BUDGET_BYTES), default=DEFAULT_BUDGET_BYTES, metavar="BYTES", help="Of it."
)
@click.option("--config", "settings", is_flag=True, help="With the clients and the budget that the daemon is set to.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def limits_command(control: Control, nodes: int, clients: int, budget: int, settings: bool, as_json: bool) -> int:
    """Show every limit of a daemon: what may be held, how much memory that is at the worst, and what happens then.

    Without options the figures are for the largest cluster there can be. Needs no daemon, but with --config.
    """
    from groupcomm.cli.limits import limits, limits_of_daemon
    from groupcomm.daemon.worst_case import Sizing

    sizing = Sizing(nodes=nodes, clients=clients, budget_bytes=budget)
    if settings:
        return run(lambda reactor: limits_of_daemon(reactor, control, sizing, as_json=as_json))
    limits(sizing, as_json=as_json)
    return 0


@command.group("key", short_help="Make the key of a cluster, or rotate it.")
def key_group() -> None:
    """The key of a cluster: who has it is a node of the cluster, nobody else reads, forges or joins."""


@key_group.command("new", short_help="Make a new key.")
@click.argument("file", required=False)
@click.option("--cluster", default="default", show_default=True, metavar="NAME", help="Whose key it is.")
def key_new_command(file: str | None, cluster: str) -> int:
    """Make a new key in FILE, which must not exist yet, for its owner alone.

    Without FILE it goes where daemons of this user look for it: /etc/groupcomm/CLUSTER.key for root,
    $XDG_CONFIG_HOME/groupcomm/CLUSTER.key for others. Copy it to every host of the cluster.
    """
    from groupcomm.cli.key import new_key

    return new_key(file, cluster)


@key_group.command("rotate", short_help="Have a running cluster pass to its next key epoch.")
@click.pass_obj
def key_rotate_command(control: Control) -> int:
    """Have the cluster seal its packets under a new secret; no message is lost, late or twice for it.

    The file with the key stays as it is.
    """
    from groupcomm.cli.key import rotate

    return run(lambda reactor: rotate(reactor, control))


@command.command("expel", short_help="Put a node out of a cluster with certificates.")
@click.argument("node")
@click.pass_obj
def expel_command(control: Control, node: str) -> int:
    """Have no node of the cluster hear NODE any more; what they say from the next view on it cannot read.

    Only where nodes have certificates: who has the key of a cluster cannot be kept out of it.
    """
    from groupcomm.cli.expel import expel

    return run(lambda reactor: expel(reactor, control, node))


@command.command("quorum", short_help="How the quorum stands, or would stand.")
@click.option("--nodes", multiple=True, metavar="NAME[:VOTES],...", help="What if these were the quorum nodes?")
@click.option("--filter", "chosen", type=click.Choice([one.value for one in Filter if one is not Filter.NONE]))
@click.option("--tie-breaker", metavar="NAME", help="Which of them decides between two halves.")
@click.option("--down", multiple=True, metavar="NAME,...", help="They are gone.")
@click.option("--split", multiple=True, metavar="NAME,...", help="They are cut off from the others; may be repeated.")
@click.option("--last", metavar="NAME,...", help="The last primary view, for dynamic-linear. Default: all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def quorum_command(
    control: Control,
    nodes: tuple[str, ...],
    chosen: str | None,
    tie_breaker: str | None,
    down: tuple[str, ...],
    split: tuple[str, ...],
    last: str | None,
    as_json: bool,
) -> int:
    """Without --nodes, say whether the daemon's view is primary, and why. With it, say what would be.

    For each component that would be left: whether it is primary and why, how many more of its nodes may fail at once,
    whichever they are, and how many one after the other.

    Exit status: 0 something is primary, 1 nothing is, 2 usage.
    """
    from groupcomm.cli.quorum import how_it_stands, what_if

    if nodes:
        return what_if(
            nodes, chosen=chosen, tie_breaker=tie_breaker, down=down, split=split, last=last, as_json=as_json
        )
    if chosen or tie_breaker or down or split or last:
        raise click.UsageError("--nodes is missing: only with it there is something to think of")
    return run(lambda reactor: how_it_stands(reactor, control, as_json=as_json))


@command.command("simulate", short_help="Make a random run of a simulated cluster again.")
@click.option("--seed", required=True, help="Of the run, as a campaign or a test names it.")
@click.option("--nodes", type=click.IntRange(min=2), metavar="N", help="So many nodes instead of the seed's.")
@click.option(
    "--svg", type=click.File("w", encoding="utf-8", lazy=False, atomic=True), metavar="FILE", help="Draw the run."
)
@click.option("--verbose", is_flag=True, help="Print every event and every packet.")
@click.option("--shrink", "small", is_flag=True, help="Drop from a failing run what the failure does not need.")
@click.option("--from", "since", type=float, metavar="S", help="First second to show.")
@click.option("--to", "until", type=float, metavar="S", help="Last second to show.")
def simulate_command(
    seed: str,
    nodes: int | None,
    svg: TextIO | None,
    verbose: bool,
    small: bool,
    since: float | None,
    until: float | None,
) -> int:
    """Make the random run of a seed again, on virtual time and without any daemon, and show it.

    Exit status: 0 all properties held, 1 one is broken, 2 usage.
    """
    from groupcomm.cli.simulate import simulate

    if since is not None and until is not None and since > until:
        raise click.BadParameter("ends before it begins", param_hint="'--to'")
    return simulate(seed, nodes=nodes, svg=svg, verbose=verbose, small=small, since=since, until=until)


@command.group("ca", short_help="Certificates for nodes and for clients on other hosts.")
def ca_group() -> None:
    """The certificate authority of a cluster: make it, let it sign for nodes and clients, take a certificate back."""


_CA_DIRECTORY = click.option(
    "--ca",
    "directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default="ca",
    show_default=True,
    help="Directory of the authority.",
)


@ca_group.command("new", short_help="Make an authority.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path), default="ca")
@click.option("--name", metavar="NAME", default="groupcomm", show_default=True, help="What its certificate calls it.")
@click.option("--days", type=int, metavar="N", help="How long it is good. Default: ten years.")
def ca_new_command(directory: Path, name: str, days: int | None) -> None:
    """Make the authority of a cluster: DIR/ca.crt for every node and client, and DIR/ca.key, which signs."""
    from groupcomm.cli.authority import new_authority

    new_authority(directory, name, days)


@ca_group.command("issue", short_help="Make a key and a certificate.")
@click.argument("name", metavar="NAME")
@click.option("--client", "kind", flag_value="client", default=True, help="For a client, which is NAME. The default.")
@click.option("--node", "kind", flag_value="node", help="For a node, to which clients come.")
@click.option(
    "--host",
    "hosts",
    metavar="HOST",
    multiple=True,
    help="DNS name or address of a node; may be repeated. Default: NAME.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    default=".",
    help="Where the files go. Default: here.",
)
@click.option("--days", type=int, metavar="N", help="How long it is good. Default: a year.")
@_CA_DIRECTORY
def ca_issue_command(
    name: str, kind: str, hosts: tuple[str, ...], out: Path, days: int | None, directory: Path
) -> None:
    """Make NAME.key and NAME.crt for a client or a node, signed by the authority."""
    from groupcomm.cli.authority import issue

    issue(directory, name, kind, hosts, days, out)


@ca_group.command("revoke", short_help="Take a certificate back.")
@click.argument("certificate", metavar="FILE", type=click.Path(path_type=Path))
@_CA_DIRECTORY
def ca_revoke_command(certificate: Path, directory: Path) -> None:
    """Put the certificate in FILE on the authority's revocation list, DIR/revoked.crl."""
    from groupcomm.cli.authority import revoke

    revoke(directory, certificate)
