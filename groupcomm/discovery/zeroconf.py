"""Zeroconf (DNS-SD over multicast DNS): nodes announce ``_groupcomm._udp.local.`` and look for it.

The library runs on asyncio: it lives in one thread with a loop of its own, and what it finds crosses into the reactor's
thread by ``callFromThread``. Browsing begins at once; registering, which probes for about a second, goes on beside it.
Only the interfaces that the node uses are used and announced. What is announced by other clusters is ignored; addresses
are hints.

Trouble (no multicast DNS port, no such address) is logged once; the node goes on without this source, and tries again.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import ifaddr
from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from zeroconf import DNSQuestionType, IPVersion, ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf
from zope.interface import implementer

from groupcomm.discovery.hints import MAX_HINTS, Announcement, Found, HintBook
from groupcomm.discovery.lookups import SHOWN_ADDRESSES, LookUpFailed
from groupcomm.interfaces import IDiscovery
from groupcomm.outputs import Address
from groupcomm.status import SourceStatus

SERVICE_TYPE: Final = "_groupcomm._udp.local."
"""The service all nodes announce and look for."""

TXT_VERSION: Final = b"1"
"""The version of the announcement's properties."""

LOOK_UP_MILLISECONDS: Final = 3000
"""How long one announcement's details are asked for."""

MAX_LOOK_UPS: Final = 8
"""Announcements asked about at once; the rest wait."""

OFFER_SECONDS: Final = 10.0
"""How often everything known is offered again: this is what finds the others after a partition without beacons."""

RETRY_SECONDS: Final = 30.0
"""After trouble it is tried again so much later."""

TELL_SECONDS: Final = 0.25
"""How long after a change the status has it."""

CLOSE_SECONDS: Final = 2.0
"""How long taking back the announcement may take."""

_MAX_PROPERTY_BYTES: Final = 200


def cluster_property(cluster: str) -> bytes:
    """The cluster's name as announced: itself, or its digest when it is too long for a property."""
    name = cluster.encode()
    if len(name) <= _MAX_PROPERTY_BYTES and not name.startswith(b"sha256:"):
        return name
    return b"sha256:" + hashlib.sha256(name).hexdigest().encode()


def instance_label(announcement: Announcement) -> str:
    """A label unique to this run of this node, at most 63 bytes: what the service instance is called."""
    readable = re.sub(r"[^A-Za-z0-9-]+", "-", announcement.node.name).strip("-")[:32] or "node"
    digest = hashlib.sha256(f"{announcement.cluster}\0{announcement.node.name}".encode()).hexdigest()[:8]
    return f"{readable}-{digest}-{announcement.node.incarnation:x}"


def service_info(announcement: Announcement, port: int) -> ServiceInfo:
    """What is announced."""
    label = instance_label(announcement)
    return ServiceInfo(
        SERVICE_TYPE,
        f"{label}.{SERVICE_TYPE}",
        port=port,
        parsed_addresses=[host.partition("%")[0] for host in announcement.interface_addresses],
        server=f"{label}.local.",
        properties={
            b"cluster": cluster_property(announcement.cluster),
            b"node": announcement.node.name.encode(),
            b"version": TXT_VERSION,
        },
    )


def addresses_of(
    properties: Mapping[bytes, bytes | None], addresses: list[str], port: int | None, cluster: str
) -> tuple[Address, ...]:
    """The hints in one announcement: none if it is another cluster's, or makes no sense."""
    if properties.get(b"cluster") != cluster_property(cluster) or properties.get(b"version") != TXT_VERSION:
        return ()
    if not port or not 0 < port < 65_536:
        return ()
    return tuple((with_interface_name(address), port) for address in addresses)


def with_interface_name(host: str) -> str:
    """An address whose interface, if it has one, is named rather than numbered, as addresses are compared."""
    address, percent, index = host.partition("%")
    if not percent or not index.isdecimal():
        return host
    try:
        return f"{address}%{socket.if_indextoname(int(index))}"
    except OSError:
        return address


def host_addresses() -> frozenset[str]:
    """Every address that this host has now, without the interfaces of link-local ones."""
    found = (address.ip for adapter in ifaddr.get_adapters() for address in adapter.ips)
    return frozenset(ip if isinstance(ip, str) else ip[0] for ip in found)


def words_of(error: Exception) -> str:
    """What went wrong, in words."""
    return str(error) if isinstance(error, LookUpFailed) else f"{type(error).__name__}: {error}"


@implementer(IDiscovery)
class ZeroconfDiscovery:
    """Announces this node and gives hints of others by multicast DNS."""

    _log = Logger()

    def __init__(self, reactor: IReactorFromThreads, announcement: Announcement) -> None:
        """Announce nothing before ``start``.

        Args:
            reactor: in whose thread hints are given.
            announcement: what to announce.
        """
        self._reactor = reactor
        self._announcement = announcement
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakes: _Wakes | None = None
        self._found: Found | None = None
        self._known: tuple[Address, ...] = ()
        self._last_trouble: str | None = None
        self._troubled = False
        self._started: Deferred[None] | None = None
        self._ended: Deferred[None] | None = None

    def start(self, port: int, found: Found) -> Deferred[None]:
        """Begin to look and to announce; fires when looking has begun, or has failed."""
        self._found = found
        started: Deferred[None] = Deferred()
        self._started = started
        self._ended = Deferred()
        self._thread = threading.Thread(
            target=self._run, args=(port,), name=f"zeroconf-{self._announcement.node.name}", daemon=True
        )
        self._thread.start()
        return started

    def stop(self) -> Deferred[None]:
        """Take the announcement back; fires when the thread has ended."""
        self._found = None
        if self._ended is None:
            return succeed(None)
        if self._loop is not None and self._wakes is not None:
            self._loop.call_soon_threadsafe(self._wakes.end)
        return self._ended

    def moved(self, hosts: tuple[str, ...]) -> None:
        """The node has other addresses, or has lost an interface and got it back: begin again there."""
        self._announcement = evolve(self._announcement, interface_addresses=hosts)
        if self._loop is not None and self._wakes is not None:
            self._loop.call_soon_threadsafe(self._wakes.begin_again)

    def status(self) -> SourceStatus:
        """What was heard, of this cluster."""
        looks_at = f"multicast DNS on {self._where}"
        found = self._known[:SHOWN_ADDRESSES]
        return SourceStatus("zeroconf", looks_at, len(self._known), found, self._last_trouble, self._troubled)

    @property
    def _where(self) -> str:
        """The addresses, in words."""
        return ", ".join(self._announcement.interface_addresses)

    def _run(self, port: int) -> None:
        """The thread: one asyncio loop from here to its end."""
        try:
            asyncio.run(self._serve_for_ever(port))
        except Exception as error:
            self._reactor.callFromThread(self._trouble, words_of(error))
        finally:
            self._reactor.callFromThread(self._thread_ended)

    async def _serve_for_ever(self, port: int) -> None:
        """Serve until told to end; after trouble, again."""
        wakes = _Wakes()
        self._reactor.callFromThread(self._loop_running, asyncio.get_running_loop(), wakes)
        while not wakes.ended:
            wakes.again = False
            try:
                await self._serve(port, wakes, self._announcement)
            except Exception as error:
                self._reactor.callFromThread(self._trouble, words_of(error))
                self._reactor.callFromThread(self._browsing)
                await wakes.wait(RETRY_SECONDS)

    async def _serve(self, port: int, wakes: _Wakes, announcement: Announcement) -> None:
        """Browse at once, register beside it, until told to end or to begin again, or an address may be back."""
        wanted = announcement.interface_addresses
        addresses = [host for host in wanted if host.partition("%")[0] in host_addresses()]
        if not addresses:
            raise LookUpFailed(f"this host has no address {' or '.join(wanted)} now")
        zeroconf = AsyncZeroconf(interfaces=addresses)
        browsing = _Browsing(self, zeroconf.zeroconf, announcement, port)
        registering = asyncio.create_task(self._register(zeroconf, service_info(announcement, port)))
        try:
            missing = len(wanted) - await browsing.begin()
            if missing:
                self._reactor.callFromThread(self._trouble, f"{missing} of {len(wanted)} addresses cannot be used")
            else:
                self._reactor.callFromThread(self._well)
            self._reactor.callFromThread(self._browsing)
            limit = asyncio.get_running_loop().time() + RETRY_SECONDS if missing else math.inf
            while not (wakes.ended or wakes.again) and asyncio.get_running_loop().time() < limit:
                await wakes.wait(OFFER_SECONDS)
                browsing.offer()
        finally:
            registering.cancel()
            await browsing.end()
            await asyncio.wait_for(zeroconf.async_close(), CLOSE_SECONDS)

    async def _register(self, zeroconf: AsyncZeroconf, info: ServiceInfo) -> None:
        """Announce this node; trouble with that ends nothing else."""
        try:
            await (await zeroconf.async_register_service(info))
        except Exception as error:
            self._reactor.callFromThread(self._trouble, f"cannot announce: {words_of(error)}")

    def give(self, addresses: tuple[Address, ...]) -> None:
        """Hand hints to the reactor's thread."""
        if addresses:
            self._reactor.callFromThread(self._give, addresses)

    def tell_known(self, known: tuple[Address, ...]) -> None:
        """Tell the reactor's thread all that is known now."""
        self._reactor.callFromThread(self._keep_known, known)

    def _give(self, addresses: tuple[Address, ...]) -> None:
        """Hand out hints, in the reactor's thread."""
        for address in addresses:
            if self._found is not None:
                self._found(address)

    def _keep_known(self, known: tuple[Address, ...]) -> None:
        """What the status shows."""
        self._known = known

    def _loop_running(self, loop: asyncio.AbstractEventLoop, wakes: _Wakes) -> None:
        """The thread can be told to end from now on; if that was wanted before, tell it."""
        if self._thread is None or not self._thread.is_alive():
            return
        self._loop, self._wakes = loop, wakes
        if self._found is None:
            loop.call_soon_threadsafe(wakes.end)

    def _browsing(self) -> None:
        """Looking has begun."""
        if self._started is not None and not self._started.called:
            self._started.callback(None)

    def _trouble(self, why: str) -> None:
        """Say once why this source gives nothing."""
        if why != self._last_trouble:
            self._log.warn("discovery zeroconf on {where}: {why}", where=self._where, why=why)
        self._last_trouble, self._troubled = why, True

    def _well(self) -> None:
        """All interfaces can be used."""
        if self._troubled:
            self._log.info("discovery zeroconf on {where} works again", where=self._where)
        self._troubled = False

    def _thread_ended(self) -> None:
        """The thread is over."""
        thread, self._thread = self._thread, None
        self._loop = self._wakes = None
        if thread is not None:
            thread.join()
        self._browsing()
        if self._ended is not None and not self._ended.called:
            self._ended.callback(None)


class _Wakes:
    """What the reactor's thread wants of the asyncio thread, and sees to it that it notices."""

    def __init__(self) -> None:
        self.ended = False
        self.again = False
        self._event = asyncio.Event()

    def end(self) -> None:
        """End for good."""
        self.ended = True
        self._event.set()

    def begin_again(self) -> None:
        """Serve anew."""
        self.again = True
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Wait so long, or until something is wanted."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        self._event.clear()


class _Browsing:
    """What is seen of others, inside the asyncio thread."""

    def __init__(self, owner: ZeroconfDiscovery, zeroconf: Zeroconf, announcement: Announcement, port: int) -> None:
        self._owner = owner
        self._zeroconf = zeroconf
        self._announcement = announcement
        self._own_name = f"{instance_label(announcement)}.{SERVICE_TYPE}"
        self._book = HintBook(asyncio.get_running_loop().time, announcement.interface_addresses, port)
        self._browser: AsyncServiceBrowser | None = None
        self._gate = asyncio.Semaphore(MAX_LOOK_UPS)
        self._look_ups: dict[str, asyncio.Task[None]] = {}
        self._telling: asyncio.TimerHandle | None = None

    async def begin(self) -> int:
        """Ask for the service, and go on listening for it; on how many addresses that is.

        The questions ask for answers by multicast: one by unicast may end at another program's socket.
        """
        await self._zeroconf.async_wait_for_start()
        self._browser = AsyncServiceBrowser(
            self._zeroconf, SERVICE_TYPE, handlers=[self._changed], question_type=DNSQuestionType.QM
        )
        self._tell_soon()
        return len(self._zeroconf.engine.senders)

    async def end(self) -> None:
        """Listen no more."""
        if self._telling is not None:
            self._telling.cancel()
        for look_up in list(self._look_ups.values()):
            look_up.cancel()
        if self._browser is not None:
            await self._browser.async_cancel()

    def offer(self) -> None:
        """Give everything known again."""
        self._owner.give(self._book.offer())

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """An announcement came, changed or went."""
        if name == self._own_name:
            return
        if state_change is ServiceStateChange.Removed:
            self._book.forget(name)
            self._tell_soon()
        elif name not in self._look_ups and len(self._look_ups) < MAX_HINTS:
            look_up = asyncio.ensure_future(self._look_up(name))
            self._look_ups[name] = look_up
            look_up.add_done_callback(lambda done: self._looked_up(name, done))

    def _looked_up(self, name: str, done: asyncio.Task[None]) -> None:
        """One look-up is over. An announcement that makes no sense gives no hint, and no line in a log."""
        self._look_ups.pop(name, None)
        if not done.cancelled():
            done.exception()

    async def _look_up(self, name: str) -> None:
        """Ask for the details of one announcement."""
        async with self._gate:
            info = AsyncServiceInfo(SERVICE_TYPE, name)
            if not await info.async_request(self._zeroconf, LOOK_UP_MILLISECONDS, DNSQuestionType.QM):
                return
        hosts = info.parsed_scoped_addresses(IPVersion.All)
        addresses = addresses_of(info.properties, hosts, info.port, self._announcement.cluster)
        self._owner.give(self._book.learn(name, addresses))
        self._tell_soon()

    def _tell_soon(self) -> None:
        """What is known has changed: the status gets it, a flood of changes at once."""
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        """Tell what is known."""
        self._telling = None
        self._owner.tell_known(self._book.known())
