"""The daemon's settings and where each came from: option, environment, file, default, in this order.

Decides names, forms and defaults. The command line is ``tap``'s, what a control endpoint may be ``control``'s.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from attrs import evolve, frozen

from groupcomm.addresses import is_port, literal_host, parse_address
from groupcomm.config import SlowReceiver
from groupcomm.daemon.control import ControlEndpoint, default_control, parse_control
from groupcomm.daemon.rights import read_grants
from groupcomm.discovery.dns import parse_dns
from groupcomm.discovery.sources import SOURCES
from groupcomm.errors import UsageError
from groupcomm.identity import checked_name, checked_node_name
from groupcomm.limits import (
    DEFAULT_BUDGET_BYTES,
    DEFAULT_TRACE_BYTES,
    MAX_LINKS,
    MAX_MTU_BYTES,
    MAX_NODE_NAME_BYTES,
    MAX_SESSIONS,
    MAX_SLOW_SECONDS,
    MIN_BUDGET_BYTES,
    MIN_WINDOW_BYTES,
)
from groupcomm.net.interfaces import FAMILIES, check_links
from groupcomm.net.sockets import DEFAULT_GROUP, DEFAULT_GROUP6, DEFAULT_PORT, check_group6
from groupcomm.node.certfiles import CertificateFiles
from groupcomm.quorum import Filter, Quorum, parse_quorum_nodes

LOG_LEVELS: Final = ("debug", "info", "warn", "error", "critical")
LOG_FORMATS: Final = ("text", "json")
MAX_FILE_BYTES: Final = 1024 * 1024
MIN_TRACE_BYTES: Final = 64 * 1024
_MOST_BUDGET_BYTES: Final = 1024 * 1024 * 1024 * 1024

_Value = TypeVar("_Value")


@frozen
class Setting:
    """One setting as the table below describes it.

    Attributes:
        name: as an option and as a key of the file; in the environment upper case after ``GROUPCOMM_``.
        many: whether it is a list: a repeated option, a list in the file, separated by white space or commas in the
            environment.
        help: one line for ``--help``.
        metavar: how its value is called there.
    """

    name: str
    help: str
    metavar: str
    many: bool = False

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return "GROUPCOMM_" + self.name.upper().replace("-", "_")


SETTINGS: Final = (
    Setting("cluster", "name of the cluster (default: default)", "NAME"),
    Setting("node", "name of this node, unique in the cluster (default: this host's name)", "NAME"),
    Setting("key", "file with the cluster's key (default: /etc/groupcomm/CLUSTER.key, then the user's)", "FILE"),
    Setting("node-certificate", "the node's certificate, instead of a key; needs node-key and ca", "FILE"),
    Setting("node-key", "its private key", "FILE"),
    Setting("ca", "certificates of the authorities whose nodes are let in", "FILE"),
    Setting("revoked", "the authorities' revocation lists, read again when changed (default: none)", "FILE"),
    Setting("insecure", "run without a key, on a network where everybody may do everything: yes or no", "YES_OR_NO"),
    Setting(
        "interface",
        f"network interface to use, at most {MAX_LINKS}; may be repeated (default: the one of the default route)",
        "NAME_OR_ADDRESS",
        many=True,
    ),
    Setting(
        "family", "IP to use on an interface that has both: 4 or 6 (default: 4 if there is such an address)", "4_OR_6"
    ),
    Setting(
        "links",
        "how several interfaces are used: passive, one that reaches all, or active, all at once (default: passive)",
        "USE",
    ),
    Setting(
        "max-mtu",
        f"largest datagram, in bytes, without headers and seal; what passes is found out (default: {MAX_MTU_BYTES})",
        "BYTES",
    ),
    Setting(
        "control",
        "where clients connect: unix:PATH, tcp:PORT:interface=127.0.0.1, or for other hosts "
        "groupcomm-tls:PORT:privateKey=FILE:certKey=FILE:clientCA=FILE; may be repeated "
        "(default: a UNIX socket of mode 0600 in a private run directory)",
        "ENDPOINT",
        many=True,
    ),
    Setting("acl", "file that says which clients may do what (default: none, all may talk in all groups)", "FILE"),
    Setting(
        "peer",
        "a node that may be there (port: that of --multicast, if none is given); may be repeated",
        "HOST[:PORT]",
        True,
    ),
    Setting(
        "dns",
        "a name in the DNS that stands for nodes: NAME[:PORT], or for SRV records _SERVICE._PROTO.DOMAIN or srv:NAME; "
        "may be repeated",
        "NAME",
        many=True,
    ),
    Setting("peers-file", "file with nodes that may be there, one HOST[:PORT] a line, read again when changed", "FILE"),
    Setting("discovery", f"how nodes are found: any of {','.join(SOURCES)} (default: all)", "LIST", many=True),
    Setting("data-dir", "directory for what must survive a restart (default: none)", "DIR"),
    Setting(
        "budget",
        f"memory for messages on their way between nodes, in bytes (default: {DEFAULT_BUDGET_BYTES})",
        "BYTES",
    ),
    Setting("max-clients", f"how many clients may be logged in at once (default: {MAX_SESSIONS})", "N"),
    Setting("log-level", "least level that is logged: debug, info, warn, error or critical (default: info)", "LEVEL"),
    Setting("log-format", "form of the log: text or json (default: text)", "FORMAT"),
    Setting("trace", "file to record a trace in, of what happens to this node and its clients (default: none)", "FILE"),
    Setting("trace-limit", f"how large that file may grow, in bytes (default: {DEFAULT_TRACE_BYTES})", "BYTES"),
    Setting("multicast", f"multicast group and port (default: {DEFAULT_GROUP}:{DEFAULT_PORT})", "GROUP:PORT"),
    Setting("multicast6", f"IPv6 multicast group, on the port of --multicast (default: {DEFAULT_GROUP6})", "GROUP"),
    Setting(
        "slow-receiver",
        "what is done about a node that receives far slower than all others: wait, evict or catch-up (default: wait)",
        "POLICY",
    ),
    Setting("suspect-seconds", "how long a process may be silent whose host answers (default: 3)", "SECONDS"),
    Setting("flap-seconds", "how long one waits that came and went twice; it doubles; 0: not (default: 1)", "SECONDS"),
    Setting("slow-receiver-seconds", "how long it must hold this node's sending up for that (default: 5)", "SECONDS"),
    Setting("catch-up-bytes", "how much is held for nodes that catch up (default: a quarter of the budget)", "BYTES"),
    Setting(
        "catch-up-seconds", "how long a node may catch up at a stretch before it is evicted (default: 60)", "SECONDS"
    ),
    Setting(
        "quorum",
        "which part of a broken cluster is primary: none, majority, weighted or dynamic-linear (default: none)",
        "FILTER",
    ),
    Setting("quorum-nodes", "the nodes that count for that, the same list everywhere", "NAME[:VOTES],...", many=True),
    Setting("tie-breaker", "which of them decides between two halves (default: none)", "NAME"),
    Setting("witness", "only count for the quorum and serve no clients: yes or no", "YES_OR_NO"),
)
"""Every setting, in the order it is shown in."""

CERTIFICATE_SETTINGS: Final = ("node-certificate", "node-key", "ca", "revoked")


@frozen
class Origin:
    """One setting as it was found.

    Attributes:
        name: of the setting.
        value: as text.
        source: ``option``, ``environment NAME``, ``file PATH:LINE`` or ``default``.
    """

    name: str
    value: str
    source: str


@frozen
class Settings:
    """What a daemon was told, checked.

    Attributes:
        control: where clients connect; at least one.
        acl: the file with the rights of clients.
        peers: nodes that may be there, each ``HOST`` or ``HOST:PORT``.
        dns: names in the DNS that stand for nodes.
        peers_file: the file with nodes that may be there.
        origins: every setting with its value as text and where it came from.
    """

    cluster: str
    node: str
    key: Path | None
    certificates: CertificateFiles | None
    insecure: bool
    interfaces: tuple[str, ...]
    family: int | None
    active_links: bool
    max_mtu_bytes: int
    control: tuple[ControlEndpoint, ...]
    acl: Path | None
    peers: tuple[str, ...]
    dns: tuple[str, ...]
    peers_file: Path | None
    discovery: tuple[str, ...]
    data_dir: Path | None
    budget_bytes: int
    max_clients: int
    log_level: str
    log_format: str
    trace: Path | None
    trace_limit_bytes: int
    multicast: tuple[str, int]
    multicast6: str
    slow_receiver: SlowReceiver
    slow_receiver_seconds: float
    catch_up_bytes: int | None
    catch_up_seconds: float
    quorum: Quorum
    suspect_seconds: float
    flap_seconds: float
    origins: tuple[Origin, ...]


@frozen
class _Found:
    values: tuple[str, ...]
    source: str


def load_settings(
    options: Mapping[str, Sequence[str]],
    environ: Mapping[str, str],
    *,
    user: int,
    hostname: str | None = None,
    config: str | None = None,
) -> Settings:
    """Gather and check the settings.

    Args:
        options: what the command line gave, by name; values as text, more than one where the option was repeated.
        environ: the environment.
        user: the effective user id, which decides where the control socket lies by default.
        hostname: this host's name; asked of the system if not given.
        config: path of a TOML file; ``GROUPCOMM_CONFIG`` is the alternative.

    Raises:
        UsageError: a value, a key or the file is not as it should be; the text says where and what would be.
    """
    path = config or environ.get("GROUPCOMM_CONFIG")
    from_file = read_file(Path(path)) if path else {}
    found: dict[str, _Found] = {}
    for setting in SETTINGS:
        if given := options.get(setting.name):
            found[setting.name] = _Found(tuple(given), "option")
        elif text := environ.get(setting.variable):
            values = tuple(re.split(r"[\s,]+", text.strip())) if setting.many else (text,)
            found[setting.name] = _Found(values, f"environment {setting.variable}")
        elif setting.name in from_file:
            found[setting.name] = from_file[setting.name]
    return _checked(found, environ, user, hostname or socket.gethostname())


def read_file(path: Path) -> dict[str, _Found]:
    """The settings in a TOML file, by name.

    Raises:
        UsageError: the file cannot be read, is no TOML, or has an unknown key or a value of the wrong type; the text
            begins with file and line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the configuration file {path}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"the configuration file {path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        text = data.decode("utf-8")
        table = tomllib.loads(text)
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else f"{path}"
        raise UsageError(f"{where}: {error}") from None
    known = {setting.name: setting for setting in SETTINGS}
    found: dict[str, _Found] = {}
    for key, value in table.items():
        where = f"{path}:{_line_of(text, key)}"
        setting = known.get(key)
        if setting is None:
            raise UsageError(f"{where}: there is no setting {key!r}; there are: {', '.join(known)}")
        items = value if setting.many and isinstance(value, list) else [value]
        if not all(isinstance(item, str) for item in items):
            kind = "a string or a list of strings" if setting.many else "a string"
            raise UsageError(f"{where}: {key} must be {kind}")
        found[key] = _Found(tuple(items), f"file {where}")
    return found


def _line_of(text: str, key: str) -> int:
    """The line on which a top-level key or table is first named; TOML's reader does not say."""
    name = re.escape(key)
    pattern = re.compile(rf"""^\s*(\[\[?\s*)?(["']?){name}\2\s*(=|\.|\])""")
    for number, line in enumerate(text.splitlines(), 1):
        if pattern.match(line):
            return number
    return 1


def _checked(found: Mapping[str, _Found], environ: Mapping[str, str], user: int, hostname: str) -> Settings:
    origins: dict[str, Origin] = {}

    def take(name: str, default: str, check: Callable[[str], _Value]) -> _Value:
        entry = found.get(name, _Found((default,), "default"))
        if len(entry.values) != 1:
            raise UsageError(f"{_place(entry.source, name)} takes one value")
        value = _apply(check, entry.values[0], entry.source, name)
        origins[name] = Origin(name, entry.values[0], entry.source)
        return value

    def take_many(name: str, default: tuple[str, ...], check: Callable[[str], _Value]) -> tuple[_Value, ...]:
        entry = found.get(name, _Found(default, "default"))
        values = tuple(_apply(check, value, entry.source, name) for value in entry.values)
        origins[name] = Origin(name, " ".join(entry.values), entry.source)
        return values

    cluster = take("cluster", "default", lambda text: checked_name(text, "a cluster name"))
    node = take("node", _node_name_from(hostname), checked_node_name)
    control_default = () if "control" in found else (default_control(cluster, node, environ, user),)
    discovery_given = "discovery" in found
    settings = Settings(
        cluster=cluster,
        node=node,
        key=take("key", "", _parse_path),
        certificates=_certificates(*(take(name, "", _parse_path) for name in CERTIFICATE_SETTINGS)),
        insecure=take("insecure", "no", _one_of(("yes", "no"))) == "yes",
        interfaces=take_many("interface", (), _parse_interface),
        active_links=take("links", "passive", _one_of(("passive", "active"))) == "active",
        max_mtu_bytes=take("max-mtu", str(MAX_MTU_BYTES), _parse_mtu),
        family=int(take("family", "", _one_of(("", *map(str, FAMILIES)))) or 0) or None,
        control=take_many("control", control_default, parse_control),
        acl=take("acl", "", _parse_acl),
        peers=take_many("peer", (), _parse_peer),
        dns=take_many("dns", (), _parse_dns),
        peers_file=take("peers-file", "", _parse_path),
        discovery=tuple(name for names in take_many("discovery", SOURCES, _parse_discovery) for name in names),
        data_dir=take("data-dir", "", _parse_path),
        budget_bytes=take("budget", str(DEFAULT_BUDGET_BYTES), _whole_number(MIN_BUDGET_BYTES, _MOST_BUDGET_BYTES)),
        max_clients=take("max-clients", str(MAX_SESSIONS), _whole_number(1, MAX_SESSIONS)),
        log_level=take("log-level", "info", _one_of(LOG_LEVELS)),
        log_format=take("log-format", "text", _one_of(LOG_FORMATS)),
        trace=take("trace", "", _parse_path),
        trace_limit_bytes=take("trace-limit", str(DEFAULT_TRACE_BYTES), _parse_trace_limit),
        multicast=take("multicast", f"{DEFAULT_GROUP}:{DEFAULT_PORT}", _parse_multicast),
        multicast6=take("multicast6", DEFAULT_GROUP6, _parse_multicast6),
        slow_receiver=SlowReceiver(take("slow-receiver", "wait", _one_of([policy.value for policy in SlowReceiver]))),
        catch_up_bytes=take("catch-up-bytes", "0", _parse_catch_up) or None,
        catch_up_seconds=take("catch-up-seconds", "60", _seconds_from(1, MAX_SLOW_SECONDS)),
        quorum=_quorum(
            take("quorum", "none", _one_of([one.value for one in Filter])),
            take_many("quorum-nodes", (), _parse_quorum_nodes),
            take("tie-breaker", "", str),
            take("witness", "no", _one_of(("yes", "no"))),
        ),
        slow_receiver_seconds=take("slow-receiver-seconds", "5", _seconds_from(1, MAX_SLOW_SECONDS)),
        suspect_seconds=take("suspect-seconds", "3", _seconds_from(2, 60)),
        flap_seconds=take("flap-seconds", "1", _seconds_from(0, 60)),
        origins=(),
    )
    try:
        check_links(settings.interfaces)
    except UsageError as error:
        raise UsageError(f"--interface: {error}") from None
    ways = {
        "--key": settings.key is not None,
        "--node-certificate": settings.certificates is not None,
        "--insecure": settings.insecure,
    }
    given = [name for name, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other: give one of them")
    if settings.acl is None and any(endpoint.lets_everybody_in for endpoint in settings.control):
        raise UsageError(
            "--control: a socket of mode 666 lets every user of this host in: say with --acl who may do what"
        )
    _check_discovery(settings, discovery_given)
    return evolve(settings, origins=tuple(origins[setting.name] for setting in SETTINGS))


def _check_discovery(settings: Settings, given: bool) -> None:
    """Raise ``UsageError`` if a source is told where to look and is not to, or is to and not told."""
    places = {
        "static": ("--peer", bool(settings.peers)),
        "dns": ("--dns", bool(settings.dns)),
        "file": ("--peers-file", settings.peers_file is not None),
    }
    for source, (option, told) in places.items():
        if told and source not in settings.discovery:
            raise UsageError(f"{option} has no effect without {source} in --discovery")
        if given and not told and settings.discovery == (source,):
            article = "a" if source == "file" else "at least one"
            raise UsageError(f"--discovery {source} needs {article} {option}")


def _parse_path(text: str) -> Path | None:
    return Path(text).absolute() if text else None


def _certificates(
    certificate: Path | None, key: Path | None, authorities: Path | None, revoked: Path | None
) -> CertificateFiles | None:
    if certificate is None and key is None and authorities is None and revoked is None:
        return None
    if certificate is None or key is None or authorities is None:
        raise UsageError("--node-certificate, --node-key and --ca go together, with or without --revoked")
    return CertificateFiles(certificate, key, authorities, revoked)


def _quorum(name: str, nodes: Sequence[tuple[tuple[str, int], ...]], tie_breaker: str, witness: str) -> Quorum:
    try:
        named = tuple(node for some in nodes for node in some)
        return Quorum(Filter(name), named, tie_breaker or None, witness == "yes")
    except UsageError as error:
        raise UsageError(f"--quorum: {error}") from None


def _parse_quorum_nodes(text: str) -> tuple[tuple[str, int], ...]:
    return parse_quorum_nodes([text])


def _apply(check: Callable[[str], _Value], value: str, source: str, name: str) -> _Value:
    try:
        return check(value)
    except UsageError as error:
        raise UsageError(f"{_place(source, name)}: {error}") from None


def _place(source: str, name: str) -> str:
    if source == "option":
        return f"--{name}"
    return name if source == "default" else f"{source.partition(' ')[2]}: {name}"


def _node_name_from(hostname: str) -> str:
    """A node name made of the host's: what may not be in one becomes a hyphen."""
    name = re.sub(r"[@#/\s]+", "-", hostname).strip("-")
    return name.encode("utf-8", "ignore")[:MAX_NODE_NAME_BYTES].decode("utf-8", "ignore") or "node"


def _one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in allowed:
            raise UsageError(f"{text!r} is none of {', '.join(allowed)}")
        return text

    return check


def _parse_acl(text: str) -> Path | None:
    """The file, which is read here for its errors and later for what it says."""
    if not text:
        return None
    path = Path(text).absolute()
    read_grants(path)
    return path


def _parse_discovery(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name for name in re.split(r"[\s,]+", text) if name))
    for name in names:
        if name not in SOURCES:
            raise UsageError(f"{name!r} is none of {', '.join(SOURCES)}")
    if not names:
        raise UsageError(f"name at least one of {', '.join(SOURCES)}")
    return names


def _parse_peer(text: str) -> str:
    parse_address(text, DEFAULT_PORT)
    return text


def _parse_dns(text: str) -> str:
    parse_dns(text, DEFAULT_PORT)
    return text


def _parse_multicast(text: str) -> tuple[str, int]:
    group, colon, port = text.partition(":")
    group = group or DEFAULT_GROUP
    try:
        multicast = ipaddress.IPv4Address(group).is_multicast
    except ValueError:
        multicast = False
    if not multicast or (colon and not is_port(port)):
        raise UsageError(f"{text!r} is not GROUP:PORT with an IPv4 multicast group (224.0.0.0 to 239.255.255.255)")
    return group, int(port) if colon else DEFAULT_PORT


def _parse_multicast6(text: str) -> str:
    group = literal_host(text) or text
    check_group6(group)
    return group


def _parse_interface(text: str) -> str:
    return literal_host(text) or text


def _parse_trace_limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 15 and int(text) >= MIN_TRACE_BYTES):
        raise UsageError(f"{text!r} is not a number of bytes from {MIN_TRACE_BYTES} on")
    return int(text)


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= 15 and least <= int(text) <= most):
            raise UsageError(f"{text!r} is not a number from {least} to {most}")
        return int(text)

    return check


def _parse_catch_up(text: str) -> int:
    return 0 if text == "0" else _whole_number(MIN_WINDOW_BYTES, _MOST_BUDGET_BYTES // 4)(text)


def _parse_mtu(text: str) -> int:
    if not re.fullmatch(r"[0-9]{4,5}", text) or not 1200 <= int(text) <= 65_000:
        raise UsageError(f"{text!r} is not a number of bytes from 1200 to 65000")
    return int(text)


def _seconds_from(least: int, most: int) -> Callable[[str], float]:
    def check(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not least <= float(text) <= most:
            raise UsageError(f"{text!r} is not a number of seconds from {least} to {most}")
        return float(text)

    return check
