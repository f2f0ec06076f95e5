"""``twistd groupcomm``: the command line of the daemon, and the service it makes.

Decides how options look; what they may hold is ``settings``'s to say.
"""

# What is inherited from twisted.application and twisted.python is untyped.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import atexit
import os
import resource
import sys
from typing import Any, cast

from twisted.application.service import IServiceCollection
from twisted.internet.interfaces import IReactorCore
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized

from groupcomm._version import __version__
from groupcomm.config import EngineConfig, Timing
from groupcomm.daemon import caps
from groupcomm.daemon.logs import log_stream, make_observer
from groupcomm.daemon.service import DaemonService
from groupcomm.daemon.settings import SETTINGS, Settings, load_settings
from groupcomm.errors import EnvironmentFault, UsageError
from groupcomm.limits import DEFAULT_MTU_BYTES
from groupcomm.net.reactor import INodeReactor
from groupcomm.node import Node, NodeConfig, NodeNews
from groupcomm.outputs import Stopped


class Options(usage.Options):
    """The options of ``twistd groupcomm``. All but ``--config`` can stand in the file and in the environment too."""

    synopsis = "[options]"
    longdesc = (
        "Run a groupcomm daemon: one node of a cluster, which applications on this host use as its clients. Without "
        "options daemons on one LAN find each other. Each option can also be set in the environment (--data-dir as "
        "GROUPCOMM_DATA_DIR) or in the file of --config (data-dir = ...); an option wins over the environment, the "
        "environment over the file. `groupcomm status --config` shows what is set, and where."
    )
    optParameters: list[list[Any]] = [
        ["config", None, None, "file with settings (TOML)"],
        *(
            [setting.name, None, None, setting.help]
            for setting in SETTINGS
            if not setting.many and setting.name not in ("insecure", "witness")
        ),
    ]
    settings: Settings

    def __init__(self) -> None:
        super().__init__()
        self._repeated: dict[str, list[str]] = {}

    def opt_insecure(self) -> None:
        """Run without a key: whoever reaches the network is a node. In the file and the environment: yes."""
        self._repeated["insecure"] = ["yes"]

    def opt_control(self, endpoint: str) -> None:
        """Where clients connect: unix:PATH, tcp:PORT:interface=127.0.0.1 or groupcomm-tls:PORT:...; may be repeated.

        By default a UNIX socket of mode 0600 in a private run directory. For clients on other hosts
        groupcomm-tls:PORT:privateKey=FILE:certKey=FILE:clientCA=FILE[:revoked=FILE][:interface=ADDRESS].
        """
        self._repeated.setdefault("control", []).append(endpoint)

    def opt_interface(self, interface: str) -> None:
        """Network interface to use, by name or address; may be repeated, up to 8 times: each is a link of its own.

        By default the one of the default route.
        """
        self._repeated.setdefault("interface", []).append(interface)

    def opt_peer(self, peer: str) -> None:
        """A node that may be there, HOST or HOST:PORT ([ADDRESS]:PORT for IPv6); may be repeated."""
        self._repeated.setdefault("peer", []).append(peer)

    def opt_discovery(self, names: str) -> None:
        """How nodes are found: a list of zeroconf, multicast, static, dns, file (default: all of them)."""
        self._repeated.setdefault("discovery", []).append(names)

    def opt_dns(self, name: str) -> None:
        """A name in the DNS that stands for nodes; may be repeated.

        NAME or NAME:PORT for its addresses (A, AAAA), _SERVICE._PROTO.DOMAIN or srv:NAME for SRV records.
        """
        self._repeated.setdefault("dns", []).append(name)

    def opt_quorum_nodes(self, names: str) -> None:
        """The nodes that count for the quorum, the same list everywhere: NAME[:VOTES],...; may be repeated."""
        self._repeated.setdefault("quorum-nodes", []).append(names)

    def opt_witness(self) -> None:
        """Only count for the quorum and serve no clients. In the file and the environment: yes."""
        self._repeated["witness"] = ["yes"]

    def opt_version(self) -> None:
        """Display the version of groupcomm and exit."""
        print(f"groupcomm {__version__}")
        sys.exit(0)

    def parseArgs(self, *rest: str) -> None:
        """There are no arguments beside the options."""
        if rest:
            raise usage.UsageError(f"what is {rest[0]!r}? This command takes options only")

    def postOptions(self) -> None:
        """Gather and check the settings."""
        given = {setting.name: [self[setting.name]] for setting in SETTINGS if self.get(setting.name) is not None}
        try:
            self.settings = load_settings(
                {**given, **self._repeated}, os.environ, user=os.geteuid(), config=self["config"]
            )
            self.node_config = node_config(self.settings)
        except UsageError as error:
            raise usage.UsageError(str(error)) from None


def allow_open_files(wanted: int) -> None:
    """Let this process have so many descriptors, or as many as it may allow itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def node_config(settings: Settings) -> NodeConfig:
    """What the node is told of the settings."""
    group, port = settings.multicast
    return NodeConfig(
        engine=EngineConfig(
            cluster=settings.cluster,
            budget_bytes=settings.budget_bytes,
            slow_receiver=settings.slow_receiver,
            slow_receiver_seconds=settings.slow_receiver_seconds,
            timing=Timing(suspect=settings.suspect_seconds, flap=settings.flap_seconds),
            catch_up_bytes=settings.catch_up_bytes,
            catch_up_seconds=settings.catch_up_seconds,
            mtu_bytes=min(DEFAULT_MTU_BYTES, settings.max_mtu_bytes),
            max_mtu_bytes=settings.max_mtu_bytes,
            active_links=settings.active_links,
            quorum=settings.quorum,
        ),
        node=settings.node,
        interfaces=settings.interfaces,
        family=settings.family,
        multicast_group=group,
        multicast_group6=settings.multicast6,
        multicast_port=port,
        discovery=settings.discovery,
        peers=settings.peers,
        dns=settings.dns,
        peers_file=settings.peers_file,
        data_dir=settings.data_dir,
        key=settings.key,
        certificates=settings.certificates,
        insecure=settings.insecure,
        trace=settings.trace,
        trace_limit_bytes=settings.trace_limit_bytes,
    )


class TwistdService(DaemonService):
    """The daemon under ``twistd``: sets up its log, ends the process when it cannot go on."""

    _log = Logger()

    def __init__(self, reactor: INodeReactor, options: Options) -> None:
        self._core = cast(IReactorCore, reactor)
        self._options = options
        node = Node(reactor, options.node_config)
        node.observe(self._observe)
        settings = options.settings
        super().__init__(
            reactor,
            node,
            settings.control,
            settings.origins,
            acl=settings.acl,
            max_clients=settings.max_clients,
        )

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Become part of the application, whose log this service then decides the form of."""
        super().setServiceParent(parent)
        twistd_options = getattr(self._options, "parent", None)
        if isinstance(parent, Componentized) and twistd_options is not None:
            stream = log_stream(twistd_options)
            if stream is not None:
                parent.setComponent(ILogObserver, make_observer(self._options.settings, stream))

    def startService(self) -> None:
        """Start; a machine that does not give what is needed ends the process with one clear line.

        Raises:
            SystemExit: in the foreground.
            EnvironmentFault, UsageError: in the background, where ``twistd`` tells the waiting parent of an
                ``Exception`` only: it would wait for ever after a ``SystemExit``.
        """
        allow_open_files(caps.OPEN_FILES)
        try:
            super().startService()
        except (EnvironmentFault, UsageError) as error:
            self.remove_sockets()
            twistd_options = getattr(self._options, "parent", None)
            if twistd_options is None or twistd_options["nodaemon"]:
                raise SystemExit(f"groupcomm: {error}") from None
            self._log.critical("the daemon cannot start: {reason}", reason=str(error))
            raise

    def _observe(self, news: NodeNews) -> None:
        """A node that has ended by itself leaves nothing to run for."""
        if isinstance(news, Stopped) and not news.clean and self.running:
            self._log.critical("the daemon ends: {reason}", reason=news.reason)
            atexit.register(_exit_failed)
            self._core.stop()


def _exit_failed() -> None:
    """End with a status that says so: twistd knows none but 0, and who supervises us should start us again."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def makeService(options: Options) -> TwistdService:
    """The service that ``twistd groupcomm`` runs."""
    from twisted.internet import reactor

    return TwistdService(cast(INodeReactor, reactor), options)
