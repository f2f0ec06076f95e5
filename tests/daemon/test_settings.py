"""Where the daemon's settings come from, and what it says of those that cannot be."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import tempfile
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from twisted.logger import Logger, LogPublisher
from twisted.python.usage import UsageError as TwistedUsageError
from twisted.trial.unittest import SynchronousTestCase

from groupcomm._version import __version__
from groupcomm.config import SlowReceiver
from groupcomm.daemon.caps import MAX_UNIX_PATH_BYTES
from groupcomm.daemon.control import (
    SocketGuard,
    default_control,
    find_control,
    is_live,
    parse_control,
    run_directory,
)
from groupcomm.daemon.logs import make_observer
from groupcomm.daemon.settings import SETTINGS, Settings, load_settings
from groupcomm.daemon.tap import Options, allow_open_files
from groupcomm.errors import EnvironmentFault, NotConnected, UsageError
from groupcomm.quorum import NO_QUORUM, Filter, Quorum

RUN = {"XDG_RUNTIME_DIR": "/run/user/1000"}


class Files(SynchronousTestCase):
    """A directory of the test's own, whose path leaves room for that of a socket."""

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gc-"))
        self.addCleanup(shutil.rmtree, self.directory)

    def write(self, text: str) -> str:
        path = self.directory / "daemon.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def load(
        self, options: Mapping[str, list[str]] | None = None, environ: Mapping[str, str] | None = None, text: str = ""
    ) -> Settings:
        config = self.write(text)
        return load_settings(options or {}, {**RUN, **(environ or {})}, user=1000, hostname="host", config=config)


class PrecedenceTests(Files):
    """Option, environment, file, default: in this order."""

    def test_defaults(self) -> None:
        """Without anything there is a node of the host's name, found by everything, with a private socket."""
        settings = load_settings({}, RUN, user=1000, hostname="a/host")
        self.assertEqual((settings.cluster, settings.node, settings.interfaces), ("default", "a-host", ()))
        self.assertEqual(settings.control[0].client_description, "unix:/run/user/1000/groupcomm/default-a-host.sock")
        self.assertEqual(settings.multicast, ("239.192.71.67", 4874))
        self.assertEqual((settings.slow_receiver, settings.slow_receiver_seconds), (SlowReceiver.WAIT, 5.0))
        self.assertEqual(settings.quorum, NO_QUORUM)
        self.assertEqual((settings.budget_bytes, settings.max_clients), (128 * 1024 * 1024, 4096))
        self.assertEqual({origin.source for origin in settings.origins}, {"default"})

    def test_precedence(self) -> None:
        """Each source wins over those below it, and the origin says which it was, with the line of the file."""
        text = '# mine\ncluster = "file"\n\n"node" = "n"\nlog-level = "warn"\n'
        for options, environ, expected, source in (
            ({"cluster": ["option"]}, {"GROUPCOMM_CLUSTER": "env"}, "option", "option"),
            ({}, {"GROUPCOMM_CLUSTER": "env"}, "env", "environment GROUPCOMM_CLUSTER"),
            ({}, {}, "file", f"file {self.directory}/daemon.toml:2"),
        ):
            settings = self.load(options, environ, text)
            self.assertEqual(settings.cluster, expected)
            self.assertEqual({origin.name: origin.source for origin in settings.origins}["cluster"], source)
        self.assertTrue({origin.name: origin.source for origin in settings.origins}["node"].endswith(":4"))
        self.assertEqual(settings.log_level, "warn")

    def test_lists(self) -> None:
        """Lists are lists in the file, repeated options, and separated in the environment."""
        both = ("a:1", "b")
        self.assertEqual(self.load(text='peer = ["a:1", "b"]').peers, both)
        self.assertEqual(self.load({"peer": ["a:1", "b"]}).peers, both)
        self.assertEqual(self.load(environ={"GROUPCOMM_PEER": "a:1, b"}).peers, both)
        self.assertEqual(
            self.load({"discovery": ["static,multicast"], "peer": ["a"]}).discovery, ("static", "multicast")
        )
        links = ("eth1", "fd00::7")
        self.assertEqual(self.load(text='interface = ["eth1", "FD00:0::7"]').interfaces, links)
        self.assertEqual(self.load({"interface": ["eth1", "[fd00::7]"]}).interfaces, links)
        self.assertEqual(self.load(environ={"GROUPCOMM_INTERFACE": "eth1,fd00::7"}).interfaces, links)

    def test_the_network(self) -> None:
        """The family and the IPv6 group."""
        settings = self.load({"family": ["6"], "multicast6": ["[ff15::1]"]})
        self.assertEqual((settings.family, settings.multicast6), (6, "ff15::1"))
        settings = self.load()
        self.assertEqual((settings.family, settings.multicast6), (None, "ff18::efc0:4743"))

    def test_discovery_by_name_and_file(self) -> None:
        """Names in the DNS are a list, the file of peers is a path; each needs its source in the list of sources."""
        settings = self.load({"dns": ["a.example.org:1", "_b._udp.example.org"], "peers-file": ["/p"]})
        self.assertEqual(settings.dns, ("a.example.org:1", "_b._udp.example.org"))
        self.assertEqual(settings.peers_file, Path("/p"))
        self.assertEqual(settings.discovery, ("zeroconf", "multicast", "static", "dns", "file"))
        self.assertEqual(self.load({"discovery": ["dns"], "dns": ["srv:a"]}).discovery, ("dns",))

    def test_file_named_by_the_environment(self) -> None:
        """GROUPCOMM_CONFIG names the file too."""
        path = self.write('cluster = "c"')
        self.assertEqual(load_settings({}, {**RUN, "GROUPCOMM_CONFIG": path}, user=1000).cluster, "c")


class RefusedTests(Files):
    """What cannot be is refused, with the place."""

    def refused(self, *args: object, **keywords: object) -> str:
        error = self.assertRaises(UsageError, self.load, *args, **keywords)
        return str(error)

    def test_files(self) -> None:
        """An unknown key, a wrong type or a broken file is an error that begins with file and line."""
        for text, line, words in (
            ('cluster = "c"\n\nclutser = "d"\n', 3, "no setting 'clutser'"),
            ("[node]\nname = 1\n", 1, "node must be a string"),
            ('\n[daemon]\nnode = "x"\n', 2, "no setting 'daemon'"),
            ("log-level = 5\n", 1, "must be a string"),
            ("peer = [1]\n", 1, "list of strings"),
            ('cluster = "c\n', 1, "line 1"),
            ('\ncluster = ""\n', 2, "cluster name"),
            ('node = "a@b"\n', 1, "may not contain"),
        ):
            message = self.refused(text=text)
            self.assertTrue(message.startswith(f"{self.directory}/daemon.toml:{line}: "), message)
            self.assertIn(words, message)
        self.assertIn("cannot read", str(self.assertRaises(UsageError, load_settings, {}, RUN, user=0, config="/no")))

    def test_values(self) -> None:
        """The text names the option or the variable, and what would be right."""
        for name, value, words in (
            ("cluster", "x" * 256, "255"),
            ("node", "x" * 65, "64"),
            ("discovery", "pigeon", "zeroconf, multicast, static, dns, file"),
            ("discovery", ",", "at least one"),
            ("discovery", "static", "needs at least one --peer"),
            ("family", "5", "none of"),
            ("multicast6", "239.1.1.1", "no IPv6 multicast"),
            ("multicast6", "fd00::1", "no IPv6 multicast"),
            ("interface", "", "--interface"),
            ("interface", "eth 0", "--interface"),
            ("discovery", "dns", "needs at least one --dns"),
            ("discovery", "file", "needs a --peers-file"),
            ("dns", "10.0.0.1", "--peer takes addresses"),
            ("dns", "_a._udp.example.org:1", "say the port themselves"),
            ("peer", ":5", "HOST"),
            ("peer", "a:0", "1 to 65535"),
            ("peer", "a:65536", "1 to 65535"),
            ("peer", "fd77::1:x", "[ADDRESS]:PORT"),
            ("log-level", "loud", "critical"),
            ("log-format", "xml", "text, json"),
            ("multicast", "192.0.2.1:5", "multicast"),
            ("multicast", "239.1.1.1:0", "GROUP:PORT"),
            ("budget", "67108863", "67108864"),
            ("budget", "128M", "not a number"),
            ("max-clients", "0", "from 1 to 4096"),
            ("max-clients", "4097", "from 1 to 4096"),
            ("slow-receiver", "kill", "wait, evict"),
            ("suspect-seconds", "1.9", "from 2 to 60"),
            ("flap-seconds", "61", "from 0 to 60"),
            ("quorum", "most", "none, majority, weighted, dynamic-linear"),
            ("quorum", "majority", "needs the names of the quorum nodes"),
            ("quorum-nodes", "a:x", "NAME or NAME:VOTES"),
            ("witness", "perhaps", "yes, no"),
            ("slow-receiver-seconds", "0.9", "from 1 to 3600"),
            ("slow-receiver-seconds", "3601", "from 1 to 3600"),
            ("slow-receiver-seconds", "1e3", "from 1 to 3600"),
            ("control", "tcp:5", "interface=127.0.0.1"),
            ("control", "tcp:5:interface=0.0.0.0", "for other hosts use groupcomm-tls:PORT"),
            ("control", "tcp:5:interface=192.0.2.1", "this host only"),
            ("control", "tcp:5:interface=\\:\\:", "this host only"),
            ("control", "tcp:x:interface=127.0.0.1", "tcp:PORT"),
            ("control", "ssl:5", "unix:PATH"),
            ("control", "systemd:domain=UNIX:index=0", "unix:PATH"),
            ("control", "unix:relative", "absolute"),
            ("control", "unix:/a:mode=666", "--acl"),
            ("control", "groupcomm-tls:5", "privateKey=FILE"),
            ("control", "groupcomm-tls:privateKey=/k:clientCA=/c", "one port"),
            ("control", "groupcomm-tls:65536:privateKey=/k:clientCA=/c", "one port"),
            ("control", "groupcomm-tls:5:privateKey=/k", "clientCA=FILE"),
            ("control", "groupcomm-tls:5:privateKey=/k:clientCA=", "clientCA=FILE"),
            ("control", "groupcomm-tls:5:privateKey=/k:clientCA=/c:password=x", "no password="),
            ("control", "groupcomm-tls:5:privateKey=/k:clientCA=/c:interface=eth0", "no address"),
            ("acl", "/no/such/file", "cannot read"),
            ("control", "unix:/a:mode=777", "600"),
            ("control", "unix:/a:b", "unix:PATH"),
            ("control", "", "unix:PATH"),
        ):
            message = self.refused({name: [value]})
            self.assertIn(f"--{name}", message)
            self.assertIn(words, message)
        self.assertIn("no effect", self.refused({"peer": ["a"], "discovery": ["multicast"]}))
        self.assertIn("without dns", self.refused({"dns": ["a"], "discovery": ["zeroconf,file"]}))
        self.assertIn("without file", self.refused({"peers-file": ["/a"], "discovery": ["zeroconf"]}))
        message = self.refused(environ={"GROUPCOMM_LOG_LEVEL": "loud"})
        self.assertTrue(message.startswith("GROUPCOMM_LOG_LEVEL: "), message)


class ControlTests(Files):
    """Where the control socket is."""

    def test_run_directory(self) -> None:
        """systemd's, else the session's, else the system's for root."""
        self.assertEqual(run_directory({"RUNTIME_DIRECTORY": "/run/a:/run/b", **RUN}, 0), Path("/run/a"))
        self.assertEqual(run_directory(RUN, 0), Path("/run/user/1000/groupcomm"))
        self.assertEqual(run_directory({}, 0), Path("/run/groupcomm"))
        self.assertEqual(run_directory({"XDG_CACHE_HOME": "/c"}, 1000), Path("/c/groupcomm"))

    def test_length(self) -> None:
        """107 bytes are a path, 108 are none; the default is checked too."""
        longest = "/" + "x" * (MAX_UNIX_PATH_BYTES - 1)
        self.assertEqual(parse_control(f"unix:{longest}").path, Path(longest))
        error = self.assertRaises(UsageError, parse_control, f"unix:{longest}x")
        self.assertIn("108", str(error))
        self.assertIn("107", str(error))
        self.assertRaises(UsageError, default_control, "c" * 80, "n" * 40, {}, 0)
        self.assertRaises(UsageError, default_control, "a/b", "n", {}, 0)

    def test_forms(self) -> None:
        """The mode is always given, colons in a path survive, and localhost is an address."""
        self.assertEqual(parse_control("unix:/a").description, "unix:/a:mode=600:lockfile=0:backlog=1024")
        self.assertEqual(parse_control("unix:/a:mode=0660").description, "unix:/a:mode=660:lockfile=0:backlog=1024")
        self.assertEqual(parse_control("unix:address=/a\\:b").path, Path("/a:b"))
        self.assertEqual(parse_control("unix:/a\\:b").client_description, "unix:/a\\:b")
        self.assertEqual(
            parse_control("tcp:5:interface=localhost").description, "tcp:5:interface=127.0.0.1:backlog=1024"
        )
        self.assertEqual(
            parse_control("tcp:port=5:interface=\\:\\:1").description, "tcp:5:interface=\\:\\:1:backlog=1024"
        )

    def test_guard(self) -> None:
        """One daemon has a path; the next takes it over when the first is gone, however it went."""
        path = self.directory / "run" / "d.sock"
        first, second = SocketGuard(path), SocketGuard(path)
        first.acquire()
        self.assertEqual(path.parent.stat().st_mode & 0o777, 0o700)
        self.assertIn("another daemon", str(self.assertRaises(EnvironmentFault, second.acquire)))
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))
        first.release()
        self.assertFalse(path.exists())
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))
        second.acquire()
        self.assertFalse(path.exists())
        second.release()

    def test_guard_refuses(self) -> None:
        """A live socket, a file of that name, and a directory that others may write to are refused."""
        path = self.directory / "d.sock"
        with socket.socket(socket.AF_UNIX) as live:
            live.bind(str(path))
            live.listen()
            self.assertTrue(is_live(path))
            self.assertIn("listening", str(self.assertRaises(EnvironmentFault, SocketGuard(path).acquire)))
        path.unlink()
        path.write_text("precious")
        self.assertIn("no socket", str(self.assertRaises(EnvironmentFault, SocketGuard(path).acquire)))
        self.assertEqual(path.read_text(), "precious")
        self.directory.chmod(0o770)
        self.assertIn("others", str(self.assertRaises(EnvironmentFault, SocketGuard(path).acquire)))

    def test_find(self) -> None:
        """The client takes the only live socket, lists several, and says where it looked."""
        environ = {"XDG_RUNTIME_DIR": str(self.directory), "XDG_CACHE_HOME": str(self.directory / "none")}
        run = self.directory / "groupcomm"
        run.mkdir()
        self.assertIn(str(run), str(self.assertRaises(NotConnected, find_control, environ, 1000)))
        sockets = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for number, each in enumerate(sockets):
            self.addCleanup(each.close)
            each.bind(str(run / f"c-n{number}.sock"))
        sockets[0].listen()
        self.assertEqual(find_control(environ, 1000), f"unix:{run}/c-n0.sock")
        sockets[2].listen()
        message = str(self.assertRaises(NotConnected, find_control, environ, 1000))
        self.assertIn("c-n0.sock", message)
        self.assertIn("c-n2.sock", message)
        self.assertNotIn("c-n1.sock", message)
        for given, taken in (
            ("tcp:a:1", "tcp:a:1"),
            ("/run/a.sock", "unix:/run/a.sock"),
            (" unix:/run/a.sock, tcp:1:interface=127.0.0.1", "unix:/run/a.sock"),
        ):
            self.assertEqual(find_control({**environ, "GROUPCOMM_CONTROL": given}, 1000), taken)

    def test_path_alone(self) -> None:
        """An absolute path is a UNIX socket for the daemon too, whatever characters it has."""
        self.assertEqual(parse_control("/run/a=b/c:d.sock"), parse_control("unix:/run/a\\=b/c\\:d.sock"))


class OptionsTests(Files):
    """The command line."""

    def setUp(self) -> None:
        super().setUp()
        for name in [name for name in os.environ if name.startswith("GROUPCOMM_")]:
            self.patch(os, "environ", {key: value for key, value in os.environ.items() if key != name})

    def test_options(self) -> None:
        """Options reach the settings; repeated ones all of them."""
        options = Options()
        options.parseOptions(
            [
                *("--cluster", "c", "--node=n", "--control", "unix:/a", "--control", "unix:/b", "--peer", "h:1"),
                *("--discovery", "static", "--discovery", "multicast", "--multicast", ":5000", "--data-dir", "/d"),
                *("--discovery", "dns,file", "--dns", "a", "--dns", "srv:b", "--peers-file", "/p"),
                *("--slow-receiver", "evict", "--slow-receiver-seconds", "7.5"),
                *("--quorum", "weighted", "--quorum-nodes", "n:2,m", "--quorum-nodes", "o"),
                *("--tie-breaker", "m", "--witness"),
                *("--budget", "67108864", "--max-clients", "7"),
                *("--suspect-seconds", "4", "--flap-seconds", "0"),
            ]
        )
        settings = options.settings
        self.assertEqual((settings.cluster, settings.node, settings.data_dir), ("c", "n", Path("/d")))
        self.assertEqual([str(endpoint.path) for endpoint in settings.control], ["/a", "/b"])
        self.assertEqual(settings.discovery, ("static", "multicast", "dns", "file"))
        self.assertEqual((options.node_config.dns, options.node_config.peers_file), (("a", "srv:b"), Path("/p")))
        self.assertEqual((options.node_config.multicast_port, options.node_config.peers), (5000, ("h:1",)))
        engine = options.node_config.engine
        nodes = (("n", 2), ("m", 1), ("o", 1))
        self.assertEqual(engine.quorum, Quorum(Filter.WEIGHTED, nodes, "m", witness=True))
        self.assertEqual((engine.slow_receiver, engine.slow_receiver_seconds), (SlowReceiver.EVICT, 7.5))
        self.assertEqual((engine.budget_bytes, settings.max_clients), (67108864, 7))
        self.assertEqual((engine.timing.suspect, engine.timing.flap), (4.0, 0.0))

    def test_usage_errors(self) -> None:
        """What cannot be is a usage error of twistd's."""
        for arguments in (["--node", "a@b"], ["extra"], ["--nothing"], ["--peer", ""], ["--config", "/no/such"]):
            self.assertRaises(TwistedUsageError, Options().parseOptions, arguments)

    def test_version(self) -> None:
        """``--version`` is groupcomm's."""
        printed = StringIO()
        self.patch(__import__("sys"), "stdout", printed)
        self.assertRaises(SystemExit, Options().parseOptions, ["--version"])
        self.assertEqual(printed.getvalue(), f"groupcomm {__version__}\n")

    def test_quorum_settings_that_contradict_each_other(self) -> None:
        """They are said together, as what they make together is wrong."""
        for given in (["--quorum-nodes", "a,b"], ["--tie-breaker", "a"], ["--witness"]):
            error = self.assertRaises(TwistedUsageError, Options().parseOptions, given)
            self.assertIn("mean nothing without a quorum filter", str(error))
        witness = ["--node", "w", "--quorum", "majority", "--quorum-nodes", "a,b", "--witness"]
        self.assertIn("'w'", str(self.assertRaises(TwistedUsageError, Options().parseOptions, witness)))

    def test_every_setting_is_an_option(self) -> None:
        """Each setting is an option, and each is in the documentation."""
        page = (Path(__file__).resolve().parents[2] / "doc" / "howto" / "daemon.md").read_text(encoding="utf-8")
        usage = Options().getUsage(width=100)
        for setting in SETTINGS:
            self.assertIn(f"--{setting.name}" + ("" if setting.name in ("insecure", "witness") else "="), usage)
            self.assertIn(f"`{setting.name}`", page)
            self.assertIn(f"`{setting.variable}`", page)


class OpenFilesTests(SynchronousTestCase):
    """How many descriptors a daemon allows itself."""

    def setUp(self) -> None:
        self.limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, self.limits)

    def test_raised_as_far_as_allowed(self) -> None:
        """The limit goes up to what is wanted, no further than the system allows, and never down."""
        hard = self.limits[1]
        low = 512
        resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
        for wanted, expected in ((low - 1, low), (low + 10, low + 10), (low + 5, low + 10)):
            allow_open_files(wanted)
            self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (expected, hard))
        if hard != resource.RLIM_INFINITY:
            allow_open_files(hard + 1)
            self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (hard, hard))


class LogTests(Files):
    """The log."""

    def logged(self, **options: str) -> str:
        stream = StringIO()
        settings = self.load({name.replace("_", "-"): [value] for name, value in options.items()})
        publisher = LogPublisher(make_observer(settings, stream))
        log = Logger(namespace="test", observer=publisher)
        log.info("hello {name}", name="a\nb")
        try:
            raise ValueError("bad")
        except ValueError:
            log.failure("it failed")
        return stream.getvalue()

    def test_json(self) -> None:
        """One object a line."""
        first, second = [json.loads(line) for line in self.logged(log_format="json").splitlines()]
        self.assertEqual((first["level"], first["namespace"], first["message"]), ("info", "test", "hello a\nb"))
        self.assertIn("ValueError", second["traceback"])

    def test_level(self) -> None:
        """Below the level nothing is written."""
        self.assertNotIn("hello", self.logged(log_level="error"))
        self.assertIn("ValueError", self.logged(log_level="error"))
        self.assertIn("hello", self.logged())
